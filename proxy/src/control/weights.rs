//! When are the weights of endpoints made anew from what they reported (`client_side_weighted_round_robin`)?
//!
//! Holds: once in `weight_update_period`, and the endpoints are built anew only where a weight is another now, so a
//! cluster without traffic costs a look at its endpoints.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use remora_model::balance::{ClientWeighted, LoadWatch};
use remora_model::cluster::Cluster;
use remora_model::snapshot::ClusterId;

use super::Control;

/// The clusters whose endpoints have weights by reports, and when these are made next.
#[derive(Debug, Default)]
pub struct Weighings {
    next: BTreeSet<(Instant, ClusterId)>,
    of: HashMap<ClusterId, Instant>,
}

impl Weighings {
    /// When something is to be done.
    pub fn due(&self) -> Option<Instant> {
        self.next.first().map(|(at, _)| *at)
    }

    fn forget(&mut self, id: ClusterId) {
        if let Some(at) = self.of.remove(&id) {
            self.next.remove(&(at, id));
        }
    }

    fn enter(&mut self, id: ClusterId, at: Instant) {
        self.forget(id);
        self.of.insert(id, at);
        self.next.insert((at, id));
    }
}

impl Control {
    /// A cluster's configuration is another now.
    pub(super) fn review_weights(&mut self, id: ClusterId) {
        let settings = self
            .catalog
            .preview()
            .cluster(id)
            .and_then(|cluster| settings(cluster));
        match settings {
            Some(settings) => self
                .health
                .weights
                .enter(id, Instant::now() + settings.update_period),
            None => self.health.weights.forget(id),
        }
    }

    /// Time passed.
    pub(super) fn weigh_due(&mut self, now: Instant) {
        while let Some((at, id)) = self.health.weights.next.first().copied() {
            if at > now {
                break;
            }
            self.health.weights.forget(id);
            let Some(cluster) = self.catalog.preview().cluster(id).cloned() else {
                continue;
            };
            let Some(settings) = settings(&cluster) else {
                continue;
            };
            let endpoints = cluster.endpoints.endpoints.iter().map(Arc::as_ref);
            if settings.update(endpoints, self.shared.started.elapsed()) {
                self.catalog.renew_endpoints(id);
            }
            self.health.weights.enter(id, now + settings.update_period);
        }
    }
}

fn settings(cluster: &Cluster) -> Option<Arc<ClientWeighted>> {
    match cluster.config.health.as_deref()?.load.as_ref()? {
        LoadWatch::Reports(settings) => Some(Arc::clone(settings)),
        LoadWatch::Times(_) => None,
    }
}
