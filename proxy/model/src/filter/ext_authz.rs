//! What is asked of an authorization service, and what its answer does to a request?
//!
//! Follows `envoy.extensions.filters.http.ext_authz.v3.ExtAuthz` over gRPC. Decides only: the service is asked by the shell.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::GrpcService;
use crate::Name;
use crate::chance;
use crate::endpoint::Labels;
use crate::matching::StringMatcher;
use crate::metadata::{Metadata, MetadataMatcher};
use crate::route::AppendAction;

/// `ExtAuthz`, in a chain.
#[derive(Debug)]
pub struct ExternalAuthorization {
    /// `grpc_service`.
    pub service: GrpcService,
    /// Its `timeout`.
    pub timeout: Duration,
    /// `failure_mode_allow`.
    pub failure_allows: bool,
    /// `failure_mode_allow_header_add`.
    pub tells_failure: bool,
    /// `with_request_body`.
    pub body: Option<AskedBody>,
    /// `clear_route_cache`.
    pub clear_route_cache: bool,
    /// `status_on_error`.
    pub status_on_error: StatusCode,
    /// `validate_mutations`.
    pub validates: bool,
    /// `metadata_context_namespaces`.
    pub namespaces: Vec<Name>,
    /// `filter_enabled`, in millionths.
    pub enabled_per_million: u32,
    /// `filter_enabled_metadata`.
    pub enabled_metadata: Option<MetadataMatcher>,
    /// `deny_at_disable`: a request that the filter does not look at is refused.
    pub denies_disabled: bool,
    /// `include_peer_certificate`.
    pub tells_certificate: bool,
    /// `include_tls_session`.
    pub tells_session: bool,
    /// `stat_prefix`.
    pub stat_prefix: Name,
    /// `allowed_headers`; none: all of them.
    pub allowed: Vec<StringMatcher>,
    /// `disallowed_headers`.
    pub disallowed: Vec<StringMatcher>,
    /// `enable_dynamic_metadata_ingestion`.
    pub takes_metadata: bool,
}

/// `BufferSettings`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedBody {
    /// `max_request_bytes`.
    pub longest: u32,
    /// `pack_as_bytes`.
    pub as_bytes: bool,
}

/// `CheckSettings` of a route.
#[derive(Debug, Default)]
pub struct RouteAuthorization {
    /// `context_extensions`, by key.
    pub extensions: Vec<(Name, Name)>,
    /// `disable_request_body_buffering`.
    pub without_body: bool,
    /// `with_request_body` in place of the filter's own.
    pub body: Option<AskedBody>,
}

/// What the service answered.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// The request may go on, changed.
    Granted(Box<Granted>),
    /// It may not.
    Denied(Box<Refused>),
}

/// `OkHttpResponse`.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    /// `headers` without `append`: replace what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// `headers` with `append`: added where there is one.
    pub append: Vec<(HeaderName, HeaderValue)>,
    /// `headers_to_remove`.
    pub remove: Vec<HeaderName>,
    /// `response_headers_to_add`.
    pub response: Vec<(HeaderName, HeaderValue, AppendAction)>,
    /// `query_parameters_to_set`.
    pub query_set: Vec<(Box<str>, Box<str>)>,
    /// `query_parameters_to_remove`.
    pub query_remove: Vec<Box<str>>,
    /// `dynamic_metadata`.
    pub metadata: Labels,
    /// Something of it cannot stand in a message.
    pub invalid: bool,
}

/// `DeniedHttpResponse`.
#[derive(Debug, Clone)]
pub struct Refused {
    /// `status`, 403 where it says none.
    pub status: StatusCode,
    /// `headers`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `body`.
    pub body: Bytes,
    /// `dynamic_metadata`.
    pub metadata: Labels,
    /// Something of it cannot stand in a message.
    pub invalid: bool,
}

impl ExternalAuthorization {
    /// Draws whether the filter looks at a request.
    pub fn is_enabled(&self, noted: Option<&Metadata>, rng: &mut fastrand::Rng) -> bool {
        chance::falls(self.enabled_per_million, rng)
            && self
                .enabled_metadata
                .as_ref()
                .is_none_or(|matcher| matcher.matches(noted))
    }

    /// The body that the service is to see.
    pub fn body(&self, said: Option<&RouteAuthorization>) -> Option<AskedBody> {
        match said {
            Some(said) if said.without_body => None,
            Some(said) => said.body.or(self.body),
            None => self.body,
        }
    }

    /// Whether the service is told of a header.
    pub fn tells(&self, name: &str) -> bool {
        let one_of = |matchers: &[StringMatcher]| matchers.iter().any(|one| one.matches(name.as_bytes()));
        (self.allowed.is_empty() || one_of(&self.allowed)) && !one_of(&self.disallowed)
    }
}

impl Authorization {
    /// Something of it cannot stand in a message.
    pub fn is_invalid(&self) -> bool {
        match self {
            Self::Granted(granted) => granted.invalid,
            Self::Denied(refused) => refused.invalid,
        }
    }
}

impl Granted {
    /// Whether it changes anything that routes are chosen by.
    pub fn changes_request(&self) -> bool {
        !(self.set.is_empty()
            && self.append.is_empty()
            && self.remove.is_empty()
            && self.query_set.is_empty()
            && self.query_remove.is_empty())
    }

    /// Changes the headers of the request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.append {
            // Joined to one line, as in Envoy.
            let Some(there) = headers.get(name) else { continue };
            let joined = [there.as_bytes(), b",", value.as_bytes()].concat();
            if let Ok(joined) = HeaderValue::from_bytes(&joined) {
                headers.insert(name, joined);
            }
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }

    /// The path with its query parameters changed; `None` where they stay.
    pub fn path(&self, path: &str) -> Option<String> {
        if self.query_set.is_empty() && self.query_remove.is_empty() {
            return None;
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        // By name, as in Envoy.
        let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            all.entry(name).or_default().push(value);
        }
        for (name, value) in &self.query_set {
            all.insert(name, vec![value]);
        }
        for name in &self.query_remove {
            all.remove(&**name);
        }
        let pairs = all
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}={value}")));
        let query = pairs.collect::<Vec<_>>().join("&");
        Some(if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_set_once_and_removed_everywhere() {
        let granted = Granted {
            query_set: vec![("a".into(), "new".into()), ("z".into(), "1".into())],
            query_remove: vec!["b".into()],
            ..Granted::default()
        };
        let path = granted.path("/x?a=1&b=2&a=3&c&b");
        assert_eq!(path.as_deref(), Some("/x?a=new&c=&z=1"));
        assert_eq!(Granted::default().path("/x?a=1"), None);
    }

    #[test]
    fn what_is_appended_needs_something_to_be_appended_to() {
        let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let granted = Granted {
            set: vec![field("x-set", "1")],
            append: vec![field("x-there", "2"), field("x-absent", "3")],
            remove: vec![HeaderName::from_static("x-gone")],
            ..Granted::default()
        };
        let mut headers = HeaderMap::from_iter([field("x-there", "1"), field("x-gone", "1")]);
        granted.apply(&mut headers);
        let there: Vec<_> = headers.get_all("x-there").iter().collect();
        assert_eq!(there, ["1,2"]);
        assert_eq!(headers["x-set"], "1");
        assert!(!headers.contains_key("x-gone") && !headers.contains_key("x-absent"));
    }
}
