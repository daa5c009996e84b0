//! From one version of the world to the next.
//!
//! Holds: the cost of an edit is the size of the change (plus one pointer per 128 clusters); setting a part to what it
//! already is changes nothing; the base is not touched before [`Edit::finish`], which marks what vanished.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::{ClusterId, RouteTableId, SecretId, Snapshot, carry_over};
use crate::balance::LocalCluster;
use crate::cluster::{Cluster, ClusterConfig, ClusterLive};
use crate::endpoint::{Around, Assignment, EndpointSet, Locality, Subsets};
use crate::identity::Secret;
use crate::listener::Listener;
use crate::route::RouteTable;

/// A version of the world in the making.
#[derive(Debug)]
pub struct Edit {
    base: Arc<Snapshot>,
    next: Snapshot,
    /// Clusters whose endpoints may have vanished.
    touched: BTreeSet<ClusterId>,
    changed: bool,
}

impl Edit {
    /// Begins with `base` as it is.
    pub fn new(base: &Snapshot) -> Self {
        Self::over(Arc::new(base.clone()))
    }

    /// Begins with `base`, which is shared.
    pub fn over(base: Arc<Snapshot>) -> Self {
        Self {
            next: Snapshot::clone(&base),
            base,
            touched: BTreeSet::new(),
            changed: false,
        }
    }

    /// Whether anything differs from the base so far.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// Says which cluster we are a member of, and where; before the first resource.
    pub fn set_local(&mut self, id: ClusterId, own: Locality) {
        self.next.local = Some(Arc::new(LocalCluster::new(id, own)));
    }

    /// Says what makes the choices of this process other than those of the next; before the first resource.
    pub fn set_salt(&mut self, salt: u64) {
        self.next.salt = salt;
    }

    /// The world as it would be now.
    pub fn preview(&self) -> &Snapshot {
        &self.next
    }

    /// Adds or replaces a cluster; its endpoints and counts stay, re-balanced where the policy changed. A new cluster
    /// has no endpoints yet. Returns whether anything changed (an equal fingerprint is no change).
    pub fn set_cluster(&mut self, config: Arc<ClusterConfig>) -> bool {
        let id = config.id;
        let before = self.next.clusters.at(id);
        if before.is_some_and(|before| before.config.fingerprint == config.fingerprint) {
            return false;
        }
        let earlier = before.or_else(|| self.base.clusters.at(id));
        let live = earlier.map_or_else(
            || Arc::new(ClusterLive::default()),
            |cluster| cluster.live.clone(),
        );
        let endpoints = match before {
            Some(before) if before.endpoints.options == config.build_options() => before.endpoints.clone(),
            Some(before) => self.build(id, &config, before.endpoints.assignment.clone()),
            None => self.build(id, &config, Arc::new(Assignment::empty(config.name.clone()))),
        };
        self.put_cluster(
            id,
            Some(Cluster {
                config,
                endpoints,
                live,
            }),
        )
    }

    /// Removes a cluster. Returns whether it was there.
    pub fn remove_cluster(&mut self, id: ClusterId) -> bool {
        self.next.clusters.at(id).is_some() && self.put_cluster(id, None)
    }

    /// Replaces the endpoints of a cluster, which must be there. Returns whether anything changed.
    pub fn set_endpoints(&mut self, id: ClusterId, assignment: Arc<Assignment>) -> bool {
        let Some(cluster) = self.next.clusters.at(id) else {
            return false;
        };
        if *cluster.endpoints.assignment == *assignment {
            return false;
        }
        let endpoints = self.build(id, &cluster.config, assignment);
        let cluster = Cluster {
            config: cluster.config.clone(),
            endpoints,
            live: cluster.live.clone(),
        };
        self.put_cluster(id, Some(cluster))
    }

    /// Builds the endpoints of a cluster anew, because their health is another now. Returns whether it is there.
    pub fn renew_endpoints(&mut self, id: ClusterId) -> bool {
        let Some(cluster) = self.next.clusters.at(id) else {
            return false;
        };
        let endpoints = self.build(id, &cluster.config, Arc::clone(&cluster.endpoints.assignment));
        let cluster = Cluster {
            config: cluster.config.clone(),
            endpoints,
            live: cluster.live.clone(),
        };
        self.put_cluster(id, Some(cluster))
    }

    /// Adds or replaces a listener by its name; chains that did not change are shared with the version before.
    pub fn set_listener(&mut self, mut listener: Listener) {
        if let Some(before) = self.next.listeners.named(&listener.name) {
            carry_over::share_chains(before, &mut listener);
        }
        Arc::make_mut(&mut self.next.listeners).insert(Arc::new(listener));
        self.changed = true;
    }

    /// Removes a listener. Returns whether it was there.
    pub fn remove_listener(&mut self, name: &str) -> bool {
        if self.next.listeners.named(name).is_none() {
            return false;
        }
        Arc::make_mut(&mut self.next.listeners).remove(name);
        self.changed = true;
        true
    }

    /// Adds or replaces an RDS route configuration. Returns whether anything changed (an equal fingerprint is no
    /// change).
    pub fn set_route_table(&mut self, id: RouteTableId, table: Arc<RouteTable>) -> bool {
        let before = self.next.route_tables.at(id);
        if before.is_some_and(|before| before.fingerprint == table.fingerprint) {
            return false;
        }
        self.next.route_tables.set(id, Some(table));
        self.changed = true;
        true
    }

    /// Removes an RDS route configuration. Returns whether it was there.
    pub fn remove_route_table(&mut self, id: RouteTableId) -> bool {
        let was_there = self.next.route_tables.set(id, None).is_some();
        self.changed |= was_there;
        was_there
    }

    /// Adds or replaces a secret. Returns whether anything changed (an equal generation is no change).
    pub fn set_secret(&mut self, id: SecretId, secret: Arc<Secret>) -> bool {
        let before = self.next.secrets.at(id);
        if before.is_some_and(|before| before.generation == secret.generation) {
            return false;
        }
        self.next.secrets.set(id, Some(secret));
        self.changed = true;
        true
    }

    /// Removes a secret. Returns whether it was there.
    pub fn remove_secret(&mut self, id: SecretId) -> bool {
        let was_there = self.next.secrets.set(id, None).is_some();
        self.changed |= was_there;
        was_there
    }

    /// The next version. Endpoints that it does not have any more are marked as removed from here on.
    pub fn finish(self) -> Snapshot {
        self.finish_at(None)
    }

    /// The same, where new endpoints are there since `now`, as far as that matters (slow start).
    pub fn finish_at(mut self, now: Option<Instant>) -> Snapshot {
        if let Some(local) = &self.next.local
            && self.touched.contains(&local.id)
        {
            let cluster = self.next.clusters.at(local.id);
            let next = local.with(cluster.map(|cluster| cluster.endpoints.as_ref()));
            self.next.local = Some(Arc::new(next));
        }
        for id in self.touched {
            let after = self
                .next
                .clusters
                .at(id)
                .map(|cluster| cluster.endpoints.as_ref());
            let before = self
                .base
                .clusters
                .at(id)
                .map(|cluster| cluster.endpoints.as_ref());
            Subsets::count_changes(
                before.and_then(|set| set.subsets.as_deref()),
                after.and_then(|set| set.subsets.as_deref()),
            );
            if let (Some(now), Some(after)) = (now, after)
                && after.options.policy.slow_start().is_some()
            {
                carry_over::note_beginnings(after, now);
            }
            if let Some(before) = before {
                carry_over::mark_removed(before, after);
            }
        }
        Snapshot {
            generation: self.base.generation + 1,
            ..self.next
        }
    }

    /// An endpoint set that shares the counts of every address that the cluster had or has.
    fn build(&self, id: ClusterId, config: &ClusterConfig, assignment: Arc<Assignment>) -> Arc<EndpointSet> {
        let worlds = [&*self.base, &self.next];
        let [base, next] = worlds.map(|world| Some(world.clusters.at(id)?.endpoints.as_ref()));
        let known = carry_over::by_address(base, next);
        let counts = self.next.local.as_ref().map(|local| local.counts(id));
        let around = Around {
            earlier: next.or(base),
            zones: counts.as_ref(),
            salt: self.next.salt,
        };
        Arc::new(EndpointSet::build_in(
            assignment,
            &config.build_options(),
            |address| known.get(address).copied(),
            around,
        ))
    }

    fn put_cluster(&mut self, id: ClusterId, cluster: Option<Cluster>) -> bool {
        self.next.clusters.set(id, cluster.map(Arc::new));
        self.touched.insert(id);
        self.changed = true;
        true
    }
}
