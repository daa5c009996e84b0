//! What a rate limit service answered (`envoy.service.ratelimit.v3.RateLimitResponse`), and how clients are told.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::Unit;
use crate::endpoint::Labels;

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct LimitAnswer {
    /// `OVER_LIMIT`; anything else is within.
    pub over: bool,
    /// `statuses`: of the descriptors, in their order.
    pub statuses: Vec<DescriptorStatus>,
    /// `request_headers_to_add`.
    pub request_headers: Vec<(HeaderName, HeaderValue)>,
    /// `response_headers_to_add`.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// `raw_body` of a refusal.
    pub body: Bytes,
    /// `dynamic_metadata`.
    pub metadata: Labels,
}

/// `DescriptorStatus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorStatus {
    /// It is this descriptor that is over its limit.
    pub over: bool,
    /// `current_limit`.
    pub limit: Option<CurrentLimit>,
    /// `limit_remaining`.
    pub remaining: u32,
    /// `duration_until_reset`.
    pub until_reset: Duration,
}

/// `RateLimitResponse.RateLimit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentLimit {
    /// `name`, or `""`.
    pub name: Box<str>,
    /// `requests_per_unit`.
    pub requests: u32,
    /// `unit`.
    pub unit: Unit,
}

impl LimitAnswer {
    /// `x-ratelimit-limit`, `-remaining` and `-reset`: of the limit that is nearest, with the windows of all; `None`
    /// where the service told of no limit.
    pub fn draft03(&self) -> Option<[(HeaderName, HeaderValue); 3]> {
        let limited = self
            .statuses
            .iter()
            .filter_map(|status| Some((status, status.limit.as_ref()?)));
        // The first of equals, as in Envoy.
        let (nearest, limit) = limited.clone().min_by_key(|(status, _)| status.remaining)?;
        let mut text = limit.requests.to_string();
        for (_, limit) in limited {
            if let Some(window) = window(limit.unit) {
                let _ = write!(text, ", {};w={window}", limit.requests);
                if !limit.name.is_empty() {
                    let _ = write!(text, ";name=\"{}\"", limit.name);
                }
            }
        }
        let name = |what| HeaderName::from_static(what);
        Some([
            (name("x-ratelimit-limit"), HeaderValue::try_from(text).ok()?),
            (name("x-ratelimit-remaining"), nearest.remaining.into()),
            (name("x-ratelimit-reset"), nearest.until_reset.as_secs().into()),
        ])
    }

    /// `retry-after` in seconds: when the last of the limits that are reached lets something through again, at least 1;
    /// `None` where none is known to be reached.
    pub fn retry_after(&self) -> Option<u64> {
        let over = self.statuses.iter().filter(|status| status.over);
        let longest = over.map(|status| status.until_reset.as_secs()).max()?;
        Some(longest.max(1))
    }
}

/// Seconds of a unit.
fn window(unit: Unit) -> Option<u32> {
    match unit {
        Unit::Unknown => None,
        Unit::Second => Some(1),
        Unit::Minute => Some(60),
        Unit::Hour => Some(3600),
        Unit::Day => Some(24 * 3600),
        Unit::Week => Some(7 * 24 * 3600),
        Unit::Month => Some(30 * 24 * 3600),
        Unit::Year => Some(365 * 24 * 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, requests: u32, unit: Unit, remaining: u32, reset: u64) -> DescriptorStatus {
        DescriptorStatus {
            over: remaining == 0,
            limit: Some(CurrentLimit {
                name: name.into(),
                requests,
                unit,
            }),
            remaining,
            until_reset: Duration::from_secs(reset),
        }
    }

    #[test]
    fn the_nearest_limit_is_told_with_the_windows_of_all() {
        let mut answer = LimitAnswer {
            statuses: vec![
                status("", 10, Unit::Hour, 4, 30),
                status("first", 1, Unit::Minute, 1, 5),
                status("odd", 9, Unit::Unknown, 8, 1),
            ],
            ..LimitAnswer::default()
        };
        let told = answer.draft03().unwrap().map(|(_, value)| value);
        assert_eq!(told, ["1, 10;w=3600, 1;w=60;name=\"first\"", "1", "5"]);
        assert_eq!(answer.retry_after(), None);
        for status in &mut answer.statuses {
            status.limit = None;
        }
        assert!(answer.draft03().is_none());
    }

    #[test]
    fn a_client_comes_back_when_every_limit_lets_it() {
        let answer = LimitAnswer {
            over: true,
            statuses: vec![
                status("", 10, Unit::Hour, 0, 0),
                status("", 10, Unit::Hour, 0, 7),
                status("", 10, Unit::Hour, 3, 90),
            ],
            ..LimitAnswer::default()
        };
        assert_eq!(answer.retry_after(), Some(7));
    }
}
