//! Which endpoint of a cluster does this request go to?
//!
//! First a priority by its share of the load (Envoy's overprovisioning and panic rules, computed when the endpoint set
//! was built), then an endpoint by the policy over that priority's healthy, degraded or, in panic, all endpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Cluster, Discovery};
use crate::balance::BalancePolicy;
use crate::endpoint::{Endpoint, Health};

/// What of a request matters for the choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickFacts {
    /// The hash that the route's hash policies made, if any.
    pub hash: Option<u64>,
}

/// The chosen endpoint and why it was among the candidates.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'c> {
    /// Where to.
    pub endpoint: &'c Arc<Endpoint>,
    /// Its priority.
    pub priority: u32,
    /// Chosen from all endpoints, because too few are healthy.
    pub panic: bool,
}

/// Why no endpoint can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unpickable {
    /// The cluster has no endpoints at all.
    #[error("the cluster has no endpoints")]
    NoEndpoints,
    /// It has some, but none that may be used.
    #[error("none of the cluster's {total} endpoints may be used: {unhealthy} are unhealthy or draining")]
    NoneUsable {
        /// All endpoints.
        total: u32,
        /// Those that are neither healthy nor degraded.
        unhealthy: u32,
    },
    /// The cluster takes the address that the client wanted: there is nothing to balance over.
    #[error("the cluster takes the connection's original destination")]
    OriginalDestination,
}

impl Cluster {
    /// Chooses an endpoint.
    ///
    /// # Errors
    /// Why there is none to choose.
    pub fn pick(&self, facts: &PickFacts, rng: &mut fastrand::Rng) -> Result<Pick<'_>, Unpickable> {
        if matches!(self.config.discovery, Discovery::OriginalDestination(_)) {
            return Err(Unpickable::OriginalDestination);
        }
        let set = &self.endpoints;
        if set.endpoints.is_empty() {
            return Err(Unpickable::NoEndpoints);
        }
        let hashing = matches!(
            set.options.policy,
            BalancePolicy::RingHash { .. } | BalancePolicy::Maglev { .. }
        );
        let hash = if hashing {
            Some(facts.hash.unwrap_or_else(|| rng.u64(..)))
        } else {
            None
        };
        let (at, class) = if set.priorities.len() == 1 && set.loads.healthy[0] == 100 {
            (0, Health::Healthy)
        } else {
            set.loads.choose(hash.unwrap_or_else(|| rng.u64(..)))
        };
        let priority = &set.priorities[at];
        let panic = set.loads.panic[at];
        let balancer = match class {
            _ if panic => &priority.over_all,
            Health::Degraded => &priority.over_degraded,
            _ => &priority.over_healthy,
        };
        let sequence = if balancer.uses_sequence() {
            self.live.sequence.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let bounded =
            hash.and_then(|hash| balancer.pick_bounded(hash, self.live.requests.load(Ordering::Relaxed)));
        match bounded.or_else(|| balancer.pick(sequence, hash, rng)) {
            Some(endpoint) => Ok(Pick {
                endpoint,
                priority: at as u32,
                panic,
            }),
            None => Err(self.unusable()),
        }
    }

    fn unusable(&self) -> Unpickable {
        let priorities = &self.endpoints.priorities;
        let total = priorities.iter().map(|p| p.total).sum();
        let usable: u32 = priorities.iter().map(|p| p.healthy + p.degraded).sum();
        Unpickable::NoneUsable {
            total,
            unhealthy: total - usable,
        }
    }
}
