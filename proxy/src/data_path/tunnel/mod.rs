//! The life of an L4 connection (`tcp_proxy`): choose a cluster and an endpoint, connect, copy both ways, half-close.

mod copy;
mod dial;

pub use dial::{Caller, Dialled, Tried, dial};

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use copy::{End, copy};
use remora_model::cluster::Cluster;
use remora_model::endpoint::Labels;
use remora_model::listener::TcpProxy;
use remora_model::route::ClusterChoice;

use super::target;
use crate::failure::Failure;
use crate::io::Io;
use crate::observe::{ConnectionRecord, ExchangeRecord, TcpCells};
use crate::worker::{ConnectionHandle, Worker};

/// Serves a connection to its end; `early` is an upstream connection that was made while nobody had spoken.
pub async fn serve(
    worker: Rc<Worker>,
    connection: Rc<ConnectionRecord>,
    handle: ConnectionHandle,
    proxy: &TcpProxy,
    io: Io,
    early: Option<Box<Dialled>>,
) {
    let cells = worker.counters.tcp_proxy(&proxy.stat_prefix);
    let _open = OpenTunnel::begin(&cells);
    let mut record = ExchangeRecord::new(connection, Instant::now());
    if let Err(failure) = steps(&worker, &handle, proxy, &cells, io, early, &mut record).await {
        let said = failure.said();
        record.flags.push(said.flag);
        record.details = said.details;
        record.failure = Some(failure.sentence());
    }
    record.ended = Some(record.started.elapsed());
    cells.tcp.downstream_cx_rx_bytes_total.add(record.received);
    cells.tcp.downstream_cx_tx_bytes_total.add(record.sent);
    worker.shared.observe.log(&proxy.access_logs, &record);
}

async fn steps(
    worker: &Rc<Worker>,
    handle: &ConnectionHandle,
    proxy: &TcpProxy,
    cells: &TcpCells,
    io: Io,
    early: Option<Box<Dialled>>,
    record: &mut ExchangeRecord,
) -> Result<(), Failure> {
    let dialled = match early {
        Some(dialled) => *dialled,
        None => {
            let (cluster, labels) = cluster_of(worker, proxy, cells, record)?;
            record.cluster = Some(Arc::clone(&cluster.config));
            let caller = Caller {
                client: record.client,
                destination: record.connection.local,
            };
            let mut tried = Tried::default();
            let outcome = dial(worker, proxy, (cluster, labels), caller, &mut tried).await;
            record.attempts = tried.attempts;
            record.transport_failure = tried.transport_failure;
            outcome?
        }
    };
    let Dialled {
        connected,
        upstream,
        cluster,
        cells: of_cluster,
        tried,
        open,
    } = dialled;
    record.attempts = tried.attempts;
    record.transport_failure = tried.transport_failure;
    record.cluster = Some(Arc::clone(&cluster.config));
    record.upstream = Some(upstream);
    drop(cluster);
    let life = proxy.connection_duration.map(|limit| record.started + limit);
    let copied = copy(io, connected.io, handle, proxy.idle_timeout, life).await;
    drop(open);
    record.received = copied.up;
    record.sent = copied.down;
    of_cluster.traffic.upstream_cx_tx_bytes_total.add(copied.up);
    of_cluster.traffic.upstream_cx_rx_bytes_total.add(copied.down);
    match copied.end {
        End::Idle => cells.tcp.idle_timeout.one(),
        End::TooOld => cells.tcp.max_downstream_connection_duration.one(),
        End::Closed | End::Drained | End::Broken => {}
    }
    Ok(())
}

/// The cluster, drawn by weight where there are several, and the labels that its endpoint must have.
fn cluster_of<'p>(
    worker: &Worker,
    proxy: &'p TcpProxy,
    cells: &TcpCells,
    record: &mut ExchangeRecord,
) -> Result<(Arc<Cluster>, Option<&'p Labels>), Failure> {
    let world = worker.world();
    record.generation = world.generation;
    let drawn = match &proxy.cluster {
        ClusterChoice::Weighted(all) => worker.with_rng(|rng| all.choose(rng.u32(..all.total.max(1)))),
        _ => None,
    };
    let own = drawn.and_then(|entry| entry.labels.as_deref());
    let cluster =
        target::cluster_of(&proxy.cluster, drawn, &http::HeaderMap::new(), &world).ok_or_else(|| {
            cells.tcp.downstream_cx_no_route.one();
            Failure::NoCluster(http::StatusCode::SERVICE_UNAVAILABLE)
        })?;
    Ok((cluster, own.or(proxy.labels.as_deref())))
}

struct OpenTunnel(Arc<TcpCells>);

impl OpenTunnel {
    fn begin(cells: &Arc<TcpCells>) -> Self {
        cells.tcp.downstream_cx_total.one();
        cells.tcp.downstream_cx_active.add(1);
        Self(Arc::clone(cells))
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.tcp.downstream_cx_active.add(-1);
    }
}
