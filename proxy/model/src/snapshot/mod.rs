//! One version of the world, and how the next one is made from it.
//!
//! Holds: a published [`Snapshot`] never changes; parts that did not change between two versions are the same `Arc`;
//! a request that borrows a snapshot sees one consistent world. Names become small ids at translation, so routes refer
//! to clusters by [`ClusterId`] and a cluster update rebuilds no route; an id without a part answers "not there (yet)".
//! [`Edit`] is the only way to make a new version, [`carry_over`] the only place where live state moves to it.

pub mod carry_over;
mod edit;
mod interner;
mod table;
#[cfg(test)]
mod tests;

pub use edit::Edit;
pub use interner::Interner;
pub use table::{Id, IdTable};

use std::sync::Arc;

use crate::balance::LocalCluster;
use crate::cluster::{Cluster, TransportSocket};
use crate::identity::{ClientTls, Secret, ServerTls};
use crate::listener::ListenerTable;
use crate::route::RouteTable;

/// Marks ids of clusters.
#[derive(Debug)]
pub enum ClusterMark {}
/// Marks ids of route configurations delivered by RDS.
#[derive(Debug)]
pub enum RouteTableMark {}
/// Marks ids of secrets delivered by SDS.
#[derive(Debug)]
pub enum SecretMark {}

/// A cluster's interned name.
pub type ClusterId = Id<ClusterMark>;
/// An RDS route configuration's interned name.
pub type RouteTableId = Id<RouteTableMark>;
/// An SDS secret's interned name.
pub type SecretId = Id<SecretMark>;

/// One immutable version of everything that the data path may ask.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Counts publications of this process, from 1; 0 is the empty world before the first.
    pub generation: u64,
    /// Listeners by name, by bound address and by hand-off address.
    pub listeners: Arc<ListenerTable>,
    /// Clusters, with their current endpoints.
    pub clusters: IdTable<ClusterMark, Arc<Cluster>>,
    /// Route configurations that arrived by RDS.
    pub route_tables: IdTable<RouteTableMark, Arc<RouteTable>>,
    /// Secrets that arrived by SDS or stand in the bootstrap.
    pub secrets: IdTable<SecretMark, Arc<Secret>>,
    /// The cluster that we are a member of, if that was said.
    pub local: Option<Arc<LocalCluster>>,
    /// What makes the choices of this process other than those of the next (shuffled lists, subsets by chance).
    pub salt: u64,
}

impl Snapshot {
    /// The cluster, or `None` while the control plane has not told us of it.
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.at(id)
    }

    /// The RDS route configuration, or `None` while it has not arrived.
    pub fn route_table(&self, id: RouteTableId) -> Option<&Arc<RouteTable>> {
        self.route_tables.at(id)
    }

    /// The secret, or `None` while it has not arrived.
    pub fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        self.secrets.at(id)
    }

    /// The TLS contexts of all filter chains.
    pub fn server_contexts(&self) -> impl Iterator<Item = &Arc<ServerTls>> {
        let chains = self
            .listeners
            .iter()
            .flat_map(|listener| listener.chains.iter().chain(&listener.default_chain));
        chains.filter_map(|chain| chain.tls.as_ref())
    }

    /// The TLS contexts of all clusters.
    pub fn client_contexts(&self) -> impl Iterator<Item = &Arc<ClientTls>> {
        self.clusters.iter().flat_map(|(_, cluster)| {
            let transport = &cluster.config.transport;
            let sockets = transport.matches.iter().map(|entry| &entry.socket);
            sockets
                .chain([&transport.fallback])
                .filter_map(TransportSocket::tls)
        })
    }
}
