//! What the health of endpoints changes in the world.

use remora_model::cluster::ClusterConfig;
use remora_model::snapshot::ClusterId;

use super::Catalog;

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
}
