//! What does a request get in the place of an answer that its cluster cannot give?
//!
//! Holds: nobody is answered for a request that may have been carried out and must not be twice: once something was sent,
//! only idempotent methods are. An answer of one client is never another's: requests that say who they are, and answers
//! that are meant for one (`private`, `set-cookie`) or not to be kept, are not kept.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, AUTHORIZATION, CACHE_CONTROL, COOKIE, RANGE, SET_COOKIE, TRAILER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::filter::Stored;
use crate::snapshot::ClusterId;

/// `remora.fallback` of a route's metadata; tried in this order.
#[derive(Debug, Clone, Default)]
pub struct Fallback {
    /// Another cluster.
    pub cluster: Option<ClusterId>,
    /// The last good answer.
    pub stale: Option<Stale>,
    /// The same answer for all.
    pub response: Option<FallbackResponse>,
}

/// Which last good answers are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale {
    /// How old they may be.
    pub max_age: Duration,
    /// How long their bodies may be, bytes.
    pub max_bytes: u64,
}

/// An answer that was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackResponse {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// How far a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// No endpoint has seen any of it.
    Nothing,
    /// One may have.
    Something,
}

impl Fallback {
    /// Whether a request may be answered otherwise.
    pub fn may_answer(sent: Sent, method: &Method) -> bool {
        method != Method::CONNECT && (sent == Sent::Nothing || method.is_idempotent())
    }
}

impl Stale {
    /// Whether the answers to a request are kept, and given.
    pub fn concerns(method: &Method, request: &HeaderMap) -> bool {
        let personal = [AUTHORIZATION, COOKIE, RANGE];
        method == Method::GET && !personal.iter().any(|name| request.contains_key(name))
    }

    /// What is kept of an answer that came at `now`, without its body.
    pub fn keeps(
        self,
        request: &HeaderMap,
        status: StatusCode,
        headers: &HeaderMap,
        now: u64,
    ) -> Option<Stored> {
        let said = |name: &HeaderName| {
            let values = headers.get_all(name).into_iter();
            let words = values
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','));
            words
                .map(|word| word.trim().to_ascii_lowercase())
                .collect::<Vec<_>>()
        };
        let forbids = |word: &String| word == "no-store" || word.starts_with("private");
        if status != StatusCode::OK
            || headers.contains_key(SET_COOKIE)
            || headers.contains_key(TRAILER)
            || said(&CACHE_CONTROL).iter().any(forbids)
        {
            return None;
        }
        let mut varies = Vec::new();
        for word in said(&VARY) {
            // `*` is no name: nobody knows what it varies by.
            let name = HeaderName::from_bytes(word.as_bytes())
                .ok()
                .filter(|_| word != "*")?;
            let value = request.get(&name).cloned();
            varies.push((name, value));
        }
        let mut headers = headers.clone();
        headers.remove(ACCEPT_RANGES);
        Some(Stored {
            status,
            headers,
            body: Bytes::new(),
            varies,
            received: now,
            initial_age: 0,
        })
    }

    /// The answer's headers with its age, if it is not too old.
    pub fn gives(self, stored: &Stored, now: u64) -> Option<HeaderMap> {
        let age = now.saturating_sub(stored.received);
        if Duration::from_secs(age) > self.max_age {
            return None;
        }
        let mut headers = stored.headers.clone();
        headers.insert(AGE, HeaderValue::from(age));
        Some(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        let field =
            |(name, value): &(HeaderName, &'static str)| (name.clone(), HeaderValue::from_static(value));
        fields.iter().map(field).collect()
    }

    const STALE: Stale = Stale {
        max_age: Duration::from_secs(60),
        max_bytes: 100,
    };

    #[test]
    fn what_must_not_happen_twice_is_answered_only_before_anything_was_sent() {
        for (sent, method, may) in [
            (Sent::Nothing, Method::POST, true),
            (Sent::Nothing, Method::GET, true),
            (Sent::Something, Method::GET, true),
            (Sent::Something, Method::PUT, true),
            (Sent::Something, Method::POST, false),
            (Sent::Something, Method::PATCH, false),
            (Sent::Nothing, Method::CONNECT, false),
        ] {
            assert_eq!(Fallback::may_answer(sent, &method), may, "{sent:?} {method}");
        }
    }

    #[test]
    fn an_answer_of_one_client_is_never_anothers() {
        let none = HeaderMap::new();
        assert!(Stale::concerns(&Method::GET, &none));
        assert!(!Stale::concerns(&Method::POST, &none));
        for name in [AUTHORIZATION, COOKIE, RANGE] {
            assert!(!Stale::concerns(&Method::GET, &headers(&[(name, "x")])));
        }
        let kept = |status, answer: &[(HeaderName, &'static str)]| {
            let request = headers(&[(http::header::ACCEPT, "a")]);
            STALE.keeps(&request, status, &headers(answer), 7)
        };
        let ok = StatusCode::OK;
        assert!(kept(ok, &[]).is_some());
        assert!(kept(ok, &[(CACHE_CONTROL, "max-age=0, must-revalidate")]).is_some());
        assert!(kept(StatusCode::NOT_FOUND, &[]).is_none());
        for forbidding in [
            (CACHE_CONTROL, "no-store"),
            (CACHE_CONTROL, "max-age=3, Private"),
            (SET_COOKIE, "a=b"),
            (VARY, "*"),
            (TRAILER, "x"),
        ] {
            assert!(
                kept(ok, std::slice::from_ref(&forbidding)).is_none(),
                "{forbidding:?}"
            );
        }
        let varying = kept(ok, &[(VARY, "Accept")]).unwrap();
        assert!(varying.suits(&headers(&[(http::header::ACCEPT, "a")])));
        assert!(!varying.suits(&headers(&[(http::header::ACCEPT, "b")])));
    }

    #[test]
    fn an_answer_says_its_age_and_grows_too_old() {
        let stored = STALE
            .keeps(&HeaderMap::new(), StatusCode::OK, &HeaderMap::new(), 100)
            .unwrap();
        let age = |now| STALE.gives(&stored, now).map(|headers| headers[AGE].clone());
        assert_eq!(age(160), Some(HeaderValue::from(60)));
        assert_eq!(age(161), None);
        assert_eq!(age(99), Some(HeaderValue::from(0)));
    }
}
