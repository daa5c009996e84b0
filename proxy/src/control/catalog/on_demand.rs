//! Clusters that wake at their first use and sleep when they are idle, in the catalog.

use std::sync::Arc;
use std::time::Instant;

use remora_model::Name;
use remora_model::endpoint::Assignment;

use super::Catalog;
use crate::control::held::Kind;
use crate::control::needs::{Need, User};

impl Catalog {
    /// A use of this cluster: subscribes to its endpoints if it slept, and says whether it did. `None` for a cluster
    /// that never sleeps.
    pub fn wake(&mut self, name: &Name, now: Instant) -> Option<bool> {
        let (endpoints, slept) = self.on_demand.wake(name, now)?;
        if slept {
            let endpoints = endpoints.to_vec();
            self.needs.add(&User::Cluster(Arc::clone(name)), &endpoints);
            self.clusters.refer(name, &endpoints);
            // Another cluster may have brought them already.
            let known = endpoints.iter().map(Need::from);
            let known = known
                .filter_map(|need| self.assignments.get(&need))
                .next()
                .cloned();
            if let (Some(id), Some(assignment)) = (self.cluster_names.known(name), known) {
                self.edit.set_endpoints(id, assignment);
            }
        }
        Some(slept)
    }

    /// Takes the endpoints of a cluster out of the world, and ends the subscription to them.
    pub fn sleep(&mut self, name: &Name) {
        if self.is_warming(Kind::Cluster, name) {
            return;
        }
        let endpoints = self.on_demand.sleep(name);
        self.clusters.refer_no_more(name, &endpoints);
        self.release(&User::Cluster(Arc::clone(name)), &endpoints, &[]);
        if let Some(id) = self.cluster_names.known(name) {
            self.edit
                .set_endpoints(id, Arc::new(Assignment::empty(Arc::clone(name))));
        }
    }

    /// Whether requests for this cluster have nothing to wait for any more: its endpoints are there, or will not come.
    pub fn is_asked_for_in_vain(&self, name: &str) -> bool {
        let mut needs = self.on_demand.needs(name).iter();
        needs.all(|need| self.is_satisfied(&Need::from(need)))
    }
}
