//! What `zone_aware_lb_config` says, and what is known of the cluster that we are a member of.
//!
//! Holds: without `cluster_manager.local_cluster_name` nothing of this is there, and requests spread over all zones.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::BalancePolicy;
use crate::endpoint::{EndpointSet, Health, Locality};
use crate::snapshot::ClusterId;

/// `zone_aware_lb_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneAware {
    /// How one endpoint of a zone is chosen.
    pub inner: BalancePolicy,
    /// Its settings.
    pub settings: ZoneSettings,
}

/// Envoy's settings of zone-aware routing; the defaults hold for every cluster of which nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ZoneSettings {
    /// `routing_enabled`, whole percent of the requests; default 100.
    pub enabled: u8,
    /// `min_cluster_size`: with fewer healthy endpoints zones do not count; default 6.
    pub least_endpoints: u64,
    /// `fail_traffic_on_panic`: no endpoint in panic.
    pub fail_on_panic: bool,
    /// `force_locality_direct_routing`: all to our own zone where the cluster has it.
    pub direct: bool,
    /// `force_local_zone`: all to our own zone where it has this many healthy endpoints.
    pub forced_with: Option<u32>,
    /// `locality_basis: HEALTHY_HOSTS_WEIGHT`: shares by weight, not by number.
    pub by_weight: bool,
}

impl Default for ZoneSettings {
    fn default() -> Self {
        Self {
            enabled: 100,
            least_endpoints: 6,
            fail_on_panic: false,
            direct: false,
            forced_with: None,
            by_weight: false,
        }
    }
}

/// What Envoy counts as `lb_zone_*` of one cluster, exact across workers.
#[derive(Debug, Default)]
pub struct ZoneCounts {
    /// Versions of the endpoints that were too few.
    pub too_small: AtomicU64,
    /// Requests that all stay in our zone.
    pub all_directly: AtomicU64,
    /// Requests that stay in our zone by their share.
    pub sampled: AtomicU64,
    /// Requests that leave it.
    pub cross_zone: AtomicU64,
    /// Of these, requests for which no zone had room.
    pub no_capacity: AtomicU64,
    /// Choices without zones, because the cluster that we belong to is not as it should be.
    pub local_not_ok: AtomicU64,
}

/// The endpoints of one zone, as far as they matter for shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZoneSize {
    /// Healthy ones.
    pub healthy: u64,
    /// The weights of these.
    pub weight: u64,
    /// All.
    pub total: u64,
}

/// The cluster that we are a member of (`local_cluster_name`), and where we are.
#[derive(Debug, Clone)]
pub struct LocalCluster {
    /// Which one.
    pub id: ClusterId,
    /// `node.locality`.
    pub own: Locality,
    /// Its zones, at priority 0.
    pub zones: Vec<(Locality, ZoneSize)>,
    /// Its endpoints that are degraded.
    pub degraded: u64,
    counts: Arc<Mutex<HashMap<ClusterId, Arc<ZoneCounts>>>>,
}

impl LocalCluster {
    /// Without endpoints so far.
    pub fn new(id: ClusterId, own: Locality) -> Self {
        Self {
            id,
            own,
            zones: Vec::new(),
            degraded: 0,
            counts: Arc::default(),
        }
    }

    /// The counts of the cluster `of`, the same for all versions.
    pub(crate) fn counts(&self, of: ClusterId) -> Arc<ZoneCounts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(counts.entry(of).or_default())
    }

    /// The same with these endpoints.
    pub(crate) fn with(&self, set: Option<&EndpointSet>) -> Self {
        let mut next = Self {
            zones: Vec::new(),
            degraded: 0,
            ..self.clone()
        };
        let by_address: HashMap<_, _> = set
            .into_iter()
            .flat_map(|set| set.endpoints.iter())
            .map(|endpoint| (&endpoint.spec.address, endpoint))
            .collect();
        let localities = set.into_iter().flat_map(|set| &set.assignment.localities);
        for locality in localities.filter(|locality| locality.priority == 0) {
            for spec in &locality.endpoints {
                let health = by_address.get(&spec.address).map(|endpoint| endpoint.health());
                next.degraded += u64::from(health == Some(Health::Degraded));
                let healthy = health == Some(Health::Healthy);
                let zone = match next.zones.iter_mut().find(|(zone, _)| *zone == locality.locality) {
                    Some((_, zone)) => zone,
                    None => {
                        next.zones.push((locality.locality.clone(), ZoneSize::default()));
                        match next.zones.last_mut() {
                            Some((_, zone)) => zone,
                            None => continue,
                        }
                    }
                };
                zone.total += 1;
                zone.healthy += u64::from(healthy);
                zone.weight += if healthy { u64::from(spec.weight) } else { 0 };
            }
        }
        next
    }

    /// The sizes of this zone.
    pub(crate) fn zone(&self, locality: &Locality) -> ZoneSize {
        let found = self.zones.iter().find(|(zone, _)| zone == locality);
        found.map(|(_, size)| *size).unwrap_or_default()
    }

    /// Whether too few of its endpoints are healthy.
    pub(crate) fn in_panic(&self, threshold: u8) -> bool {
        let total: u64 = self.zones.iter().map(|(_, zone)| zone.total).sum();
        let usable: u64 = self.degraded + self.zones.iter().map(|(_, zone)| zone.healthy).sum::<u64>();
        total == 0 && threshold > 0 || 100 * usable < u64::from(threshold.min(100)) * total
    }
}
