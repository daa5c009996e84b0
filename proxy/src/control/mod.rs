//! The control thread: hears the control plane, the files and DNS, and publishes one world after the other.
//!
//! One update takes this way: an event of a source ([`sources`]) is translated resource by resource into the
//! [`catalog`], which rejects, warms or activates; when everything that arrived together was taken in, [`Control::settle`]
//! publishes at most one new snapshot, starts and stops sockets, and says what is wanted now.
//!
//! Holds: nothing of this runs on a worker; a rejected resource leaves its last good version in place; `data_path` is
//! never called from here: they meet only in the snapshot.

mod catalog;
mod checks;
mod connector;
mod counting;
mod dns;
mod drain;
mod files;
mod freshness;
mod health;
mod held;
mod ignored;
mod needs;
mod on_demand;
mod operator;
mod readiness;
mod run;
mod slots;
mod sockets;
mod sources;
mod state_dir;
mod validate;
mod weights;

pub use operator::Desk;
pub use run::{Options, run};
pub use state_dir::Options as StateOptions;
pub use validate::validate;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use remora_model::Name;
use remora_model::cluster::Discovery;
use remora_model::listener::ListenAddress;
use remora_translate::bootstrap::{Bootstrap, StaticResource};
use remora_translate::config_source::ConfigSource;
use remora_xds_client as xds;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::catalog::{Arrived, Catalog, Effect};
use self::connector::Dialer;
use self::held::Kind;
use self::needs::kind_of;
use self::readiness::Phase;
use self::sockets::Sockets;
use self::sources::{ClientKey, Origin, Sources};
use self::state_dir::StateDir;
use crate::observe::control_metrics::Update;
use crate::tls;
use crate::worker::{Command, Shared, WorkerThread};

/// Everything that the control thread knows.
#[derive(Debug)]
pub struct Control {
    bootstrap: Bootstrap,
    catalog: Catalog,
    sources: Sources,
    sockets: Sockets,
    dialer: Dialer,
    shared: Arc<Shared>,
    workers: Vec<WorkerThread>,
    resolving: HashMap<Name, JoinHandle<()>>,
    resolved: mpsc::Sender<dns::Resolved>,
    watches: files::Watches,
    phase: Phase,
    /// Types of which a first response was processed, or will not come in time.
    heard: Vec<Kind>,
    connected: HashMap<ClientKey, Result<(), String>>,
    failed_health_check: bool,
    /// Fields without effect that were told of, with how often they were set.
    told_ignored: HashMap<&'static str, u64>,
    /// Levels as they were set last.
    told_levels: Vec<Option<i64>>,
    /// `version_info` of the newest response that was accepted whole, by type.
    versions: HashMap<Kind, Arc<str>>,
    /// The last good resources on disk, where there is a state directory.
    state: Option<StateDir>,
    /// Endpoints that are left out for a while.
    health: health::Watches,
    /// Endpoints that are asked whether they are well.
    checks: checks::Checks,
    /// Requests that wait for endpoints.
    asks: on_demand::Asks,
    /// Clusters and listeners that are taken back stay (gRFC A53).
    ignore_deletion: bool,
}

impl Control {
    /// Takes the static resources in and asks for the first dynamic ones.
    ///
    /// # Errors
    /// Every static resource that is rejected, with its place in the bootstrap; a secret alone does not stop the start.
    pub fn begin(&mut self) -> Result<(), Vec<String>> {
        self.begin_state();
        let (mut refused, mut secrets) = (Vec::new(), Vec::new());
        let parts = [
            (Kind::Secret, self.bootstrap.secrets.clone()),
            (Kind::Cluster, self.bootstrap.clusters.clone()),
            (Kind::Listener, self.bootstrap.listeners.clone()),
        ];
        for (kind, resources) in parts {
            for resource in resources {
                if let Err(reason) = self.accept_static(kind, &resource) {
                    let list = if kind == Kind::Secret {
                        &mut secrets
                    } else {
                        &mut refused
                    };
                    list.push(format!("{}: {reason}", resource.place));
                }
            }
            self.settle();
        }
        if !refused.is_empty() {
            refused.splice(0..0, secrets);
            return Err(refused);
        }
        for problem in secrets {
            tracing::warn!("{problem}; no static resource refers to it");
        }
        self.ask_for(Kind::Cluster);
        self.settle();
        Ok(())
    }

    fn accept_static(&mut self, kind: Kind, resource: &StaticResource) -> Result<(), String> {
        let body = bytes::Bytes::from(resource.bytes.clone());
        let arrived = Arrived {
            source: &None,
            name: &resource.name,
            version: &Arc::from(""),
            body: &body,
            is_static: true,
        };
        self.accept(kind, &arrived)
    }

    fn accept(&mut self, kind: Kind, arrived: &Arrived<'_>) -> Result<(), String> {
        let (sockets, workers) = (&mut self.sockets, self.workers.len());
        self.catalog
            .accept(kind, arrived, &mut |listener| sockets.bind(listener, workers))
    }

    /// Subscribes to all clusters or all listeners, where the bootstrap says from whom.
    fn ask_for(&mut self, kind: Kind) {
        let source = match kind {
            Kind::Cluster => self.bootstrap.cds.clone(),
            _ => self.bootstrap.lds.clone(),
        };
        match source {
            None => self.heard.push(kind),
            Some(ConfigSource {
                source,
                initial_fetch_timeout,
            }) => {
                self.count_beginning(kind);
                self.sources.want(
                    &source,
                    kind.type_url(),
                    xds::Interest::Wildcard,
                    initial_fetch_timeout,
                );
            }
        }
    }

    /// Takes one event of a source in.
    fn hear(&mut self, key: &ClientKey, event: xds::Event) {
        self.state_hears(key, &event);
        self.expect_clusters(key, &event);
        match event {
            xds::Event::Connected { server } => {
                tracing::info!(%server, "connected to the control plane");
                self.connected.insert(key.clone(), Ok(()));
            }
            xds::Event::Disconnected {
                server,
                reason,
                had_response,
                retry_in,
            } => {
                if had_response {
                    tracing::info!(%server, %reason, ?retry_in, "stream to the control plane ended");
                } else {
                    tracing::warn!(%server, %reason, ?retry_in, "no stream to the control plane");
                }
                if !had_response {
                    self.count_failure(key);
                }
                self.connected.insert(key.clone(), Err(reason));
                self.set_levels();
            }
            xds::Event::Update(update) => self.take_update(key, update),
            xds::Event::Refused {
                type_url,
                version,
                reason,
            } => {
                tracing::warn!(%type_url, %version, %reason, "response refused as a whole");
                self.with_kind(&type_url, |this, kind| this.count_whole(kind, Update::Rejected));
            }
            xds::Event::Missing { type_url, names } => self.take_missing(key, &type_url, &names),
            xds::Event::Expired { type_url, names } => {
                for name in names {
                    self.with_kind(&type_url, |this, kind| {
                        this.catalog.remove(kind, &key.origin(), &name);
                    });
                }
            }
        }
    }

    /// On a new stream routes may come before the clusters that they name.
    fn expect_clusters(&mut self, key: &ClientKey, event: &xds::Event) {
        let of_type = Kind::Cluster.type_url();
        let cds = self.bootstrap.cds.as_ref();
        if cds.is_none_or(|config| ClientKey::of(&config.source, of_type) != *key) {
            return;
        }
        match event {
            xds::Event::Connected { .. } => self.catalog.hold.cds_asked(Instant::now()),
            xds::Event::Update(xds::Update { type_url, .. })
            | xds::Event::Refused { type_url, .. }
            | xds::Event::Missing { type_url, .. }
                if **type_url == *of_type =>
            {
                self.catalog.hold.cds_answered();
            }
            _ => {}
        }
    }

    fn with_kind(&mut self, type_url: &str, act: impl FnOnce(&mut Self, Kind)) {
        if let Some(kind) = Kind::of(type_url) {
            act(self, kind);
        }
    }

    fn take_update(&mut self, key: &ClientKey, mut update: xds::Update) {
        let Some(kind) = Kind::of(&update.type_url) else {
            self.sources.verdict(key, update.response, Vec::new());
            return;
        };
        let origin = key.origin();
        // An update that was under way when its last reference went must leave nothing behind.
        update
            .resources
            .retain(|resource| self.catalog.is_wanted(kind, &origin, &resource.name));
        let mut rejections = Vec::new();
        // An address may pass from a listener that goes to one that comes.
        if kind == Kind::Listener {
            self.take_removed(kind, &origin, &update.removed);
        }
        for resource in &update.resources {
            if self.is_restored(kind, resource) {
                continue;
            }
            let arrived = Arrived {
                source: &origin,
                name: &resource.name,
                version: &resource.version,
                body: &resource.body,
                is_static: false,
            };
            if let Err(reason) = self.accept(kind, &arrived) {
                tracing::warn!(?kind, name = %resource.name, version = %resource.version, %reason, "resource rejected");
                rejections.push(xds::Rejection::new(Arc::clone(&resource.name), reason));
            }
        }
        if kind != Kind::Listener {
            self.take_removed(kind, &origin, &update.removed);
        }
        for unreadable in &update.unreadable {
            self.state_confirms(kind, &unreadable.name);
        }
        self.state_answered(kind);
        let bad = rejections.len() + update.unreadable.len();
        if bad == 0 {
            self.versions.insert(kind, Arc::clone(&update.version));
        }
        self.count_update(kind, &update, &rejections);
        tracing::debug!(
            ?kind,
            version = %update.version,
            taken = update.resources.len(),
            removed = update.removed.len(),
            rejected = bad,
            "update"
        );
        self.sources.verdict(key, update.response, rejections);
        self.note_heard(kind);
    }

    fn take_removed(&mut self, kind: Kind, origin: &Origin, removed: &[Arc<str>]) {
        for name in removed {
            self.state_confirms(kind, name);
            if self.ignore_deletion && matches!(kind, Kind::Cluster | Kind::Listener) {
                tracing::warn!(?kind, %name, "taken back by the control plane, and kept (--ignore-resource-deletion)");
                continue;
            }
            self.catalog.remove(kind, origin, name);
        }
    }

    fn take_missing(&mut self, key: &ClientKey, type_url: &str, names: &[Arc<str>]) {
        tracing::warn!(%type_url, ?names, "nothing heard within initial_fetch_timeout; going on without");
        self.with_kind(type_url, |this, kind| {
            if names.is_empty() {
                this.count_whole(kind, Update::InitFetchTimeout);
            }
            for name in names {
                this.state_confirms(kind, name);
                this.catalog.give_up(kind, &key.origin(), name);
                this.count(kind, name, Update::InitFetchTimeout);
            }
            this.note_heard(kind);
        });
    }

    fn note_heard(&mut self, kind: Kind) {
        if !self.heard.contains(&kind) {
            self.heard.push(kind);
        }
    }

    /// Carries everything out that was taken in since the last call: at most one publication.
    pub fn settle(&mut self) {
        self.review_health();
        let (snapshot, effects) = self.catalog.finish();
        self.catalog.held.tidy();
        let listeners = effects
            .iter()
            .any(|effect| matches!(effect, Effect::ListenerGone | Effect::ListenerActive(_)));
        let gone = effects
            .iter()
            .any(|effect| matches!(effect, Effect::ListenerGone | Effect::ClusterGone));
        if let Some(snapshot) = snapshot {
            self.publish(snapshot);
        }
        self.answer_asks();
        for effect in effects {
            self.carry_out(effect);
        }
        if listeners {
            self.close_unused_sockets();
        }
        if gone {
            self.shared.observe.retain(&self.shared.current());
        }
        for (source, kind, wanted) in self.catalog.needs.take_changes() {
            if let Some(source) = source {
                let timeout = wanted.fetch_timeout();
                let interest = xds::Interest::Names(wanted.names);
                self.sources
                    .want(&source, kind_of(kind).type_url(), interest, timeout);
            }
        }
        self.watch_files();
        self.advance();
        self.tell_ignored();
        self.set_levels();
    }

    fn publish(&mut self, snapshot: Arc<remora_model::snapshot::Snapshot>) {
        for resource in &self.bootstrap.clusters {
            let id = self.catalog.cluster_id(&resource.name);
            if let Some(cluster) = id.and_then(|id| snapshot.cluster(id)) {
                self.dialer.know(cluster);
            }
        }
        if !Arc::ptr_eq(&snapshot.listeners, &self.shared.current().listeners) {
            for error in self.shared.observe.open_sinks(&snapshot) {
                tracing::warn!(%error, "access log");
            }
        }
        let renewed = !snapshot.secrets.is_same(&self.shared.current().secrets);
        self.shared.publish(snapshot);
        if renewed {
            tls::renew(&self.shared.current());
        }
        for worker in &self.workers {
            worker.tell(Command::Published);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::ListenerActive(name) => {
                if let Some(listener) = self.shared.current().listeners.named(&name) {
                    self.sockets.start(listener, &self.workers);
                }
            }
            Effect::ListenerGone | Effect::ClusterGone => {}
            Effect::Forgotten(kind, name) => self.count_no_more(kind, &name),
            Effect::Resolve(name, discovery) => self.resolve(name, discovery),
            Effect::StopResolving(name) => {
                if let Some(task) = self.resolving.remove(&name) {
                    task.abort();
                }
            }
        }
    }

    fn resolve(&mut self, name: Name, discovery: Discovery) {
        let task = tokio::task::spawn_local(dns::follow(Arc::clone(&name), discovery, self.resolved.clone()));
        if let Some(before) = self.resolving.insert(name, task) {
            before.abort();
        }
    }

    fn close_unused_sockets(&mut self) {
        let world = self.shared.current();
        let warming = self.catalog.warming_addresses();
        let wanted = |address: &ListenAddress| {
            world
                .listeners
                .bound(address)
                .is_some_and(|listener| listener.bind_to_port)
                || warming.contains(address)
        };
        self.sockets.keep_only(wanted, &self.workers);
    }

    /// Start-up goes on when what it waited for is there (clusters, then listeners, then live).
    fn advance(&mut self) {
        if self.phase == Phase::Clusters
            && self.heard.contains(&Kind::Cluster)
            && self.catalog.warming_count(Kind::Cluster) == 0
        {
            self.phase = Phase::Listeners;
            self.ask_for(Kind::Listener);
        }
        if self.phase == Phase::Listeners
            && self.heard.contains(&Kind::Listener)
            && self.catalog.warming_count(Kind::Listener) == 0
        {
            self.phase = Phase::Live;
            tracing::info!(
                generation = self.shared.current().generation,
                "all initial configuration is in use"
            );
        }
    }
}

/// The control thread's state, shared with the admin endpoint on the same thread.
pub type SharedControl = Rc<std::cell::RefCell<Control>>;
