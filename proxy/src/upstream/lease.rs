//! A connection in somebody's hands, and the counts that hang on its being open.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use remora_model::cluster::ClusterLive;
use remora_model::endpoint::Endpoint;

use super::pool::Pool;
use crate::http1;
use crate::http2;
use crate::observe::{ClusterCells, UpstreamRecord};

/// Counts of one open upstream connection; closing it (dropping this) takes them back.
#[derive(Debug)]
pub struct OpenConnection {
    cluster: Arc<ClusterLive>,
    endpoint: Arc<Endpoint>,
    cells: Arc<ClusterCells>,
    of_pool: Rc<Cell<u32>>,
    opened: Instant,
}

impl OpenConnection {
    /// Counts a connection that is being opened, also into `of_pool`.
    pub fn begin(
        cluster: &Arc<ClusterLive>,
        endpoint: &Arc<Endpoint>,
        cells: &Arc<ClusterCells>,
        of_pool: &Rc<Cell<u32>>,
    ) -> Self {
        of_pool.set(of_pool.get() + 1);
        cluster.connections.fetch_add(1, Ordering::Relaxed);
        endpoint.live.connections.fetch_add(1, Ordering::Relaxed);
        endpoint.live.connections_total.fetch_add(1, Ordering::Relaxed);
        cells.traffic.upstream_cx_total.one();
        cells.traffic.upstream_cx_active.add(1);
        Self {
            cluster: Arc::clone(cluster),
            endpoint: Arc::clone(endpoint),
            cells: Arc::clone(cells),
            of_pool: Rc::clone(of_pool),
            opened: Instant::now(),
        }
    }

    /// When it was begun.
    pub fn opened(&self) -> Instant {
        self.opened
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.of_pool.set(self.of_pool.get().saturating_sub(1));
        self.cluster.connections.fetch_sub(1, Ordering::Relaxed);
        self.endpoint.live.connections.fetch_sub(1, Ordering::Relaxed);
        self.cells.traffic.upstream_cx_active.add(-1);
        self.cells.traffic.upstream_cx_destroy.one();
        self.cells
            .traffic
            .upstream_cx_length_ms
            .record(self.opened.elapsed());
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
