//! One predicate compiler for principals, permissions and matcher predicates.

use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::{AccessFacts, AddressRole, Identity, Input, InputMatch};
use crate::identity::SanMatcher;
use crate::matching::StringMatcher;
use crate::metadata::{MetadataMatcher, StateMatcher};
use crate::route::{HeaderMatch, HeaderPredicateName, UriTemplate};

/// Whether a condition holds. `Maybe`: that depends on how the recipient reads several values under one name, which
/// RFC 9110 section 5.3 lets it join and which many recipients read one of (CVE-2026-31838).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// In no reading.
    No,
    /// In some.
    Maybe,
    /// In all.
    Yes,
    /// It asks for the name of a peer that cannot have one, as the connection is not TLS: the matcher dialect then goes
    /// no further, as in Envoy, and the request is refused.
    Unknown,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// A predicate over [`AccessFacts`].
#[derive(Debug, Clone)]
pub enum Condition {
    /// `any`.
    Always,
    /// `and_rules`, `and_ids`, `and_matcher`.
    All(Vec<Condition>),
    /// `or_rules`, `or_ids`, `or_matcher`.
    Any(Vec<Condition>),
    /// `not_rule`, `not_id`, `not_matcher`.
    Not(Box<Condition>),
    /// `header`.
    Header(HeaderMatch),
    /// `url_path`: the path without query and fragment.
    Path(StringMatcher),
    /// `uri_template`: the same, by a template.
    Template(Box<UriTemplate>),
    /// `destination_ip`, `source_ip`, `direct_remote_ip`, `remote_ip`.
    Address(AddressRole, IpNet),
    /// `destination_port`, `destination_port_range`.
    DestinationPort(RangeInclusive<u16>),
    /// `requested_server_name`.
    ServerName(StringMatcher),
    /// `authenticated`: a verified certificate, with a name that matches.
    Authenticated(Option<StringMatcher>),
    /// `envoy.rbac.principals.mtls_authenticated`, with its `san_matcher`.
    MutualTls(Option<SanMatcher>),
    /// `metadata`, `sourced_metadata`.
    Metadata(Box<MetadataMatcher>),
    /// `filter_state`: what filters left.
    State(Box<StateMatcher>),
    /// A `SinglePredicate` of the matcher dialect.
    Input(Input, InputMatch),
}

impl Condition {
    /// Whether it holds.
    pub fn truth(&self, facts: &AccessFacts<'_>) -> Truth {
        let request = facts.request.as_ref();
        match self {
            Self::Always => Truth::Yes,
            Self::All(all) => {
                let mut least = Truth::Yes;
                for one in all {
                    match one.truth(facts) {
                        end @ (Truth::No | Truth::Unknown) => return end,
                        other => least = least.min(other),
                    }
                }
                least
            }
            Self::Any(all) => {
                let mut most = Truth::No;
                for one in all {
                    match one.truth(facts) {
                        end @ (Truth::Yes | Truth::Unknown) => return end,
                        other => most = most.max(other),
                    }
                }
                most
            }
            Self::Not(one) => !one.truth(facts),
            Self::Header(matcher) => match (request, &matcher.name) {
                (None, _) => Truth::No,
                (Some(request), HeaderPredicateName::Header(name)) => header(matcher, name, request.headers),
                (Some(request), _) => matcher.matches(request).into(),
            },
            Self::Path(matcher) => request
                .is_some_and(|request| matcher.matches(request.path().as_bytes()))
                .into(),
            Self::Template(template) => request
                .is_some_and(|request| template.matches(request.path()))
                .into(),
            Self::Address(role, range) => facts.ip(*role).is_some_and(|ip| range.contains(&ip)).into(),
            Self::DestinationPort(ports) => ports.contains(&facts.destination.port()).into(),
            Self::ServerName(matcher) => matcher.matches(facts.server_name.as_bytes()).into(),
            Self::Authenticated(matcher) => facts
                .identity
                .is_some_and(|identity| is_named(&identity, matcher.as_ref()))
                .into(),
            Self::MutualTls(matcher) => facts
                .identity
                .is_some_and(|identity| {
                    matcher
                        .as_ref()
                        .is_none_or(|matcher| identity.names.iter().any(|name| matcher.matches(name)))
                })
                .into(),
            Self::Metadata(matcher) => {
                let noted = facts.noted(&matcher.namespace, &matcher.path);
                (matcher.value.matches(noted.as_deref()) != matcher.invert).into()
            }
            Self::State(matcher) => matcher.matches(facts.metadata).into(),
            Self::Input(input, matcher) => input.truth(matcher, facts),
        }
    }
}

/// A URI name that matches, else a DNS name, else the subject (gRFC A41).
fn is_named(identity: &Identity<'_>, matcher: Option<&StringMatcher>) -> bool {
    let Some(matcher) = matcher else {
        return true;
    };
    let matches = |name: &str| matcher.matches(name.as_bytes());
    identity.uris().any(matches) || identity.dns().any(matches) || matches(identity.subject)
}

/// Each value by itself and all of them joined. In all readings only where each value by itself satisfies the matcher.
fn header(matcher: &HeaderMatch, name: &HeaderName, headers: &HeaderMap) -> Truth {
    let mut values = headers.get_all(name).iter().map(|value| value.as_bytes());
    let (Some(first), Some(second)) = (values.next(), values.next()) else {
        return matcher.matches_header(name, headers).into();
    };
    let each: Vec<&[u8]> = [first, second].into_iter().chain(values).collect();
    let satisfied = each.iter().filter(|value| matcher.holds([**value])).count();
    if satisfied == each.len() {
        Truth::Yes
    } else if satisfied > 0 || matcher.holds([each.join(&b","[..]).as_slice()]) {
        Truth::Maybe
    } else {
        Truth::No
    }
}
