//! Which endpoint of a group is next?
//!
//! A [`BalancePolicy`] is what was said; a [`Balancer`] is that policy built over one group of endpoints (one priority,
//! one health class, its localities). Picking is a pure function of (balancer, sequence, hash, rng) and takes constant
//! time but for the ring's binary search.

mod bounded;
mod client_weighted;
mod first;
pub(crate) mod hash;
mod least_request;
mod load_report;
mod localities;
mod maglev;
mod override_host;
mod peak_ewma;
mod random;
mod random_subset;
mod ring_hash;
mod round_robin;
mod slow_start;
mod subset;
#[cfg(test)]
mod tests;
mod weights;
mod zone_aware;

pub use client_weighted::{ClientWeighted, ReportedLoad};
pub use least_request::LeastRequest;
pub use load_report::{LoadReport, NotAReport};
pub use localities::{Balancer, Group};
pub use maglev::Maglev;
pub use override_host::{Bringing, HostSource, OverrideHost};
pub use peak_ewma::{Latency, PeakEwma};
pub use random::WeightedRandom;
pub use random_subset::RandomSubset;
pub use ring_hash::RingHash;
pub use round_robin::RoundRobin;
pub use slow_start::SlowStart;
pub use subset::{SelectorFallback, SubsetFallback, SubsetPolicy, SubsetSelector};
pub use zone_aware::{LocalCluster, ZoneAware, ZoneCounts, ZoneSettings, ZoneSize};

use std::sync::Arc;

/// `lb_policy` or the first known entry of `load_balancing_policy`.
#[derive(Debug, Clone, PartialEq)]
pub enum BalancePolicy {
    /// Weighted round robin, exact over all workers.
    RoundRobin,
    /// The least loaded of `choices` random ones, weighted.
    LeastRequest {
        /// How many are looked at; default 2.
        choices: u32,
        /// `active_request_bias`, default 1.0.
        bias: f64,
        /// `selection_method: FULL_SCAN`: the least loaded of all.
        full_scan: bool,
    },
    /// Uniformly random, whatever the endpoints' weights.
    Random,
    /// Ketama-like ring over a hash of the request.
    RingHash {
        /// `minimum_ring_size`, default 1024.
        minimum: u64,
        /// `maximum_ring_size`, default 8 Mi.
        maximum: u64,
        /// Hash of ring entries.
        function: RingHashFunction,
        /// Hash `hostname` instead of the address.
        use_hostname: bool,
        /// `hash_balance_factor`, percent, at least 100: an endpoint with more than that of its share of the requests
        /// passes keys on; `None`: loads are not bounded.
        balance_factor: Option<u32>,
    },
    /// Maglev table over a hash of the request.
    Maglev {
        /// `table_size`, a prime; default 65537.
        table_size: u64,
        /// Hash `hostname` instead of the address.
        use_hostname: bool,
        /// `hash_balance_factor`, percent, at least 100: an endpoint with more than that of its share of the requests
        /// passes keys on; `None`: loads are not bounded.
        balance_factor: Option<u32>,
    },
    /// The cluster itself decides (`CLUSTER_PROVIDED`, original destination).
    ClusterProvided,
    /// Endpoints by their metadata, and another policy among those.
    Subset(Arc<SubsetPolicy>),
    /// New endpoints get less.
    SlowStart(Arc<SlowStart>),
    /// Requests stay in their zone by other rules than the default ones.
    ZoneAware(Arc<ZoneAware>),
    /// The first endpoint that may be used.
    PickFirst {
        /// `shuffle_address_list`: the first in an order of this process.
        shuffle: bool,
    },
    /// A few of the endpoints, and another policy among those.
    RandomSubset(Arc<RandomSubset>),
    /// Round robin by weights that the endpoints' reports make.
    ClientWeighted(Arc<ClientWeighted>),
    /// The quicker of two.
    PeakEwma(Arc<PeakEwma>),
    /// The endpoints that a request names, and else those of another policy.
    OverrideHost(Arc<OverrideHost>),
}

impl BalancePolicy {
    /// Whether it chooses by a hash of the request.
    pub fn hashes(&self) -> bool {
        matches!(self.among(), Self::RingHash { .. } | Self::Maglev { .. })
    }

    /// `slow_start_config`, whatever decides on the group.
    pub fn slow_start(&self) -> Option<&Arc<SlowStart>> {
        match self {
            Self::SlowStart(policy) => Some(policy),
            Self::Subset(policy) => policy.inner.slow_start(),
            Self::ZoneAware(policy) => policy.inner.slow_start(),
            Self::RandomSubset(policy) => policy.inner.slow_start(),
            Self::OverrideHost(policy) => policy.inner.slow_start(),
            _ => None,
        }
    }

    /// `zone_aware_lb_config` or its defaults.
    pub fn zone_settings(&self) -> ZoneSettings {
        match self {
            Self::ZoneAware(policy) => policy.settings,
            Self::Subset(policy) => policy.inner.zone_settings(),
            Self::RandomSubset(policy) => policy.inner.zone_settings(),
            Self::OverrideHost(policy) => policy.inner.zone_settings(),
            _ => ZoneSettings::default(),
        }
    }

    /// Whether it may keep requests in their zone.
    pub(crate) fn knows_zones(&self) -> bool {
        matches!(
            self.among(),
            Self::RoundRobin | Self::LeastRequest { .. } | Self::Random
        )
    }

    /// The policy without the endpoints that requests name.
    pub(crate) fn unnamed(&self) -> &Self {
        match self {
            Self::OverrideHost(policy) => policy.inner.unnamed(),
            own => own,
        }
    }

    /// Which part of the endpoints is used at all, where it is not all of them.
    pub(crate) fn random_subset(&self) -> Option<&RandomSubset> {
        match self {
            Self::RandomSubset(policy) => Some(policy),
            Self::OverrideHost(policy) => policy.inner.random_subset(),
            Self::Subset(policy) => policy.inner.random_subset(),
            Self::ZoneAware(policy) => policy.inner.random_subset(),
            _ => None,
        }
    }

    /// Whether a choice depends on the time.
    pub fn watches_time(&self) -> bool {
        match self {
            Self::SlowStart(_) | Self::PeakEwma(_) => true,
            Self::Subset(policy) => policy.inner.watches_time(),
            Self::ZoneAware(policy) => policy.inner.watches_time(),
            Self::RandomSubset(policy) => policy.inner.watches_time(),
            Self::OverrideHost(policy) => policy.inner.watches_time(),
            _ => false,
        }
    }

    /// What endpoints are to be watched for, beside their health.
    pub fn load_watch(&self) -> Option<LoadWatch> {
        match self.among() {
            Self::ClientWeighted(policy) => Some(LoadWatch::Reports(Arc::clone(policy))),
            Self::PeakEwma(policy) => Some(LoadWatch::Times(Arc::clone(policy))),
            _ => None,
        }
    }

    /// The policy by which one endpoint of a group is chosen, whatever decided on the group.
    pub fn among(&self) -> &Self {
        match self {
            Self::Subset(policy) => policy.inner.among(),
            Self::SlowStart(policy) => policy.inner.among(),
            Self::ZoneAware(policy) => policy.inner.among(),
            Self::RandomSubset(policy) => policy.inner.among(),
            Self::OverrideHost(policy) => policy.inner.among(),
            own => own,
        }
    }
}

/// What a policy wants to know of every answer.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadWatch {
    /// What the endpoint says of its load.
    Reports(Arc<ClientWeighted>),
    /// How long it took.
    Times(Arc<PeakEwma>),
}

/// `RingHashLbConfig.hash_function`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RingHashFunction {
    /// xxHash64, the default.
    #[default]
    XxHash,
    /// MurmurHash2 64-bit, as libstdc++'s.
    MurmurHash2,
}

/// An endpoint as consistent hashing sees it.
#[derive(Debug, Clone)]
pub struct HashedEndpoint<'a> {
    /// What is hashed for it.
    pub key: std::borrow::Cow<'a, str>,
    /// Its share of the whole group; all shares sum to 1.
    pub share: f64,
}
