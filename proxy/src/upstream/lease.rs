//! A connection in somebody's hands, the counts that hang on its being open, and who waits for one.
//!
//! Holds: when a connection of a pool closes, however it comes, the first who still waits there hears of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use remora_model::cluster::{Cluster, ClusterLive, RequestPriority, leave_place, take_place};
use remora_model::endpoint::Endpoint;
use tokio::sync::oneshot;

use super::pool::Pool;
use crate::failure::ConnectFailure;
use crate::http1;
use crate::http2;
use crate::observe::{ClusterCells, UpstreamRecord};

/// What a waiting request hears: here is a connection, or try again, or why there will be none.
type Word = Result<Option<Box<PooledHttp1>>, ConnectFailure>;

/// The connections that a pool has open, and the requests that wait for one.
#[derive(Debug, Default)]
pub struct Places {
    /// Connections, idle, leased or being opened.
    open: Cell<u32>,
    /// These are no pool's: a connection beyond a limit would serve nobody else.
    alone: bool,
    waiting: RefCell<VecDeque<oneshot::Sender<Word>>>,
}

impl Places {
    /// For one connection that belongs to no pool.
    pub fn alone() -> Rc<Self> {
        Rc::new(Self {
            alone: true,
            ..Self::default()
        })
    }

    /// How many connections are open.
    pub fn open(&self) -> u32 {
        self.open.get()
    }

    /// Whether nobody waits.
    pub fn nobody_waits(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Waits in line.
    pub fn wait(&self) -> oneshot::Receiver<Word> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().push_back(sender);
        receiver
    }

    /// Gives an idle connection to the first who still waits; gives it back if nobody does.
    pub fn hand_on(&self, mut pooled: Box<PooledHttp1>) -> Option<Box<PooledHttp1>> {
        while let Some(waiting) = self.next() {
            match waiting.send(Ok(Some(pooled))) {
                Err(Ok(Some(back))) => pooled = back,
                _ => return None,
            }
        }
        Some(pooled)
    }

    /// Tells everybody who waits to try again.
    pub fn wake_all(&self) {
        while let Some(waiting) = self.next() {
            let _ = waiting.send(Ok(None));
        }
    }

    /// Tells everybody who waits that there will be no connection.
    pub fn fail_all(&self, failure: &ConnectFailure) {
        while let Some(waiting) = self.next() {
            let _ = waiting.send(Err(failure.clone()));
        }
    }

    fn next(&self) -> Option<oneshot::Sender<Word>> {
        self.waiting.borrow_mut().pop_front()
    }

    /// There is room for one more: the first who still waits may use it.
    fn wake_one(&self) {
        while let Some(waiting) = self.next() {
            if waiting.send(Ok(None)).is_ok() {
                return;
            }
        }
    }
}

/// Counts of one open upstream connection; closing it (dropping this) takes them back.
#[derive(Debug)]
pub struct OpenConnection {
    cluster: Arc<ClusterLive>,
    priority: RequestPriority,
    endpoint: Arc<Endpoint>,
    cells: Arc<ClusterCells>,
    of_pool: Rc<Places>,
    opened: Instant,
}

impl OpenConnection {
    /// Counts a connection that is to be opened, also into `of_pool`; `None` where the cluster (`max_connections`) or
    /// the endpoint has no room for it. The first of a pool has always room, so that nobody waits for what never comes.
    pub fn begin(
        cluster: &Cluster,
        priority: RequestPriority,
        endpoint: &Arc<Endpoint>,
        cells: &Arc<ClusterCells>,
        of_pool: &Rc<Places>,
    ) -> Option<Self> {
        let limits = cluster.thresholds(priority);
        let (all, here) = (
            &cluster.live.at(priority).connections,
            &endpoint.live().connections,
        );
        let first = of_pool.open.get() == 0 && !of_pool.alone;
        let in_cluster = take_place(all, limits.max_connections);
        let at_endpoint = in_cluster && take_place(here, limits.max_connections_per_host);
        if !at_endpoint {
            cells.traffic.upstream_cx_overflow.one();
            if !first {
                if in_cluster {
                    leave_place(all);
                }
                return None;
            }
            if !in_cluster {
                all.fetch_add(1, Ordering::Relaxed);
            }
            here.fetch_add(1, Ordering::Relaxed);
        }
        of_pool.open.set(of_pool.open.get() + 1);
        cluster.live.used.store(true, Ordering::Relaxed);
        endpoint.live().connections_total.fetch_add(1, Ordering::Relaxed);
        cells.traffic.upstream_cx_total.one();
        cells.traffic.upstream_cx_active.add(1);
        Some(Self {
            cluster: Arc::clone(&cluster.live),
            priority,
            endpoint: Arc::clone(endpoint),
            cells: Arc::clone(cells),
            of_pool: Rc::clone(of_pool),
            opened: Instant::now(),
        })
    }

    /// When it was begun.
    pub fn opened(&self) -> Instant {
        self.opened
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.of_pool.open.set(self.of_pool.open.get().saturating_sub(1));
        leave_place(&self.cluster.at(self.priority).connections);
        leave_place(&self.endpoint.live().connections);
        self.cells.traffic.upstream_cx_active.add(-1);
        self.cells.traffic.upstream_cx_destroy.one();
        self.cells
            .traffic
            .upstream_cx_length_ms
            .record(self.opened.elapsed());
        self.of_pool.wake_one();
    }
}

/// A request in flight to a cluster (`max_requests`).
#[derive(Debug)]
pub struct InFlight(Arc<ClusterLive>, RequestPriority);

impl InFlight {
    /// Takes a place, if one is free.
    pub fn begin(cluster: &Cluster, priority: RequestPriority) -> Option<Self> {
        let most = cluster.thresholds(priority).max_requests;
        let taken = take_place(&cluster.live.at(priority).requests, most);
        taken.then(|| Self(Arc::clone(&cluster.live), priority))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        leave_place(&self.0.at(self.1).requests);
    }
}

/// An HTTP/1 connection between two uses.
#[derive(Debug)]
pub struct PooledHttp1 {
    /// The codec.
    pub connection: http1::ClientConnection,
    /// Its counts.
    pub open: OpenConnection,
    /// What is known of it.
    pub record: UpstreamRecord,
    /// Requests begun on it.
    pub requests: u32,
    /// When it became idle.
    pub idle_since: Instant,
    /// When it was made.
    pub opened: Instant,
}

/// An HTTP/2 connection shared by many streams; it ends when the last of them and the pool have let go of it.
#[derive(Debug)]
pub struct SharedHttp2 {
    /// The codec's sending half.
    pub sender: RefCell<http2::Sender>,
    /// What is known of it.
    pub record: UpstreamRecord,
    /// Requests begun on it.
    pub requests: Cell<u32>,
}

/// A connection for one exchange.
#[derive(Debug)]
pub enum Lease {
    /// Its own HTTP/1 connection.
    Http1(Box<PooledHttp1>, Rc<Pool>),
    /// A stream of a shared HTTP/2 connection.
    Http2(Rc<SharedHttp2>),
}

impl Lease {
    /// What is known of the connection.
    pub fn record(&self) -> &UpstreamRecord {
        match self {
            Self::Http1(pooled, _) => &pooled.record,
            Self::Http2(shared) => &shared.record,
        }
    }
}
