//! `RouteAction.HashPolicy`: which part of a request decides its place on a ring or in a table.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use regex::Regex;
use smallvec::SmallVec;

use super::RequestFacts;
use super::query::first_value;
use super::rewrite::substitute;
use crate::balance::hash::xx64;

/// One hash policy.
#[derive(Debug, Clone)]
pub struct HashPolicy {
    /// What is hashed.
    pub source: HashSource,
    /// Later policies are skipped once this one gave a hash.
    pub terminal: bool,
}

/// What is hashed.
#[derive(Debug, Clone)]
pub enum HashSource {
    /// `header`.
    Header(HeaderName),
    /// `header` with `regex_rewrite`: every match in its values is replaced first.
    RewrittenHeader(Box<HeaderRewrite>),
    /// `cookie`; with a TTL a missing cookie is made and set.
    Cookie {
        /// Name.
        name: Box<str>,
        /// Generate one if it is missing.
        ttl: Option<Duration>,
        /// Its path.
        path: Box<str>,
    },
    /// `connection_properties.source_ip`.
    SourceAddress,
    /// `query_parameter`.
    Query(Box<str>),
    /// `filter_state`: the object under this key, if it can be hashed.
    State(Box<str>),
}

/// `HashPolicy.Header` with `regex_rewrite`.
#[derive(Debug, Clone)]
pub struct HeaderRewrite {
    /// `header_name`.
    pub name: HeaderName,
    /// `pattern`.
    pub regex: Regex,
    /// `substitution`.
    pub substitution: Box<str>,
}

/// The hash of a request, and the cookie that its next requests should carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHash<'p> {
    /// The hash; `None` if no policy gave one.
    pub hash: Option<u64>,
    /// The response must set this cookie.
    pub cookie: Option<WantedCookie<'p>>,
}

/// A cookie that a hash policy asked for because the request had none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedCookie<'p> {
    /// Name.
    pub name: &'p str,
    /// Path; empty: none is said.
    pub path: &'p str,
    /// `Max-Age`; zero: a session cookie.
    pub ttl: Duration,
    /// Its value is this number in 16 hexadecimal digits.
    pub value: u64,
}

impl WantedCookie<'_> {
    /// The value of `set-cookie`, as Envoy writes it.
    pub fn header(&self) -> String {
        let Self {
            name,
            path,
            ttl,
            value,
        } = self;
        let age = if ttl.is_zero() {
            String::new()
        } else {
            format!("; Max-Age={}", ttl.as_secs())
        };
        let path = if path.is_empty() {
            String::new()
        } else {
            format!("; Path={path}")
        };
        format!("{name}=\"{value:016x}\"{age}{path}; HttpOnly")
    }
}

/// Combines the hashes of `policies` as Envoy does: the hash so far is rotated by one bit before the next is mixed in,
/// and a terminal policy ends the list once there is a hash. `source` is the client's address and `fresh` the value of
/// a cookie that has to be made.
pub fn request_hash<'p>(
    policies: &'p [HashPolicy],
    facts: &RequestFacts<'_>,
    source: Option<IpAddr>,
    fresh: impl FnOnce() -> u64,
) -> RequestHash<'p> {
    let mut result = RequestHash {
        hash: None,
        cookie: None,
    };
    let mut fresh = Some(fresh);
    for policy in policies {
        let new = match &policy.source {
            HashSource::Header(name) => header_hash(facts.headers, name),
            HashSource::RewrittenHeader(rewrite) => rewritten_hash(facts.headers, rewrite),
            HashSource::SourceAddress => source.map(source_hash),
            HashSource::State(key) => facts.metadata.and_then(|noted| noted.object(key)?.hash()),
            HashSource::Query(name) => {
                first_value(facts.query(), name).map(|value| xx64(value.as_bytes(), 0))
            }
            HashSource::Cookie { name, ttl, path } => match cookie(facts.headers, name) {
                Some(value) => Some(xx64(value, 0)),
                None => ttl
                    .and_then(|ttl| Some((ttl, fresh.take()?())))
                    .map(|(ttl, value)| {
                        result.cookie = Some(WantedCookie {
                            name,
                            path,
                            ttl,
                            value,
                        });
                        xx64(format!("{value:016x}").as_bytes(), 0)
                    }),
            },
        };
        if let Some(new) = new {
            result.hash = Some(result.hash.map_or(0, |hash| hash.rotate_left(1)) ^ new);
        }
        if policy.terminal && result.hash.is_some() {
            break;
        }
    }
    result
}

/// The hash of a client's address (`source_ip`, of requests and of tunnels).
pub fn source_hash(source: IpAddr) -> u64 {
    xx64(source.to_canonical().to_string().as_bytes(), 0)
}

/// Several values are sorted and each seeds the hash of the next, so that their order does not matter.
fn header_hash(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    combined(headers.get_all(name).iter().map(HeaderValue::as_bytes).collect())
}

/// The same of values in which every match was replaced. One that is no text stays as it is.
fn rewritten_hash(headers: &HeaderMap, rewrite: &HeaderRewrite) -> Option<u64> {
    let HeaderRewrite {
        name,
        regex,
        substitution,
    } = rewrite;
    let values: Vec<Cow<'_, [u8]>> = headers
        .get_all(name)
        .iter()
        .map(|value| match value.to_str() {
            Ok(text) => Cow::Owned(substitute(regex, substitution, text).into_bytes()),
            Err(_) => Cow::Borrowed(value.as_bytes()),
        })
        .collect();
    combined(values.iter().map(Cow::as_ref).collect())
}

fn combined(mut values: SmallVec<[&[u8]; 4]>) -> Option<u64> {
    values.sort_unstable();
    values
        .into_iter()
        .fold(None, |seed, value| Some(xx64(value, seed.unwrap_or(0))))
}

/// The value of the first cookie of this name that is not empty, without its quotes.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    cookies(headers, name).find(|value| !value.is_empty())
}

/// The values of the cookies of this name, without their quotes.
pub(super) fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let pairs = headers
        .get_all(http::header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(
            value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .unwrap_or(value),
        )
    })
}
