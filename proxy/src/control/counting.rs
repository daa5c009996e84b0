//! What the control thread counts, under Envoy's names.
//!
//! Endpoint subscriptions are counted with their cluster's type as a whole, not per cluster: ten thousand clusters must
//! not make fifty thousand series before any is used.

use remora_model::listener::{HttpManager, Routes, Terminal};
use remora_model::snapshot::RouteTableId;
use remora_xds_client as xds;

use super::Control;
use super::held::Kind;
use super::sources::ClientKey;
use crate::observe::control_metrics::{Subscription, Update};

impl Control {
    /// Counts what happened to one resource of a type, or to the type as a whole.
    pub(super) fn count(&self, kind: Kind, name: &str, update: Update<'_>) {
        let metrics = &self.shared.observe.control;
        match kind {
            Kind::Cluster => metrics.update(Subscription::Clusters, update),
            Kind::Listener => metrics.update(Subscription::Listeners, update),
            Kind::Secret => {
                metrics.begin(Subscription::Secret { name });
                metrics.update(Subscription::Secret { name }, update);
            }
            Kind::RouteConfiguration => {
                if let Some(manager) = self.manager_of(name) {
                    let manager = &manager;
                    metrics.begin(Subscription::Routes { manager, name });
                    metrics.update(Subscription::Routes { manager, name }, update);
                }
            }
            Kind::Endpoints => match update {
                Update::Attempt => metrics.count("cluster_manager.eds.update_attempt", 1),
                Update::Success { .. } => metrics.count("cluster_manager.eds.update_success", 1),
                Update::Rejected => metrics.count("cluster_manager.eds.update_rejected", 1),
                Update::Failure => metrics.count("cluster_manager.eds.update_failure", 1),
                Update::InitFetchTimeout => metrics.count("cluster_manager.eds.init_fetch_timeout", 1),
                // An assignment is read from no file, and Envoy counts no reload of it.
                Update::FilesRefused | Update::Reload => {}
            },
        }
    }

    /// All clusters or all listeners are asked for.
    pub(super) fn count_beginning(&self, kind: Kind) {
        let subscription = match kind {
            Kind::Cluster => Subscription::Clusters,
            _ => Subscription::Listeners,
        };
        self.shared.observe.control.begin(subscription);
        self.count_whole(kind, Update::Attempt);
    }

    /// Counts what happened to a type as a whole. What is counted for each resource has nothing to count then.
    pub(super) fn count_whole(&self, kind: Kind, update: Update<'_>) {
        match kind {
            Kind::Cluster | Kind::Listener | Kind::Endpoints => self.count(kind, "", update),
            Kind::RouteConfiguration | Kind::Secret => {}
        }
    }

    /// A stream could not be opened, or ended without a response: every type on it failed.
    pub(super) fn count_failure(&self, key: &ClientKey) {
        match key.type_url {
            Some(type_url) => {
                if let Some(kind) = Kind::of(type_url) {
                    self.count_whole(kind, Update::Failure);
                }
            }
            None => {
                let asked = [Kind::Cluster, Kind::Listener];
                for kind in asked
                    .into_iter()
                    .filter(|kind| self.sources.serves(key, kind.type_url()))
                {
                    self.count_whole(kind, Update::Failure);
                }
            }
        }
    }

    /// Counts a response: once for types that are asked for as a whole, else for each resource in it.
    pub(super) fn count_update(&self, kind: Kind, update: &xds::Update, rejections: &[xds::Rejection]) {
        let count = |name: &str, version: &str, is_good: bool| {
            self.count(kind, name, Update::Attempt);
            let outcome = if is_good {
                Update::Success { version }
            } else {
                Update::Rejected
            };
            self.count(kind, name, outcome);
        };
        let changes =
            update.resources.len() - rejections.len().min(update.resources.len()) + update.removed.len();
        if kind == Kind::Cluster && changes > 0 {
            self.count(kind, "", Update::Reload);
        }
        match kind {
            Kind::Cluster | Kind::Listener | Kind::Endpoints => {
                count(
                    "",
                    &update.version,
                    rejections.is_empty() && update.unreadable.is_empty(),
                );
            }
            Kind::RouteConfiguration | Kind::Secret => {
                for resource in &update.resources {
                    let is_good = rejections.iter().all(|rejection| rejection.name != resource.name);
                    count(&resource.name, &resource.version, is_good);
                    if is_good && kind == Kind::RouteConfiguration {
                        self.count(kind, &resource.name, Update::Reload);
                    }
                }
            }
        }
    }

    /// Nobody refers to a resource any more: its series end.
    pub(super) fn count_no_more(&self, kind: Kind, name: &str) {
        let metrics = &self.shared.observe.control;
        match kind {
            Kind::RouteConfiguration => metrics.forget_routes(name),
            Kind::Secret => metrics.forget(Subscription::Secret { name }),
            Kind::Cluster | Kind::Listener | Kind::Endpoints => {}
        }
    }

    /// Levels that change with each publication: those that did are set.
    pub(super) fn set_levels(&mut self) {
        let metrics = &self.shared.observe.control;
        let world = self.catalog.preview();
        let level = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let generation = i64::try_from(self.shared.current().generation).unwrap_or(i64::MAX);
        let connected = self.connected.values().any(Result::is_ok);
        let levels = [
            ("cluster_manager.active_clusters", level(world.clusters.len())),
            (
                "cluster_manager.warming_clusters",
                level(self.catalog.warming_count(Kind::Cluster)),
            ),
            (
                "listener_manager.total_listeners_active",
                level(world.listeners.len()),
            ),
            (
                "listener_manager.total_listeners_warming",
                level(self.catalog.warming_count(Kind::Listener)),
            ),
            (
                "listener_manager.workers_started",
                i64::from(!self.workers.is_empty()),
            ),
            ("control_plane.connected_state", i64::from(connected)),
            ("remora.config_generation", generation),
        ];
        self.told_levels.resize(levels.len(), None);
        for ((name, now), told) in levels.into_iter().zip(&mut self.told_levels) {
            if told.replace(now) != Some(now) {
                metrics.set(name, now);
            }
        }
    }

    /// The `stat_prefix` of a connection manager that takes its routes from this RDS resource.
    fn manager_of(&self, name: &str) -> Option<String> {
        let id = self.catalog.route_table_id(name)?;
        let world = self.catalog.preview();
        let uses = |manager: &HttpManager, id: RouteTableId| matches!(&manager.routes, Routes::Dynamic(of) if *of == id);
        world.listeners.iter().find_map(|listener| {
            listener
                .chains
                .iter()
                .chain(listener.default_chain.as_ref())
                .find_map(|chain| match &chain.terminal {
                    Terminal::Http(manager) if uses(manager, id) => Some(manager.stat_prefix.to_string()),
                    _ => None,
                })
        })
    }
}
