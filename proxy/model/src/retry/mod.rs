//! Is this attempt to be made again, and when?
//!
//! Follows `envoy.config.route.v3.RetryPolicy` and the router's `x-envoy-retry-on`: what counts as a reason
//! ([`Conditions`]), how long to wait ([`BackOff`]), whether the cluster can bear one more retry ([`RetryLimit`]), and all of
//! it for the attempts of one request ([`Tries`]).
//! Decides only; the data path keeps what is needed to send a request again.

mod back_off;
mod conditions;
mod limit;
mod recent;
mod tries;

pub use back_off::{BackOff, RateLimitedBackOff, ResetFormat, ResetHeader};
pub use conditions::{Conditions, Ended, Reset};
pub use limit::{RetryLimit, RetryTicket};
pub use recent::RecentAttempts;
pub use tries::{Again, Bearer, GivenUp, Moment, NO_RETRY, Not, Tries};

use std::time::Duration;

use crate::route::HeaderMatch;

/// A `RetryPolicy` of a virtual host or a route.
#[derive(Debug, Clone, Default)]
pub struct RetryPolicy {
    /// `retry_on`.
    pub on: Conditions,
    /// `num_retries`, default 1.
    pub retries: u32,
    /// `per_try_timeout`; `None`: the route's timeout alone.
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`.
    pub per_try_idle_timeout: Option<Duration>,
    /// `retry_back_off`.
    pub back_off: BackOff,
    /// `rate_limited_retry_back_off`.
    pub rate_limited: Option<RateLimitedBackOff>,
    /// `retriable_status_codes`.
    pub status_codes: Vec<u16>,
    /// `retriable_headers`: of the response, for the condition `retriable-headers`.
    pub headers: Vec<HeaderMatch>,
    /// `retriable_request_headers`: only requests that match one of them are tried again; empty: all.
    pub request_headers: Vec<HeaderMatch>,
    /// `retry_host_predicate: previous_hosts`.
    pub avoid_previous_hosts: bool,
    /// `host_selection_retry_max_attempts`, default 1: how often another endpoint is asked for.
    pub host_attempts: u32,
}

impl RetryPolicy {
    /// Whether an attempt that ended this way is a reason for another.
    pub fn wants_retry(&self, ended: &Ended<'_>) -> bool {
        self.on.hold(ended, &self.status_codes, &self.headers)
    }
}
