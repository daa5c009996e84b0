//! Which zone does a request go to? Envoy's zone-aware routing over the healthy endpoints of priority 0.
//!
//! Holds: our own zone gets as much as keeps the load of all zones even, provided that everybody in our cluster does the
//! same; what it has no room for goes to the zones that have, in proportion to their room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smallvec::SmallVec;

use super::build::Built;
use super::{BuildOptions, Health, Locality};
use crate::balance::{Balancer, Group, LocalCluster, ZoneCounts, ZoneSettings, ZoneSize};

/// A share of 1.
const WHOLE: u64 = 10_000;

/// The zones of a priority.
#[derive(Debug)]
pub struct Zones {
    parts: Vec<Part>,
    settings: ZoneSettings,
    /// That this version is not fit for it was counted.
    told: AtomicBool,
    /// What was counted.
    pub counts: Arc<ZoneCounts>,
}

#[derive(Debug)]
struct Part {
    locality: Locality,
    size: ZoneSize,
    over: Arc<Balancer>,
}

/// What zones say of a request.
#[derive(Debug)]
pub(crate) enum Way<'z> {
    /// Nothing.
    Anywhere,
    /// No endpoint may be used.
    Nowhere,
    /// An endpoint of one zone.
    Zone(&'z Balancer),
}

impl Zones {
    /// The zones of these localities; `None` where there is one or none.
    pub(super) fn build(
        localities: &[Built<'_>],
        options: &BuildOptions,
        counts: &Arc<ZoneCounts>,
    ) -> Option<Box<Self>> {
        let mut zones: Vec<(&Locality, Vec<_>, u64)> = Vec::new();
        for (place, all) in localities.iter().filter(|(_, all)| !all.is_empty()) {
            let healthy = all.iter().filter(|endpoint| endpoint.health() == Health::Healthy);
            match zones
                .iter_mut()
                .find(|(locality, ..)| *locality == place.locality)
            {
                Some((_, members, total)) => {
                    members.extend(healthy);
                    *total += all.len() as u64;
                }
                None => zones.push((place.locality, healthy.collect(), all.len() as u64)),
            }
        }
        if zones.len() < 2 {
            return None;
        }
        let part = |(locality, endpoints, total): (&Locality, Vec<_>, u64)| {
            let size = ZoneSize {
                healthy: endpoints.len() as u64,
                weight: endpoints
                    .iter()
                    .map(|endpoint: &&Arc<super::Endpoint>| u64::from(endpoint.spec.weight))
                    .sum(),
                total,
            };
            let group = Group {
                weight: None,
                endpoints,
            };
            Part {
                locality: locality.clone(),
                size,
                over: Arc::new(Balancer::build(&options.policy, &[group])),
            }
        };
        Some(Box::new(Self {
            parts: zones.into_iter().map(part).collect(),
            settings: options.policy.zone_settings(),
            told: AtomicBool::new(false),
            counts: Arc::clone(counts),
        }))
    }

    /// Where a request goes that a member of `local` sends; `threshold` is the panic threshold of the cluster.
    pub(crate) fn way(&self, local: &LocalCluster, threshold: u8, rng: &mut fastrand::Rng) -> Way<'_> {
        let settings = &self.settings;
        let own = self.parts.iter().find(|part| part.locality == local.own);
        let forced = settings
            .forced_with
            .is_some_and(|least| own.is_some_and(|own| own.size.healthy >= u64::from(least)));
        let direct = settings.direct || forced;
        if local.zones.len() < 2 && !direct {
            return Way::Anywhere;
        }
        if local.zone(&local.own).total == 0 {
            self.tell(&self.counts.local_not_ok);
            return Way::Anywhere;
        }
        if self.parts.iter().map(|part| part.size.healthy).sum::<u64>() < settings.least_endpoints {
            self.tell(&self.counts.too_small);
            return Way::Anywhere;
        }
        if settings.enabled < 100 && rng.u8(..100) >= settings.enabled {
            return Way::Anywhere;
        }
        if local.in_panic(threshold) {
            self.counts.local_not_ok.fetch_add(1, Ordering::Relaxed);
            return if settings.fail_on_panic {
                Way::Nowhere
            } else {
                Way::Anywhere
            };
        }
        let chosen = self.draw(local, own, direct, rng);
        chosen.map_or(Way::Anywhere, |part| Way::Zone(&part.over))
    }

    fn draw<'z>(
        &'z self,
        local: &LocalCluster,
        own: Option<&'z Part>,
        direct: bool,
        rng: &mut fastrand::Rng,
    ) -> Option<&'z Part> {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let basis = |size: &ZoneSize| {
            if self.settings.by_weight {
                size.weight
            } else {
                size.healthy
            }
        };
        let share = |part: u64, whole: u64| (WHOLE * part).checked_div(whole).unwrap_or(0);
        let ours: u64 = local.zones.iter().map(|(_, size)| basis(size)).sum();
        let theirs: u64 = self.parts.iter().map(|part| basis(&part.size)).sum();
        // What of the requests begins in a zone, and what of the endpoints is there.
        let shares = |part: &Part| match part.size.healthy {
            0 => (0, 0),
            _ => (
                share(basis(&local.zone(&part.locality)), ours),
                share(basis(&part.size), theirs),
            ),
        };
        if let Some(own) = own {
            let (begun, there) = shares(own);
            if direct || there > 0 && there >= begun {
                count(&self.counts.all_directly);
                return Some(own);
            }
            if begun > 0 && rng.u64(..WHOLE) < there * WHOLE / begun {
                count(&self.counts.sampled);
                return Some(own);
            }
        }
        count(&self.counts.cross_zone);
        let room: SmallVec<[(u64, &Part); 8]> = self
            .parts
            .iter()
            .filter(|part| own.is_none_or(|own| !std::ptr::eq(own, *part)))
            .map(|part| (shares(part), part))
            .map(|((begun, there), part)| (there.saturating_sub(begun), part))
            .collect();
        let total: u64 = room.iter().map(|(room, _)| room).sum();
        if total == 0 {
            count(&self.counts.no_capacity);
            return self.parts.get(rng.usize(..self.parts.len()));
        }
        let mut point = rng.u64(..total);
        let chosen = room.iter().find(|(room, _)| {
            let hit = point < *room;
            point = point.saturating_sub(*room);
            hit
        });
        chosen.map(|(_, part)| *part)
    }

    /// Counts once for this version of the endpoints.
    fn tell(&self, counter: &AtomicU64) {
        if !self.told.swap(true, Ordering::Relaxed) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}
