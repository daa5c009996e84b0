//! `RouteMatch.path_specifier`. Prefix, path and regular expression look at the path without its query.

use http::Method;
use regex::Regex;

use super::UriTemplate;
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
    /// `path_match_policy`: a URI template, whole match.
    Template(Box<UriTemplate>),
    /// `connect_matcher`.
    Connect,
}

impl PathMatch {
    /// What every path that matches begins with, where that is known letter by letter.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Prefix(p) | Self::Exact(p) | Self::SeparatedPrefix(p) => {
                (!p.ignore_case).then_some(&p.literal)
            }
            Self::Regex(_) | Self::Template(_) | Self::Connect => None,
        }
    }

    /// Whether this path (without query) matches; `method` matters to `connect_matcher` alone.
    pub fn matches(&self, path: &str, method: &Method) -> bool {
        if *method == Method::CONNECT && path.is_empty() {
            return matches!(self, Self::Connect);
        }
        match self {
            Self::Prefix(prefix) => prefix.begins(path.as_bytes()),
            Self::Exact(whole) => whole.equals(path.as_bytes()),
            Self::SeparatedPrefix(prefix) => {
                prefix.begins(path.as_bytes())
                    && matches!(path.as_bytes().get(prefix.literal.len()), None | Some(b'/'))
            }
            Self::Regex(regex) => regex.is_match(path),
            Self::Template(template) => template.matches(path),
            Self::Connect => *method == Method::CONNECT,
        }
    }
}
