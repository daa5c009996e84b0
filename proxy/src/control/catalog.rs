//! The world as the control plane is telling it: what is active, what is warming, and what each part still needs.
//!
//! Holds: a part becomes active only when everything it refers to is there or was given up waiting for; its old version
//! serves meanwhile; a rejected version changes nothing; cached endpoints are used at once by a changed cluster, so no
//! cluster waits for an assignment that will not come again.

mod hold;
mod on_demand;
mod resolved;
#[cfg(test)]
mod sharing;
mod standing;
mod warming;
mod watching;
#[cfg(test)]
mod worlds;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use remora_model::Name;
use remora_model::cluster::{ClusterConfig, Discovery};
use remora_model::endpoint::{Assignment, Locality};
use remora_model::listener::Listener;
use remora_model::snapshot::{
    ClusterId, ClusterMark, Edit, Interner, RouteTableId, RouteTableMark, SecretMark, Snapshot,
};
use remora_translate::{
    self as translate, Context, ExpectedCluster, IgnoredFields, LocalFiles, Repeated, Subscription,
    SubscriptionKind, WatchedFile,
};

use self::hold::Hold;
pub use self::hold::PATIENCE;
pub use self::watching::check_of;
use super::files::{Reader, Readers};
use super::held::{Held, HeldResource, Kind};
use super::needs::{Need, Needs, User, kind_of, need_of};
use super::on_demand::OnDemand;
use super::slots::{Activated, Slot, Slots, Waiting};
use super::sources::Origin;
use super::state_dir::Journal;
use crate::tls;

/// A cluster with the endpoints that it brought itself.
#[derive(Debug)]
struct NewCluster {
    config: Arc<ClusterConfig>,
    own: Option<Arc<Assignment>>,
    /// Its endpoints were asked once whether they are well, if they are to be asked at all.
    checked: bool,
}

/// What changed outside the world itself, for the caller to carry out.
#[derive(Debug)]
pub enum Effect {
    /// A listener became active: its sockets may accept.
    ListenerActive(Name),
    /// A listener is gone.
    ListenerGone,
    /// A cluster is gone.
    ClusterGone,
    /// A route configuration, an assignment or a secret is referred to by nobody any more.
    Forgotten(Kind, Name),
    /// A DNS cluster is to be resolved from now on.
    Resolve(Name, Discovery),
    /// A cluster needs no resolving any more.
    StopResolving(Name),
}

/// Everything that was told.
#[derive(Debug)]
pub struct Catalog {
    clusters: Slots<NewCluster>,
    listeners: Slots<Listener>,
    assignments: HashMap<Need, Arc<Assignment>>,
    /// What was not heard of in time.
    given_up: HashSet<Need>,
    /// References.
    pub needs: Needs,
    /// As received.
    pub held: Held,
    /// Versions of clusters and listeners that serve while the one that is held warms.
    pub serving: HashMap<(Kind, Name), HeldResource>,
    /// Files that they were read from.
    pub files: Readers,
    /// Fields that were set and have no effect, with how often.
    pub ignored: IgnoredFields,
    /// What is to be written to the state directory.
    pub journal: Journal,
    /// Clusters whose endpoints are to be watched, or no more.
    pub watch_changes: Vec<ClusterId>,
    /// Clusters that wait for the first round of their health checks.
    pub rounds_wanted: Vec<Name>,
    /// Clusters whose endpoints are subscribed to by use.
    pub on_demand: OnDemand,
    /// Routes that wait for their clusters.
    pub hold: Hold,
    repeated: Repeated,
    cluster_names: Interner<ClusterMark>,
    route_table_names: Interner<RouteTableMark>,
    secret_names: Interner<SecretMark>,
    edit: Edit,
    effects: Vec<Effect>,
}

/// Where a resource comes from.
#[derive(Debug, Clone)]
pub struct Arrived<'a> {
    /// Source.
    pub source: &'a Origin,
    /// Name.
    pub name: &'a Name,
    /// Version.
    pub version: &'a Arc<str>,
    /// Encoded message.
    pub body: &'a Bytes,
    /// From the bootstrap.
    pub is_static: bool,
}

impl Catalog {
    /// An empty world.
    pub fn new() -> Self {
        let mut edit = Edit::new(&Snapshot::default());
        edit.set_salt(fastrand::u64(..));
        Self {
            clusters: Slots::default(),
            listeners: Slots::default(),
            assignments: HashMap::new(),
            given_up: HashSet::new(),
            needs: Needs::default(),
            held: Held::default(),
            serving: HashMap::new(),
            files: Readers::default(),
            ignored: IgnoredFields::default(),
            journal: Journal::default(),
            watch_changes: Vec::new(),
            rounds_wanted: Vec::new(),
            on_demand: OnDemand::default(),
            hold: Hold::default(),
            repeated: Repeated::default(),
            cluster_names: Interner::default(),
            route_table_names: Interner::default(),
            secret_names: Interner::default(),
            edit,
            effects: Vec::new(),
        }
    }

    /// Says which cluster we are a member of, and where; before the first resource.
    pub fn set_local(&mut self, name: &Name, own: Locality) {
        let id = self.cluster_names.enter(name);
        self.edit.set_local(id, own);
    }

    /// Takes one resource in.
    ///
    /// # Errors
    /// Why it is rejected, in one line; nothing changed then but the note of the rejection.
    pub fn accept(
        &mut self,
        kind: Kind,
        arrived: &Arrived<'_>,
        admit: &mut dyn FnMut(&Listener) -> Result<(), String>,
    ) -> Result<(), String> {
        let outcome = match kind {
            Kind::Cluster => self.accept_cluster(arrived),
            Kind::Listener => self.accept_listener(arrived, admit),
            Kind::RouteConfiguration => self.accept_route_table(arrived).map(|()| Vec::new()),
            Kind::Endpoints => self.accept_endpoints(arrived).map(|()| Vec::new()),
            Kind::Secret => self.accept_secret(arrived),
        };
        let Arrived { name, version, .. } = *arrived;
        match outcome {
            Ok(files) => {
                self.files.enter(Reader {
                    kind,
                    name: Arc::clone(name),
                    source: arrived.source.clone(),
                    files,
                });
                self.keep_serving(kind, name);
                self.held
                    .accept(kind, name, version, arrived.body, arrived.is_static);
                self.journal.enter(kind, name, arrived.source);
                Ok(())
            }
            Err(reason) => {
                self.held.reject(kind, name, version, &reason);
                Err(reason)
            }
        }
    }

    /// Keeps what a version that warms will replace, for config dumps.
    fn keep_serving(&mut self, kind: Kind, name: &Name) {
        let replaces = match kind {
            Kind::Cluster => self.clusters.get(name).is_some_and(Slot::replaces),
            Kind::Listener => self.listeners.get(name).is_some_and(Slot::replaces),
            Kind::RouteConfiguration => self.is_warming(kind, name),
            Kind::Endpoints | Kind::Secret => false,
        };
        if let (true, Some(held)) = (replaces, self.held.at(kind, name)) {
            let key = (kind, Arc::clone(name));
            self.serving.entry(key).or_insert_with(|| held.clone());
        }
    }

    /// Whether a resource is of use: what is asked for by name is only as long as somebody refers to it.
    pub fn is_wanted(&self, kind: Kind, source: &Origin, name: &Name) -> bool {
        match kind {
            Kind::Cluster | Kind::Listener => true,
            Kind::RouteConfiguration | Kind::Endpoints | Kind::Secret => {
                self.needs.is_used(&need_of(kind, source, name))
            }
        }
    }

    /// Takes one resource out. Route tables, endpoints and secrets that are still referred to stay (as Envoy does).
    pub fn remove(&mut self, kind: Kind, source: &Origin, name: &Name) {
        if self.held.at(kind, name).is_some_and(|held| held.is_static) {
            return;
        }
        match kind {
            Kind::Cluster => self.remove_cluster(name),
            Kind::Listener => self.remove_listener(name),
            Kind::RouteConfiguration | Kind::Endpoints | Kind::Secret => {
                let need = need_of(kind, source, name);
                if self.needs.is_used(&need) {
                    // The server says that it does not exist: whoever waits for it waits no longer.
                    self.give_up(kind, source, name);
                } else {
                    self.forget(&need);
                }
                return;
            }
        }
        self.held.remove(kind, name);
        self.serving.remove(&(kind, Arc::clone(name)));
        self.journal.enter(kind, name, source);
        self.files.remove(kind, name);
    }

    /// A resource was not heard of in time: what needs it goes on without.
    pub fn give_up(&mut self, kind: Kind, source: &Origin, name: &Name) {
        let need = need_of(kind, source, name);
        self.given_up.insert(need.clone());
        self.recheck(&need);
    }

    /// The id of an RDS resource's name, if it was ever seen.
    pub fn route_table_id(&self, name: &str) -> Option<RouteTableId> {
        self.route_table_names.known(name)
    }

    /// The world so far, not yet published.
    pub fn preview(&self) -> &Snapshot {
        self.edit.preview()
    }

    /// The next version of the world, if anything changed, and what is to be done beside publishing it.
    pub fn finish(&mut self) -> (Option<Arc<Snapshot>>, Vec<Effect>) {
        self.release_held();
        let effects = std::mem::take(&mut self.effects);
        if !self.edit.changed() {
            return (None, effects);
        }
        let fresh = Edit::new(&Snapshot::default());
        let snapshot = Arc::new(std::mem::replace(&mut self.edit, fresh).finish_at(Some(Instant::now())));
        self.edit = Edit::over(Arc::clone(&snapshot));
        (Some(snapshot), effects)
    }

    fn translated<T>(
        &mut self,
        translate: impl FnOnce(&mut Context<'_>) -> Result<T, translate::Rejection>,
    ) -> Result<T, String> {
        let mut context = Context {
            clusters: &mut self.cluster_names,
            route_tables: &mut self.route_table_names,
            secrets: &mut self.secret_names,
            previous: Some(self.edit.preview()),
            ignored: &mut self.ignored,
            repeated: &mut self.repeated,
            files: &LocalFiles,
        };
        translate(&mut context).map_err(|rejection| rejection.reason())
    }

    fn accept_cluster(&mut self, arrived: &Arrived<'_>) -> Result<Vec<WatchedFile>, String> {
        // From here on the name that arrived is the one that everybody shares.
        self.cluster_names.enter(arrived.name);
        let mut new = self.translated(|context| translate::cluster(arrived.body, context))?;
        self.check_static_secrets(&new.subscriptions)?;
        let is_checked = check_of(&new.config).is_some();
        if is_checked {
            self.on_demand.remove(arrived.name);
        } else if !arrived.is_static {
            let config = &new.config;
            self.on_demand
                .defer(&config.name, &config.stat_name, &mut new.subscriptions);
        }
        let name = Arc::clone(&new.config.name);
        let user = User::Cluster(Arc::clone(&name));
        self.needs.add(&user, &new.subscriptions);
        if matches!(
            new.config.discovery,
            Discovery::StrictDns(_) | Discovery::LogicalDns(_)
        ) {
            self.effects
                .push(Effect::Resolve(Arc::clone(&name), new.config.discovery.clone()));
        } else {
            self.effects.push(Effect::StopResolving(Arc::clone(&name)));
        }
        let part = NewCluster {
            config: new.config,
            own: new.assignment,
            checked: false,
        };
        let waiting = Waiting {
            part,
            needs: new.subscriptions,
        };
        if let Some(superseded) = self.clusters.warm(&name, waiting) {
            self.release(&user, &superseded.dropped, &superseded.kept);
        }
        self.warm_cluster(&name);
        Ok(new.files)
    }

    fn remove_cluster(&mut self, name: &Name) {
        let Some(needs) = self.clusters.remove(name) else {
            return;
        };
        self.on_demand.remove(name);
        if let Some(id) = self.cluster_names.known(name) {
            self.edit.remove_cluster(id);
            self.watch_changes.push(id);
        }
        self.effects.push(Effect::StopResolving(Arc::clone(name)));
        self.effects.push(Effect::ClusterGone);
        let user = User::Cluster(Arc::clone(name));
        self.release(&user, &needs, &[]);
    }

    fn accept_listener(
        &mut self,
        arrived: &Arrived<'_>,
        admit: &mut dyn FnMut(&Listener) -> Result<(), String>,
    ) -> Result<Vec<WatchedFile>, String> {
        let new = self.translated(|context| translate::listener(arrived.body, context))?;
        self.check_static_secrets(&new.subscriptions)?;
        if arrived.is_static {
            self.check_clusters(&new.expected_clusters)?;
        }
        let mut listener = new.listener;
        if listener.name.is_empty() {
            listener.name = Arc::clone(arrived.name);
        }
        if let Some(other) = self.edit.preview().listeners.conflict(&listener) {
            let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
            return Err(format!(
                "has duplicate address '{}' as existing listener '{}'",
                addresses.join(","),
                other.name
            ));
        }
        admit(&listener)?;
        self.hold_listener(&listener);
        let name = Arc::clone(&listener.name);
        let user = User::Listener(Arc::clone(&name));
        self.needs.add(&user, &new.subscriptions);
        let waiting = Waiting {
            part: listener,
            needs: new.subscriptions,
        };
        if let Some(superseded) = self.listeners.warm(&name, waiting) {
            self.release(&user, &superseded.dropped, &superseded.kept);
        }
        self.warm_listener(&name);
        Ok(new.files)
    }

    /// A secret of the bootstrap is there from the start or never.
    fn check_static_secrets(&self, needs: &[Subscription]) -> Result<(), String> {
        let mut of_bootstrap = needs
            .iter()
            .filter(|need| need.kind == SubscriptionKind::Secret && need.source.is_none());
        match of_bootstrap.find(|need| !self.is_satisfied(&Need::from(*need))) {
            Some(missing) => Err(format!("Unknown static secret: {}", missing.name)),
            None => Ok(()),
        }
    }

    /// Envoy's `validate_clusters`, for listeners of the bootstrap only: whoever pushes may send the cluster later.
    fn check_clusters(&self, expected: &[ExpectedCluster]) -> Result<(), String> {
        match expected
            .iter()
            .find(|expected| self.clusters.get(&expected.name).is_none())
        {
            Some(missing) => Err(missing.problem.to_string()),
            None => Ok(()),
        }
    }

    fn warm_listener(&mut self, name: &Name) {
        let ready = self
            .listeners
            .get(name)
            .and_then(|slot| slot.warming.as_ref())
            .is_some_and(|waiting| {
                waiting
                    .needs
                    .iter()
                    .all(|need| self.is_satisfied(&Need::from(need)))
            });
        if !ready || self.hold.is_listener_held(name) {
            return;
        }
        let Some(Activated { part, needs, before }) = self.listeners.activate(name) else {
            return;
        };
        self.serving.remove(&(Kind::Listener, Arc::clone(name)));
        self.edit.set_listener(part);
        self.effects.push(Effect::ListenerActive(Arc::clone(name)));
        self.release(&User::Listener(Arc::clone(name)), &before, &needs);
    }

    fn remove_listener(&mut self, name: &Name) {
        let Some(needs) = self.listeners.remove(name) else {
            return;
        };
        self.hold.drop_listener(name);
        self.edit.remove_listener(name);
        self.effects.push(Effect::ListenerGone);
        let user = User::Listener(Arc::clone(name));
        self.release(&user, &needs, &[]);
    }

    fn accept_route_table(&mut self, arrived: &Arrived<'_>) -> Result<(), String> {
        let table = self.translated(|context| translate::route_configuration(arrived.body, context))?;
        let id = self.route_table_names.id(&table.name);
        if let Some(table) = self.hold_table(id, arrived, table) {
            let key = (Kind::RouteConfiguration, Arc::clone(arrived.name));
            self.serving.remove(&key);
            self.edit.set_route_table(id, table);
        }
        self.heard(Kind::RouteConfiguration, arrived);
        Ok(())
    }

    fn accept_endpoints(&mut self, arrived: &Arrived<'_>) -> Result<(), String> {
        let mut assignment = self.translated(|context| translate::endpoints(arrived.body, context))?;
        let need = need_of(Kind::Endpoints, arrived.source, arrived.name);
        if let Some(before) = self.assignments.get(&need) {
            assignment.share(before);
        }
        let assignment = Arc::new(assignment);
        self.assignments.insert(need.clone(), Arc::clone(&assignment));
        for user in self.needs.users(&need) {
            let User::Cluster(name) = user else { continue };
            if let Some(id) = self.cluster_names.known(&name) {
                self.set_members(id, Arc::clone(&assignment));
            }
        }
        self.heard(Kind::Endpoints, arrived);
        Ok(())
    }

    fn accept_secret(&mut self, arrived: &Arrived<'_>) -> Result<Vec<WatchedFile>, String> {
        let translated = self.translated(|context| translate::secret(arrived.body, context))?;
        tls::check(&translated.secret)?;
        let id = self.secret_names.id(&translated.secret.name);
        self.edit.set_secret(id, translated.secret);
        self.heard(Kind::Secret, arrived);
        Ok(translated.files)
    }

    /// A referenced resource is there (again).
    fn heard(&mut self, kind: Kind, arrived: &Arrived<'_>) {
        let need = need_of(kind, arrived.source, arrived.name);
        self.given_up.remove(&need);
        self.recheck(&need);
    }

    fn recheck(&mut self, need: &Need) {
        for user in self.needs.users(need) {
            match user {
                User::Cluster(name) => self.warm_cluster(&name),
                User::Listener(name) => self.warm_listener(&name),
            }
        }
    }

    fn is_satisfied(&self, need: &Need) -> bool {
        if self.given_up.contains(need) {
            return true;
        }
        let world = self.edit.preview();
        match need.kind {
            SubscriptionKind::ClusterLoadAssignment => self.assignments.contains_key(need),
            SubscriptionKind::RouteConfiguration => self
                .route_table_names
                .known(&need.name)
                .is_some_and(|id| world.route_table(id).is_some()),
            SubscriptionKind::Secret => self
                .secret_names
                .known(&need.name)
                .is_some_and(|id| world.secret(id).is_some()),
        }
    }

    fn release(&mut self, user: &User, needs: &[Subscription], kept: &[Subscription]) {
        for need in self.needs.remove(user, needs, kept) {
            self.forget(&need);
        }
    }

    /// Nobody refers to this resource any more.
    fn forget(&mut self, need: &Need) {
        self.given_up.remove(need);
        let kind = kind_of(need.kind);
        self.effects.push(Effect::Forgotten(kind, Arc::clone(&need.name)));
        if self.held.at(kind, &need.name).is_some_and(|held| held.is_static) {
            return;
        }
        match need.kind {
            SubscriptionKind::ClusterLoadAssignment => {
                self.assignments.remove(need);
            }
            SubscriptionKind::RouteConfiguration => {
                if let Some(id) = self.route_table_names.known(&need.name) {
                    self.hold.drop_table(id);
                    self.serving.remove(&(kind, Arc::clone(&need.name)));
                    self.edit.remove_route_table(id);
                }
            }
            SubscriptionKind::Secret => {
                if let Some(id) = self.secret_names.known(&need.name) {
                    self.edit.remove_secret(id);
                }
            }
        }
        self.held.remove(kind, &need.name);
        self.journal.enter(kind, &need.name, &need.source);
        self.files.remove(kind, &need.name);
    }
}
