//! Does a request pass the local rate limit, and which bucket decided?
//!
//! Follows `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`. The buckets belong to the settings: all
//! workers share them, and settings that are translated anew from equal bytes are the very ones of the version before
//! (see `translate`), so a change elsewhere leaves the buckets as full as they were.

use http::StatusCode;

use super::Buckets;
use crate::Name;
use crate::chance;
use crate::limit::{Rule, VirtualHostLimits};
use crate::route::HeaderMutations;

/// `LocalRateLimit`, at a filter or at a route.
#[derive(Debug)]
pub struct LocalRateLimit {
    /// `stat_prefix`.
    pub stat_prefix: Name,
    /// `status`, 429 where it is below 400.
    pub status: StatusCode,
    /// `token_bucket` and `descriptors`.
    pub buckets: Buckets,
    /// `rate_limits`: in the place of the rules of routes and virtual hosts.
    pub rules: Vec<Rule>,
    /// `stage` of the rules of routes and virtual hosts that count.
    pub stage: u8,
    /// `vh_rate_limits`.
    pub virtual_host: VirtualHostLimits,
    /// `filter_enabled`, in millionths; none where it is not said.
    pub enabled_per_million: u32,
    /// `filter_enforced`, in millionths; none where it is not said.
    pub enforced_per_million: u32,
    /// `request_headers_to_add_when_not_enforced`.
    pub request_headers: HeaderMutations,
    /// `response_headers_to_add`.
    pub response_headers: HeaderMutations,
    /// `rate_limited_as_resource_exhausted`: gRPC clients read `RESOURCE_EXHAUSTED`, not `UNAVAILABLE`.
    pub resource_exhausted: bool,
    /// `enable_x_ratelimit_headers`.
    pub tells_clients: bool,
    /// `enable_retry_after_header`.
    pub tells_when: bool,
    /// `local_rate_limit_per_downstream_connection`: the buckets here are only the pattern of those that each connection
    /// has.
    pub per_connection: bool,
    /// Hash of the settings as received; equal means unchanged.
    pub fingerprint: u64,
}

impl LocalRateLimit {
    /// Draws whether the filter looks at a request.
    pub fn is_enabled(&self, rng: &mut fastrand::Rng) -> bool {
        chance::falls(self.enabled_per_million, rng)
    }

    /// Draws whether its refusal holds.
    pub fn is_enforced(&self, rng: &mut fastrand::Rng) -> bool {
        chance::falls(self.enforced_per_million, rng)
    }
}
