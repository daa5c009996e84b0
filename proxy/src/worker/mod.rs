//! The workers: N threads, each with one `current_thread` runtime and everything that serves its connections.
//!
//! Holds: a connection lives and dies on the worker that accepted it, so nothing on the data path is `Send` and nothing
//! needs a lock. A worker reads the world through its own pin ([`Worker::world`]) and never frees a world: replaced
//! versions go back to the control thread. This is the only module that names a runtime.

mod first_words;
mod health;
mod on_demand;
mod peers;
mod pin;
mod registry;

pub use first_words::{FirstWord, FirstWords};
pub use health::{HealthSignal, HealthSignals, Saw};
pub use on_demand::{Ask, OnDemand};
pub use peers::catch_up;
pub use pin::{Graveyard, World};
pub use registry::{ConnectionHandle, ConnectionRegistry, Life, Told};

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderValue;
use remora_model::listener::ListenAddress;
use remora_model::snapshot::Snapshot;
use tokio::sync::mpsc;

use crate::accept::{self, BoundSocket};
use crate::observe::{Observe, WorkerCounters};
use crate::response_cache::ResponseCache;
use crate::upstream::{OriginalDestinations, Pools, sweep_idle};

/// How long connections that are closed at the end may take for it.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often a leaving worker looks whether they are gone.
const LOOK: Duration = Duration::from_millis(5);

/// What all workers and the control thread share.
#[derive(Debug)]
pub struct Shared {
    world: ArcSwap<Snapshot>,
    generation: AtomicU64,
    open: AtomicUsize,
    /// When this process began to count time.
    pub started: Instant,
    /// How long connections may live on after they were told to end.
    pub drain_time: Duration,
    /// Counters, logs, and what else is seen from outside.
    pub observe: Arc<Observe>,
    /// Where endpoints are asked for by use; empty for good otherwise.
    pub on_demand: OnceLock<OnDemand>,
    /// Where failing endpoints are told of.
    pub health: OnceLock<HealthSignals>,
    /// Answers that are kept.
    pub responses: ResponseCache,
    /// `node.cluster`.
    pub node_cluster: OnceLock<HeaderValue>,
    /// `node.id`.
    pub node_id: OnceLock<HeaderValue>,
    /// The operator fails the health checks of this server (`/healthcheck/fail`).
    pub unhealthy: AtomicBool,
}

impl Shared {
    /// An empty world.
    pub fn new(observe: Arc<Observe>, drain_time: Duration) -> Self {
        Self {
            world: ArcSwap::from_pointee(Snapshot::default()),
            generation: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            started: Instant::now(),
            drain_time,
            observe,
            on_demand: OnceLock::new(),
            health: OnceLock::new(),
            responses: ResponseCache::default(),
            node_cluster: OnceLock::new(),
            node_id: OnceLock::new(),
            unhealthy: AtomicBool::new(false),
        }
    }

    /// The cluster that this node belongs to; empty where nobody said.
    pub fn service_cluster(&self) -> &str {
        let name = self.node_cluster.get();
        name.and_then(|name| name.to_str().ok()).unwrap_or_default()
    }

    /// Downstream connections of all workers.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a downstream connection until the guard is dropped.
    pub fn count_connection(self: &Arc<Self>) -> CountedConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        CountedConnection(Arc::clone(self))
    }

    /// Publishes a new version: the one store that swaps the world.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        self.world.store(snapshot);
        self.generation.store(generation, Ordering::Release);
    }

    /// The newest version, for the control side; workers pin instead.
    pub fn current(&self) -> Arc<Snapshot> {
        self.world.load_full()
    }
}

/// A downstream connection that is open.
#[derive(Debug)]
pub struct CountedConnection(Arc<Shared>);

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the control thread tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept on this socket.
    Listen(ListenAddress, BoundSocket),
    /// Stop accepting on the socket with this address and close it.
    Unlisten(ListenAddress),
    /// A new version was published.
    Published,
    /// Drain every connection: finish what is in flight, take no more. `hard` closes what is left.
    Drain {
        /// Close at once whatever is still open.
        hard: bool,
    },
    /// Leave.
    Stop,
}

/// One worker, as its tasks see it.
#[derive(Debug)]
pub struct Worker {
    /// 0-based.
    pub index: usize,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Upstream connections of this worker.
    pub pools: Pools,
    /// Endpoints that only clients named.
    pub original_destinations: OriginalDestinations,
    /// Counters of this worker.
    pub counters: WorkerCounters,
    /// Downstream connections of this worker.
    pub connections: ConnectionRegistry,
    /// Who spoke first the last times.
    pub first_words: FirstWords,
    rng: RefCell<fastrand::Rng>,
    pin: RefCell<Rc<World>>,
    graveyard: Graveyard,
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>, graveyard: Graveyard) -> Self {
        let pin = RefCell::new(Rc::new(World::pinned(shared.current(), graveyard.clone())));
        Self {
            index,
            pools: Pools::default(),
            original_destinations: OriginalDestinations::default(),
            counters: shared.observe.worker(index),
            connections: ConnectionRegistry::default(),
            first_words: FirstWords::default(),
            rng: RefCell::new(fastrand::Rng::new()),
            shared,
            pin,
            graveyard,
        }
    }

    /// The world that this worker serves by: cheap to take for each request, to be let go once everything is decided.
    /// It changes together with the chains of the connections, between two turns.
    pub fn world(&self) -> Rc<World> {
        Rc::clone(&self.pin.borrow())
    }

    /// Pins the newest world; returns the one before.
    fn renew(&self) -> Rc<World> {
        let newest = World::pinned(self.shared.current(), self.graveyard.clone());
        self.pin.replace(Rc::new(newest))
    }

    /// A use of this worker's random numbers.
    pub fn with_rng<T>(&self, use_it: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        use_it(&mut self.rng.borrow_mut())
    }
}

/// Runs a future on this worker beside the caller.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_local(future)
}

/// Runs what `begin` makes on a thread of its own, with a runtime like a worker's, until it ends.
///
/// # Errors
/// When the system gives no thread.
pub fn aside<F: Future<Output = ()>>(
    name: &'static str,
    begin: impl FnOnce() -> F + Send + 'static,
) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.into());
    thread.spawn(move || match new_runtime() {
        Ok(runtime) => runtime.block_on(begin()),
        Err(error) => tracing::error!(%error, name, "no runtime"),
    })?;
    Ok(())
}

fn new_runtime() -> io::Result<tokio::runtime::LocalRuntime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
}

/// A running worker, as the control thread sees it.
#[derive(Debug)]
pub struct WorkerThread {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<thread::JoinHandle<()>>,
}

impl WorkerThread {
    /// Starts a worker on a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(index: usize, shared: Arc<Shared>, graveyard: Graveyard) -> io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let thread =
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || match new_runtime() {
                    Ok(runtime) => {
                        let worker = Rc::new(Worker::new(index, shared, graveyard));
                        runtime.block_on(obey(worker, inbox));
                    }
                    Err(error) => tracing::error!(%error, index, "no runtime for the worker"),
                })?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Tells the worker something; a worker that is gone hears nothing.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Waits until the worker has left.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A worker's main loop.
async fn obey(worker: Rc<Worker>, mut inbox: mpsc::UnboundedReceiver<Command>) {
    let mut acceptors: Vec<(ListenAddress, Rc<StopSign>)> = Vec::new();
    let sweeper = spawn(sweep_idle(Rc::clone(&worker)));
    let watcher = spawn(peers::watch_ends(Rc::clone(&worker)));
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Listen(address, socket) => {
                let stop = Rc::new(StopSign::default());
                spawn(accept::accept_loop(
                    Rc::clone(&worker),
                    address.clone(),
                    socket,
                    Rc::clone(&stop),
                ));
                acceptors.push((address, stop));
            }
            Command::Unlisten(address) => acceptors.retain(|(candidate, stop)| {
                let keep = *candidate != address;
                if !keep {
                    stop.raise();
                }
                keep
            }),
            Command::Published => take_over(&worker),
            Command::Drain { hard } => {
                worker
                    .connections
                    .drain_all(if hard { Life::Closing } else { Life::Draining });
            }
            Command::Stop => {
                last_words(&worker).await;
                break;
            }
        }
    }
    sweeper.abort();
    watcher.abort();
}

/// Connections that were told to close now say so to their clients and to the access log.
async fn last_words(worker: &Worker) {
    let said = async {
        while !worker.connections.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    };
    // Whoever takes longer is cut.
    let _ = tokio::time::timeout(LAST_WORDS, said).await;
}

/// Lets pools and connections follow the newest world.
fn take_over(worker: &Rc<Worker>) {
    if worker.world().generation == worker.shared.generation.load(Ordering::Acquire) {
        return;
    }
    let (before, world) = (worker.renew(), worker.world());
    worker.pools.review(&world);
    worker.original_destinations.forget_unused();
    worker.counters.review(&world);
    let told = worker.connections.review(&before, &world);
    close_in_time(worker, told);
    peers::follow(worker, &before, &world);
}

/// Connections that were told to drain end with the drain time; those that were closed are counted.
pub fn close_in_time(worker: &Worker, told: Told) {
    for policy in told.revoked() {
        let cells = worker.counters.connection_access(&policy.stat_prefix);
        cells.access.revoked.one();
    }
    close_within(told, worker.shared.drain_time);
}

fn close_within(told: Told, limit: Duration) {
    if told.is_empty() {
        return;
    }
    spawn(async move {
        tokio::time::sleep(limit).await;
        told.close();
    });
}

/// Tells an accept loop to take what waits and then to stop.
#[derive(Debug, Default)]
pub struct StopSign(tokio::sync::Notify);

impl StopSign {
    fn raise(&self) {
        self.0.notify_one();
    }

    /// Ready once the loop is to stop.
    pub async fn raised(&self) {
        self.0.notified().await;
    }
}
