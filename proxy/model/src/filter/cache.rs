//! `envoy.filters.http.cache`: may this answer be kept, and may what is kept answer this request (RFC 9111)?
//!
//! Holds: every rule is a function of headers and of seconds since 1970 that the caller gives; nothing is stored here
//! but what a [`Stored`] is. A request that is conditional itself, or that carries `authorization`, is never answered
//! from what is kept, as in Envoy.

mod control;
mod date;
mod range;

use bytes::Bytes;
use http::header::{
    AGE, AUTHORIZATION, CONTENT_LENGTH, DATE, ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

pub use control::{RequestControl, ResponseControl};
pub use range::{Part, part};

use crate::matching::StringMatcher;
use crate::route::RequestFacts;

/// The filter in a chain.
#[derive(Debug, Clone, Default)]
pub struct CacheFilter {
    /// `allowed_vary_headers`: an answer that varies by another header is not kept.
    pub vary: Vec<StringMatcher>,
    /// `max_body_bytes`; a longer body is not kept.
    pub max_body: u64,
    /// `ignore_request_cache_control_header`.
    pub ignore_request: bool,
    /// `key_creator_params.exclude_scheme` and `exclude_host`.
    pub exclude: (bool, bool),
}

/// An answer that is kept.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, without `age`.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What it varies by: the names of `vary`, with the request's values.
    pub varies: Vec<(HeaderName, Option<HeaderValue>)>,
    /// When it came, seconds.
    pub received: u64,
    /// How old it was then, seconds (RFC 9111 section 4.2.3).
    pub initial_age: u64,
}

/// What is done with a kept answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It answers, so many seconds old.
    Answer(u64),
    /// It answers if the upstream says that it still holds.
    Validate,
}

/// Statuses that may be kept (RFC 9110 section 15.1), without those of parts.
const KEPT: [u16; 12] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501];

impl CacheFilter {
    /// Whether the cache is asked for a request at all.
    pub fn concerns(&self, method: &Method, headers: &HeaderMap) -> bool {
        let conditional = [
            IF_MATCH,
            IF_NONE_MATCH,
            IF_MODIFIED_SINCE,
            IF_UNMODIFIED_SINCE,
            IF_RANGE,
        ];
        (method == Method::GET || method == Method::HEAD)
            && !headers.contains_key(AUTHORIZATION)
            && !conditional.iter().any(|name| headers.contains_key(name))
    }

    /// Under what an answer of `cluster` to this request is kept (RFC 9111 section 2).
    pub fn key(&self, facts: &RequestFacts<'_>, cluster: &str) -> String {
        let (scheme, host) = self.exclude;
        let scheme = if scheme { "" } else { facts.scheme };
        let host = if host { "" } else { facts.authority };
        format!("{cluster}\0{scheme}\0{host}\0{}", facts.path_and_query)
    }

    /// What the request asks of caches.
    pub fn asked(&self, headers: &HeaderMap) -> RequestControl {
        if self.ignore_request {
            RequestControl::default()
        } else {
            RequestControl::of(headers)
        }
    }

    /// The answer as it is kept, without its body; `None`: it is not kept (RFC 9111 section 3).
    pub fn keeps(
        &self,
        asked: &RequestControl,
        request: &HeaderMap,
        status: StatusCode,
        headers: &HeaderMap,
        now: u64,
    ) -> Option<Stored> {
        let control = ResponseControl::of(headers);
        let dated = headers.contains_key(DATE) && headers.contains_key(EXPIRES);
        let lives = control.must_validate || control.max_age.is_some() || dated;
        if !KEPT.contains(&status.as_u16()) || control.no_store || asked.no_store || !lives {
            return None;
        }
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        if length
            .and_then(|length| length.parse().ok())
            .is_some_and(|length: u64| length > self.max_body)
        {
            return None;
        }
        let mut kept = headers.clone();
        kept.remove(AGE);
        if !kept.contains_key(DATE) {
            kept.insert(DATE, date::printed(now));
        }
        Some(Stored {
            status,
            varies: self.varies(request, headers)?,
            initial_age: initial_age(headers, now),
            headers: kept,
            body: Bytes::new(),
            received: now,
        })
    }

    /// The values by which an answer varies; `None`: by something that is not allowed, or by everything.
    fn varies(
        &self,
        request: &HeaderMap,
        headers: &HeaderMap,
    ) -> Option<Vec<(HeaderName, Option<HeaderValue>)>> {
        let mut varies = Vec::new();
        for value in headers.get_all(VARY) {
            for name in value
                .to_str()
                .ok()?
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
            {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .ok()
                    .filter(|_| name != "*")?;
                self.vary
                    .iter()
                    .find(|allowed| allowed.matches(name.as_str().as_bytes()))?;
                let value = request.get(&name).cloned();
                varies.push((name, value));
            }
        }
        Some(varies)
    }
}

impl Stored {
    /// Whether it answers requests with these headers (RFC 9111 section 4.1).
    pub fn suits(&self, request: &HeaderMap) -> bool {
        self.varies
            .iter()
            .all(|(name, value)| request.get(name) == value.as_ref())
    }

    /// How old it is, seconds (RFC 9111 section 4.2.3).
    pub fn age(&self, now: u64) -> u64 {
        self.initial_age + now.saturating_sub(self.received)
    }

    /// How long it is fresh, seconds (RFC 9111 section 4.2.1).
    pub fn lifetime(&self) -> u64 {
        let at = |name| self.headers.get(name).and_then(date::read);
        let by_dates = || Some(at(EXPIRES)?.saturating_sub(at(DATE)?));
        ResponseControl::of(&self.headers)
            .max_age
            .or_else(by_dates)
            .unwrap_or(0)
    }

    /// Whether it answers a request now (RFC 9111 section 4.2.4 and 5.2.1).
    pub fn answers(&self, asked: &RequestControl, now: u64) -> Use {
        let control = ResponseControl::of(&self.headers);
        let age = self.age(now);
        let too_old = asked.max_age.is_some_and(|max| age > max);
        if asked.must_validate || control.must_validate || too_old {
            return Use::Validate;
        }
        let lifetime = self.lifetime();
        let fresh = age < lifetime;
        let soon = asked
            .min_fresh
            .is_some_and(|least| lifetime.saturating_sub(age) < least);
        let stale_will_do = !control.no_stale
            && asked
                .max_stale
                .is_some_and(|most| age.saturating_sub(lifetime) <= most);
        if soon || !(fresh || stale_will_do) {
            return Use::Validate;
        }
        Use::Answer(age)
    }

    /// Asks the upstream whether it still holds (RFC 9111 section 4.3.1); false: there is nothing to ask by.
    pub fn ask(&self, request: &mut HeaderMap) -> bool {
        let pairs = [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)];
        let mut asked = false;
        for (kept, asks) in pairs {
            if let Some(value) = self.headers.get(kept) {
                request.insert(asks, value.clone());
                asked = true;
            }
        }
        asked
    }

    /// What a 304 says of it (RFC 9111 section 4.3.4): the new headers, but for what the body is.
    pub fn refreshed(&self, headers: &HeaderMap, now: u64) -> Self {
        let mut stored = self.clone();
        for name in headers.keys() {
            let of_body = [
                "content-length",
                "content-encoding",
                "content-type",
                "content-range",
                "etag",
                "vary",
            ];
            if of_body.contains(&name.as_str()) {
                continue;
            }
            stored.headers.remove(name);
            for value in headers.get_all(name) {
                stored.headers.append(name, value.clone());
            }
        }
        stored.headers.remove(AGE);
        stored.received = now;
        stored.initial_age = initial_age(headers, now);
        stored
    }
}

/// How old an answer is when it comes: what `age` says, or `date` if that is longer ago.
fn initial_age(headers: &HeaderMap, now: u64) -> u64 {
    let said = headers
        .get(AGE)
        .and_then(|age| age.to_str().ok())
        .and_then(|age| age.trim().parse().ok());
    let dated = headers
        .get(DATE)
        .and_then(date::read)
        .map(|date| now.saturating_sub(date));
    said.unwrap_or(0).max(dated.unwrap_or(0))
}

#[cfg(test)]
mod tests;
