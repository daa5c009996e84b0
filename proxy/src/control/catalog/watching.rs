//! What the health of endpoints changes in the world.
//!
//! Holds: an endpoint that is taken away while its health checks pass stays until they fail (Envoy's rule, unless the
//! cluster says otherwise); a cluster that is checked becomes active when each of its endpoints was checked once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use remora_model::cluster::ClusterConfig;
use remora_model::endpoint::{
    Assignment, Endpoint, EndpointAddress, EndpointSet, EndpointSpec, Health, LocalitySpec,
};
use remora_model::health::{Flag, HealthCheck};
use remora_model::snapshot::ClusterId;
use remora_translate::{Subscription, SubscriptionKind};

use super::Catalog;
use crate::control::needs::Need;

/// How the endpoints of a cluster are checked, if they are.
pub fn check_of(config: &ClusterConfig) -> Option<&Arc<HealthCheck>> {
    config.health.as_deref()?.check.as_ref()
}

impl Catalog {
    /// The endpoints of a cluster are not used as they were.
    pub fn renew_endpoints(&mut self, id: ClusterId) {
        self.edit.renew_endpoints(id);
    }

    /// A cluster is about to become active: its health is watched from here on, or no more.
    pub(super) fn note_watched(&mut self, config: &ClusterConfig) {
        let before = self.edit.preview().cluster(config.id);
        if config.health.is_some() || before.is_some_and(|before| before.config.health.is_some()) {
            self.watch_changes.push(config.id);
        }
    }

    /// A cluster in use has these endpoints now, and those that pass their health checks all the same.
    pub(super) fn set_members(&mut self, id: ClusterId, mut assignment: Arc<Assignment>) {
        let cluster = self.edit.preview().cluster(id);
        if let Some(cluster) = cluster
            && let Some(check) = check_of(&cluster.config)
        {
            if check.keeps_passing {
                assignment = with_lingering(&cluster.endpoints, assignment);
            }
            self.watch_changes.push(id);
        }
        self.edit.set_endpoints(id, assignment);
    }

    /// An endpoint that the control plane took away does not pass any more.
    pub fn let_go(&mut self, id: ClusterId, address: &EndpointAddress) {
        let Some(cluster) = self.edit.preview().cluster(id) else {
            return;
        };
        let mut assignment = Assignment::clone(&cluster.endpoints.assignment);
        for locality in &mut assignment.localities {
            locality.endpoints.retain(|spec| spec.address != *address);
        }
        assignment
            .localities
            .retain(|locality| !locality.endpoints.is_empty());
        self.edit.set_endpoints(id, Arc::new(assignment));
        self.watch_changes.push(id);
    }

    /// The version of a cluster that warms, with its endpoints.
    pub fn warming_members(&self, name: &str) -> Option<(&Arc<ClusterConfig>, Vec<Arc<EndpointSpec>>)> {
        let waiting = self.clusters.get(name)?.warming.as_ref()?;
        let assignment = waiting.part.own.clone().or_else(|| self.assigned(&waiting.needs));
        let all = assignment.iter().flat_map(|assignment| &assignment.localities);
        let specs = all.flat_map(|locality| &locality.endpoints).cloned();
        Some((&waiting.part.config, specs.collect()))
    }

    /// Every endpoint of the version that warms was checked.
    pub fn round_over(&mut self, name: &remora_model::Name) {
        if let Some(part) = self.clusters.warming_mut(name) {
            part.checked = true;
            self.warm_cluster(name);
        }
    }

    /// What EDS said of a cluster with these needs.
    pub(super) fn assigned(&self, needs: &[Subscription]) -> Option<Arc<Assignment>> {
        needs
            .iter()
            .find(|need| need.kind == SubscriptionKind::ClusterLoadAssignment)
            .and_then(|need| self.assignments.get(&Need::from(need)).cloned())
    }
}

/// `next` and those endpoints of `set` that it does not have and that pass their checks; they are marked.
fn with_lingering(set: &EndpointSet, next: Arc<Assignment>) -> Arc<Assignment> {
    let all = next.localities.iter().flat_map(|locality| &locality.endpoints);
    let named: HashSet<&EndpointAddress> = all.map(|spec| &spec.address).collect();
    let by_address: HashMap<&EndpointAddress, &Arc<Endpoint>> = set
        .endpoints
        .iter()
        .map(|endpoint| (&endpoint.spec.address, endpoint))
        .collect();
    let lingers = |spec: &&Arc<EndpointSpec>| {
        let endpoint = by_address.get(&spec.address).filter(|_| spec.is_checked());
        let stays = !named.contains(&spec.address)
            && endpoint.is_some_and(|e| !e.has(Flag::FailedCheck) && spec.health() != Health::Unhealthy);
        if let Some(endpoint) = endpoint {
            endpoint.live().flags.set(Flag::Lingers, stays);
        }
        stays
    };
    let kept: Vec<LocalitySpec> = set
        .assignment
        .localities
        .iter()
        .map(|locality| LocalitySpec {
            endpoints: locality.endpoints.iter().filter(lingers).cloned().collect(),
            ..locality.clone()
        })
        .filter(|locality| !locality.endpoints.is_empty())
        .collect();
    if kept.is_empty() {
        return next;
    }
    let mut merged = Assignment::clone(&next);
    for locality in kept {
        let same = |other: &&mut LocalitySpec| {
            other.locality == locality.locality && other.priority == locality.priority
        };
        match merged.localities.iter_mut().find(same) {
            Some(same) => same.endpoints.extend(locality.endpoints),
            None => merged.localities.push(locality),
        }
    }
    Arc::new(merged)
}
