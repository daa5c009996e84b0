//! The upstream connection of a tunnel: which endpoint, and how often is it tried?
//!
//! Holds: what was tried is told also where nothing came of it; a dialled connection counts as open until it is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use remora_model::balance::Bringing;
use remora_model::cluster::{Cluster, PickFacts, RequestPriority};
use remora_model::endpoint::{Endpoint, Labels};
use remora_model::health::Outcome;
use remora_model::listener::TcpProxy;
use remora_model::proxy_protocol::{Announced, Tlv};
use remora_model::route::source_hash;

use crate::data_path::target;
use crate::failure::{ConnectFailure, Failure, Limit};
use crate::observe::{ClusterCells, UpstreamRecord};
use crate::upstream::{Connected, OpenConnection, Places, Wish, connect, health};
use crate::worker::Worker;

/// A connection for one tunnel. It belongs to no pool.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub connected: Connected,
    /// The cluster, as it was asked.
    pub cluster: Arc<Cluster>,
    /// The cluster's counters.
    pub cells: Arc<ClusterCells>,
    /// What it took.
    pub tried: Tried,
    /// Its counts.
    pub open: OpenConnection,
}

/// What was tried.
#[derive(Debug, Default, Clone)]
pub struct Tried {
    /// Attempts begun.
    pub attempts: u32,
    /// What the last one died of, if one did.
    pub transport_failure: Option<String>,
    /// Where the last one went.
    pub upstream: Option<UpstreamRecord>,
}

impl Tried {
    fn went_to(&mut self, endpoint: Arc<Endpoint>, connected: Option<&Connected>) {
        self.upstream = Some(UpstreamRecord {
            local: connected.and_then(|connected| connected.local),
            endpoint,
            tls: connected.and_then(|connected| connected.tls.clone()),
            reused: false,
        });
    }
}

/// Whose connection is to be carried on, as far as it matters where to.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'c> {
    /// The directly connected peer.
    pub peer: SocketAddr,
    /// The client.
    pub client: SocketAddr,
    /// Where it wanted to go.
    pub destination: SocketAddr,
    /// The same, where that is elsewhere than here.
    pub original: Option<SocketAddr>,
    /// The TLVs that it came with; `None`: it came without a PROXY header.
    pub tlvs: Option<&'c [Tlv]>,
}

impl Caller<'_> {
    /// What a PROXY header to an upstream says.
    fn announced(&self, proxy: &TcpProxy) -> Announced {
        let own = proxy.options.as_ref().and_then(|options| options.tlvs.as_ref());
        Announced {
            source: self.client,
            destination: self.destination,
            tlvs: match own {
                Some(own) => own.over(self.tlvs),
                None => self.tlvs.unwrap_or_default().to_vec(),
            },
        }
    }
}

/// Connects to an endpoint with these labels, trying again at another one as often as configured.
///
/// # Errors
/// No endpoint, or what the last attempt died of.
pub async fn dial(
    worker: &Worker,
    proxy: &TcpProxy,
    (cluster, labels): (Arc<Cluster>, Option<&Labels>),
    caller: Caller<'_>,
    tried: &mut Tried,
) -> Result<Dialled, Failure> {
    let first_use = if cluster.endpoints.endpoints.is_empty() {
        target::with_endpoints(worker, &cluster).await?
    } else {
        None
    };
    let asked = first_use.unwrap_or(cluster);
    loop {
        let (cluster, level) = target::serving(worker, &asked)?;
        let cells = worker.counters.cluster(&cluster.config);
        let facts = PickFacts {
            hash: proxy.hash_source_address.then(|| source_hash(caller.client.ip())),
            labels,
            level,
            ..PickFacts::default()
        };
        let (to, priority) = (caller.original, RequestPriority::Default);
        let endpoint = target::endpoint_of(worker, &cluster, &facts, to, &Bringing::default())
            .inspect_err(|_| cells.traffic.upstream_cx_none_healthy.one())?;
        let open = OpenConnection::begin(&cluster, priority, &endpoint, &cells, &Places::alone());
        let open = open.ok_or(Failure::Overflow(Limit::Connections))?;
        tried.attempts += 1;
        let config = &cluster.config;
        let socket = config.transport.choose(&endpoint.spec.details().transport_labels);
        let announced = socket.header().map(|_| caller.announced(proxy));
        let wish = Wish {
            announced: announced.as_ref(),
            ..Wish::default()
        };
        match connect(worker.world(), &cells, config, &endpoint, socket, wish).await {
            Ok(connected) => {
                endpoint.live().connected();
                health::report(worker, &cluster, &endpoint, Outcome::ConnectedForGood);
                cells
                    .traffic
                    .upstream_cx_connect_ms
                    .record(open.opened().elapsed());
                tried.went_to(endpoint, Some(&connected));
                return Ok(Dialled {
                    connected,
                    cluster: asked,
                    cells,
                    tried: tried.clone(),
                    open,
                });
            }
            Err(failure) => {
                drop(open);
                health::report(worker, &cluster, &endpoint, Outcome::Reset);
                health::not_connected(worker, &cluster, &endpoint, &failure);
                failed(&failure, endpoint, &cells, tried);
                if tried.attempts >= proxy.connect_attempts.max(1) {
                    cells.traffic.upstream_cx_connect_attempts_exceeded.one();
                    return Err(Failure::Connect(failure));
                }
                back_off(worker, proxy, tried.attempts).await;
            }
        }
    }
}

/// A tunnel takes no place in a queue for connections: it would wait for one that another tunnel keeps for good.
///
/// # Errors
/// `max_connections` of the cluster are open.
pub fn at_limit(cluster: &Cluster, cells: &ClusterCells) -> Result<(), Failure> {
    let priority = RequestPriority::Default;
    let open = cluster.live.at(priority).connections.load(Ordering::Relaxed);
    if open < cluster.thresholds(priority).max_connections {
        return Ok(());
    }
    cells.traffic.upstream_cx_overflow.one();
    Err(Failure::Overflow(Limit::Connections))
}

fn failed(failure: &ConnectFailure, endpoint: Arc<Endpoint>, cells: &ClusterCells, tried: &mut Tried) {
    cells.traffic.upstream_cx_connect_fail.one();
    if matches!(failure, ConnectFailure::TimedOut(_)) {
        cells.traffic.upstream_cx_connect_timeout.one();
    }
    tried.transport_failure = Some(failure.reason().into_owned());
    tried.went_to(endpoint, None);
}

/// Waits between two attempts, where a wait is configured.
pub async fn back_off(worker: &Worker, proxy: &TcpProxy, attempts: u32) {
    let wait = proxy.options.as_ref().and_then(|options| options.back_off);
    if let Some(wait) = wait.map(|policy| worker.with_rng(|rng| policy.wait(attempts, rng))) {
        tokio::time::sleep(wait).await;
    }
}
