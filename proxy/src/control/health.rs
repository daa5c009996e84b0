//! Which endpoints are left out for a while, and when do they return? The model decides; here the decisions are made in
//! time, counted, and put into the next world.
//!
//! Holds: flags of endpoints change on this thread only, and whenever they do the cluster's endpoints are built anew
//! before the next publication. A cluster without outlier detection and without refusals costs nothing here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use remora_model::cluster::Cluster;
use remora_model::endpoint::Endpoint;
use remora_model::health::{Change, OutlierDetection, Quarantine, Trip, Verdict, bring_back, ejected};
use remora_model::snapshot::ClusterId;
use tokio::sync::mpsc;

use super::Control;
use super::weights::Weighings;
use crate::observe::metrics::OutlierCounters;
use crate::observe::{HealthCells, WorkerCounters};
use crate::worker::{HealthSignal, Saw};

/// What is to be done for the health of endpoints, and when.
#[derive(Debug)]
pub struct Watches {
    /// Ends of intervals.
    intervals: BTreeSet<(Instant, ClusterId)>,
    /// The same by cluster.
    watched: HashMap<ClusterId, Instant>,
    /// Ends of quarantines; at most one for each endpoint.
    quarantined: Vec<(Instant, ClusterId, Arc<Endpoint>)>,
    pub(super) weights: Weighings,
    pub(super) rng: fastrand::Rng,
    pub(super) counters: WorkerCounters,
}

impl Watches {
    /// Nothing yet.
    pub fn new(counters: WorkerCounters) -> Self {
        Self {
            intervals: BTreeSet::new(),
            watched: HashMap::new(),
            quarantined: Vec::new(),
            weights: Weighings::default(),
            rng: fastrand::Rng::new(),
            counters,
        }
    }

    /// When something is to be done.
    pub fn due(&self) -> Option<Instant> {
        let interval = self.intervals.first().map(|(at, _)| *at);
        let quarantine = self.quarantined.iter().map(|(at, ..)| *at).min();
        [interval, quarantine, self.weights.due()]
            .into_iter()
            .flatten()
            .min()
    }

    fn forget(&mut self, id: ClusterId) {
        if let Some(at) = self.watched.remove(&id) {
            self.intervals.remove(&(at, id));
        }
    }

    fn watch(&mut self, id: ClusterId, at: Instant) {
        self.forget(id);
        self.watched.insert(id, at);
        self.intervals.insert((at, id));
    }
}

impl Control {
    /// Takes in what workers saw.
    pub fn hear_health(&mut self, first: HealthSignal, more: &mut mpsc::UnboundedReceiver<HealthSignal>) {
        self.take_signal(first);
        while let Ok(signal) = more.try_recv() {
            self.take_signal(signal);
        }
        self.settle();
    }

    fn take_signal(&mut self, signal: HealthSignal) {
        let Some(cluster) = self.catalog.preview().cluster(signal.cluster).cloned() else {
            return;
        };
        match signal.saw {
            Saw::Tripped(trip) => self.tripped(&cluster, &signal.endpoint, trip),
            Saw::Refusal => self.refused(&cluster, signal.endpoint),
            Saw::Leaving => self.leaving(&cluster, &signal.endpoint),
        }
    }

    fn tripped(&mut self, cluster: &Cluster, endpoint: &Arc<Endpoint>, trip: Trip) {
        let Some(outlier) = outlier_of(cluster) else {
            return;
        };
        let now = self.shared.started.elapsed();
        let rng = &mut self.health.rng;
        let verdict = outlier.tripped(&cluster.endpoints, endpoint, trip, now, rng);
        self.note(cluster, endpoint, trip, verdict);
        if verdict == Verdict::Ejected {
            endpoint.live().fall();
            self.catalog.renew_endpoints(cluster.config.id);
        }
    }

    fn refused(&mut self, cluster: &Cluster, endpoint: Arc<Endpoint>) {
        let Some(time) = Quarantine::refused(&cluster.endpoints, &endpoint) else {
            return;
        };
        tracing::info!(cluster = %cluster.config.name, endpoint = ?endpoint.spec.address, ?time,
            "refuses connections, left out for a while");
        let cells = self.health.counters.cluster(&cluster.config);
        cells.traffic.upstream_host_quarantined.one();
        let id = cluster.config.id;
        self.health
            .quarantined
            .push((Instant::now() + time, id, endpoint));
        self.catalog.renew_endpoints(id);
    }

    /// Clusters whose configuration is another now are watched from here on, or no more.
    pub fn review_health(&mut self) {
        loop {
            let rounds = std::mem::take(&mut self.catalog.rounds_wanted);
            let changes = std::mem::take(&mut self.catalog.watch_changes);
            if rounds.is_empty() && changes.is_empty() {
                return;
            }
            for name in rounds {
                self.review_round(&name);
            }
            for id in changes {
                self.review_cluster(id);
                self.review_checks(id);
                self.review_weights(id);
            }
        }
    }

    fn review_cluster(&mut self, id: ClusterId) {
        let Some(cluster) = self.catalog.preview().cluster(id).cloned() else {
            return;
        };
        let Some(outlier) = outlier_of(&cluster) else {
            self.health.forget(id);
            self.return_all(&cluster);
            return;
        };
        // The interval that runs goes on, unless the new one is shorter.
        let at = Instant::now() + outlier.interval;
        if self.health.watched.get(&id).is_none_or(|before| at < *before) {
            self.health.watch(id, at);
        }
    }

    fn return_all(&mut self, cluster: &Cluster) {
        if ejected(&cluster.endpoints) == 0 {
            return;
        }
        for endpoint in cluster.endpoints.endpoints.iter() {
            bring_back(endpoint, self.shared.started.elapsed());
        }
        self.catalog.renew_endpoints(cluster.config.id);
    }

    /// Time passed: intervals and quarantines end.
    pub fn health_time(&mut self, now: Instant) {
        self.ask_due(now);
        self.weigh_due(now);
        while let Some((at, id)) = self.health.intervals.first().copied() {
            if at > now {
                break;
            }
            self.interval_ended(id, now);
        }
        let waiting = std::mem::take(&mut self.health.quarantined);
        let (over, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(at, ..)| *at <= now);
        self.health.quarantined = waiting;
        for (_, id, endpoint) in over {
            Quarantine::over(&endpoint);
            self.catalog.renew_endpoints(id);
        }
    }

    fn interval_ended(&mut self, id: ClusterId, now: Instant) {
        self.health.forget(id);
        let Some(cluster) = self.catalog.preview().cluster(id).cloned() else {
            return;
        };
        let Some(outlier) = outlier_of(&cluster) else {
            return;
        };
        let since = self.shared.started.elapsed();
        let changes = outlier.interval_ended(&cluster.endpoints, since, &mut self.health.rng);
        let mut moved = false;
        for change in changes {
            match change {
                Change::Returned(endpoint) => {
                    moved = true;
                    tracing::info!(cluster = %cluster.config.name, endpoint = ?endpoint.spec.address, "returns");
                }
                Change::Judged(endpoint, trip, verdict) => {
                    if verdict == Verdict::Ejected {
                        endpoint.live().fall();
                        moved = true;
                    }
                    self.note(&cluster, &endpoint, trip, verdict);
                }
            }
        }
        if moved {
            self.catalog.renew_endpoints(id);
        }
        self.health.watch(id, now + outlier.interval);
    }

    /// Counts a verdict and says it aloud.
    fn note(&self, cluster: &Cluster, endpoint: &Endpoint, trip: Trip, verdict: Verdict) {
        if verdict == Verdict::Gone {
            return;
        }
        let (name, address) = (&cluster.config.name, &endpoint.spec.address);
        match verdict {
            Verdict::Ejected => tracing::info!(cluster = %name, endpoint = ?address, ?trip, "ejected"),
            _ => tracing::debug!(cluster = %name, endpoint = ?address, ?trip, ?verdict, "not ejected"),
        }
        let cells: Arc<HealthCells> = self.health.counters.health(&cluster.config);
        count(&cells.outlier, trip, verdict);
    }
}

fn outlier_of(cluster: &Cluster) -> Option<&OutlierDetection> {
    cluster.config.health.as_deref()?.outlier.as_ref()
}

fn count(cells: &OutlierCounters, trip: Trip, verdict: Verdict) {
    let (detected, enforced) = match trip {
        Trip::Consecutive5xx => (
            &cells.ejections_detected_consecutive_5xx,
            &cells.ejections_enforced_consecutive_5xx,
        ),
        Trip::ConsecutiveGateway => (
            &cells.ejections_detected_consecutive_gateway_failure,
            &cells.ejections_enforced_consecutive_gateway_failure,
        ),
        Trip::ConsecutiveLocal => (
            &cells.ejections_detected_consecutive_local_origin_failure,
            &cells.ejections_enforced_consecutive_local_origin_failure,
        ),
        Trip::SuccessRate => (
            &cells.ejections_detected_success_rate,
            &cells.ejections_enforced_success_rate,
        ),
        Trip::LocalSuccessRate => (
            &cells.ejections_detected_local_origin_success_rate,
            &cells.ejections_enforced_local_origin_success_rate,
        ),
        Trip::FailurePercentage => (
            &cells.ejections_detected_failure_percentage,
            &cells.ejections_enforced_failure_percentage,
        ),
        Trip::LocalFailurePercentage => (
            &cells.ejections_detected_local_origin_failure_percentage,
            &cells.ejections_enforced_local_origin_failure_percentage,
        ),
    };
    detected.one();
    // Names that Envoy keeps for those who still look at them.
    let older = match trip {
        Trip::Consecutive5xx => Some(&cells.ejections_consecutive_5xx),
        Trip::SuccessRate | Trip::LocalSuccessRate => Some(&cells.ejections_success_rate),
        _ => None,
    };
    if let Some(older) = older {
        older.one();
        let passed = matches!(verdict, Verdict::Ejected | Verdict::NotEnforced);
        if passed && trip != Trip::LocalSuccessRate {
            cells.ejections_total.one();
        }
    }
    match verdict {
        Verdict::Ejected => {
            enforced.one();
            cells.ejections_enforced_total.one();
        }
        Verdict::Overflow => cells.ejections_overflow.one(),
        Verdict::Common => cells.ejections_withheld_common.one(),
        Verdict::NotEnforced | Verdict::Gone => {}
    }
}
