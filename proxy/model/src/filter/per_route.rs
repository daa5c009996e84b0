//! What the levels of a route configuration say about filters (`typed_per_filter_config`).

use std::sync::Arc;

use super::{
    BufferFilter, CacheFilter, CompressorRoute, CorsPolicy, Fault, LocalRateLimit, Mutations, Quota,
    RouteAuthorization, RouteRateLimit, SetFilterState, StatefulSession,
};
use crate::Name;
use crate::limit::RateLimits;
use crate::policy::HttpAccess;
use crate::route::Decision;

/// What one level says about one filter.
#[derive(Debug, Clone)]
pub enum RouteFilter {
    /// `FilterConfig.disabled`.
    Disabled,
    /// The filter runs, with its own configuration.
    Enabled,
    /// `HTTPFault` in place of the filter's own.
    Fault(Arc<Fault>),
    /// `CorsPolicy`.
    Cors(Arc<CorsPolicy>),
    /// `HeaderMutationPerRoute`, beside the filter's own.
    HeaderMutation(Arc<Mutations>),
    /// `CacheConfig` in place of the filter's own.
    Cache(Arc<CacheFilter>),
    /// `CompressorPerRoute`.
    Compressor(Arc<CompressorRoute>),
    /// `BufferPerRoute.buffer` in place of the filter's own.
    Buffer(BufferFilter),
    /// `StatefulSessionPerRoute.stateful_session` in place of the filter's own.
    StatefulSession(Arc<StatefulSession>),
    /// `LocalRateLimit` in place of the filter's own.
    LocalRateLimit(Arc<LocalRateLimit>),
    /// `set_filter_state.Config`, after the filter's own.
    SetFilterState(Arc<SetFilterState>),
    /// `CheckSettings`.
    ExternalAuthorization(Arc<RouteAuthorization>),
    /// `RateLimitPerRoute`.
    GlobalRateLimit(Arc<RouteRateLimit>),
    /// `RBACPerRoute.rbac` in place of the filter's own.
    Access(HttpAccess),
    /// `remora.filters.http.Quota` in place of the filter's own.
    Quota(Arc<Quota>),
}

/// What one level says about filters, by their names in the chain, and what it says of rate limits. Most levels say
/// nothing, and then it takes no room.
#[derive(Debug, Clone, Default)]
pub struct FilterSettings(Option<Box<Said>>);

#[derive(Debug, Clone, Default)]
struct Said {
    filters: Vec<(Name, RouteFilter)>,
    rate_limits: RateLimits,
}

impl FilterSettings {
    /// What is said, by name.
    pub fn new(filters: Vec<(Name, RouteFilter)>) -> Self {
        if filters.is_empty() {
            return Self(None);
        }
        let rate_limits = RateLimits::default();
        Self(Some(Box::new(Said { filters, rate_limits })))
    }

    /// Adds what is said of one more filter.
    pub fn add(&mut self, name: Name, said: RouteFilter) {
        self.0.get_or_insert_default().filters.push((name, said));
    }

    /// Says what is said of rate limits (`rate_limits`).
    pub fn limit_rates(&mut self, rate_limits: RateLimits) {
        if !rate_limits.is_empty() {
            self.0.get_or_insert_default().rate_limits = rate_limits;
        }
    }

    /// What is said of rate limits.
    pub fn rate_limits(&self) -> Option<&RateLimits> {
        self.0.as_ref().map(|said| &said.rate_limits)
    }

    /// Everything that is said of filters.
    pub fn iter(&self) -> impl Iterator<Item = &RouteFilter> {
        let said = self.0.iter().flat_map(|said| &said.filters);
        said.map(|(_, said)| said)
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What is said of the filter `name`. Levels have a handful of entries at most, mostly none.
    pub fn of(&self, name: &str) -> Option<&RouteFilter> {
        let filters = &self.0.as_ref()?.filters;
        let (_, said) = filters.iter().find(|(other, _)| **other == *name)?;
        Some(said)
    }
}

impl<'t> Decision<'t> {
    /// What the levels say of the filter `name`, the most specific level first.
    pub fn filter_settings<'n>(
        &self,
        name: &'n str,
    ) -> impl DoubleEndedIterator<Item = &'t RouteFilter> + use<'t, 'n> {
        let fixed = [
            &self.route.filters,
            &self.virtual_host.filters,
            &self.table.filters,
        ];
        let weighted = self.weighted.map(|entry| &entry.filters);
        weighted
            .into_iter()
            .chain(fixed)
            .filter_map(move |level| level.of(name))
    }
}
