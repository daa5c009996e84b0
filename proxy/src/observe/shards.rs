//! Which cells does a worker count into, and which cells does a scrape sum?
//!
//! Holds: a worker finds its cells without a lock (clusters by id, the others once per connection); making new ones and
//! scraping take the registry's lock, so only first uses and the admin thread meet there.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use remora_model::Name;
use remora_model::cluster::ClusterConfig;
use remora_model::filter::{ChainedFilter, HttpFilter, NetworkFilter};
use remora_model::listener::Terminal;
use remora_model::snapshot::{ClusterId, Snapshot};

use super::cells::{Counter, StatusCodes};
use super::control_metrics::ControlMetrics;
use super::log_sinks::LogSinks;
use super::metrics::{
    AbsentHeaderCounters, AccessCounters, ActiveCheckCounters, AuthorizationCounters, ClusterCounters,
    CodecCounters, ConnectionAccessCounters, ConnectionLimitCounters, ConnectionRateLimitCounters,
    CorsCounters, FaultCounters, GrpcCounters, HeaderErrorCounters, HeaderVersionCounters,
    HealthCheckCounters, HttpCounters, LimitCounters, ListenerCounters, OutlierCounters, RateLimitCounters,
    Tally, TcpCounters, TlsCounters,
};

/// Cells of a listener.
#[derive(Debug, Default)]
pub struct ListenerCells {
    /// Connections.
    pub connections: ListenerCounters,
    /// TLS handshakes.
    pub tls: TlsCounters,
}

/// Cells of a connection manager.
#[derive(Debug, Default)]
pub struct HttpCells {
    /// Connections and requests.
    pub http: HttpCounters,
    /// Fault injection.
    pub fault: FaultCounters,
    /// Cross-origin requests.
    pub cors: CorsCounters,
    /// Health checks that were answered here.
    pub health_check: HealthCheckCounters,
    /// Verdicts of policies.
    pub access: AccessCounters,
}

/// Cells of policies for connections.
#[derive(Debug, Default)]
pub struct ConnectionAccessCells {
    /// All of them.
    pub access: ConnectionAccessCounters,
}

/// A counter whose name is put together from configuration.
#[derive(Debug, Default)]
pub struct TallyCells {
    /// It.
    pub tally: Tally,
}

/// Cells of the gRPC calls of one method, or of all that are not told apart.
#[derive(Debug, Default)]
pub struct GrpcCells {
    /// All of them.
    pub calls: GrpcCounters,
    /// By status.
    pub codes: [Counter; 17],
}

/// Cells of a compressor or decompressor, in one direction.
#[derive(Debug, Default)]
pub struct CodecCells {
    /// All of them.
    pub codec: CodecCounters,
}

/// How many gRPC methods a worker tells apart; a client can make up any number of them.
const GRPC_METHODS: usize = 1000;

/// What stands between the parts of a key of [`Observe::grpc`].
pub(super) const PART: char = '\0';

/// Cells of local rate limits.
#[derive(Debug, Default)]
pub struct LimitCells {
    /// Of requests.
    pub http: LimitCounters,
}

/// Cells of what a service said of requests to a cluster.
#[derive(Debug, Default)]
pub struct ServiceCells {
    /// A rate limit service.
    pub limit: RateLimitCounters,
    /// An authorization service.
    pub authorization: AuthorizationCounters,
}

/// Cells of `proxy_protocol` filters.
#[derive(Debug, Default)]
pub struct ProxyHeaderCells {
    /// Connections without a header.
    pub absent: AbsentHeaderCounters,
    /// Connections that were closed.
    pub errors: HeaderErrorCounters,
    /// Headers of version 1.
    pub v1: HeaderVersionCounters,
    /// Headers of version 2.
    pub v2: HeaderVersionCounters,
}

/// Cells of rate limits of new connections.
#[derive(Debug, Default)]
pub struct ConnectionRateLimitCells {
    /// All of them.
    pub limit: ConnectionRateLimitCounters,
}

/// Cells of limits of connections at a time.
#[derive(Debug, Default)]
pub struct ConnectionLimitCells {
    /// All of them.
    pub limit: ConnectionLimitCounters,
}

/// Cells of a TCP proxy.
#[derive(Debug, Default)]
pub struct TcpCells {
    /// All of them.
    pub tcp: TcpCounters,
}

/// Cells of a cluster.
#[derive(Debug, Default)]
pub struct ClusterCells {
    /// Connections and requests.
    pub traffic: ClusterCounters,
    /// TLS handshakes.
    pub tls: TlsCounters,
    /// Responses by status code.
    pub codes: StatusCodes,
}

/// Cells of a cluster whose endpoints' health is watched; the control thread counts into them.
#[derive(Debug, Default)]
pub struct HealthCells {
    /// Ejections.
    pub outlier: OutlierCounters,
    /// Health checks.
    pub check: ActiveCheckCounters,
}

/// All cells of one kind, by name: one entry per worker that used it.
pub type Shards<C> = Mutex<HashMap<Name, Vec<(usize, Arc<C>)>>>;

/// Every cell of every worker, the metrics of the control side, and the access logs.
#[derive(Debug, Default)]
pub struct Observe {
    /// By `stat_prefix`.
    pub listeners: Shards<ListenerCells>,
    /// By `stat_prefix`.
    pub managers: Shards<HttpCells>,
    /// By `stat_prefix`.
    pub tcp_proxies: Shards<TcpCells>,
    /// By `proxy_proto`, with `.<stat_prefix>` where there is one.
    pub proxy_headers: Shards<ProxyHeaderCells>,
    /// By `stat_prefix`. Any route may name one, so they are never let go of.
    pub limits: Shards<LimitCells>,
    /// By `alt_stat_name` or name of the cluster that a request is for, and the filter's word with its `stat_prefix`, with
    /// [`PART`] between them.
    pub services: Shards<ServiceCells>,
    /// By `stat_prefix`.
    pub connection_rates: Shards<ConnectionRateLimitCells>,
    /// By `stat_prefix`.
    pub connection_limits: Shards<ConnectionLimitCells>,
    /// By `stat_prefix`.
    pub connection_access: Shards<ConnectionAccessCells>,
    /// By `stat_prefix` of the connection manager and what follows it in Envoy's names, with [`PART`] between them.
    pub http_tallies: Shards<TallyCells>,
    /// By `stat_prefix` of the policy and what follows it, in the same way.
    pub connection_tallies: Shards<TallyCells>,
    /// By `alt_stat_name` or name.
    pub clusters: Shards<ClusterCells>,
    /// By `alt_stat_name` or name.
    pub health: Shards<HealthCells>,
    /// By that name, `grpc` or `grpc-web`, service and method, with [`PART`] between them.
    pub grpc: Shards<GrpcCells>,
    /// By `stat_prefix` and what follows it in Envoy's names, with [`PART`] between them.
    pub codecs: Shards<CodecCells>,
    /// What the control side counts.
    pub control: ControlMetrics,
    /// Where access log lines go.
    pub sinks: LogSinks,
}

impl Observe {
    /// The counters of worker `index`.
    pub fn worker(self: &Arc<Self>, index: usize) -> WorkerCounters {
        WorkerCounters {
            index,
            all: Arc::clone(self),
            by_cluster: RefCell::default(),
            clusters: RefCell::default(),
            by_limit: RefCell::default(),
            by_method: RefCell::default(),
            by_codec: RefCell::default(),
            by_service: RefCell::default(),
            by_tally: RefCell::default(),
        }
    }

    /// How many requests and connections to the cluster with this `stat_name` began, and whether a request is open.
    pub fn use_of(&self, stat_name: &Name) -> (u64, bool) {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let cells = clusters.get(stat_name).into_iter().flatten();
        cells.fold((0, false), |(total, open), (_, cells)| {
            let traffic = &cells.traffic;
            let more = traffic.upstream_rq_total.value() + traffic.upstream_cx_total.value();
            (total + more, open || traffic.upstream_rq_active.value() > 0)
        })
    }

    /// Lets go of the cells of things that are not in `snapshot` and that nobody counts into any more.
    pub fn retain(&self, snapshot: &Snapshot) {
        let names = Names::of(snapshot);
        retain(&self.listeners, |name| names.listeners.contains(name));
        retain(&self.managers, |name| names.managers.contains(name));
        retain(&self.tcp_proxies, |name| names.tcp_proxies.contains(name));
        retain(&self.proxy_headers, |name| names.proxy_headers.contains(name));
        retain(&self.connection_rates, |name| {
            names.connection_rates.contains(name)
        });
        retain(&self.connection_limits, |name| {
            names.connection_limits.contains(name)
        });
        retain(&self.connection_access, |name| {
            names.connection_access.contains(name)
        });
        let first = |key: &Name, names: &HashSet<Name>| {
            let first = key.split(PART).next();
            first.is_some_and(|name| names.contains(name))
        };
        retain(&self.http_tallies, |key| first(key, &names.managers));
        retain(&self.connection_tallies, |key| {
            first(key, &names.connection_access)
        });
        retain(&self.clusters, |name| names.clusters.contains(name));
        retain(&self.health, |name| names.clusters.contains(name));
        let of_method = |key: &Name| {
            key.split(PART)
                .next()
                .is_some_and(|name| names.clusters.contains(name))
        };
        retain(&self.grpc, of_method);
        retain(&self.services, of_method);
        let of_manager = |key: &Name| {
            key.split(PART)
                .next()
                .is_some_and(|name| names.managers.contains(name))
        };
        retain(&self.codecs, of_manager);
    }
}

/// Metric names that a version of the world has.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) listeners: HashSet<Name>,
    pub(super) managers: HashSet<Name>,
    pub(super) tcp_proxies: HashSet<Name>,
    pub(super) proxy_headers: HashSet<Name>,
    /// Limits of chains; those of routes show once they are used.
    pub(super) limits: HashSet<Name>,
    pub(super) connection_rates: HashSet<Name>,
    pub(super) connection_limits: HashSet<Name>,
    pub(super) connection_access: HashSet<Name>,
    pub(super) clusters: HashSet<Name>,
}

impl Names {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut names = Self::default();
        for listener in snapshot.listeners.iter() {
            names.listeners.insert(Arc::clone(&listener.stat_prefix));
            let filter = listener.inspection.proxy.as_ref();
            names
                .proxy_headers
                .extend(filter.map(|filter| Arc::clone(&filter.stat_name)));
            for chain in listener.chains.iter().chain(&listener.default_chain) {
                for filter in &chain.network_filters {
                    match filter {
                        NetworkFilter::RateLimit(limit) => {
                            names.connection_rates.insert(Arc::clone(&limit.stat_prefix))
                        }
                        NetworkFilter::ConnectionLimit(limit) => {
                            names.connection_limits.insert(Arc::clone(&limit.stat_prefix))
                        }
                        NetworkFilter::Access(access) => {
                            names.connection_access.insert(Arc::clone(&access.stat_prefix))
                        }
                    };
                }
                match &chain.terminal {
                    Terminal::Http(manager) => {
                        names.limits.extend(manager.filters.iter().filter_map(limit_of));
                        names.managers.insert(Arc::clone(&manager.stat_prefix))
                    }
                    Terminal::Tcp(proxy) => names.tcp_proxies.insert(Arc::clone(&proxy.stat_prefix)),
                    Terminal::Close => false,
                };
            }
        }
        names.clusters.extend(
            snapshot
                .clusters
                .iter()
                .map(|(_, cluster)| Arc::clone(&cluster.config.stat_name)),
        );
        names
    }
}

fn limit_of(filter: &ChainedFilter) -> Option<Name> {
    match &filter.filter {
        HttpFilter::LocalRateLimit(limit) => Some(Arc::clone(&limit.stat_prefix)),
        HttpFilter::Quota(quota) => Some(Arc::clone(&quota.settings.stat_prefix)),
        _ => None,
    }
}

fn retain<C>(shards: &Shards<C>, is_there: impl Fn(&Name) -> bool) {
    let mut shards = shards.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever still counts holds the cells: a connection that drains keeps its series alive.
    shards
        .retain(|name, cells| is_there(name) || cells.iter().any(|(_, cells)| Arc::strong_count(cells) > 1));
}

/// The cells of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    index: usize,
    all: Arc<Observe>,
    by_cluster: RefCell<Vec<Option<Arc<ClusterCells>>>>,
    /// Which of them there are.
    clusters: RefCell<Vec<ClusterId>>,
    by_limit: RefCell<HashMap<Name, Arc<LimitCells>>>,
    /// With the key that was asked for last, whose memory is used again.
    by_method: RefCell<(HashMap<Name, Arc<GrpcCells>>, String)>,
    by_codec: RefCell<(HashMap<Name, Arc<CodecCells>>, String)>,
    by_service: RefCell<(HashMap<Name, Arc<ServiceCells>>, String)>,
    by_tally: RefCell<(HashMap<Name, Arc<TallyCells>>, String)>,
}

impl WorkerCounters {
    /// The cells of a listener.
    pub fn listener(&self, stat_prefix: &Name) -> Arc<ListenerCells> {
        self.cells(&self.all.listeners, stat_prefix)
    }

    /// The cells of a connection manager.
    pub fn manager(&self, stat_prefix: &Name) -> Arc<HttpCells> {
        self.cells(&self.all.managers, stat_prefix)
    }

    /// The cells of a `proxy_protocol` filter.
    pub fn proxy_header(&self, stat_name: &Name) -> Arc<ProxyHeaderCells> {
        self.cells(&self.all.proxy_headers, stat_name)
    }

    /// The cells of a TCP proxy.
    pub fn tcp_proxy(&self, stat_prefix: &Name) -> Arc<TcpCells> {
        self.cells(&self.all.tcp_proxies, stat_prefix)
    }

    /// The cells of a rate limit of new connections.
    pub fn connection_rate_limit(&self, stat_prefix: &Name) -> Arc<ConnectionRateLimitCells> {
        self.cells(&self.all.connection_rates, stat_prefix)
    }

    /// The cells of a limit of connections at a time.
    pub fn connection_limit(&self, stat_prefix: &Name) -> Arc<ConnectionLimitCells> {
        self.cells(&self.all.connection_limits, stat_prefix)
    }

    /// The cells of a policy for connections.
    pub fn connection_access(&self, stat_prefix: &Name) -> Arc<ConnectionAccessCells> {
        self.cells(&self.all.connection_access, stat_prefix)
    }

    /// A counter of a connection manager with this name after its prefix.
    pub fn http_tally(&self, stat_prefix: &str, stat: &str) -> Arc<TallyCells> {
        let mut by_tally = self.by_tally.borrow_mut();
        let (known, key) = &mut *by_tally;
        key.clear();
        key.extend([stat_prefix, "\0", stat]);
        if let Some(cells) = known.get(key.as_str()) {
            return Arc::clone(cells);
        }
        let name: Name = key.as_str().into();
        let cells = self.cells(&self.all.http_tallies, &name);
        known.insert(name, Arc::clone(&cells));
        cells
    }

    /// A counter of a policy for connections with this name after its prefix.
    pub fn connection_tally(&self, stat_prefix: &str, stat: &str) -> Arc<TallyCells> {
        let name: Name = format!("{stat_prefix}{PART}{stat}").into();
        self.cells(&self.all.connection_tallies, &name)
    }

    /// The cells of local rate limits with this `stat_prefix`.
    pub fn limit(&self, stat_prefix: &Name) -> Arc<LimitCells> {
        if let Some(cells) = self.by_limit.borrow().get(stat_prefix) {
            return Arc::clone(cells);
        }
        let cells = self.cells(&self.all.limits, stat_prefix);
        let mut known = self.by_limit.borrow_mut();
        known.insert(Arc::clone(stat_prefix), Arc::clone(&cells));
        cells
    }

    /// The cells of a compressor or decompressor of a connection manager.
    pub fn codec(&self, stat_prefix: &str, stat: &str) -> Arc<CodecCells> {
        let mut by_codec = self.by_codec.borrow_mut();
        let (known, key) = &mut *by_codec;
        key.clear();
        key.extend([stat_prefix, "\0", stat]);
        if let Some(cells) = known.get(key.as_str()) {
            return Arc::clone(cells);
        }
        let name: Name = key.as_str().into();
        let cells = self.cells(&self.all.codecs, &name);
        known.insert(name, Arc::clone(&cells));
        cells
    }

    /// The cells of what a service says of requests to a cluster; `word` names the filter.
    pub fn service(&self, stat_name: &str, word: &str, stat_prefix: &str) -> Arc<ServiceCells> {
        let mut by_service = self.by_service.borrow_mut();
        let (known, key) = &mut *by_service;
        key.clear();
        key.extend([stat_name, "\0", word]);
        if !stat_prefix.is_empty() {
            key.extend([".", stat_prefix]);
        }
        if let Some(cells) = known.get(key.as_str()) {
            return Arc::clone(cells);
        }
        let name: Name = key.as_str().into();
        let cells = self.cells(&self.all.services, &name);
        known.insert(name, Arc::clone(&cells));
        cells
    }

    /// The cells of the gRPC calls to a cluster by protocol, service and method. Beyond a number of methods the others
    /// are counted together.
    pub fn grpc(&self, stat_name: &str, [protocol, service, method]: [&str; 3]) -> Arc<GrpcCells> {
        let mut by_method = self.by_method.borrow_mut();
        let (known, key) = &mut *by_method;
        key.clear();
        for part in [stat_name, protocol, service, method] {
            key.push_str(part);
            key.push(PART);
        }
        if let Some(cells) = known.get(key.as_str()) {
            return Arc::clone(cells);
        }
        if known.len() >= GRPC_METHODS && !method.is_empty() {
            drop(by_method);
            return self.grpc(stat_name, [protocol, "", ""]);
        }
        let name: Name = key.as_str().into();
        let cells = self.cells(&self.all.grpc, &name);
        known.insert(name, Arc::clone(&cells));
        cells
    }

    /// The cells of a cluster.
    pub fn cluster(&self, config: &ClusterConfig) -> Arc<ClusterCells> {
        let index = config.id.index();
        if let Some(Some(cells)) = self.by_cluster.borrow().get(index) {
            return Arc::clone(cells);
        }
        let cells = self.cells(&self.all.clusters, &config.stat_name);
        let mut by_cluster = self.by_cluster.borrow_mut();
        if by_cluster.len() <= index {
            by_cluster.resize(index + 1, None);
        }
        by_cluster[index] = Some(Arc::clone(&cells));
        self.clusters.borrow_mut().push(config.id);
        cells
    }

    /// The cells of a cluster whose endpoints' health is watched.
    pub fn health(&self, config: &ClusterConfig) -> Arc<HealthCells> {
        self.cells(&self.all.health, &config.stat_name)
    }

    /// Lets go of the cells of clusters that this version does not have.
    pub fn review(&self, snapshot: &Snapshot) {
        // They are found again at the next call of each.
        self.by_method.borrow_mut().0.clear();
        self.by_codec.borrow_mut().0.clear();
        self.by_service.borrow_mut().0.clear();
        self.by_tally.borrow_mut().0.clear();
        let mut by_cluster = self.by_cluster.borrow_mut();
        self.clusters.borrow_mut().retain(|id| {
            let stays = snapshot.cluster(*id).is_some();
            if !stays {
                by_cluster[id.index()] = None;
            }
            stays
        });
    }

    fn cells<C: Default>(&self, shards: &Shards<C>, name: &Name) -> Arc<C> {
        let mut shards = shards.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = shards.entry(Arc::clone(name)).or_default();
        if let Some((_, cells)) = of_name.iter().find(|(worker, _)| *worker == self.index) {
            return Arc::clone(cells);
        }
        let cells = Arc::new(C::default());
        of_name.push((self.index, Arc::clone(&cells)));
        cells
    }
}
