//! Who is asked whether they are well, when, and what becomes of it? The model decides what a finding means; the asking is
//! done beside this thread ([`crate::upstream::check`]).
//!
//! Holds: an endpoint keeps what was found of it through every update that names it again and leaves the check as it is;
//! whoever is gone is not asked any more; nothing runs, and there is no thread, where no cluster has checks.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use remora_model::Name;
use remora_model::cluster::{Cluster, ClusterConfig};
use remora_model::endpoint::{Endpoint, EndpointAddress, EndpointSpec};
use remora_model::health::check::{Course, Finding, Moved, Shortfall};
use remora_model::health::{Flag, HealthCheck, bring_back};
use remora_model::snapshot::ClusterId;
use tokio::sync::mpsc;

use super::Control;
use super::catalog::check_of;
use super::held::Kind;
use crate::observe::metrics::ActiveCheckCounters;
use crate::upstream::check::{Ask, CheckId, Found, Order, serve};
use crate::worker::{Graveyard, Shared, aside};

/// The counters of the thread that asks.
const INDEX: usize = usize::MAX - 2;

/// Everybody who is asked.
#[derive(Debug)]
pub struct Checks {
    in_use: HashMap<ClusterId, Group>,
    /// Of versions that wait for their first round.
    warming: HashMap<ClusterId, Group>,
    members: HashMap<CheckId, Member>,
    due: BTreeSet<(Instant, CheckId)>,
    next: u64,
    asker: Asker,
    rng: fastrand::Rng,
}

/// The endpoints of one version of a cluster.
#[derive(Debug)]
struct Group {
    check: Arc<HealthCheck>,
    ids: HashMap<EndpointAddress, CheckId>,
}

/// One endpoint; it may stand in a group that is in use and in one that warms.
#[derive(Debug)]
struct Member {
    cluster: ClusterId,
    config: Arc<ClusterConfig>,
    check: Arc<HealthCheck>,
    address: EndpointAddress,
    /// With the address that is asked.
    target: Arc<Endpoint>,
    course: Course,
    /// `None` while it is being asked.
    due: Option<Instant>,
}

/// The thread that asks.
#[derive(Debug)]
enum Asker {
    /// Nobody was to be asked yet.
    None {
        shared: Arc<Shared>,
        graveyard: Graveyard,
        found: mpsc::UnboundedSender<Found>,
    },
    Running(mpsc::UnboundedSender<Order>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for its first round.
    Warming,
    /// In use.
    InUse,
    /// In use, and nothing warms beside it (any more).
    Promoted,
}

impl Asker {
    fn tell(&mut self, order: Order) {
        if let Self::None {
            shared,
            graveyard,
            found,
        } = self
        {
            let (to, orders) = mpsc::unbounded_channel();
            let (shared, graveyard, found) = (Arc::clone(shared), graveyard.clone(), found.clone());
            let begun = aside("health", move || {
                let counters = shared.observe.worker(INDEX);
                serve(shared, graveyard, counters, orders, found)
            });
            if let Err(error) = begun {
                tracing::error!(%error, "no thread for health checks");
                return;
            }
            *self = Self::Running(to);
        }
        if let Self::Running(to) = self {
            // It ends with this process.
            let _ = to.send(order);
        }
    }
}

impl Checks {
    /// Nobody yet; and what will be found.
    pub fn new(shared: Arc<Shared>, graveyard: Graveyard) -> (Self, mpsc::UnboundedReceiver<Found>) {
        let (found, findings) = mpsc::unbounded_channel();
        let checks = Self {
            in_use: HashMap::new(),
            warming: HashMap::new(),
            members: HashMap::new(),
            due: BTreeSet::new(),
            next: 0,
            asker: Asker::None {
                shared,
                graveyard,
                found,
            },
            rng: fastrand::Rng::new(),
        };
        (checks, findings)
    }

    /// When somebody is to be asked.
    pub fn due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// From here on these endpoints of a cluster are asked, and no others.
    fn follow<'s>(
        &mut self,
        stage: Stage,
        config: &Arc<ClusterConfig>,
        check: &Arc<HealthCheck>,
        specs: impl Iterator<Item = &'s Arc<EndpointSpec>>,
    ) {
        let id = config.id;
        let now = Instant::now();
        let mut ids = HashMap::new();
        for spec in specs.filter(|spec| spec.is_checked()) {
            let target = target_of(spec);
            let member = match self.known(id, check, spec, &target) {
                Some(member) => member,
                None => self.enter(config, check, &spec.address, &target, now),
            };
            if let Some(member) = self.members.get_mut(&member) {
                member.config = Arc::clone(config);
                member.target = target;
            }
            ids.insert(spec.address.clone(), member);
        }
        let group = Group {
            check: Arc::clone(check),
            ids,
        };
        let before = match stage {
            Stage::Warming => [self.warming.insert(id, group), None],
            Stage::InUse => [self.in_use.insert(id, group), None],
            Stage::Promoted => [self.in_use.insert(id, group), self.warming.remove(&id)],
        };
        self.forget(id, before);
    }

    /// An endpoint that is asked the same already.
    fn known(
        &self,
        id: ClusterId,
        check: &Arc<HealthCheck>,
        spec: &EndpointSpec,
        target: &Endpoint,
    ) -> Option<CheckId> {
        let groups = [self.warming.get(&id), self.in_use.get(&id)];
        let same = groups.into_iter().flatten().filter(|group| group.check == *check);
        let mut found = same.filter_map(|group| group.ids.get(&spec.address).copied());
        found.find(|id| {
            let member = self.members.get(id);
            member.is_some_and(|member| {
                let (before, now) = (&member.target.spec, &target.spec);
                before.address == now.address && before.details().check == now.details().check
            })
        })
    }

    fn enter(
        &mut self,
        config: &Arc<ClusterConfig>,
        check: &Arc<HealthCheck>,
        address: &EndpointAddress,
        target: &Arc<Endpoint>,
        now: Instant,
    ) -> CheckId {
        let id = CheckId(self.next);
        self.next += 1;
        let due = now + check.intervals.first(&mut self.rng);
        self.due.insert((due, id));
        let member = Member {
            cluster: config.id,
            config: Arc::clone(config),
            check: Arc::clone(check),
            address: address.clone(),
            target: Arc::clone(target),
            course: Course::new(check.new_do_not_count),
            due: Some(due),
        };
        self.members.insert(id, member);
        id
    }

    /// Lets go of those that stand in no group any more.
    fn forget(&mut self, id: ClusterId, before: [Option<Group>; 2]) {
        let groups = [self.warming.get(&id), self.in_use.get(&id)];
        let still: HashSet<CheckId> = groups
            .into_iter()
            .flatten()
            .flat_map(|group| group.ids.values().copied())
            .collect();
        for gone in before
            .into_iter()
            .flatten()
            .flat_map(|group| group.ids.into_values())
        {
            if still.contains(&gone) {
                continue;
            }
            if let Some(member) = self.members.remove(&gone) {
                if let Some(due) = member.due {
                    self.due.remove(&(due, gone));
                }
                self.asker.tell(Order::Forget(gone));
            }
        }
    }

    fn forget_cluster(&mut self, id: ClusterId) {
        let before = [self.warming.remove(&id), self.in_use.remove(&id)];
        self.forget(id, before);
    }

    /// The member of a cluster in use with this address.
    fn member_at(&mut self, id: ClusterId, address: &EndpointAddress) -> Option<&mut Member> {
        let member = self.in_use.get(&id)?.ids.get(address)?;
        self.members.get_mut(member)
    }

    /// Whether everybody of a version that warms was asked once.
    fn round_is_over(&self, id: ClusterId) -> bool {
        let group = self.warming.get(&id);
        let mut ids = group.into_iter().flat_map(|group| group.ids.values());
        ids.all(|id| {
            self.members
                .get(id)
                .is_none_or(|member| !member.course.is_unchecked())
        })
    }

    /// Those who are to be asked now.
    fn take_due(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        while let Some((at, id)) = self.due.first().copied() {
            if at > now {
                break;
            }
            self.due.pop_first();
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.due = None;
            asks.push(Ask {
                id,
                config: Arc::clone(&member.config),
                check: Arc::clone(&member.check),
                target: Arc::clone(&member.target),
            });
        }
        asks
    }
}

/// The endpoint as it is asked.
fn target_of(spec: &Arc<EndpointSpec>) -> Arc<Endpoint> {
    let spec = match &spec.details().check {
        None => Arc::clone(spec),
        Some(check) => Arc::new(EndpointSpec {
            address: check.address(&spec.address),
            ..EndpointSpec::clone(spec)
        }),
    };
    Arc::new(Endpoint::new(spec))
}

impl Control {
    /// Asks everybody whose time has come.
    pub(super) fn ask_due(&mut self, now: Instant) {
        for ask in self.checks.take_due(now) {
            self.check_cells(&ask.config, |cells| cells.attempt.one());
            self.checks.asker.tell(Order::Ask(Box::new(ask)));
        }
    }

    fn check_cells(&self, config: &ClusterConfig, count: impl FnOnce(&ActiveCheckCounters)) {
        count(&self.health.counters.health(config).check);
    }

    /// A version of a cluster waits until its endpoints were asked once.
    pub(super) fn review_round(&mut self, name: &Name) {
        let Some((config, specs)) = self.catalog.warming_members(name) else {
            return;
        };
        let config = Arc::clone(config);
        let Some(check) = check_of(&config) else { return };
        self.checks.follow(Stage::Warming, &config, check, specs.iter());
        if self.checks.round_is_over(config.id) {
            self.catalog.round_over(name);
        } else {
            self.ask_due(Instant::now());
        }
    }

    /// A cluster in use has another configuration or other endpoints, or is gone.
    pub(super) fn review_checks(&mut self, id: ClusterId) {
        let Some(cluster) = self.catalog.preview().cluster(id).cloned() else {
            self.checks.forget_cluster(id);
            return;
        };
        let Some(check) = check_of(&cluster.config) else {
            let all = cluster.endpoints.endpoints.iter();
            let hidden = all.filter(|e| Course::hide(&e.counts().flags)).count();
            if self.checks.in_use.contains_key(&id)
                && !self.catalog.is_warming(Kind::Cluster, &cluster.config.name)
            {
                self.checks.forget_cluster(id);
            }
            if hidden > 0 {
                self.catalog.renew_endpoints(id);
            }
            return;
        };
        let stage = if self.catalog.is_warming(Kind::Cluster, &cluster.config.name) {
            Stage::InUse
        } else {
            Stage::Promoted
        };
        self.checks
            .follow(stage, &cluster.config, check, specs_of(&cluster));
        if self.show_all(&cluster) {
            self.catalog.renew_endpoints(id);
        }
        self.ask_due(Instant::now());
    }

    /// Shows what was found in the flags of the endpoints; says whether any changed.
    fn show_all(&mut self, cluster: &Cluster) -> bool {
        let mut changed = false;
        for endpoint in cluster.endpoints.endpoints.iter() {
            let flags = &endpoint.live().flags;
            changed |= match self.checks.member_at(cluster.config.id, &endpoint.spec.address) {
                Some(member) => member.course.show(flags),
                None => Course::hide(flags),
            };
        }
        changed
    }

    /// Takes in what was found.
    pub(super) fn hear_checks(&mut self, first: Found, more: &mut mpsc::UnboundedReceiver<Found>) {
        let mut moved = BTreeSet::new();
        let mut next = Some(first);
        while let Some(found) = next {
            self.take_found(&found, &mut moved);
            next = more.try_recv().ok();
        }
        for id in moved {
            self.catalog.renew_endpoints(id);
        }
        self.settle();
    }

    fn take_found(&mut self, found: &Found, moved: &mut BTreeSet<ClusterId>) {
        let Some(member) = self.checks.members.get_mut(&found.id) else {
            return;
        };
        let id = member.cluster;
        let first = member.course.is_unchecked();
        let change = member
            .course
            .find(member.check.thresholds, found.finding, found.leaves);
        let used = self.catalog.preview().cluster(id);
        let used = used.is_some_and(|cluster| cluster.live.used.load(std::sync::atomic::Ordering::Relaxed));
        let wait = member
            .check
            .intervals
            .next(found.finding, change, used, &mut self.checks.rng);
        let due = Instant::now() + wait;
        member.due = Some(due);
        self.checks.due.insert((due, found.id));
        log(member, found, change, first);
        let (config, address) = (Arc::clone(&member.config), member.address.clone());
        self.check_cells(&config, |cells| count(cells, found));
        self.show(id, &address, found.id, (found.finding, change), moved);
        if first && self.checks.warming.contains_key(&id) && self.checks.round_is_over(id) {
            self.catalog.round_over(&config.name);
        }
    }

    /// Shows a finding in the flags of the endpoint of the cluster in use.
    fn show(
        &mut self,
        id: ClusterId,
        address: &EndpointAddress,
        found: CheckId,
        (finding, change): (Finding, Moved),
        moved: &mut BTreeSet<ClusterId>,
    ) {
        if self
            .checks
            .in_use
            .get(&id)
            .and_then(|group| group.ids.get(address))
            != Some(&found)
        {
            return;
        }
        let Some(cluster) = self.catalog.preview().cluster(id).cloned() else {
            return;
        };
        let mut all = cluster.endpoints.endpoints.iter();
        let Some(endpoint) = all.find(|endpoint| endpoint.spec.address == *address) else {
            return;
        };
        let Some(member) = self.checks.members.get(&found) else {
            return;
        };
        let passing = member.course.is_passing();
        if member.course.show(&endpoint.live().flags) {
            moved.insert(id);
        }
        match change {
            Moved::Up if cluster.endpoints.options.policy.slow_start().is_some() => {
                endpoint.live().watch().since.again(Instant::now());
            }
            Moved::Down => endpoint.live().fall(),
            _ => {}
        }
        let outlier = cluster
            .config
            .health
            .as_deref()
            .and_then(|health| health.outlier.as_ref());
        let returns = outlier.is_some_and(|outlier| outlier.check_returns);
        if returns && passing && matches!(finding, Finding::Passed { .. }) && endpoint.has(Flag::Ejected) {
            bring_back(endpoint, self.shared.started.elapsed());
            moved.insert(id);
        }
        if !passing && endpoint.has(Flag::Lingers) {
            self.catalog.let_go(id, address);
        }
    }

    /// An endpoint said in an answer to a request that it wants no more.
    pub(super) fn leaving(&mut self, cluster: &Cluster, endpoint: &Arc<Endpoint>) {
        let (id, address) = (cluster.config.id, &endpoint.spec.address);
        let passive = Finding::Failed(Shortfall::Passive);
        let Some(member) = self.checks.member_at(id, address) else {
            return;
        };
        let change = member.course.find(member.check.thresholds, passive, true);
        self.check_cells(&cluster.config, |cells| {
            cells.failure.one();
            cells.passive_failure.one();
        });
        tracing::info!(cluster = %cluster.config.name, endpoint = ?address, "wants no more requests");
        let member = self
            .checks
            .in_use
            .get(&id)
            .and_then(|group| group.ids.get(address))
            .copied();
        let mut moved = BTreeSet::new();
        if let Some(member) = member {
            self.show(id, address, member, (passive, change), &mut moved);
        }
        if !moved.is_empty() {
            self.catalog.renew_endpoints(id);
        }
    }
}

fn specs_of(cluster: &Cluster) -> impl Iterator<Item = &Arc<EndpointSpec>> {
    cluster.endpoints.endpoints.iter().map(|endpoint| &endpoint.spec)
}

fn count(cells: &ActiveCheckCounters, found: &Found) {
    if found.verified {
        cells.verify_cluster.one();
    }
    match found.finding {
        Finding::Passed { .. } => cells.success.one(),
        Finding::Failed(shortfall) => {
            cells.failure.one();
            if shortfall.is_network() {
                cells.network_failure.one();
            }
        }
    }
}

/// Says what changes, what was found first, and everything where that was asked for.
fn log(member: &Member, found: &Found, change: Moved, first: bool) {
    let (cluster, endpoint, why) = (&member.config.name, &member.address, &found.why);
    let [failures, successes] = member.check.always_log;
    match (found.finding, change) {
        (_, Moved::Up) => tracing::info!(%cluster, ?endpoint, "passes its health checks"),
        (_, Moved::Down) => tracing::info!(%cluster, ?endpoint, %why, "fails its health checks"),
        (Finding::Failed(_), _) if first || failures => {
            tracing::info!(%cluster, ?endpoint, %why, "failed a health check");
        }
        (Finding::Failed(_), _) => tracing::debug!(%cluster, ?endpoint, %why, "failed a health check"),
        (Finding::Passed { .. }, _) if successes => {
            tracing::info!(%cluster, ?endpoint, "passed a health check");
        }
        (Finding::Passed { .. }, _) => {}
    }
}
