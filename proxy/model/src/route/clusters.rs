//! Which clusters may a route send to?
//!
//! Holds: what an unchanged virtual host names is not looked at again. A cluster that a request header names is not known here.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::{Action, ClusterChoice, RouteTable, VirtualHost};
use crate::snapshot::ClusterId;

impl ClusterChoice {
    /// Adds every cluster that can be chosen; one of weight 0 cannot.
    pub fn add_clusters(&self, all: &mut BTreeSet<ClusterId>) {
        match self {
            Self::One(cluster) => {
                all.insert(*cluster);
            }
            Self::Weighted(clusters) => {
                let chosen = clusters.entries.iter().filter(|entry| entry.weight > 0);
                all.extend(chosen.map(|entry| entry.cluster));
            }
            Self::Header(_) => {}
        }
    }
}

impl RouteTable {
    /// Adds every cluster that virtual hosts name which `before` does not share.
    pub fn add_clusters_of_changes(&self, before: Option<&Self>, all: &mut BTreeSet<ClusterId>) {
        let (mut now, mut old) = (
            self.virtual_hosts.as_slice(),
            before.map_or(&[][..], |before| &before.virtual_hosts),
        );
        while let ([host, rest @ ..], [same, others @ ..]) = (now, old)
            && Arc::ptr_eq(host, same)
        {
            (now, old) = (rest, others);
        }
        while let ([rest @ .., host], [others @ .., same]) = (now, old)
            && Arc::ptr_eq(host, same)
        {
            (now, old) = (rest, others);
        }
        let shared: HashSet<*const VirtualHost> = old.iter().map(Arc::as_ptr).collect();
        for host in now.iter().filter(|host| !shared.contains(&Arc::as_ptr(host))) {
            for route in &host.routes {
                if let Action::Forward(forward) = &route.action {
                    forward.cluster.add_clusters(all);
                }
            }
        }
    }
}
