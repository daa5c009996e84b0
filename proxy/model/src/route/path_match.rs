//! `RouteMatch.path_specifier`. Prefix, path and regular expression look at the path without its query.

use regex::Regex;

use crate::matching::Pattern;

/// How a route's path is recognised.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// `prefix`.
    Prefix(Pattern),
    /// `path`.
    Exact(Pattern),
    /// `path_separated_prefix`: the prefix itself, or the prefix and `/`.
    SeparatedPrefix(Pattern),
    /// `safe_regex`, whole match.
    Regex(Regex),
    /// `connect_matcher`.
    Connect,
}
