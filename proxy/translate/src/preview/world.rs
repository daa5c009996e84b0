//! All resources of some files, translated side by side.
//!
//! Holds: names become the same ids for every file that goes through one [`World`], so parts of two configurations
//! can be compared; each resource is translated as if it were new.

use std::sync::Arc;

use remora_model::endpoint::Assignment;
use remora_model::listener::Listener;
use remora_model::route::RouteTable;
use remora_model::snapshot::{ClusterMark, Interner, RouteTableMark, SecretMark};

use super::contents::Resource;
use crate::config_dump::ResourceKind;
use crate::{
    Context, IgnoredAt, IgnoredFields, LocalFiles, Rejection, Repeated, Subscription, TranslatedCluster,
    TranslatedListener, TranslatedSecret,
};

/// A translated resource.
#[derive(Debug)]
pub enum Part {
    /// SDS.
    Secret(TranslatedSecret),
    /// CDS.
    Cluster(TranslatedCluster),
    /// EDS.
    Endpoints(Arc<Assignment>),
    /// LDS.
    Listener(Arc<Listener>, Vec<Subscription>),
    /// RDS.
    Routes(Arc<RouteTable>),
}

impl Part {
    /// What it needs besides.
    pub(super) fn subscriptions(&self) -> &[Subscription] {
        match self {
            Self::Cluster(cluster) => &cluster.subscriptions,
            Self::Listener(_, subscriptions) => subscriptions,
            Self::Secret(_) | Self::Endpoints(_) | Self::Routes(_) => &[],
        }
    }
}

/// Names, and what was ignored.
#[derive(Debug)]
pub(super) struct World {
    pub(super) clusters: Interner<ClusterMark>,
    pub(super) route_tables: Interner<RouteTableMark>,
    pub(super) secrets: Interner<SecretMark>,
    ignored: IgnoredFields,
    repeated: Repeated,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            clusters: Interner::default(),
            route_tables: Interner::default(),
            secrets: Interner::default(),
            ignored: IgnoredFields::with_places(),
            repeated: Repeated::default(),
        }
    }

    /// One resource, and which of its fields are ignored.
    pub(super) fn translate(&mut self, resource: &Resource) -> (Result<Part, Rejection>, Vec<IgnoredAt>) {
        let mut context = Context {
            clusters: &mut self.clusters,
            route_tables: &mut self.route_tables,
            secrets: &mut self.secrets,
            previous: None,
            ignored: &mut self.ignored,
            repeated: &mut self.repeated,
            files: &LocalFiles,
        };
        let bytes = resource.document.bytes.as_slice();
        let part = match resource.kind {
            ResourceKind::Secret => crate::secret(bytes, &mut context).map(Part::Secret),
            ResourceKind::Cluster => crate::cluster(bytes, &mut context).map(Part::Cluster),
            ResourceKind::Endpoints => {
                crate::endpoints(bytes, &mut context).map(|assignment| Part::Endpoints(Arc::new(assignment)))
            }
            ResourceKind::Listener => crate::listener(bytes, &mut context).map(|new| named(new, resource)),
            ResourceKind::Routes => crate::route_configuration(bytes, &mut context).map(Part::Routes),
        };
        (part, self.ignored.take_places())
    }
}

/// A listener without a name is known by its place.
fn named(new: TranslatedListener, resource: &Resource) -> Part {
    let mut listener = new.listener;
    if listener.name.is_empty() {
        listener.name = resource.place.as_str().into();
    }
    Part::Listener(Arc::new(listener), new.subscriptions)
}
