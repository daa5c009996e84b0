//! What is asked of a rate limit service, and what its answer means?
//!
//! Follows `envoy.extensions.filters.http.ratelimit.v3.RateLimit`. Decides only: the service is asked by the shell.

use std::time::Duration;

use http::StatusCode;

use super::GrpcService;
use crate::Name;
use crate::chance;
use crate::limit::{RateLimits, Rule, VirtualHostLimits};
use crate::route::HeaderMutations;

/// `RateLimit`, in a chain.
#[derive(Debug)]
pub struct GlobalRateLimit {
    /// `rate_limit_service`.
    pub service: GrpcService,
    /// `domain`.
    pub domain: Name,
    /// `stage` of the rules that count.
    pub stage: u8,
    /// `request_type`.
    pub concerns: Concerns,
    /// `timeout`: the service has this long for its answer.
    pub timeout: Duration,
    /// `failure_mode_deny` and `failure_mode_deny_percent`: how many are refused where there is no answer, in millionths.
    pub deny_per_million: u32,
    /// `filter_enabled`, in millionths.
    pub enabled_per_million: u32,
    /// `filter_enforced`, in millionths.
    pub enforced_per_million: u32,
    /// `rate_limited_status`, 429 where it is below 400.
    pub status: StatusCode,
    /// `status_on_error`.
    pub status_on_error: StatusCode,
    /// `rate_limited_as_resource_exhausted`: gRPC clients read `RESOURCE_EXHAUSTED`, not `UNAVAILABLE`.
    pub resource_exhausted: bool,
    /// `enable_x_ratelimit_headers`.
    pub tells_clients: bool,
    /// Not `disable_x_envoy_ratelimited_header`.
    pub tells_limited: bool,
    /// `enable_retry_after_header`.
    pub tells_when: bool,
    /// `response_headers_to_add` of refusals.
    pub response_headers: HeaderMutations,
    /// `rate_limits`: in the place of the rules of routes and virtual hosts.
    pub rules: Vec<Rule>,
    /// `stat_prefix`.
    pub stat_prefix: Name,
    /// `metadata_namespace`: where the answer's dynamic metadata is noted.
    pub namespace: Name,
}

/// `RateLimitPerRoute`.
#[derive(Debug, Default)]
pub struct RouteRateLimit {
    /// `vh_rate_limits`.
    pub virtual_host: VirtualHostLimits,
    /// `rate_limits`: in the place of all others.
    pub rules: Vec<Rule>,
    /// `domain`.
    pub domain: Option<Name>,
}

/// Which requests count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Concerns {
    /// `both`.
    #[default]
    All,
    /// `internal`: those with `x-envoy-internal`.
    Internal,
    /// `external`: the others.
    External,
}

impl GlobalRateLimit {
    /// Draws whether the filter looks at a request.
    pub fn is_enabled(&self, internal: bool, rng: &mut fastrand::Rng) -> bool {
        let concerned = match self.concerns {
            Concerns::All => true,
            Concerns::Internal => internal,
            Concerns::External => !internal,
        };
        concerned && chance::falls(self.enabled_per_million, rng)
    }

    /// Draws whether its refusal holds.
    pub fn is_enforced(&self, rng: &mut fastrand::Rng) -> bool {
        chance::falls(self.enforced_per_million, rng)
    }

    /// Draws whether a request is refused because there is no answer.
    pub fn denies_unanswered(&self, rng: &mut fastrand::Rng) -> bool {
        chance::falls(self.deny_per_million, rng)
    }

    /// The rules that make a request's descriptors: of the route's word to the filter, else of the filter, else of the
    /// route and its virtual host.
    pub fn rules<'a>(
        &'a self,
        said: Option<&'a RouteRateLimit>,
        route: Option<&'a RateLimits>,
        virtual_host: Option<&'a RateLimits>,
    ) -> Box<dyn Iterator<Item = &'a Rule> + 'a> {
        let own = said.map(|said| &said.rules).filter(|rules| !rules.is_empty());
        let own = own.or(Some(&self.rules).filter(|rules| !rules.is_empty()));
        if let Some(own) = own {
            return Box::new(own.iter());
        }
        // The older word of the route goes before that to the filter, unlike for local limits.
        let included = route.is_some_and(|limits| limits.include_virtual_host);
        let sharing = if included {
            VirtualHostLimits::Include
        } else {
            said.map_or(VirtualHostLimits::default(), |said| said.virtual_host)
        };
        let rules = RateLimits::applicable(route, virtual_host, sharing);
        Box::new(rules.filter(|rule| rule.stage == self.stage))
    }
}
