//! The life of an L4 connection (`tcp_proxy`): choose a cluster and an endpoint, connect, copy both ways, half-close.
//!
//! Holds: an idle tunnel holds no buffer (a read happens only when there is something to read, into a buffer of the
//! worker); what one side has not taken yet is bounded by that one buffer per direction; the end of one direction is
//! passed on as the end of that direction only (RFC 9293 section 3.6, half-closed connections).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use remora_model::cluster::Cluster;
use remora_model::listener::TcpProxy;
use remora_model::route::{ClusterChoice, source_hash};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deadlines::LazyTimer;
use super::target;
use crate::failure::Failure;
use crate::io::Io;
use crate::observe::{ClusterCells, ConnectionRecord, ExchangeRecord, TcpCells, UpstreamRecord};
use crate::upstream::{Connected, OpenConnection, Wish, connect};
use crate::worker::{ConnectionHandle, Life, Worker};

/// Bytes read at once, and the most that waits for the other side to take it.
const CHUNK: usize = 64 * 1024;

/// Serves a connection to its end.
pub async fn serve(
    worker: Rc<Worker>,
    connection: Rc<ConnectionRecord>,
    handle: ConnectionHandle,
    proxy: &TcpProxy,
    io: Io,
) {
    let cells = worker.counters.tcp_proxy(&proxy.stat_prefix);
    let _open = OpenTunnel::begin(&cells);
    let mut record = ExchangeRecord::new(connection, Instant::now());
    if let Err(failure) = steps(&worker, &handle, proxy, &cells, io, &mut record).await {
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
    record: &mut ExchangeRecord,
) -> Result<(), Failure> {
    let world = worker.world();
    record.generation = world.generation;
    let drawn = match &proxy.cluster {
        ClusterChoice::Weighted(all) => worker.with_rng(|rng| all.choose(rng.u32(..all.total.max(1)))),
        _ => None,
    };
    let cluster = target::cluster_of(&proxy.cluster, drawn, &http::HeaderMap::new(), &world);
    drop(world);
    let Some(cluster) = cluster else {
        cells.tcp.downstream_cx_no_route.one();
        return Err(Failure::NoCluster(http::StatusCode::SERVICE_UNAVAILABLE));
    };
    record.cluster = Some(Arc::clone(&cluster.config));
    let first_use = if cluster.endpoints.endpoints.is_empty() {
        target::with_endpoints(worker, &cluster).await?
    } else {
        None
    };
    let cluster = first_use.unwrap_or(cluster);
    let cluster_cells = worker.counters.cluster(&cluster.config);
    let hash = proxy.hash_source_address.then(|| source_hash(record.client.ip()));
    let (connected, open) = dial(
        worker,
        &cluster,
        &cluster_cells,
        hash,
        proxy.connect_attempts,
        record,
    )
    .await?;
    let life = proxy.connection_duration.map(|limit| record.started + limit);
    let copied = copy(io, connected.io, handle, proxy.idle_timeout, life).await;
    drop(open);
    record.received = copied.up;
    record.sent = copied.down;
    cluster_cells.traffic.upstream_cx_tx_bytes_total.add(copied.up);
    cluster_cells.traffic.upstream_cx_rx_bytes_total.add(copied.down);
    match copied.end {
        End::Idle => cells.tcp.idle_timeout.one(),
        End::TooOld => cells.tcp.max_downstream_connection_duration.one(),
        End::Closed | End::Drained | End::Broken => {}
    }
    Ok(())
}

/// Connects, trying again at another endpoint as often as configured.
async fn dial(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    cells: &Arc<ClusterCells>,
    hash: Option<u64>,
    attempts: u32,
    record: &mut ExchangeRecord,
) -> Result<(Connected, OpenTunnelUpstream), Failure> {
    loop {
        record.attempts += 1;
        let endpoint = target::endpoint_of(worker, cluster, hash, Some(record.connection.local), None)
            .inspect_err(|_| cells.traffic.upstream_cx_none_healthy.one())?;
        let open = OpenTunnelUpstream::begin(cluster, &endpoint, cells);
        let socket = cluster
            .config
            .transport
            .choose(&endpoint.spec.details().transport_labels);
        let outcome = connect(
            worker.world(),
            cells,
            &cluster.config,
            &endpoint,
            socket,
            Wish::default(),
        )
        .await;
        match outcome {
            Ok(connected) => {
                cells
                    .traffic
                    .upstream_cx_connect_ms
                    .record(open.0.opened().elapsed());
                record.upstream = Some(UpstreamRecord {
                    local: connected.local,
                    endpoint,
                    tls: connected.tls.clone(),
                    reused: false,
                });
                return Ok((connected, open));
            }
            Err(failure) => {
                cells.traffic.upstream_cx_connect_fail.one();
                record.transport_failure = Some(failure.reason().into_owned());
                if record.attempts >= attempts.max(1) {
                    return Err(Failure::Connect(failure));
                }
            }
        }
    }
}

/// The counts of a tunnel's upstream connection; it belongs to no pool.
struct OpenTunnelUpstream(OpenConnection);

impl OpenTunnelUpstream {
    fn begin(
        cluster: &Arc<Cluster>,
        endpoint: &Arc<remora_model::endpoint::Endpoint>,
        cells: &Arc<ClusterCells>,
    ) -> Self {
        Self(OpenConnection::begin(
            &cluster.live,
            endpoint,
            cells,
            &Rc::default(),
        ))
    }
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

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both directions ended in order.
    Closed,
    /// A side broke off.
    Broken,
    /// No byte moved for `idle_timeout`.
    Idle,
    /// `max_downstream_connection_duration`.
    TooOld,
    /// The chain is gone and the drain time is over.
    Drained,
}

/// What a tunnel carried.
struct Copied {
    up: u64,
    down: u64,
    end: End,
}

/// One direction of a tunnel.
#[derive(Default)]
struct Direction {
    waiting: Bytes,
    moved: u64,
    read_ended: bool,
    ended: bool,
}

thread_local! {
    /// Where a worker's tunnels read to; what the other side takes at once never leaves it.
    static SCRATCH: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; CHUNK]);
}

impl Direction {
    /// Moves what can be moved. Ready when this direction has ended.
    fn poll(&mut self, from: &mut Io, to: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            while !self.waiting.is_empty() {
                let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.waiting.advance(n);
                self.moved += n as u64;
            }
            if self.read_ended {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.ended = true;
                continue;
            }
            if from.poll_readable(cx)?.is_pending() {
                // What TLS still holds leaves before we wait.
                let _ = Pin::new(&mut *to).poll_flush(cx)?;
                return Poll::Pending;
            }
            if !SCRATCH.with_borrow_mut(|scratch| self.move_once(scratch, from, to, cx))? {
                let _ = Pin::new(&mut *to).poll_flush(cx)?;
                return Poll::Pending;
            }
        }
    }

    /// One read, and as much of it written as the other side takes. False: there was nothing to read yet.
    fn move_once(
        &mut self,
        scratch: &mut [u8],
        from: &mut Io,
        to: &mut Io,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(outcome) => outcome?,
        }
        let mut rest = buffer.filled();
        if rest.is_empty() {
            self.read_ended = true;
            return Ok(true);
        }
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(written) => {
                    let n = written?;
                    if n == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    self.moved += n as u64;
                    rest = &rest[n..];
                }
                Poll::Pending => break,
            }
        }
        if !rest.is_empty() {
            self.waiting = BytesMut::from(rest).freeze();
        }
        Ok(true)
    }
}

/// Copies both ways until both directions ended, one side broke off, or a limit ran out.
async fn copy(
    mut client: Io,
    mut upstream: Io,
    handle: &ConnectionHandle,
    idle: Option<Duration>,
    life: Option<Instant>,
) -> Copied {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut timer = LazyTimer::default();
    let mut progress = (0, Instant::now());
    let end = poll_fn(|cx| {
        let upwards = up.poll(&mut client, &mut upstream, cx);
        let downwards = down.poll(&mut upstream, &mut client, cx);
        match (upwards, downwards) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(End::Broken),
            _ => {}
        }
        if handle.poll_shorter(Life::Draining, cx).is_ready() {
            return Poll::Ready(End::Drained);
        }
        if up.moved + down.moved != progress.0 {
            progress = (up.moved + down.moved, Instant::now());
        }
        let idle_at = idle.map(|limit| progress.1 + limit);
        let (at, why) = match (idle_at, life) {
            (Some(idle), Some(life)) if life < idle => (life, End::TooOld),
            (Some(idle), _) => (idle, End::Idle),
            (None, Some(life)) => (life, End::TooOld),
            (None, None) => return Poll::Pending,
        };
        timer.poll(at, cx).map(|()| why)
    })
    .await;
    Copied {
        up: up.moved,
        down: down.moved,
        end,
    }
}
