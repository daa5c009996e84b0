//! What a route does to path and host, and where a redirect points.

use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;

use super::domains::without_port;
use super::{PathMatch, Render, RequestFacts, TemplateRewrite};
use crate::log::Format;

/// `prefix_rewrite`, `regex_rewrite`.
#[derive(Debug, Clone, Default)]
pub enum PathRewrite {
    /// Unchanged.
    #[default]
    Keep,
    /// The matched prefix (or whole exact path) is replaced; the query stays.
    Prefix(Box<str>),
    /// Every match is replaced; `\1` names a group.
    Regex(Box<(Regex, Box<str>)>),
    /// `path_rewrite_policy`: a path made of the variables of the route's template.
    Template(Box<TemplateRewrite>),
    /// `path_rewrite`: a format makes the path.
    Format(Box<Format>),
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
    PathRegex(Box<(Regex, Box<str>)>),
    /// `host_rewrite`: a format makes the host.
    Format(Box<Format>),
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
    /// `path_rewrite`: a format makes the path, which may bring its own query.
    Format(Box<Format>),
}

/// What of the scheme, host and port a redirect was asked from.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// `:authority` or `host`, with its port if it has one.
    pub authority: &'a str,
    /// Path and query.
    pub path_and_query: &'a str,
}

impl PathRewrite {
    /// The new path and query, or `None` if nothing changes. A prefix takes the place of what `matched` recognised: the
    /// prefix, or the whole path where the route matches exactly or by an expression. The query stays.
    pub fn apply(&self, matched: &PathMatch, path_and_query: &str, render: &impl Render) -> Option<String> {
        let (path, query) = split_query(path_and_query);
        let path = match self {
            Self::Keep => return None,
            Self::Prefix(prefix) => replace_prefix(matched, path, prefix),
            Self::Regex(rule) => substitute(&rule.0, &rule.1, path),
            Self::Template(rewrite) => rewrite.apply(path)?,
            Self::Format(format) => rendered(format, render)?,
        };
        Some(path + query)
    }
}

impl HostRewrite {
    /// The new host, or `None` if it stays. `endpoint_host` is the host name of the chosen endpoint (`auto_host_rewrite`).
    pub fn apply(
        &self,
        facts: &RequestFacts<'_>,
        endpoint_host: Option<&str>,
        render: &impl Render,
    ) -> Option<HeaderValue> {
        match self {
            Self::Keep => None,
            Self::Literal(host) => Some(host.clone()),
            Self::Endpoint => HeaderValue::from_str(endpoint_host.filter(|host| !host.is_empty())?).ok(),
            Self::Header(name) => facts.headers.get(name).filter(|value| !value.is_empty()).cloned(),
            Self::PathRegex(rule) => HeaderValue::from_str(&substitute(&rule.0, &rule.1, facts.path())).ok(),
            Self::Format(format) => render.render(format).filter(|host| !host.is_empty()),
        }
    }
}

impl Redirect {
    /// The `location` of the response, as Envoy composes it.
    pub fn location(&self, matched: &PathMatch, asked: &Asked<'_>, render: &impl Render) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(asked.scheme);
        let mut location = format!("{scheme}://");
        match (&self.host, self.port) {
            (Some(host), _) => location.push_str(host),
            (None, Some(_)) => location.push_str(without_port(asked.authority)),
            (None, None) => location.push_str(without_other_schemes_port(asked, scheme)),
        }
        if let Some(port) = self.port {
            location.push_str(&format!(":{port}"));
        }
        location.push_str(&self.path(matched, asked.path_and_query, render));
        location
    }

    fn path(&self, matched: &PathMatch, path_and_query: &str, render: &impl Render) -> String {
        let (path, query) = split_query(path_and_query);
        let mut target = match &self.path {
            RedirectPath::Keep => path.to_owned(),
            RedirectPath::Whole(whole) => whole.to_string(),
            RedirectPath::Prefix(prefix) => replace_prefix(matched, path, prefix),
            RedirectPath::Regex(regex, substitution) => substitute(regex, substitution, path),
            RedirectPath::Format(format) => rendered(format, render).unwrap_or_default(),
        };
        let whole = matches!(&self.path, RedirectPath::Whole(_) | RedirectPath::Format(_));
        let brings_query = whole && target.contains('?');
        if !self.strip_query && !brings_query {
            target.push_str(query);
        }
        target
    }
}

/// What a format says, as text.
fn rendered(format: &Format, render: &impl Render) -> Option<String> {
    render.render(format)?.to_str().map(str::to_owned).ok()
}

/// The authority; without the default port of the scheme that the client used, if that is not the new one.
fn without_other_schemes_port<'a>(asked: &Asked<'a>, scheme: &str) -> &'a str {
    let foreign = match (asked.scheme, scheme) {
        ("http", "https") => ":80",
        ("https", "http") => ":443",
        _ => return asked.authority,
    };
    let host = without_port(asked.authority);
    if &asked.authority[host.len()..] == foreign {
        host
    } else {
        asked.authority
    }
}

/// The path, and the query with its `?`.
fn split_query(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find(['?', '#']).unwrap_or(path_and_query.len()))
}

fn replace_prefix(matched: &PathMatch, path: &str, replacement: &str) -> String {
    let rest = match matched {
        // Of an exact path only ignored parameters can be left.
        PathMatch::Prefix(begin) | PathMatch::SeparatedPrefix(begin) | PathMatch::Exact(begin) => {
            path.get(begin.literal.len()..)
        }
        PathMatch::Regex(_) | PathMatch::Template(_) | PathMatch::Connect => None,
    };
    format!("{replacement}{}", rest.unwrap_or_default())
}

/// Replaces every match; in the substitution `\0` is the match, `\1` to `\9` are its groups and `\\` is a backslash
/// (RE2's `Rewrite`).
pub(super) fn substitute(regex: &Regex, substitution: &str, text: &str) -> String {
    let expand = |captures: &regex::Captures<'_>| {
        let mut out = String::new();
        let mut chars = substitution.chars();
        while let Some(c) = chars.next() {
            match (c, chars.clone().next().and_then(|next| next.to_digit(10))) {
                ('\\', Some(group)) => {
                    chars.next();
                    out.push_str(captures.get(group as usize).map_or("", |group| group.as_str()));
                }
                ('\\', None) => out.extend(chars.next()),
                (c, _) => out.push(c),
            }
        }
        out
    };
    regex.replace_all(text, expand).into_owned()
}
