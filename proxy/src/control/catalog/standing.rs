//! Where does a cluster or a listener stand?

use super::Catalog;
use crate::control::held::Kind;
use crate::control::needs::Need;
use crate::control::slots::Slot;

impl Catalog {
    /// Whether a version of this cluster (or listener) warms.
    pub fn is_warming(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Cluster => self.clusters.get(name).is_some_and(Slot::is_warming),
            Kind::Listener => self.listeners.get(name).is_some_and(Slot::is_warming),
            _ => false,
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
