//! Make before break, in any order of arrival: a changed route waits for the clusters that it names.
//!
//! A new version of a route configuration or of a listener is kept aside, while the old one serves, as long as it names
//! clusters that warm and never were in use, or that CDS may still tell of on a stream that has just begun.
//! Holds: nothing waits longer than [`PATIENCE`], also when it is replaced meanwhile; what was never served does not
//! wait, unless a listener moves to it; what nobody announces is not waited for; only changed virtual hosts and chains
//! are looked at. The answer to the control plane does not wait.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora_model::Name;
use remora_model::listener::{FilterChain, Listener, Routes, Terminal};
use remora_model::route::RouteTable;
use remora_model::snapshot::{ClusterId, RouteTableId};

use super::{Arrived, Catalog};
use crate::control::held::Kind;
use crate::control::needs::{Need, User, need_of};
use crate::control::slots::Slot;

/// How long a new version waits for its clusters at most: Envoy's default `initial_fetch_timeout`, after which the
/// clusters themselves go on without endpoints.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// How long routes that name unknown clusters wait for the first answer of CDS on a new stream. A delta server may have
/// nothing to say then.
pub const ANSWER: Duration = Duration::from_secs(1);

/// What is kept aside.
#[derive(Debug, Default)]
pub struct Hold {
    tables: HashMap<RouteTableId, HeldTable>,
    listeners: HashMap<Name, Awaited>,
    /// Until then CDS is expected to answer on its new stream.
    unanswered_until: Option<Instant>,
}

/// A route configuration that is not in use yet.
#[derive(Debug)]
struct HeldTable {
    table: Arc<RouteTable>,
    need: Need,
    awaited: Awaited,
}

/// The clusters that a version waits for.
#[derive(Debug)]
struct Awaited {
    clusters: Vec<ClusterId>,
    until: Instant,
}

/// How a cluster stands to a route that names it.
enum Standing {
    InUse,
    Expected,
    Unknown,
}

impl Awaited {
    /// Whether a cluster is still waited for. Those in use are forgotten; one that is not is looked at first next time.
    fn is_open(&mut self, now: Instant, standing: impl Fn(ClusterId) -> Standing) -> bool {
        if self.until <= now {
            return false;
        }
        let mut at = 0;
        while let Some(cluster) = self.clusters.get(at) {
            match standing(*cluster) {
                Standing::InUse => {
                    self.clusters.swap_remove(at);
                }
                Standing::Expected => {
                    self.clusters.swap(0, at);
                    return true;
                }
                Standing::Unknown => at += 1,
            }
        }
        false
    }
}

impl Hold {
    /// CDS was asked on a new stream.
    pub fn cds_asked(&mut self, now: Instant) {
        self.unanswered_until = Some(now + ANSWER);
    }

    /// CDS answered.
    pub fn cds_answered(&mut self) {
        self.unanswered_until = None;
    }

    /// When to look again, whatever is told until then.
    pub fn due(&self) -> Option<Instant> {
        let tables = self.tables.values().map(|held| held.awaited.until);
        let last = tables
            .chain(self.listeners.values().map(|awaited| awaited.until))
            .min()?;
        Some(self.unanswered_until.map_or(last, |answer| answer.min(last)))
    }

    pub(super) fn is_table_held(&self, id: RouteTableId) -> bool {
        self.tables.contains_key(&id)
    }

    pub(super) fn is_listener_held(&self, name: &str) -> bool {
        self.listeners.contains_key(name)
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Name> {
        self.tables.values().map(|held| &held.need.name)
    }

    pub(super) fn drop_table(&mut self, id: RouteTableId) {
        self.tables.remove(&id);
    }

    pub(super) fn drop_listener(&mut self, name: &str) {
        self.listeners.remove(name);
    }
}

impl Catalog {
    /// Keeps a new version of a route configuration until [`Self::release_held`]; `None` if there is no reason to.
    pub(super) fn hold_table(
        &mut self,
        id: RouteTableId,
        arrived: &Arrived<'_>,
        table: Arc<RouteTable>,
    ) -> Option<Arc<RouteTable>> {
        let since = self.hold.tables.remove(&id).map(|before| before.awaited.until);
        let before = self.edit.preview().route_table(id);
        let need = need_of(Kind::RouteConfiguration, arrived.source, arrived.name);
        if before.is_some_and(|before| before.fingerprint == table.fingerprint)
            || (before.is_none() && !self.is_moved_to(&need))
        {
            return Some(table);
        }
        let mut clusters = BTreeSet::new();
        table.add_clusters_of_changes(before.map(Arc::as_ref), &mut clusters);
        let clusters = self.not_in_use(clusters);
        if clusters.is_empty() {
            return Some(table);
        }
        let until = since.unwrap_or_else(|| Instant::now() + PATIENCE);
        let awaited = Awaited { clusters, until };
        self.hold.tables.insert(id, HeldTable { table, need, awaited });
        None
    }

    /// Whether a listener in use waits for this route configuration to take the place of another.
    fn is_moved_to(&self, need: &Need) -> bool {
        self.needs.users(need).iter().any(|user| match user {
            User::Listener(name) => self.listeners.get(name).is_some_and(Slot::replaces),
            User::Cluster(_) => false,
        })
    }

    /// Decides whether a listener waits for the clusters that its changed chains name by themselves.
    pub(super) fn hold_listener(&mut self, listener: &Listener) {
        let since = self
            .hold
            .listeners
            .remove(&listener.name)
            .map(|before| before.until);
        let Some(before) = self.edit.preview().listeners.named(&listener.name) else {
            return;
        };
        let all = |of: &Listener| -> Vec<Arc<FilterChain>> {
            of.chains.iter().chain(&of.default_chain).cloned().collect()
        };
        let old: BTreeSet<u64> = all(before).iter().map(|chain| chain.fingerprint).collect();
        let mut clusters = BTreeSet::new();
        for chain in all(listener)
            .iter()
            .filter(|chain| !old.contains(&chain.fingerprint))
        {
            match &chain.terminal {
                Terminal::Http(manager) => {
                    if let Routes::Inline(table) = &manager.routes {
                        table.add_clusters_of_changes(None, &mut clusters);
                    }
                }
                Terminal::Tcp(proxy) => proxy.cluster.add_clusters(&mut clusters),
                Terminal::Close => {}
            }
        }
        let now = Instant::now();
        let until = since.unwrap_or(now + PATIENCE);
        let mut awaited = Awaited {
            clusters: self.not_in_use(clusters),
            until,
        };
        if awaited.is_open(now, |id| self.standing_of(id, now)) {
            self.hold.listeners.insert(Arc::clone(&listener.name), awaited);
        }
    }

    /// Puts to use what waited for clusters that are there now, or waited long enough.
    pub(super) fn release_held(&mut self) {
        if self.hold.tables.is_empty() && self.hold.listeners.is_empty() {
            return;
        }
        let now = Instant::now();
        if self.hold.unanswered_until.is_some_and(|until| until <= now) {
            self.hold.unanswered_until = None;
        }
        let mut tables = std::mem::take(&mut self.hold.tables);
        let mut listeners = std::mem::take(&mut self.hold.listeners);
        let ready = |awaited: &mut Awaited| !awaited.is_open(now, |id| self.standing_of(id, now));
        let mut ready_tables: Vec<RouteTableId> = tables
            .iter_mut()
            .filter_map(|(id, held)| ready(&mut held.awaited).then_some(*id))
            .collect();
        let mut ready_listeners: Vec<Name> = listeners
            .iter_mut()
            .filter_map(|(name, awaited)| ready(awaited).then(|| Arc::clone(name)))
            .collect();
        (self.hold.tables, self.hold.listeners) = (tables, listeners);
        ready_tables.sort_unstable();
        ready_listeners.sort_unstable();
        // One that is put to use may end the need for the next: that one is dropped then, and not put to use.
        for id in ready_tables {
            let Some(held) = self.hold.tables.remove(&id) else {
                continue;
            };
            tell(&held.table.name, &held.awaited, now);
            self.serving
                .remove(&(Kind::RouteConfiguration, Arc::clone(&held.need.name)));
            self.edit.set_route_table(id, held.table);
            self.recheck(&held.need);
        }
        for name in ready_listeners {
            let Some(awaited) = self.hold.listeners.remove(&name) else {
                continue;
            };
            tell(&name, &awaited, now);
            self.warm_listener(&name);
        }
    }

    fn not_in_use(&self, clusters: BTreeSet<ClusterId>) -> Vec<ClusterId> {
        let world = self.edit.preview();
        let missing = clusters.into_iter().filter(|id| world.cluster(*id).is_none());
        missing.collect()
    }

    fn standing_of(&self, id: ClusterId, now: Instant) -> Standing {
        if self.edit.preview().cluster(id).is_some() {
            return Standing::InUse;
        }
        let warms = self
            .cluster_names
            .name(id)
            .is_some_and(|name| self.is_warming(Kind::Cluster, name));
        let unanswered = self.hold.unanswered_until.is_some_and(|until| now < until);
        if warms || unanswered {
            Standing::Expected
        } else {
            Standing::Unknown
        }
    }
}

fn tell(name: &Name, awaited: &Awaited, now: Instant) {
    if awaited.until <= now {
        tracing::warn!(%name, clusters = awaited.clusters.len(), "in use although clusters that it names are not warm: it waited long enough");
    } else {
        tracing::debug!(%name, "in use: it waits for no cluster any more");
    }
}
