//! Which connection does this request use? One pool per (cluster, endpoint, transport, SNI, protocol) and worker.
//!
//! Holds: an idle HTTP/1 connection is taken from the newest end, so that the oldest can retire; HTTP/2 shares one
//! connection until its streams are used up; a connect that several requests wait for happens once. A pool may always
//! have one connection, even past `max_connections`, as Envoy's pools do.

mod age;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use remora_model::cluster::{
    Cluster, RequestPriority, TransportSocket, UpstreamProtocol, leave_place, take_place,
};
use remora_model::endpoint::Endpoint;
use remora_model::proxy_protocol::Announced;

use super::connect::{Connected, Wish, connect};
use super::health;
use super::lease::{InFlight, Lease, OpenConnection, Places, PooledHttp1, SharedHttp2};
use crate::failure::{ConnectFailure, Failure, Limit};
use crate::http1;
use crate::http2;
use crate::observe::{ClusterCells, ConnectionRecord, UpstreamRecord};
use crate::worker::{Worker, World, spawn};

/// What a pool's connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// What ALPN chooses.
    Alpn,
}

impl Protocol {
    /// The protocol towards a cluster for a client that spoke HTTP/2 or not.
    pub fn towards(configured: UpstreamProtocol, client_http2: bool) -> Self {
        match configured {
            UpstreamProtocol::Http1 => Self::Http1,
            UpstreamProtocol::Http2 => Self::Http2,
            UpstreamProtocol::Downstream if client_http2 => Self::Http2,
            UpstreamProtocol::Downstream => Self::Http1,
            UpstreamProtocol::Alpn => Self::Alpn,
        }
    }

    /// What is offered by ALPN where the TLS context names nothing.
    fn offers(self) -> &'static [Box<[u8]>] {
        static NAMES: LazyLock<[Box<[u8]>; 2]> =
            LazyLock::new(|| [b"h2".as_slice().into(), b"http/1.1".as_slice().into()]);
        match self {
            Self::Http2 => &NAMES[..1],
            Self::Http1 => &NAMES[1..],
            Self::Alpn => &NAMES[..],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    cluster: usize,
    /// Address of the endpoint's live part, which the pool keeps alive.
    endpoint: usize,
    /// Whose limits its connections count against.
    priority: RequestPriority,
    /// `ClientTls::id`, 0 for plaintext.
    transport: u64,
    server_name: Option<Box<str>>,
    protocol: Protocol,
    /// Hash of the ALPN names that replace the context's own, 0 for none.
    alpn: u64,
    /// What a PROXY header says of the connection, if there is one.
    announced: Option<Box<Announced>>,
}

/// A request for a connection.
#[derive(Debug, Clone, Copy)]
pub struct Acquire<'a> {
    /// To this cluster.
    pub cluster: &'a Arc<Cluster>,
    /// To this endpoint of it.
    pub endpoint: &'a Arc<Endpoint>,
    /// Within the limits of this priority.
    pub priority: RequestPriority,
    /// Speaking this.
    pub protocol: Protocol,
    /// SNI of this request, where the cluster derives it from the request.
    pub server_name: Option<&'a str>,
    /// ALPN names that replace those of the TLS context.
    pub alpn: Option<&'a [Box<[u8]>]>,
    /// Whose request it is, where the endpoint is told by a PROXY header.
    pub caller: Option<&'a ConnectionRecord>,
    /// A new connection where the protocol has one per exchange: reused ones were found dead.
    pub fresh: bool,
}

/// All pools of one worker.
#[derive(Debug, Default)]
pub struct Pools {
    by_key: RefCell<HashMap<Key, Rc<Pool>, rapidhash::fast::RandomState>>,
    touched: Cell<bool>,
    sweeper: RefCell<Option<Waker>>,
}

/// The connections of one key.
#[derive(Debug)]
pub struct Pool {
    cluster: RefCell<Arc<Cluster>>,
    endpoint: Arc<Endpoint>,
    priority: RequestPriority,
    socket: TransportSocket,
    server_name: Option<Box<str>>,
    protocol: Protocol,
    alpn: Option<Vec<Box<[u8]>>>,
    announced: Option<Box<Announced>>,
    cells: Arc<ClusterCells>,
    idle: RefCell<VecDeque<Box<PooledHttp1>>>,
    shared: RefCell<Vec<Rc<SharedHttp2>>>,
    places: Rc<Places>,
    connecting: Cell<bool>,
    retired: Cell<bool>,
    /// How often the endpoint had been found unfit when the pool was made.
    falls: u32,
}

impl Pools {
    fn at(&self, worker: &Worker, wanted: &Acquire<'_>) -> Rc<Pool> {
        let config = &wanted.cluster.config;
        let socket = config
            .transport
            .choose(&wanted.endpoint.spec.details().transport_labels);
        // Connections of different clients are not shared where the endpoint tells them apart.
        let announced = socket
            .header()
            .and(wanted.caller)
            .map(|caller| Box::new(caller.announced()));
        let key = Key {
            cluster: config.id.index(),
            endpoint: Arc::as_ptr(wanted.endpoint.live()) as usize,
            priority: wanted.priority,
            transport: socket.tls().map_or(0, |context| context.id),
            server_name: wanted
                .server_name
                .filter(|_| socket.tls().is_some())
                .map(Into::into),
            announced: announced.clone(),
            protocol: wanted.protocol,
            alpn: wanted.alpn.map_or(0, hash_of),
        };
        if let Some(pool) = self.by_key.borrow().get(&key) {
            if !Arc::ptr_eq(&pool.cluster.borrow(), wanted.cluster) {
                *pool.cluster.borrow_mut() = Arc::clone(wanted.cluster);
            }
            return Rc::clone(pool);
        }
        let pool = Rc::new(Pool {
            cluster: RefCell::new(Arc::clone(wanted.cluster)),
            endpoint: Arc::clone(wanted.endpoint),
            priority: wanted.priority,
            socket: socket.clone(),
            server_name: key.server_name.clone(),
            protocol: wanted.protocol,
            alpn: wanted.alpn.map(<[_]>::to_vec),
            announced,
            cells: worker.counters.cluster(config),
            idle: RefCell::default(),
            shared: RefCell::default(),
            places: Rc::default(),
            connecting: Cell::new(false),
            retired: Cell::new(false),
            falls: wanted.endpoint.live().falls(),
        });
        self.by_key.borrow_mut().insert(key, Rc::clone(&pool));
        pool
    }

    /// A connection for one exchange, and a place among the cluster's requests.
    ///
    /// # Errors
    /// [`Failure::Overflow`] at a limit, [`Failure::Connect`] if no connection could be made.
    pub async fn acquire(
        &self,
        worker: &Rc<Worker>,
        wanted: Acquire<'_>,
    ) -> Result<(Lease, InFlight), Failure> {
        let lease = self.connection(worker, &wanted).await?;
        if let Some(in_flight) = InFlight::begin(wanted.cluster, wanted.priority) {
            return Ok((lease, in_flight));
        }
        let cells = worker.counters.cluster(&wanted.cluster.config);
        cells.traffic.upstream_rq_active_overflow.one();
        if let Lease::Http1(mut pooled, pool) = lease {
            pooled.requests = pooled.requests.saturating_sub(1);
            self.put_back(&pool, pooled, Instant::now());
        }
        Err(Failure::Overflow(Limit::Requests))
    }

    /// Ready at once if one is idle or has room.
    async fn connection(&self, worker: &Rc<Worker>, wanted: &Acquire<'_>) -> Result<Lease, Failure> {
        let pool = self.at(worker, wanted);
        if !(wanted.fresh && pool.protocol == Protocol::Http1)
            && let Some(lease) = pool.take_ready().await
        {
            return Ok(lease);
        }
        let _pending = Pending::begin(&pool)?;
        loop {
            if pool.protocol == Protocol::Http1 {
                if let Some(open) = pool.begin() {
                    return pool.open_http1(worker, open).await;
                }
            } else if !pool.connecting.get()
                && let Some(open) = pool.begin()
            {
                pool.connecting.set(true);
                spawn(Rc::clone(&pool).open_shared(Rc::clone(worker), open));
            }
            match pool.places.wait().await {
                Ok(Ok(Some(pooled))) => return Ok(Lease::Http1(pooled, pool)),
                Ok(Err(failure)) => return Err(Failure::Connect(failure)),
                Ok(Ok(None)) | Err(_) => {}
            }
            if let Some(lease) = pool.take_ready().await {
                return Ok(lease);
            }
        }
    }

    /// Gives an HTTP/1 connection back after an exchange that left it reusable.
    pub fn put_back(&self, pool: &Rc<Pool>, mut pooled: Box<PooledHttp1>, now: Instant) {
        let http = Arc::clone(&pool.cluster.borrow().config.http);
        let limit = http.max_requests_per_connection;
        if pool.retired.get() || (limit > 0 && pooled.requests >= limit) {
            return;
        }
        if http
            .connection_duration
            .is_some_and(|limit| pooled.opened + limit <= now)
        {
            pool.cells.traffic.upstream_cx_max_duration_reached.one();
            return;
        }
        pooled.record.reused = true;
        pooled.idle_since = now;
        let Some(pooled) = pool.places.hand_on(pooled) else {
            return;
        };
        pool.idle.borrow_mut().push_back(pooled);
        if !self.touched.replace(true)
            && let Some(waker) = self.sweeper.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Retires the pools whose endpoint, cluster or transport the new world does not have any more.
    pub fn review(&self, world: &World) {
        self.by_key.borrow_mut().retain(|key, pool| {
            let keep = pool.is_current(key, world);
            if !keep {
                pool.retire();
            }
            keep
        });
    }

    /// Drops dead and expired idle connections, registering `cx` for the death of the others. Says when the next one
    /// expires.
    pub(super) fn sweep(&self, now: Instant, cx: &mut Context<'_>) -> Option<Instant> {
        self.touched.set(false);
        *self.sweeper.borrow_mut() = Some(cx.waker().clone());
        let pools: Vec<_> = self.by_key.borrow().values().cloned().collect();
        let next = pools.iter().filter_map(|pool| pool.sweep(now, cx)).min();
        self.by_key.borrow_mut().retain(|_, pool| !pool.is_abandoned());
        next
    }

    /// Whether something was put back since the last sweep.
    pub(super) fn touched(&self) -> bool {
        self.touched.get()
    }
}

/// A hash that is the same for the same names on one worker.
fn hash_of(names: &[Box<[u8]>]) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = rapidhash::fast::RapidHasher::default();
    names.hash(&mut hasher);
    hasher.finish()
}

/// A request that waits for a connection.
struct Pending(Rc<Pool>);

impl Pending {
    fn begin(pool: &Rc<Pool>) -> Result<Self, Failure> {
        let cluster = pool.cluster.borrow();
        let most = cluster.thresholds(pool.priority).max_pending_requests;
        if !take_place(&cluster.live.at(pool.priority).pending, most) {
            pool.cells.traffic.upstream_rq_pending_overflow.one();
            return Err(Failure::Overflow(Limit::Pending));
        }
        pool.cells.traffic.upstream_rq_pending_active.add(1);
        pool.cells.traffic.upstream_rq_pending_total.one();
        Ok(Self(Rc::clone(pool)))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        leave_place(&self.0.cluster.borrow().live.at(self.0.priority).pending);
        self.0.cells.traffic.upstream_rq_pending_active.add(-1);
    }
}

impl Pool {
    /// A live idle connection, or a shared one with room.
    async fn take_ready(self: &Rc<Self>) -> Option<Lease> {
        if self.protocol != Protocol::Http1
            && let Some(shared) = self.shared_with_room()
        {
            shared.requests.set(shared.requests.get() + 1);
            return Some(Lease::Http2(shared));
        }
        loop {
            let mut pooled = self.idle.borrow_mut().pop_back()?;
            let dead = poll_fn(|cx| Poll::Ready(pooled.connection.poll_idle(cx).is_ready())).await;
            if dead {
                self.cells.traffic.upstream_cx_destroy_remote.one();
                continue;
            }
            if pooled.record.is_refused() {
                continue;
            }
            pooled.requests += 1;
            return Some(Lease::Http1(pooled, Rc::clone(self)));
        }
    }

    fn shared_with_room(&self) -> Option<Rc<SharedHttp2>> {
        let limit = self.cluster.borrow().config.http.max_requests_per_connection;
        let mut shared = self.shared.borrow_mut();
        shared.retain(|candidate| {
            let spent = limit > 0 && candidate.requests.get() >= limit;
            candidate.sender.borrow_mut().is_open() && !spent && !candidate.record.is_refused()
        });
        let has_room = |candidate: &&Rc<SharedHttp2>| {
            let sender = candidate.sender.borrow();
            sender.active_streams() < sender.max_concurrent_streams()
        };
        shared.iter().find(has_room).cloned()
    }

    /// Opens an HTTP/1 connection within the request that needs it.
    async fn open_http1(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        open: OpenConnection,
    ) -> Result<Lease, Failure> {
        let (connected, open) = self.open(worker, open).await.map_err(Failure::Connect)?;
        self.cells.traffic.upstream_cx_http1_total.one();
        let pooled = self.pooled(connected, open);
        Ok(Lease::Http1(pooled, Rc::clone(self)))
    }

    /// Opens a connection that every waiting request may use.
    async fn open_shared(self: Rc<Self>, worker: Rc<Worker>, open: OpenConnection) {
        let outcome = self.open(&worker, open).await;
        drop(worker);
        match outcome {
            Err(_) => self.connecting.set(false),
            Ok((connected, open)) if self.speaks_http2(&connected) => self.run_http2(connected, open).await,
            Ok((connected, open)) => {
                self.connecting.set(false);
                self.cells.traffic.upstream_cx_http1_total.one();
                let mut pooled = self.pooled(connected, open);
                pooled.requests = 0;
                self.idle.borrow_mut().push_back(pooled);
                self.places.wake_all();
            }
        }
    }

    fn speaks_http2(&self, connected: &Connected) -> bool {
        match self.protocol {
            Protocol::Http2 => true,
            Protocol::Http1 => false,
            Protocol::Alpn => connected
                .tls
                .as_ref()
                .is_some_and(|session| session.alpn.as_deref() == Some(b"h2")),
        }
    }

    /// Drives a shared HTTP/2 connection for as long as it lives.
    async fn run_http2(self: Rc<Self>, connected: Connected, open: OpenConnection) {
        let config = Arc::clone(&self.cluster.borrow().config);
        let record = self.record(&connected);
        self.cells.traffic.upstream_cx_http2_total.one();
        let options = http2::Options {
            http2: config.http.http2.clone(),
            ..http2::Options::default()
        };
        let handshake = http2::client::handshake(connected.io, &options);
        let started = tokio::time::timeout(config.connect_timeout, handshake).await;
        self.connecting.set(false);
        match started {
            Ok(Ok((sender, connection))) => {
                let shared = Rc::new(SharedHttp2 {
                    sender: RefCell::new(sender),
                    record,
                    requests: Cell::new(0),
                });
                let known = Rc::downgrade(&shared);
                self.shared.borrow_mut().push(shared);
                self.places.wake_all();
                let ended = self.until_too_old(&known, connection).await;
                tracing::debug!(endpoint = ?self.endpoint.spec.address, ?ended, "HTTP/2 connection ended");
                self.forget(&known);
                drop(open);
                self.places.wake_all();
            }
            Ok(Err(_)) | Err(_) => {
                let failure = ConnectFailure::Refused("HTTP/2 handshake failed".into());
                self.places.fail_all(&failure);
                drop(open);
            }
        }
    }

    /// A place for one more connection, if there is one.
    fn begin(&self) -> Option<OpenConnection> {
        let cluster = self.cluster.borrow();
        OpenConnection::begin(&cluster, self.priority, &self.endpoint, &self.cells, &self.places)
    }

    /// Opens the connection that `open` counts.
    async fn open(
        &self,
        worker: &Worker,
        open: OpenConnection,
    ) -> Result<(Connected, OpenConnection), ConnectFailure> {
        let cluster = Arc::clone(&self.cluster.borrow());
        let wish = Wish {
            server_name: self.server_name.as_deref(),
            alpn: self.alpn.as_deref().unwrap_or_else(|| self.protocol.offers()),
            alpn_wins: self.alpn.is_some(),
            announced: self.announced.as_deref(),
        };
        let outcome = connect(
            worker.world(),
            &self.cells,
            &cluster.config,
            &self.endpoint,
            &self.socket,
            wish,
        )
        .await;
        match outcome {
            Ok(connected) => {
                self.endpoint.live().connected();
                self.cells
                    .traffic
                    .upstream_cx_connect_ms
                    .record(open.opened().elapsed());
                Ok((connected, open))
            }
            Err(failure) => {
                self.endpoint
                    .live()
                    .connect_failures
                    .fetch_add(1, Ordering::Relaxed);
                self.cells.traffic.upstream_cx_connect_fail.one();
                if matches!(failure, ConnectFailure::TimedOut(_)) {
                    self.cells.traffic.upstream_cx_connect_timeout.one();
                }
                health::not_connected(worker, &cluster, &self.endpoint, &failure);
                // Whoever waits for this endpoint fails with it, as in Envoy: trying again is a matter of retries.
                self.places.fail_all(&failure);
                Err(failure)
            }
        }
    }

    fn record(&self, connected: &Connected) -> UpstreamRecord {
        UpstreamRecord {
            local: connected.local,
            endpoint: Arc::clone(&self.endpoint),
            tls: connected.tls.clone(),
            reused: false,
        }
    }

    fn pooled(&self, connected: Connected, open: OpenConnection) -> Box<PooledHttp1> {
        let record = self.record(&connected);
        let connection = http1::ClientConnection::new(connected.io, http1::server::Options::default());
        Box::new(PooledHttp1 {
            connection,
            open,
            record,
            requests: 1,
            idle_since: Instant::now(),
            opened: Instant::now(),
        })
    }

    fn is_current(&self, key: &Key, world: &World) -> bool {
        let config_id = self.cluster.borrow().config.id;
        let Some(cluster) = world.cluster(config_id) else {
            return false;
        };
        let live = self.endpoint.live();
        let gone = live.removed.load(Ordering::Relaxed) || live.falls() != self.falls;
        let socket = cluster
            .config
            .transport
            .choose(&self.endpoint.spec.details().transport_labels);
        let transport = socket.tls().map_or(0, |context| context.id);
        !gone && transport == key.transport && socket.header() == self.socket.header()
    }

    /// Closes what is idle; what is in use closes when it comes back.
    fn retire(&self) {
        self.retired.set(true);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        self.cells
            .traffic
            .upstream_cx_destroy_local
            .add(idle.len() as u64);
        self.shared.borrow_mut().clear();
        self.places.wake_all();
    }

    fn sweep(&self, now: Instant, cx: &mut Context<'_>) -> Option<Instant> {
        let http = Arc::clone(&self.cluster.borrow().config.http);
        let mut next = None;
        self.idle.borrow_mut().retain_mut(|pooled| {
            let idle = http.idle_timeout.map(|limit| pooled.idle_since + limit);
            let old = http.connection_duration.map(|limit| pooled.opened + limit);
            let expires = idle.into_iter().chain(old).min();
            let expired = expires.is_some_and(|at| at <= now);
            let dead = pooled.connection.poll_idle(cx).is_ready();
            if expired || dead {
                let cells = &self.cells.traffic;
                if old.is_some_and(|at| at <= now) {
                    cells.upstream_cx_max_duration_reached.one();
                } else if expired {
                    cells.upstream_cx_idle_timeout.one();
                } else {
                    cells.upstream_cx_destroy_remote.one();
                }
                return false;
            }
            next = match (next, expires) {
                (Some(a), Some(b)) => Some(std::cmp::min::<Instant>(a, b)),
                (a, b) => a.or(b),
            };
            true
        });
        next
    }

    /// Nothing is open or waiting, and only the table knows this pool.
    fn is_abandoned(self: &Rc<Self>) -> bool {
        self.places.open() == 0 && self.places.nobody_waits() && Rc::strong_count(self) <= 2
    }
}
