//! Where does a cluster or a listener stand?

use std::collections::HashSet;
use std::sync::Arc;

use remora_model::Name;
use remora_model::listener::ListenAddress;
use remora_model::snapshot::ClusterId;
use remora_translate::Subscription;

use super::Catalog;
use crate::control::held::Kind;
use crate::control::needs::Need;
use crate::control::slots::Slot;

impl Catalog {
    /// Which clusters (or listeners, or route configurations) are still waiting for what they refer to, and for what.
    pub fn warming(&self, kind: Kind) -> Vec<(Name, String)> {
        let why = |needs: &[Subscription]| {
            let open = needs.iter().find(|need| !self.is_satisfied(&Need::from(*need)));
            open.map_or_else(
                || "its DNS name".to_owned(),
                |need| format!("{:?} '{}'", need.kind, need.name),
            )
        };
        let mut warming: Vec<(Name, String)> = match kind {
            Kind::Cluster => self
                .clusters
                .warming()
                .map(|(name, waiting)| (Arc::clone(name), why(&waiting.needs)))
                .collect(),
            Kind::Listener => self
                .listeners
                .warming()
                .map(|(name, waiting)| (Arc::clone(name), why(&waiting.needs)))
                .collect(),
            Kind::RouteConfiguration => {
                let held = self.hold.tables();
                held.map(|name| (Arc::clone(name), "its clusters".to_owned()))
                    .collect()
            }
            Kind::Endpoints | Kind::Secret => Vec::new(),
        };
        warming.sort_unstable();
        warming
    }

    /// The id of a cluster's name, if it was ever seen.
    pub fn cluster_id(&self, name: &str) -> Option<ClusterId> {
        self.cluster_names.known(name)
    }

    /// How many clusters (or listeners) are warming.
    pub fn warming_count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Cluster => self.clusters.warming_count(),
            Kind::Listener => self.listeners.warming_count(),
            _ => 0,
        }
    }

    /// Addresses of listeners that are not active yet: their sockets are bound and wait.
    pub fn warming_addresses(&self) -> HashSet<ListenAddress> {
        self.listeners
            .warming()
            .flat_map(|(_, waiting)| waiting.part.addresses.iter().cloned())
            .collect()
    }

    /// Whether a version of this cluster (or listener, or route configuration) warms.
    pub fn is_warming(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Cluster => self.clusters.get(name).is_some_and(Slot::is_warming),
            Kind::Listener => self.listeners.get(name).is_some_and(Slot::is_warming),
            Kind::RouteConfiguration => {
                let id = self.route_table_names.known(name);
                id.is_some_and(|id| self.hold.is_table_held(id))
            }
            Kind::Endpoints | Kind::Secret => false,
        }
    }

    /// Whether no version of this cluster (or listener) was in use yet.
    pub fn is_new(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Cluster => self.clusters.get(name).is_some_and(Slot::is_new),
            Kind::Listener => self.listeners.get(name).is_some_and(Slot::is_new),
            _ => false,
        }
    }

    /// What is referred to and is not there.
    pub fn open_needs(&self) -> Vec<Need> {
        let open = self.needs.all().filter(|need| !self.is_satisfied(need));
        open.cloned().collect()
    }
}
