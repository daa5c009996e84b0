//! The control thread's loop, from the first static resource to the last connection.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use remora_model::Name;
use remora_model::endpoint::{Locality, LocalityName};
use remora_model::listener::ListenAddress;
use remora_translate::bootstrap::{AdminAddress, Bootstrap};
use remora_xds_client as xds;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::catalog::Catalog;
use super::connector::Dialer;
use super::files::Watches;
use super::operator::Desk;
use super::readiness::Phase;
use super::sockets::Sockets;
use super::sources::{ClientKey, Sources};
use super::state_dir::{self, StateDir};
use super::{Control, SharedControl, checks, dns, drain, health, on_demand};
use crate::admin::{AdminContext, AdminServer};
use crate::observe::Observe;
use crate::observe::logging::Logging;
use crate::upstream::check::Found;
use crate::worker::{Ask, Graveyard, HealthSignal, HealthSignals, OnDemand, Shared, WorkerThread};

/// Events of sources that may wait while the control thread is busy.
const EVENTS: usize = 256;

/// How long the process waits for its last access log lines.
const LAST_LOGS: Duration = Duration::from_secs(1);

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    /// What the bootstrap says.
    pub bootstrap: Bootstrap,
    /// Workers.
    pub concurrency: usize,
    /// How long connections may live on after they were told to end.
    pub drain_time: Duration,
    /// Where the admin endpoint's bound address is written.
    pub admin_address_path: Option<PathBuf>,
    /// For `/server_info`: `envoy.admin.v3.CommandLineOptions` in proto field names.
    pub command_line: serde_json::Value,
    /// For `/server_info`: the node in proto field names.
    pub node: serde_json::Value,
    /// Counters and access logs.
    pub observe: Arc<Observe>,
    /// For `/logging`.
    pub logging: Logging,
    /// Clusters and listeners that are taken back stay.
    pub ignore_deletion: bool,
    /// Endpoints only of clusters that are used; how long a cluster stays in use after its last request.
    pub on_demand_idle: Option<Duration>,
    /// Where the last good resources are kept.
    pub state: Option<state_dir::Options>,
}

/// What an operator or a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Drain and exit.
    Quit,
    /// Drain listeners, stay.
    DrainListeners {
        /// Only those of inbound traffic.
        inbound_only: bool,
    },
}

/// Runs until told to end and everything is idle, or the drain time is over.
///
/// # Errors
/// What makes a start impossible: static resources that are rejected, an admin address that cannot be bound.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let drain_time = options.drain_time;
    let observe = Arc::clone(&options.observe);
    let (control, queues) = start(options).await?;
    let begun = control.borrow_mut().begin();
    begun.map_err(|refused| anyhow::anyhow!(refused.join("\n")))?;
    follow(&control, queues).await?;
    control.borrow_mut().keep_last();
    drain::shut_down(&control, drain_time).await;
    observe.flush_logs(LAST_LOGS);
    Ok(())
}

/// What the control thread listens to.
struct Queues {
    events: mpsc::Receiver<(ClientKey, xds::Event)>,
    resolved: mpsc::Receiver<dns::Resolved>,
    /// Directories into which something moved.
    moved: mpsc::Receiver<PathBuf>,
    /// Resources of an earlier run.
    found: mpsc::Receiver<state_dir::Found>,
    /// Requests that wait for endpoints.
    asks: mpsc::Receiver<Ask>,
    /// What workers saw of endpoints.
    health: mpsc::UnboundedReceiver<HealthSignal>,
    /// What health checks found.
    checked: mpsc::UnboundedReceiver<Found>,
    orders: mpsc::UnboundedReceiver<Order>,
}

/// Workers, state and admin endpoint, before the first resource.
async fn start(options: Options) -> anyhow::Result<(SharedControl, Queues)> {
    let shared = Arc::new(Shared::new(Arc::clone(&options.observe), options.drain_time));
    let graveyard = bury_worlds()?;
    let workers = workers(&options, &shared, &graveyard).context("starting workers")?;
    let (events_to, events) = mpsc::channel(EVENTS);
    let (resolved_to, resolved) = mpsc::channel(EVENTS);
    let (moved_to, moved) = mpsc::channel(EVENTS);
    let (found_to, found) = mpsc::channel(1);
    let (orders_to, orders) = mpsc::unbounded_channel();
    let (catalog, asks) = catalog(&options, &shared);
    let health = health_signals(&shared);
    let (checks, checked) = checks::Checks::new(Arc::clone(&shared), graveyard.clone());
    let dialer = dialer(&shared, graveyard);
    let state = state_dir(&options, found_to);
    let admin = admin_address(&options.bootstrap);
    let control: SharedControl = Rc::new(RefCell::new(Control {
        sources: sources(&options.bootstrap, dialer.clone(), events_to),
        bootstrap: options.bootstrap,
        catalog,
        sockets: Sockets::default(),
        dialer,
        shared,
        workers,
        resolving: HashMap::new(),
        resolved: resolved_to,
        watches: Watches::new(moved_to),
        phase: Phase::Clusters,
        heard: Vec::new(),
        connected: HashMap::new(),
        failed_health_check: false,
        told_ignored: HashMap::new(),
        told_levels: Vec::new(),
        versions: HashMap::new(),
        state,
        health: health::Watches::new(options.observe.worker(usize::MAX - 1)),
        checks,
        asks: on_demand::Asks::default(),
        ignore_deletion: options.ignore_deletion,
    }));
    let desk = Desk::new(Rc::clone(&control), orders_to, options.command_line, options.node);
    if let Some(address) = admin {
        let context = AdminContext {
            operator: Rc::new(desk),
            observe: options.observe,
            logging: options.logging,
        };
        serve_admin(&address, options.admin_address_path.as_deref(), context).await?;
    }
    let queues = Queues {
        events,
        resolved,
        moved,
        found,
        asks,
        health,
        checked,
        orders,
    };
    Ok((control, queues))
}

/// The threads that serve.
fn workers(
    options: &Options,
    shared: &Arc<Shared>,
    graveyard: &Graveyard,
) -> std::io::Result<Vec<WorkerThread>> {
    let cluster = options.node["cluster"].as_str().unwrap_or_default();
    if let Ok(cluster) = http::HeaderValue::from_str(cluster) {
        shared.node_cluster.get_or_init(|| cluster);
    }
    if let Ok(id) = http::HeaderValue::from_str(options.node["id"].as_str().unwrap_or_default()) {
        shared.node_id.get_or_init(|| id);
    }
    (0..options.concurrency)
        .map(|index| WorkerThread::start(index, Arc::clone(shared), graveyard.clone()))
        .collect()
}

/// Where resources come from.
fn sources(bootstrap: &Bootstrap, dialer: Dialer, events: mpsc::Sender<(ClientKey, xds::Event)>) -> Sources {
    let node = Bytes::from(bootstrap.node.encoded.clone());
    Sources::new(bootstrap.ads.clone(), node, dialer, events)
}

/// How control planes are reached.
fn dialer(shared: &Arc<Shared>, graveyard: Graveyard) -> Dialer {
    let world = Arc::clone(shared);
    let current = Rc::new(move || world.current());
    Dialer::start(shared.observe.worker(usize::MAX), graveyard, current)
}

/// The way from the workers that tells of failing endpoints.
fn health_signals(shared: &Shared) -> mpsc::UnboundedReceiver<HealthSignal> {
    let (to, signals) = HealthSignals::new();
    // Set once, before the first resource.
    let _ = shared.health.set(to);
    signals
}

/// An empty catalog, and the way from the workers to it where endpoints are asked for by use.
fn catalog(options: &Options, shared: &Shared) -> (Catalog, mpsc::Receiver<Ask>) {
    let mut catalog = Catalog::new();
    if let Some(name) = &options.bootstrap.local_cluster {
        let said = &options.bootstrap.node.locality;
        let part = |name: &Name| LocalityName(Arc::clone(name));
        let own = Locality {
            region: part(&said.region),
            zone: part(&said.zone),
            sub_zone: part(&said.sub_zone),
        };
        catalog.set_local(name, own);
    }
    let (on_demand, asks) = OnDemand::new();
    if let Some(idle) = options.on_demand_idle {
        let ads = options.bootstrap.ads.as_ref().map(|ads| ads.variant);
        catalog.on_demand.begin(idle, ads);
        // Set once, before the first resource.
        let _ = shared.on_demand.set(on_demand);
    }
    (catalog, asks)
}

fn state_dir(options: &Options, found: mpsc::Sender<state_dir::Found>) -> Option<StateDir> {
    let state = options.state.clone()?;
    let node_id = options.bootstrap.node.id.to_string();
    Some(StateDir::new(state, node_id, Arc::clone(&options.observe), found))
}

fn admin_address(bootstrap: &Bootstrap) -> Option<ListenAddress> {
    let admin = bootstrap.admin.as_ref()?;
    admin.address.as_ref().map(listen_address)
}

/// Opens the operator's endpoint.
async fn serve_admin(
    address: &ListenAddress,
    address_path: Option<&Path>,
    context: AdminContext,
) -> anyhow::Result<()> {
    let server = AdminServer::bind(address).await?;
    if let Some(path) = address_path {
        server.write_address(path)?;
    }
    tokio::task::spawn_local(server.serve(context));
    Ok(())
}

/// Takes in what sources, files, DNS and operators say, until somebody says that it is over.
async fn follow(control: &SharedControl, mut queues: Queues) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    loop {
        let due = control.borrow().due();
        tokio::select! {
            Some((key, event)) = queues.events.recv() => {
                let mut control = control.borrow_mut();
                control.hear(&key, event);
                // What arrived together is published together.
                while let Ok((key, event)) = queues.events.try_recv() {
                    control.hear(&key, event);
                }
                control.settle();
            }
            Some(answer) = queues.resolved.recv() => {
                let mut control = control.borrow_mut();
                control.catalog.resolved(&answer.cluster, answer.assignment);
                control.settle();
            }
            Some(directory) = queues.moved.recv() => {
                let mut directories = BTreeSet::from([directory]);
                while let Ok(directory) = queues.moved.try_recv() {
                    directories.insert(directory);
                }
                let mut control = control.borrow_mut();
                for directory in directories {
                    control.reread(&directory);
                }
                control.settle();
            }
            Some(found) = queues.found.recv() => {
                let mut control = control.borrow_mut();
                control.restore(found);
                control.settle();
            }
            () = at(due) => control.borrow_mut().on_time(Instant::now()),
            Some(ask) = queues.asks.recv() => control.borrow_mut().take_asks(ask, &mut queues.asks),
            Some(signal) = queues.health.recv() => control.borrow_mut().hear_health(signal, &mut queues.health),
            Some(found) = queues.checked.recv() => control.borrow_mut().hear_checks(found, &mut queues.checked),
            Some(order) = queues.orders.recv() => match order {
                Order::Quit => return Ok(()),
                Order::DrainListeners { inbound_only } => control.borrow_mut().drain_listeners(inbound_only),
            },
            _ = reopen.recv() => control.borrow().shared.observe.reopen_logs(),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

impl Control {
    /// When [`Self::on_time`] has something to do.
    fn due(&self) -> Option<Instant> {
        let (health, hold) = (self.health.due(), self.catalog.hold.due());
        [
            self.state_due(),
            self.on_demand_due(),
            hold,
            health,
            self.checks.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time passed.
    fn on_time(&mut self, now: Instant) {
        self.state_time(now);
        self.on_demand_time(now);
        self.health_time(now);
        self.settle();
    }
}

/// Until then; for ever without a time.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn listen_address(address: &AdminAddress) -> ListenAddress {
    match address {
        AdminAddress::Socket(address) => ListenAddress::Socket(*address),
        AdminAddress::Pipe { path, .. } => ListenAddress::Pipe(path.as_str().into()),
    }
}

/// How long a replaced world may lie before it is freed.
const LAST_RESPECTS: Duration = Duration::from_millis(50);

/// A thread on which replaced worlds die, so that neither a worker nor the control thread waits for it.
fn bury_worlds() -> anyhow::Result<Graveyard> {
    let (graveyard, worlds) = Graveyard::new();
    std::thread::Builder::new()
        .name("graveyard".into())
        .spawn(move || {
            // Whoever sends wakes only a thread that waits: worlds that come close upon each other die together.
            while let Ok(world) = worlds.recv() {
                std::thread::sleep(LAST_RESPECTS);
                drop(world);
                worlds.try_iter().for_each(drop);
            }
        })
        .context("starting the graveyard")?;
    Ok(graveyard)
}
