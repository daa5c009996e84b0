//! What does `cache-control` say (RFC 9111 section 5.2)?

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

/// Of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestControl {
    /// `no-cache`, or `pragma: no-cache` alone.
    pub must_validate: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_kept: bool,
    /// `max-age`, seconds.
    pub max_age: Option<u64>,
    /// `min-fresh`, seconds.
    pub min_fresh: Option<u64>,
    /// `max-stale`, seconds; without a value as long as one likes.
    pub max_stale: Option<u64>,
}

/// Of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseControl {
    /// `no-cache`.
    pub must_validate: bool,
    /// `no-store`, or `private`: this cache is shared.
    pub no_store: bool,
    /// `must-revalidate`, `proxy-revalidate` or `s-maxage`.
    pub no_stale: bool,
    /// `s-maxage`, else `max-age`, seconds.
    pub max_age: Option<u64>,
}

impl RequestControl {
    /// What these headers say.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        each(headers, |name, value| match name {
            "no-cache" => said.must_validate = true,
            "no-store" => said.no_store = true,
            "only-if-cached" => said.only_kept = true,
            "max-age" => said.max_age = seconds(value),
            "min-fresh" => said.min_fresh = seconds(value),
            "max-stale" => said.max_stale = value.map_or(Some(u64::MAX), |value| seconds(Some(value))),
            _ => {}
        });
        let pragma = headers
            .get(PRAGMA)
            .and_then(|said| said.to_str().ok())
            .unwrap_or_default();
        if !headers.contains_key(CACHE_CONTROL) && pragma.to_ascii_lowercase().contains("no-cache") {
            said.must_validate = true;
        }
        said
    }
}

impl ResponseControl {
    /// What these headers say. A lifetime that cannot be read is over.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        let (mut own, mut shared) = (None, None);
        each(headers, |name, value| match name {
            "no-cache" => said.must_validate = true,
            "no-store" | "private" => said.no_store = true,
            "must-revalidate" | "proxy-revalidate" => said.no_stale = true,
            "max-age" => own = Some(seconds(value).unwrap_or(0)),
            "s-maxage" => shared = Some(seconds(value).unwrap_or(0)),
            _ => {}
        });
        said.no_stale |= shared.is_some();
        said.max_age = shared.or(own);
        said
    }
}

/// Each directive with its value, names in lower case.
fn each(headers: &HeaderMap, mut visit: impl FnMut(&str, Option<&str>)) {
    for line in headers.get_all(CACHE_CONTROL) {
        let Ok(line) = line.to_str() else { continue };
        for directive in line.split(',') {
            let (name, value) = match directive.split_once('=') {
                Some((name, value)) => (name, Some(value.trim().trim_matches('"'))),
                None => (directive, None),
            };
            visit(&name.trim().to_ascii_lowercase(), value);
        }
    }
}

/// More than fits is for ever (RFC 9111 section 1.2.2).
fn seconds(value: Option<&str>) -> Option<u64> {
    let value = value?;
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::from(u32::MAX)))
}
