//! The predicates of one route: all must hold (`RouteMatch`).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{ClientMatch, PathMatch, RequestFacts};
use crate::chance;
use crate::matching::StringMatcher;
use crate::metadata::NotedMatch;

/// One `RouteMatch`.
#[derive(Debug, Clone)]
pub struct RouteMatch {
    /// Path.
    pub path: PathMatch,
    /// Headers and pseudo-headers.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters.
    pub query: Vec<QueryMatch>,
    /// `grpc`: only requests with content type `application/grpc[+...]`.
    pub grpc: bool,
    /// `runtime_fraction` by its default value: numerator out of a million; `None`: always.
    pub fraction_per_million: Option<u32>,
    /// `dynamic_metadata` and `filter_state`: what filters noted, which only a route that is chosen again can see;
    /// `None`: nothing is said.
    pub noted: Option<Box<NotedMatch>>,
    /// `cookies` and `tls_context`; `None`: nothing is said.
    pub client: Option<Box<ClientMatch>>,
}

/// One `HeaderMatcher`.
#[derive(Debug, Clone)]
pub struct HeaderMatch {
    /// Which header.
    pub name: HeaderPredicateName,
    /// What it must be.
    pub predicate: HeaderPredicate,
    /// `invert_match`.
    pub invert: bool,
    /// `treat_missing_header_as_empty`.
    pub missing_as_empty: bool,
}

/// The name of a header in a matcher, pseudo-headers included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderPredicateName {
    /// `:method`.
    Method,
    /// `:path`, with its query.
    Path,
    /// `:authority` or `host`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// `:status` (access log filters only).
    Status,
    /// A header; each of several values is looked at alone.
    Header(HeaderName),
}

/// What a header must be.
#[derive(Debug, Clone)]
pub enum HeaderPredicate {
    /// `present_match`.
    Present(bool),
    /// `range_match`: a decimal integer in `[start, end)`.
    Range(i64, i64),
    /// `string_match` and the deprecated single forms.
    Text(StringMatcher),
}

/// One `QueryParameterMatcher`.
#[derive(Debug, Clone)]
pub struct QueryMatch {
    /// Parameter name.
    pub name: Box<str>,
    /// What its first value must be.
    pub predicate: QueryPredicate,
}

/// What a query parameter must be.
#[derive(Debug, Clone)]
pub enum QueryPredicate {
    /// `present_match`.
    Present(bool),
    /// `string_match`.
    Text(StringMatcher),
}

impl RouteMatch {
    /// Whether every predicate holds; `path` is that of `facts`, without the query and what the table ignores of it.
    pub fn matches(&self, facts: &RequestFacts<'_>, path: &str, rng: &mut fastrand::Rng) -> bool {
        self.path.matches(path, facts.method)
            && self
                .fraction_per_million
                .is_none_or(|fraction| chance::falls(fraction, rng))
            && (!self.grpc || is_grpc(facts.headers))
            && self.headers.iter().all(|header| header.matches(facts))
            && self
                .noted
                .as_ref()
                .is_none_or(|wanted| wanted.matches(facts.metadata))
            && self.client.as_ref().is_none_or(|client| client.matches(facts))
            && (self.query.is_empty() || self.query.iter().all(|query| query.matches(facts.query())))
    }
}

impl HeaderMatch {
    /// Whether the request's header satisfies the predicate.
    pub fn matches(&self, facts: &RequestFacts<'_>) -> bool {
        let pseudo = |value: &str| self.holds((!value.is_empty()).then_some(value.as_bytes()));
        match &self.name {
            HeaderPredicateName::Method => pseudo(facts.method.as_str()),
            HeaderPredicateName::Path => pseudo(facts.path_and_query),
            HeaderPredicateName::Authority => pseudo(facts.authority),
            HeaderPredicateName::Scheme => pseudo(facts.scheme),
            HeaderPredicateName::Status => self.holds(None),
            HeaderPredicateName::Header(name) => self.matches_header(name, facts.headers),
        }
    }

    /// Whether a header of this map satisfies the predicate. Where it has several values, one that satisfies it is
    /// enough, and with `invert` none may; Envoy does not join them.
    pub fn matches_header(&self, name: &HeaderName, headers: &HeaderMap) -> bool {
        self.holds(headers.get_all(name).iter().map(HeaderValue::as_bytes))
    }

    /// Whether these values of one header satisfy the predicate. An absent header satisfies no predicate over values,
    /// inverted or not, unless it counts as empty.
    pub fn holds<'v>(&self, values: impl IntoIterator<Item = &'v [u8]>) -> bool {
        let mut values = values.into_iter().peekable();
        let there = values.peek().is_some();
        if let HeaderPredicate::Present(wanted) = self.predicate {
            return ((there || self.missing_as_empty) == wanted) != self.invert;
        }
        if !there {
            return self.missing_as_empty && self.satisfies(b"") != self.invert;
        }
        values.any(|value| self.satisfies(value)) != self.invert
    }

    fn satisfies(&self, value: &[u8]) -> bool {
        match &self.predicate {
            HeaderPredicate::Present(wanted) => *wanted,
            HeaderPredicate::Range(start, end) => {
                integer(value).is_some_and(|value| (*start..*end).contains(&value))
            }
            HeaderPredicate::Text(matcher) => matcher.matches(value),
        }
    }
}

fn integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.trim_ascii().parse().ok()
}

/// `content-type: application/grpc` or `application/grpc+...`.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
    })
}

impl QueryMatch {
    /// Whether the first value of the parameter in this query string (without `?`) satisfies the predicate.
    pub fn matches(&self, query: &str) -> bool {
        self.holds(super::query::first_value(query, &self.name))
    }

    /// The same of the decoded parameter.
    pub fn matches_decoded(&self, query: &str) -> bool {
        self.holds(super::query::decoded_query_value(query, &self.name).as_deref())
    }

    fn holds(&self, value: Option<&str>) -> bool {
        match (&self.predicate, value) {
            (QueryPredicate::Present(wanted), value) => value.is_some() == *wanted,
            (QueryPredicate::Text(matcher), Some(value)) => matcher.matches(value.as_bytes()),
            (QueryPredicate::Text(_), None) => false,
        }
    }
}
