//! The predicates of one route: all must hold (`RouteMatch`).

use http::HeaderName;

use super::PathMatch;
use crate::matching::StringMatcher;

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
    /// A header; several values are joined by `,`.
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
