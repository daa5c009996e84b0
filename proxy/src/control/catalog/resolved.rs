//! What DNS said of a cluster.

use std::sync::Arc;

use remora_model::Name;
use remora_model::cluster::Discovery;
use remora_model::endpoint::Assignment;

use super::Catalog;

impl Catalog {
    /// A DNS cluster was resolved; `None`: nothing could be resolved.
    pub fn resolved(&mut self, name: &Name, assignment: Option<Assignment>) {
        if let Some(part) = self.clusters.warming_mut(name) {
            let empty = || Assignment::empty(Arc::clone(name));
            part.own = Some(Arc::new(assignment.unwrap_or_else(empty)));
            self.warm_cluster(name);
        } else if let (Some(id), Some(assignment)) = (self.cluster_names.known(name), assignment) {
            self.set_members(id, Arc::new(assignment));
        }
    }
}

/// Whether two DNS clusters resolve the same names.
pub(super) fn same_targets(a: &Discovery, b: &Discovery) -> bool {
    match (a, b) {
        (Discovery::StrictDns(a), Discovery::StrictDns(b))
        | (Discovery::LogicalDns(a), Discovery::LogicalDns(b)) => *a.targets == *b.targets,
        _ => false,
    }
}
