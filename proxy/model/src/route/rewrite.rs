//! What a route does to path and host, and where a redirect points.

use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;

/// `prefix_rewrite`, `regex_rewrite`.
#[derive(Debug, Clone, Default)]
pub enum PathRewrite {
    /// Unchanged.
    #[default]
    Keep,
    /// The matched prefix (or whole exact path) is replaced; the query stays.
    Prefix(Box<str>),
    /// Every match is replaced; `\1` names a group.
    Regex(Regex, Box<str>),
}

/// `host_rewrite_specifier`.
#[derive(Debug, Clone, Default)]
pub enum HostRewrite {
    /// Unchanged.
    #[default]
    Keep,
    /// `host_rewrite_literal`.
    Literal(HeaderValue),
    /// `auto_host_rewrite`: the endpoint's host name.
    Endpoint,
    /// `host_rewrite_header`: the value of this header, if it is there.
    Header(HeaderName),
    /// `host_rewrite_path_regex`: the path through this substitution.
    PathRegex(Regex, Box<str>),
}

/// `RedirectAction`.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// `scheme_redirect`, or `https` for `https_redirect`.
    pub scheme: Option<Box<str>>,
    /// `host_redirect`.
    pub host: Option<Box<str>>,
    /// `port_redirect`.
    pub port: Option<u16>,
    /// Path.
    pub path: RedirectPath,
    /// 301 (default), 302, 303, 307, 308.
    pub status: StatusCode,
    /// `strip_query`.
    pub strip_query: bool,
}

/// `path_rewrite_specifier` of a redirect.
#[derive(Debug, Clone, Default)]
pub enum RedirectPath {
    /// Unchanged.
    #[default]
    Keep,
    /// `path_redirect`; may carry its own query.
    Whole(Box<str>),
    /// `prefix_rewrite`.
    Prefix(Box<str>),
    /// `regex_rewrite`.
    Regex(Regex, Box<str>),
}
