//! Which endpoint of a cluster does this request go to?
//!
//! First a priority by its share of the load (Envoy's overprovisioning and panic rules, computed when the endpoint set
//! was built), then an endpoint by the policy over that priority's healthy, degraded or, in panic, all endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Cluster, Discovery, Level};
use crate::balance::{BalancePolicy, Balancer, Bringing, LocalCluster};
use crate::endpoint::{Endpoint, EndpointAddress, Health, Labels, Priority, PriorityLoads, Way};

/// What of a request matters for the choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickFacts<'a> {
    /// The hash that the route's hash policies made, if any.
    pub hash: Option<u64>,
    /// The labels of the subset that the route selects (`metadata_match`).
    pub labels: Option<&'a Labels>,
    /// The time, where the policy asks for it ([`crate::balance::BalancePolicy::watches_time`]).
    pub now: Option<Instant>,
    /// How long the process runs, where the time is said.
    pub running: Duration,
    /// The cluster that we are a member of, where the endpoints are grouped by zone.
    pub local: Option<&'a LocalCluster>,
    /// What an aggregate cluster chose of this one.
    pub level: Option<Level>,
}

/// What is chosen from: all endpoints of a cluster or a subset of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Over<'s> {
    pub(crate) priorities: &'s [Priority],
    pub(crate) loads: &'s PriorityLoads,
    /// The sequence of its round robin.
    pub(crate) sequence: &'s AtomicU32,
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

/// A cluster has no endpoint with the address that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotThere;

impl Cluster {
    /// Chooses an endpoint.
    ///
    /// # Errors
    /// Why there is none to choose.
    pub fn pick(&self, facts: &PickFacts<'_>, rng: &mut fastrand::Rng) -> Result<Pick<'_>, Unpickable> {
        if matches!(self.config.discovery, Discovery::OriginalDestination(_)) {
            return Err(Unpickable::OriginalDestination);
        }
        let set = &self.endpoints;
        if set.endpoints.is_empty() {
            return Err(Unpickable::NoEndpoints);
        }
        let hash = if set.options.policy.hashes() {
            Some(facts.hash.unwrap_or_else(|| rng.u64(..)))
        } else {
            None
        };
        let facts = PickFacts { hash, ..*facts };
        let whole = Over {
            priorities: &set.priorities,
            loads: &set.loads,
            sequence: &self.live.sequence,
        };
        let pick = match &set.subsets {
            None => self.choose(whole, &facts, rng),
            Some(subsets) => subsets.pick(whole, facts.labels, &mut |over| self.choose(over, &facts, rng)),
        };
        pick.ok_or_else(|| self.unusable())
    }

    /// The endpoint that a request names for this attempt, where the policy lets it name some.
    pub fn named(&self, bringing: &Bringing<'_>) -> Option<&Arc<Endpoint>> {
        let BalancePolicy::OverrideHost(policy) = &self.endpoints.options.policy else {
            return None;
        };
        let found = policy
            .addresses(bringing)
            .filter_map(|address| self.at_address(address));
        let mut found = found.skip(bringing.attempts as usize);
        found.next()
    }

    /// The endpoint with this address (as it is printed) that a session may go on with: `Err` where there is none,
    /// `Ok(None)` where it is there in a state in which sessions leave it.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn wanted(&self, address: &str) -> Result<Option<&Arc<Endpoint>>, NotThere> {
        let found = self.at_address(address).ok_or(NotThere)?;
        Ok(Some(found).filter(|endpoint| self.config.session_statuses.has(endpoint.status())))
    }

    fn at_address(&self, address: &str) -> Option<&Arc<Endpoint>> {
        let mut all = self.endpoints.endpoints.iter();
        match address.parse::<SocketAddr>() {
            Ok(address) => all.find(|endpoint| endpoint.spec.address == EndpointAddress::Socket(address)),
            Err(_) => all.find(
                |endpoint| matches!(&endpoint.spec.address, EndpointAddress::Pipe(path) if **path == *address),
            ),
        }
    }

    /// An endpoint of a group.
    fn choose<'s>(&self, over: Over<'s>, facts: &PickFacts<'_>, rng: &mut fastrand::Rng) -> Option<Pick<'s>> {
        let hash = facts.hash;
        let (at, class) = if over.priorities.len() == 1 && over.loads.healthy[0] == 100 {
            (0, Health::Healthy)
        } else if let Some(level) = facts.level {
            (level.priority, level.class)
        } else {
            over.loads.choose(hash.unwrap_or_else(|| rng.u64(..)))
        };
        let priority = over.priorities.get(at)?;
        let panic = over.loads.panic[at];
        let balancer = match class {
            _ if panic => self.in_panic(priority)?,
            Health::Degraded => &priority.over_degraded,
            _ => match (&priority.zones, facts.local) {
                (Some(zones), Some(local)) => {
                    match zones.way(local, self.endpoints.options.panic_threshold, rng) {
                        Way::Anywhere => &priority.over_healthy,
                        Way::Nowhere => return None,
                        Way::Zone(balancer) => balancer,
                    }
                }
                _ => &*priority.over_healthy,
            },
        };
        let sequence = if balancer.uses_sequence() {
            over.sequence.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let special = match (hash, facts.now) {
            (Some(hash), _) => balancer.pick_bounded(hash, self.live.requests() + 1),
            (None, Some(now)) => match balancer.pick_warming(sequence, now, rng) {
                None => balancer.pick_quickest(facts.running, rng),
                warming => warming,
            },
            (None, None) => None,
        };
        let endpoint = special.or_else(|| balancer.pick(sequence, hash, rng))?;
        Some(Pick {
            endpoint,
            priority: at as u32,
            panic,
        })
    }

    /// All endpoints, unless the cluster would rather fail.
    fn in_panic<'s>(&self, priority: &'s Priority) -> Option<&'s Balancer> {
        let settings = self.endpoints.options.policy.zone_settings();
        (!settings.fail_on_panic).then_some(&*priority.over_all)
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
