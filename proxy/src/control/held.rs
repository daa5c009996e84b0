//! Every resource as it was received: what a config dump shows, and where each one stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use remora_model::Name;

/// The types of resources that we hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// LDS.
    Listener,
    /// RDS.
    RouteConfiguration,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// SDS.
    Secret,
}

impl Kind {
    /// All of them, in the order in which they are applied.
    pub const ALL: [Self; 5] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
        Self::Listener,
        Self::RouteConfiguration,
    ];

    /// The kind with this type URL.
    pub fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// `type.googleapis.com/...`
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }
}

/// A resource.
#[derive(Debug, Clone)]
pub struct HeldResource {
    /// Version, or `""` for a static one.
    pub version: Arc<str>,
    /// The encoded message that is in use; empty if none ever was accepted.
    pub body: Bytes,
    /// When it was accepted.
    pub updated: SystemTime,
    /// The newer version that was rejected since, and why.
    pub rejected: Option<Box<RejectedVersion>>,
    /// From the bootstrap.
    pub is_static: bool,
}

/// A version that was rejected.
#[derive(Debug, Clone)]
pub struct RejectedVersion {
    /// Version.
    pub version: Arc<str>,
    /// Why.
    pub reason: String,
    /// When.
    pub at: SystemTime,
}

/// Every resource of every kind.
#[derive(Debug, Default)]
pub struct Held {
    kinds: BTreeMap<Kind, BTreeMap<Name, HeldResource>>,
    /// Names that are new since the maps were built anew.
    new: usize,
}

/// After so many new names the maps are built anew: one that grows name by name is half empty.
const MANY: usize = 1024;

impl Held {
    /// Enters an accepted version.
    pub fn accept(&mut self, kind: Kind, name: &Name, version: &Arc<str>, body: &Bytes, is_static: bool) {
        let held = HeldResource {
            version: Arc::clone(version),
            // A slice would keep the whole response alive.
            body: Bytes::copy_from_slice(body),
            updated: SystemTime::now(),
            rejected: None,
            is_static,
        };
        let before = self.kinds.entry(kind).or_default().insert(Arc::clone(name), held);
        self.new += usize::from(before.is_none());
    }

    /// Gives back what growing left empty, if that is much.
    pub fn tidy(&mut self) {
        if self.new >= MANY {
            self.new = 0;
            for of_kind in self.kinds.values_mut() {
                *of_kind = std::mem::take(of_kind).into_iter().collect();
            }
        }
    }

    /// Enters a rejected version beside the one in use.
    pub fn reject(&mut self, kind: Kind, name: &Name, version: &Arc<str>, reason: &str) {
        let now = SystemTime::now();
        let rejected = RejectedVersion {
            version: Arc::clone(version),
            reason: reason.to_owned(),
            at: now,
        };
        let held = self
            .kinds
            .entry(kind)
            .or_default()
            .entry(Arc::clone(name))
            .or_insert_with(|| HeldResource {
                version: Arc::from(""),
                body: Bytes::new(),
                updated: now,
                rejected: None,
                is_static: false,
            });
        held.rejected = Some(Box::new(rejected));
    }

    /// Keeps the note of a rejected version beside the one that was just accepted (again).
    pub fn reject_again(&mut self, kind: Kind, name: &str, rejected: Option<Box<RejectedVersion>>) {
        if let Some(held) = self
            .kinds
            .get_mut(&kind)
            .and_then(|of_kind| of_kind.get_mut(name))
        {
            held.rejected = rejected;
        }
    }

    /// Enters a new version of a resource whose bytes may be the ones in use; says whether they are.
    pub fn renew(&mut self, kind: Kind, name: &str, version: &Arc<str>, body: &Bytes) -> bool {
        let held = self
            .kinds
            .get_mut(&kind)
            .and_then(|of_kind| of_kind.get_mut(name));
        let Some(held) = held.filter(|held| held.rejected.is_none() && held.body == body) else {
            return false;
        };
        held.version = Arc::clone(version);
        true
    }

    /// Forgets a resource.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        if let Some(of_kind) = self.kinds.get_mut(&kind) {
            of_kind.remove(name);
        }
    }

    /// One resource.
    pub fn at(&self, kind: Kind, name: &str) -> Option<&HeldResource> {
        self.kinds.get(&kind)?.get(name)
    }

    /// All resources of a kind, by name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&Name, &HeldResource)> {
        self.kinds.get(&kind).into_iter().flatten()
    }
}
