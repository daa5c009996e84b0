//! The inputs of the matcher dialect (`xds.type.matcher.v3`), as texts.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderName;
use ipnet::IpNet;

use super::{AccessFacts, AddressRole, Truth};
use crate::matching::StringMatcher;
use crate::route::HeaderPredicateName;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `SourceIPInput`, `DirectSourceIPInput`, `DestinationIPInput`.
    Ip(AddressRole),
    /// `SourcePortInput`, `DestinationPortInput`.
    Port(AddressRole),
    /// `ServerNameInput`.
    ServerName,
    /// `UriSanInput`.
    UriSan,
    /// `DnsSanInput`.
    DnsSan,
    /// `SubjectInput`.
    Subject,
    /// `HttpRequestHeaderMatchInput`.
    Header(HeaderPredicateName),
}

/// What it must be.
#[derive(Debug, Clone)]
pub enum InputMatch {
    /// `value_match`.
    Text(StringMatcher),
    /// `envoy.matching.matchers.ip`: an address in one of these ranges.
    Ranges(Vec<IpNet>),
}

/// How an input may be read.
#[derive(Debug)]
pub(super) enum Readings<'f> {
    /// It cannot be there.
    Unknown,
    /// It is not there.
    Absent,
    /// In one way.
    One(Cow<'f, [u8]>),
    /// In each of these ways; the first is Envoy's.
    Several(Vec<Cow<'f, [u8]>>),
}

impl Readings<'_> {
    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let (one, several) = match self {
            Self::Unknown | Self::Absent => (None, &[][..]),
            Self::One(text) => (Some(&**text), &[][..]),
            Self::Several(all) => (None, &all[..]),
        };
        one.into_iter().chain(several.iter().map(|text| &**text))
    }
}

impl Input {
    /// Whether the value satisfies the matcher. Of the names of a certificate, joined as Envoy joins them; one that
    /// satisfies it alone counts as a possible reading.
    pub(super) fn truth(&self, matcher: &InputMatch, facts: &AccessFacts<'_>) -> Truth {
        let holds = |value: &[u8]| match matcher {
            InputMatch::Text(matcher) => matcher.matches(value),
            InputMatch::Ranges(ranges) => {
                address(value).is_some_and(|ip| ranges.iter().any(|range| range.contains(&ip)))
            }
        };
        match self.readings(facts) {
            Readings::Unknown => Truth::Unknown,
            Readings::Absent => Truth::No,
            Readings::One(value) => holds(&value).into(),
            Readings::Several(all) => {
                let satisfied = all.iter().filter(|value| holds(value)).count();
                let vouched = matches!(self, Self::UriSan | Self::DnsSan);
                if satisfied == all.len() || (vouched && all.first().is_some_and(|first| holds(first))) {
                    Truth::Yes
                } else if satisfied > 0 {
                    Truth::Maybe
                } else {
                    Truth::No
                }
            }
        }
    }

    pub(super) fn readings<'f>(&self, facts: &AccessFacts<'f>) -> Readings<'f> {
        let text = |text: &'f str| match text {
            "" => Readings::Absent,
            text => Readings::One(Cow::Borrowed(text.as_bytes())),
        };
        match self {
            Self::UriSan | Self::DnsSan | Self::Subject if !facts.tls => Readings::Unknown,
            Self::Ip(role) => match facts.ip(*role) {
                Some(ip) => Readings::One(Cow::Owned(ip.to_string().into_bytes())),
                None => Readings::Absent,
            },
            Self::Port(role) => match facts.ip(*role) {
                Some(_) => {
                    let port = facts.address(*role).port();
                    Readings::One(Cow::Owned(port.to_string().into_bytes()))
                }
                None => Readings::Absent,
            },
            Self::ServerName => text(facts.server_name),
            Self::Subject => facts
                .identity
                .map_or(Readings::Absent, |identity| text(identity.subject)),
            Self::UriSan => facts.identity.map_or(Readings::Absent, |identity| {
                several(identity.uris().map(str::as_bytes))
            }),
            Self::DnsSan => facts.identity.map_or(Readings::Absent, |identity| {
                several(identity.dns().map(str::as_bytes))
            }),
            Self::Header(name) => header(name, facts),
        }
    }
}

fn header<'f>(name: &HeaderPredicateName, facts: &AccessFacts<'f>) -> Readings<'f> {
    let Some(request) = &facts.request else {
        return Readings::Absent;
    };
    let pseudo = |value: &'f str| match value {
        "" => Readings::Absent,
        value => Readings::One(Cow::Borrowed(value.as_bytes())),
    };
    let named = |name: &HeaderName| {
        let values = request.headers.get_all(name).iter();
        several(values.map(|value| value.as_bytes()))
    };
    match name {
        HeaderPredicateName::Method => pseudo(request.method.as_str()),
        HeaderPredicateName::Path => pseudo(request.path_and_query),
        HeaderPredicateName::Authority => pseudo(request.authority),
        HeaderPredicateName::Scheme => pseudo(request.scheme),
        HeaderPredicateName::Status => Readings::Absent,
        HeaderPredicateName::Header(name) => named(name),
    }
}

/// As one, joined (RFC 9110 section 5.3, as Envoy joins them), and each by itself.
fn several<'f>(mut values: impl Iterator<Item = &'f [u8]>) -> Readings<'f> {
    match (values.next(), values.next()) {
        (None, _) => Readings::Absent,
        (Some(one), None) => Readings::One(Cow::Borrowed(one)),
        (Some(first), Some(second)) => {
            let each: Vec<&[u8]> = [first, second].into_iter().chain(values).collect();
            let whole = Cow::Owned(each.join(&b","[..]));
            let each = each.into_iter().map(Cow::Borrowed);
            Readings::Several([whole].into_iter().chain(each).collect())
        }
    }
}

/// An IP address written as text.
fn address(text: &[u8]) -> Option<IpAddr> {
    let ip: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(ip.to_canonical())
}
