//! The life of an L4 connection (`tcp_proxy`): choose a cluster and an endpoint, connect, copy both ways, half-close.

mod copy;
mod dial;
mod inside_http;
mod relay;
mod splice;
mod watch;

pub use dial::{Caller, Dialled, Tried, dial};
pub(super) use relay::{Inside, relay};
pub(super) use watch::{Broken, End, Side, Watch};

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use copy::copy;
use remora_model::cluster::Cluster;
use remora_model::endpoint::Labels;
use remora_model::listener::{LogTimes, TcpProxy, Tunneling};
use remora_model::route::ClusterChoice;
use watch::Moved;

use super::filters::denied_by;
use super::target;
use crate::failure::{ConnectFailure, Failure};
use crate::io::{Io, next_bytes};
use crate::observe::{ClusterCells, ConnectionRecord, ExchangeRecord, LogType, TcpCells};
use crate::worker::{ConnectionHandle, Worker};

/// The most that is read of a client before there is an upstream connection.
const EARLY: usize = 16 * 1024;

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
    let metadata = connection.metadata.clone();
    let mut tunnel = Tunnel {
        worker: &worker,
        handle: &handle,
        proxy,
        cells: &cells,
        record: ExchangeRecord::new(connection, Instant::now()),
    };
    tunnel.record.metadata = metadata;
    if tunnel.log_times().at_start {
        tunnel.log(LogType::TcpConnectionStart);
    }
    match tunnel.steps(io, early).await {
        Ok(end) => tunnel.ended(end),
        Err(failure) => tunnel.failed(&failure),
    }
    let record = &mut tunnel.record;
    record.ended = Some(record.started.elapsed());
    cells.tcp.downstream_cx_rx_bytes_total.add(record.received);
    cells.tcp.downstream_cx_tx_bytes_total.add(record.sent);
    tunnel.log(LogType::TcpConnectionEnd);
}

/// One tunnel.
struct Tunnel<'t> {
    worker: &'t Rc<Worker>,
    handle: &'t ConnectionHandle,
    proxy: &'t TcpProxy,
    cells: &'t TcpCells,
    record: ExchangeRecord,
}

impl<'t> Tunnel<'t> {
    async fn steps(&mut self, mut io: Io, early: Option<Box<Dialled>>) -> Result<End, Failure> {
        if let Some(dialled) = early {
            return Ok(self.carry(io, *dialled).await);
        }
        let options = self.proxy.options.as_deref();
        if options.is_some_and(|options| options.after_first_bytes) {
            io = match self.first_bytes(io).await {
                Ok(io) => io,
                Err(end) => return Ok(end),
            };
        }
        let (cluster, labels) = self.cluster()?;
        self.record.cluster = Some(Arc::clone(&cluster.config));
        if let Some(tunneling) = options.and_then(|options| options.tunneling.as_ref()) {
            return self.carry_inside(io, tunneling, (cluster, labels)).await;
        }
        let connection = Rc::clone(&self.record.connection);
        let caller = Caller {
            peer: connection.peer,
            client: self.record.client,
            destination: connection.local,
            original: connection.original_destination(),
            tlvs: connection.header.as_ref().map(|header| &header.tlvs[..]),
        };
        let mut tried = Tried::default();
        let outcome = dial(self.worker, self.proxy, (cluster, labels), caller, &mut tried).await;
        self.note(tried);
        Ok(self.carry(io, outcome?).await)
    }

    /// The cluster, drawn by weight where there are several, and the labels that its endpoint must have.
    fn cluster(&mut self) -> Result<(Arc<Cluster>, Option<&'t Labels>), Failure> {
        let world = self.worker.world();
        self.record.generation = world.generation;
        let choice: &'t ClusterChoice = &self.proxy.cluster;
        let drawn = match choice {
            ClusterChoice::Weighted(all) => self
                .worker
                .with_rng(|rng| all.choose(rng.u32(..all.total.max(1)))),
            _ => None,
        };
        let own = drawn.and_then(|entry| entry.labels.as_deref());
        let cluster = target::cluster_of(choice, drawn, &http::HeaderMap::new(), &world);
        let cluster = cluster.ok_or_else(|| {
            self.cells.tcp.downstream_cx_no_route.one();
            Failure::NoCluster(http::StatusCode::SERVICE_UNAVAILABLE)
        })?;
        Ok((cluster, own.or(self.proxy.labels.as_deref())))
    }

    /// Waits for the client to speak (`ON_DOWNSTREAM_DATA`).
    async fn first_bytes(&self, mut io: Io) -> Result<Io, End> {
        let mut watch = Watch::new(self.handle, self.proxy.idle_timeout, None);
        let said = tokio::select! {
            biased;
            said = next_bytes(&mut io, Io::poll_readable, EARLY) => said,
            end = poll_fn(|cx| watch.poll(Moved::default(), cx)) => return Err(end),
        };
        match said {
            Ok(bytes) if !bytes.is_empty() => {
                self.cells.tcp.early_data_received_count_total.one();
                Ok(io.replay(bytes))
            }
            // It left without a word.
            _ => Err(End::Closed),
        }
    }

    /// Copies between the client and an upstream connection.
    async fn carry(&mut self, io: Io, dialled: Dialled) -> End {
        let Dialled {
            connected,
            cluster,
            cells,
            tried,
            open,
        } = dialled;
        self.note(tried);
        let health = cluster.config.health.as_deref();
        if let (Some(upstream), true) = (
            &self.record.upstream,
            health.is_some_and(|health| health.close_on_failure),
        ) {
            self.handle.end_with(&upstream.endpoint);
        }
        self.record.cluster = Some(Arc::clone(&cluster.config));
        // Long tunnels hold no old world.
        drop(cluster);
        self.connected();
        let (moved, end) = copy(io, connected.io, self.watch()).await;
        drop(open);
        self.count(moved, &cells);
        end
    }

    /// Copies between the client and the bodies of a request and its response.
    async fn carry_inside(
        &mut self,
        mut io: Io,
        tunneling: &Tunneling,
        (cluster, labels): (Arc<Cluster>, Option<&Labels>),
    ) -> Result<End, Failure> {
        let cells = self.worker.counters.cluster(&cluster.config);
        let to = (&cluster, labels);
        let opened = inside_http::open(self.worker, self.proxy, tunneling, to, &mut self.record);
        let mut exchange = opened.await?;
        drop(cluster);
        self.connected();
        let (moved, end) = relay(&mut io, &mut exchange, Inside::Upstream, self.watch()).await;
        self.count(moved, &cells);
        match end {
            End::Closed => exchange.finish(&self.record, Instant::now()),
            _ => exchange.discard(0),
        }
        if let End::Broken(Broken {
            side: Side::Upstream, ..
        }) = end
        {
            io.reset_on_close();
        }
        Ok(end)
    }

    fn log_times(&self) -> LogTimes {
        self.proxy
            .options
            .as_ref()
            .map_or_else(LogTimes::default, |options| options.log_times)
    }

    fn log(&mut self, why: LogType) {
        self.record.log_type = why;
        let observe = &self.worker.shared.observe;
        observe.log(&self.proxy.access_logs, &self.record);
    }

    fn note(&mut self, tried: Tried) {
        self.record.attempts = tried.attempts;
        self.record.transport_failure = tried.transport_failure;
        self.record.upstream = tried.upstream;
    }

    fn connected(&mut self) {
        if self.log_times().when_connected {
            self.log(LogType::TcpUpstreamConnected);
        }
    }

    /// The limits, and lines while it is open where somebody wants them.
    fn watch(&mut self) -> Watch<'_> {
        let every = self.log_times().every;
        let life = self.worker.with_rng(|rng| self.proxy.life(rng));
        let life = life.map(|limit| self.record.started + limit);
        let (worker, proxy, record) = (self.worker, self.proxy, &mut self.record);
        Watch::new(self.handle, proxy.idle_timeout, life).reporting(every, move |moved| {
            record.received = moved.up;
            record.sent = moved.down;
            record.log_type = LogType::TcpPeriodic;
            worker.shared.observe.log(&proxy.access_logs, record);
        })
    }

    fn count(&mut self, moved: Moved, cells: &ClusterCells) {
        self.record.received = moved.up;
        self.record.sent = moved.down;
        cells.traffic.upstream_cx_tx_bytes_total.add(moved.up);
        cells.traffic.upstream_cx_rx_bytes_total.add(moved.down);
    }

    fn ended(&mut self, end: End) {
        if let Some(policy) = self.handle.revoked_by() {
            self.record.termination = Some(denied_by(policy.as_deref()).into());
        }
        match end {
            End::Idle => self.cells.tcp.idle_timeout.one(),
            End::TooOld => {
                self.cells.tcp.max_downstream_connection_duration.one();
                self.record.flags.push("DT");
            }
            End::Broken(Broken {
                side: Side::Upstream,
                reset: true,
            }) => self.record.flags.push("UR"),
            End::Closed | End::Drained | End::Broken(_) => {}
        }
    }

    /// Envoy gives a tunnel flags, but no `response_code_details`.
    fn failed(&mut self, failure: &Failure) {
        self.record.flags.push(failure.said().flag);
        if let Failure::Connect(
            ConnectFailure::Refused(_) | ConnectFailure::TimedOut(_) | ConnectFailure::Tls(_),
        ) = failure
        {
            self.record.flags.push("URX");
        }
        if matches!(failure, Failure::NoCluster(_)) {
            self.record.cluster = None;
        }
        self.record.failure = Some(failure.sentence());
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
