//! Endpoints for the clusters that traffic uses, and for no others (`--on-demand-endpoints`).
//!
//! ```text
//! asleep --a request finds no endpoints and asks--> awake --no use for the idle time--> asleep
//! ```
//! Holds: a cluster that sleeps is in the world without endpoints and is subscribed to nothing; a request that asks is
//! answered after the world with the endpoints was published, or when they will not come; use is read from the counters that
//! requests count into anyway. Only delta sources: state of the world would send all names with each first use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora_model::Name;
use remora_translate::config_source::{Source, Variant};
use remora_translate::{Subscription, SubscriptionKind};
use tokio::sync::{mpsc, oneshot};

use super::Control;
use super::sources::Origin;
use crate::worker::Ask;

/// Which clusters sleep.
#[derive(Debug, Default)]
pub struct OnDemand {
    settings: Option<Settings>,
    clusters: HashMap<Name, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    idle: Duration,
    ads: Option<Variant>,
}

/// A cluster whose endpoints are subscribed to by use.
#[derive(Debug)]
struct Entry {
    endpoints: Vec<Subscription>,
    stat_name: Name,
    awake: Option<Use>,
}

#[derive(Debug, Clone, Copy)]
struct Use {
    /// Requests and connections counted at the last look.
    counted: u64,
    /// When there was a new one.
    at: Instant,
}

/// Requests that wait.
#[derive(Debug, Default)]
pub struct Asks {
    waiting: HashMap<Name, Vec<oneshot::Sender<()>>>,
    next_look: Option<Instant>,
}

impl OnDemand {
    /// From now on; `ads` is what the aggregated stream speaks.
    pub fn begin(&mut self, idle: Duration, ads: Option<Variant>) {
        self.settings = Some(Settings { idle, ads });
    }

    /// Takes the subscription to endpoints out of what a dynamic cluster needs, unless it is awake.
    pub fn defer(&mut self, name: &Name, stat_name: &Name, needs: &mut Vec<Subscription>) {
        let Some(settings) = self.settings else { return };
        let (endpoints, others): (Vec<_>, Vec<_>) = needs.drain(..).partition(|need| {
            need.kind == SubscriptionKind::ClusterLoadAssignment && settings.is_delta(&need.source)
        });
        *needs = others;
        let before = self.clusters.remove(name);
        if endpoints.is_empty() {
            return;
        }
        let awake = before.and_then(|entry| entry.awake);
        if awake.is_some() {
            needs.extend(endpoints.iter().cloned());
        }
        let entry = Entry {
            endpoints,
            stat_name: Arc::clone(stat_name),
            awake,
        };
        self.clusters.insert(Arc::clone(name), entry);
    }

    /// Forgets a cluster.
    pub fn remove(&mut self, name: &str) {
        self.clusters.remove(name);
    }

    /// A use of this cluster: what it needs for that, and whether it slept. `None` for all that never sleep.
    pub fn wake(&mut self, name: &str, now: Instant) -> Option<(&[Subscription], bool)> {
        let entry = self.clusters.get_mut(name)?;
        let slept = entry.awake.is_none();
        entry.awake.get_or_insert(Use { counted: 0, at: now }).at = now;
        Some((&entry.endpoints, slept))
    }

    /// Lets a cluster sleep; what it needs no more.
    pub fn sleep(&mut self, name: &str) -> Vec<Subscription> {
        let Some(entry) = self.clusters.get_mut(name) else {
            return Vec::new();
        };
        entry.awake = None;
        entry.endpoints.clone()
    }

    /// What the clusters that sleep would need.
    pub fn asleep(&self) -> impl Iterator<Item = (&Name, &Subscription)> {
        self.clusters
            .iter()
            .filter(|(_, entry)| entry.awake.is_none())
            .flat_map(|(name, entry)| entry.endpoints.iter().map(move |need| (name, need)))
    }

    /// What this cluster's requests wait for.
    pub fn needs(&self, name: &str) -> &[Subscription] {
        self.clusters
            .get(name)
            .map_or(&[], |entry| entry.endpoints.as_slice())
    }

    /// The clusters that nobody used for the idle time. `counted` tells requests and connections by `stat_name`, those
    /// that ended and those that are open.
    fn unused(&mut self, now: Instant, counted: impl Fn(&Name) -> (u64, bool)) -> Vec<Name> {
        let Some(settings) = self.settings else {
            return Vec::new();
        };
        let mut unused = Vec::new();
        for (name, entry) in &mut self.clusters {
            let Some(last) = &mut entry.awake else { continue };
            let (total, open) = counted(&entry.stat_name);
            if open || total != last.counted {
                *last = Use {
                    counted: total,
                    at: now,
                };
            } else if now >= last.at + settings.idle {
                unused.push(Arc::clone(name));
            }
        }
        unused
    }

    fn awake_count(&self) -> usize {
        self.clusters
            .values()
            .filter(|entry| entry.awake.is_some())
            .count()
    }
}

impl Settings {
    fn is_delta(&self, origin: &Origin) -> bool {
        match origin {
            Some(Source::Ads) => self.ads == Some(Variant::Delta),
            Some(Source::Grpc(grpc)) => grpc.variant == Variant::Delta,
            Some(Source::Path(_)) | None => false,
        }
    }

    /// Four looks per idle time.
    fn look(&self) -> Duration {
        self.idle / 4
    }
}

impl Control {
    /// Takes in everything that was asked: what was asked together goes out in one request.
    pub(super) fn take_asks(&mut self, first: Ask, others: &mut mpsc::Receiver<Ask>) {
        self.asked(first);
        while let Ok(ask) = others.try_recv() {
            self.asked(ask);
        }
        self.settle();
        self.on_demand_time(Instant::now());
    }

    /// A request found a cluster without endpoints.
    fn asked(&mut self, ask: Ask) {
        match self.catalog.wake(&ask.cluster, Instant::now()) {
            // Dropped: there is nothing to wait for.
            None => {}
            Some(slept) => {
                if slept {
                    self.shared
                        .observe
                        .control
                        .count("remora.on_demand.first_uses", 1);
                    self.set_awake();
                }
                let waiting = self.asks.waiting.entry(ask.cluster).or_default();
                // Some gave up meanwhile.
                waiting.retain(|answer| !answer.is_closed());
                waiting.push(ask.answer);
            }
        }
    }

    /// Answers every request whose cluster's endpoints were published, or will not come.
    pub(super) fn answer_asks(&mut self) {
        let catalog = &self.catalog;
        self.asks.waiting.retain(|name, waiting| {
            if !catalog.is_asked_for_in_vain(name) {
                return true;
            }
            for answer in waiting.drain(..) {
                // Whoever gave up hears nothing.
                let _ = answer.send(());
            }
            false
        });
    }

    pub(super) fn on_demand_due(&self) -> Option<Instant> {
        self.asks.next_look
    }

    /// Lets the clusters sleep that nobody uses.
    pub(super) fn on_demand_time(&mut self, now: Instant) {
        let Some(look) = self.catalog.on_demand.settings.map(|settings| settings.look()) else {
            return;
        };
        if self.asks.next_look.is_some_and(|next| next > now) {
            return;
        }
        self.asks.next_look = Some(now + look);
        let observe = &self.shared.observe;
        let unused = self
            .catalog
            .on_demand
            .unused(now, |stat_name| observe.use_of(stat_name));
        for name in unused {
            let waiting = self.asks.waiting.get_mut(&name);
            let waits = waiting.is_some_and(|waiting| waiting.iter().any(|answer| !answer.is_closed()));
            if !waits {
                self.catalog.sleep(&name);
            }
        }
        self.set_awake();
    }

    fn set_awake(&self) {
        let awake = self.catalog.on_demand.awake_count();
        let metrics = &self.shared.observe.control;
        metrics.set(
            "remora.on_demand.awake_clusters",
            i64::try_from(awake).unwrap_or(i64::MAX),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(8);

    fn needs() -> Vec<Subscription> {
        let of = |kind| Subscription {
            kind,
            name: "x".into(),
            source: Some(Source::Ads),
            initial_fetch_timeout: None,
        };
        vec![
            of(SubscriptionKind::ClusterLoadAssignment),
            of(SubscriptionKind::Secret),
        ]
    }

    /// How many needs a new version of the cluster is left with.
    fn left(on_demand: &mut OnDemand) -> usize {
        let mut needs = needs();
        on_demand.defer(&"x".into(), &"x".into(), &mut needs);
        needs.len()
    }

    #[test]
    fn only_delta_sources_are_deferred_and_only_when_told() {
        let mut off = OnDemand::default();
        assert_eq!(left(&mut off), 2);
        for (ads, expected) in [
            (None, 2),
            (Some(Variant::StateOfTheWorld), 2),
            (Some(Variant::Delta), 1),
        ] {
            let mut on_demand = OnDemand::default();
            on_demand.begin(IDLE, ads);
            assert_eq!(left(&mut on_demand), expected, "{ads:?}");
            assert_eq!(
                on_demand.wake("x", Instant::now()).is_some(),
                expected == 1,
                "{ads:?}"
            );
        }
    }

    #[test]
    fn a_cluster_sleeps_after_its_last_use_and_not_while_a_request_is_open() {
        let mut on_demand = OnDemand::default();
        on_demand.begin(IDLE, Some(Variant::Delta));
        left(&mut on_demand);
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(on_demand.wake("x", begun).is_some_and(|(_, slept)| slept));
        assert!(on_demand.wake("x", at(2)).is_some_and(|(_, slept)| !slept));
        assert_eq!(
            left(&mut on_demand),
            2,
            "awake: a new version keeps its endpoints"
        );
        let mut look = |seconds, counted, open| on_demand.unused(at(seconds), |_| (counted, open)).len();
        assert_eq!(look(9, 0, false), 0, "8 seconds after 2");
        assert_eq!(look(10, 1, false), 0, "a request began");
        assert_eq!(look(30, 1, true), 0, "one is open");
        assert_eq!(look(37, 1, false), 0);
        assert_eq!(look(38, 1, false), 1);
        assert_eq!(on_demand.sleep("x").len(), 1);
        assert_eq!(on_demand.asleep().count(), 1);
        assert_eq!(left(&mut on_demand), 1);
    }
}
