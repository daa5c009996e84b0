//! The life of an HTTP connection: heads in, exchanges out, until one side has had enough.
//!
//! Holds: HTTP/1 serves one exchange after the other in the connection's own task; HTTP/2 gives each stream a task on
//! the same worker. A drain lets what is in flight finish and tells the client (`Connection: close`, GOAWAY).

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::StatusCode;
use remora_model::filter::Buckets;
use remora_model::listener::{FilterChain, HttpManager, Terminal};
use remora_model::route::RouteTable;

use super::deadlines::LazyTimer;
use super::local_reply::Reply;
use super::request::Exchange;
use super::{own_reply, response_head};
use crate::exchange::{HeadError, RequestHead, StreamError};
use crate::failure::{Failure, HEAD_TIMEOUT, Timer};
use crate::http1::{self, HeadFailure, Next};
use crate::http2;
use crate::io::Io;
use crate::observe::metrics::class_of;
use crate::observe::{ConnectionRecord, ExchangeRecord, HttpCells};
use crate::worker::{ConnectionHandle, Life, Worker, spawn};

/// An idle connection of a draining process closes after this much more idleness, so that a client that is about to send
/// hears `Connection: close` instead of a reset.
pub const IDLE_WHILE_DRAINING: Duration = Duration::from_secs(1);

/// Everything that the exchanges of one connection share.
#[derive(Debug)]
pub struct HttpContext {
    /// The worker.
    pub worker: Rc<Worker>,
    /// What is known of the connection.
    pub record: Rc<ConnectionRecord>,
    /// Counters.
    pub cells: Arc<HttpCells>,
    handle: ConnectionHandle,
    manager: Arc<HttpManager>,
    active: Cell<u32>,
    served: Cell<u32>,
    last_active: Cell<Instant>,
    /// Of limits `per_downstream_connection`: the first one that a request meets makes them, as in Envoy.
    own_buckets: OnceCell<Buckets>,
}

/// A request in flight on a connection.
#[derive(Debug)]
pub struct ActiveRequest(Rc<HttpContext>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let context = &self.0;
        context.active.set(context.active.get() - 1);
        context.cells.http.downstream_rq_active.add(-1);
        context.cells.http.downstream_rq_completed.one();
    }
}

/// An HTTP connection that is open.
#[derive(Debug)]
pub struct CountedConnection(Rc<HttpContext>);

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let http = &self.0.cells.http;
        http.downstream_cx_active.add(-1);
        http.downstream_cx_destroy.one();
        if self.0.active.get() > 0 {
            http.downstream_cx_destroy_remote_active_rq.one();
        }
        http.downstream_cx_length_ms
            .record(self.0.record.accepted.elapsed());
    }
}

impl HttpContext {
    /// The connection, as its worker knows it.
    pub fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    /// The context of a connection that was matched to a chain with this manager.
    pub fn new(
        worker: Rc<Worker>,
        record: Rc<ConnectionRecord>,
        handle: ConnectionHandle,
        manager: Arc<HttpManager>,
    ) -> Self {
        let cells = worker.counters.manager(&manager.stat_prefix);
        let last_active = Cell::new(Instant::now());
        Self {
            worker,
            record,
            cells,
            handle,
            manager,
            active: Cell::new(0),
            served: Cell::new(0),
            last_active,
            own_buckets: OnceCell::new(),
        }
    }

    /// What this connection alone takes from, full where it was not asked before.
    pub fn own_buckets(&self, pattern: &Buckets) -> &Buckets {
        self.own_buckets.get_or_init(|| pattern.fresh())
    }

    /// Counts the connection until the guard is dropped.
    pub fn count_connection(self: &Rc<Self>) -> CountedConnection {
        let http = &self.cells.http;
        http.downstream_cx_total.one();
        http.downstream_cx_active.add(1);
        if self.record.tls.is_some() {
            http.downstream_cx_ssl_total.one();
        }
        CountedConnection(Rc::clone(self))
    }

    /// Counts why a request got no answer of its upstream.
    pub fn count_failure(&self, failure: &Failure) {
        let http = &self.cells.http;
        match failure {
            Failure::ClientGone(_) => http.downstream_rq_rx_reset.one(),
            Failure::Timeout(Timer::Request(_)) => http.downstream_rq_timeout.one(),
            Failure::Timeout(Timer::StreamIdle(_)) => http.downstream_rq_idle_timeout.one(),
            Failure::Timeout(Timer::StreamDuration(_)) => http.downstream_rq_max_duration_reached.one(),
            Failure::Timeout(Timer::UpstreamDuration(_)) | Failure::UpstreamCut(_) => {
                http.downstream_rq_tx_reset.one();
            }
            _ => {}
        }
    }

    /// The connection manager as the newest world has it.
    fn newest_manager(&self) -> Arc<HttpManager> {
        let chain: Arc<FilterChain> = self.handle.chain();
        match &chain.terminal {
            Terminal::Http(manager) => Arc::clone(manager),
            Terminal::Tcp(_) | Terminal::Close => Arc::clone(&self.manager),
        }
    }

    /// Counts a request until the guard is dropped.
    pub fn request_begins(self: &Rc<Self>, head: &RequestHead) -> ActiveRequest {
        self.active.set(self.active.get() + 1);
        self.served.set(self.served.get() + 1);
        let http = &self.cells.http;
        http.downstream_rq_total.one();
        http.downstream_rq_active.add(1);
        let by_version = if head.version == http::Version::HTTP_2 {
            &http.downstream_rq_http2_total
        } else {
            &http.downstream_rq_http1_total
        };
        by_version.one();
        ActiveRequest(Rc::clone(self))
    }

    /// Counts and logs an exchange that ended.
    pub fn request_ended(&self, manager: &HttpManager, record: &ExchangeRecord) {
        self.last_active
            .set(record.started + record.ended.unwrap_or_default());
        let http = &self.cells.http;
        if let Some(status) = record.status {
            let classes = [
                &http.downstream_rq_1xx,
                &http.downstream_rq_2xx,
                &http.downstream_rq_3xx,
                &http.downstream_rq_4xx,
                &http.downstream_rq_5xx,
            ];
            class_of(status, classes);
        }
        http.downstream_cx_rx_bytes_total.add(record.received);
        http.downstream_cx_tx_bytes_total.add(record.sent);
        http.downstream_rq_time.record(record.ended.unwrap_or_default());
        self.worker.shared.observe.log(&manager.access_logs, record);
    }

    /// Whether a log may ask for headers and trailers.
    pub fn keeps_headers(&self, manager: &HttpManager) -> bool {
        !manager.access_logs.is_empty()
    }

    /// Ready when a connection with one exchange at a time must close at once. (HTTP/2 ends all its streams itself.)
    pub fn poll_closing(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.record.multiplexed {
            return Poll::Pending;
        }
        self.handle.poll_shorter(Life::Draining, cx).map(|_| ())
    }

    /// The routes of a chain that is gone, as they were last.
    pub fn last_routes(&self) -> Option<Arc<RouteTable>> {
        self.handle.last_routes()
    }

    /// Whether the client is to be told that this connection ends.
    pub fn is_ending(&self) -> bool {
        self.handle.life() != Life::Serving
    }

    fn spent(&self, manager: &HttpManager) -> bool {
        let limit = manager.limits.max_requests_per_connection;
        limit > 0 && self.served.get() >= limit
    }

    /// Whether the next request is the last that the limit allows; counted if it is.
    fn is_last(&self, manager: &HttpManager) -> bool {
        let limit = manager.limits.max_requests_per_connection;
        let last = limit > 0 && self.served.get() + 1 >= limit;
        if last {
            self.cells.http.downstream_cx_max_requests_reached.one();
        }
        last
    }

    /// Whether the connection is older than the limit allows; counted if it is.
    fn outlives(&self, manager: &HttpManager) -> bool {
        let old = self.too_old(manager);
        if old {
            self.cells.http.downstream_cx_max_duration_reached.one();
        }
        old
    }

    fn too_old(&self, manager: &HttpManager) -> bool {
        manager
            .timeouts
            .connection_duration
            .is_some_and(|limit| self.record.accepted.elapsed() >= limit)
    }
}

/// What an HTTP/1 connection brought.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost an allocation for each request"
)]
enum Heard {
    Head(RequestHead),
    Refused(HeadError),
    Over,
}

/// Serves an HTTP/1 connection to its end.
pub async fn serve_http1(context: Rc<HttpContext>, io: Io) {
    context.cells.http.downstream_cx_http1_total.one();
    let manager = context.newest_manager();
    let mut connection = http1::ServerConnection::new(io, http1_options(&manager));
    let mut timer = LazyTimer::default();
    loop {
        let manager = context.newest_manager();
        match next_head(&context, &manager, &mut connection, &mut timer).await {
            Heard::Head(head) => {
                // Since it was waited for, the chain may have changed together with the world.
                let manager = context.newest_manager();
                if context.is_ending() || context.outlives(&manager) || context.is_last(&manager) {
                    context.cells.http.downstream_cx_drain_close.one();
                    connection.set_close();
                }
                let exchange = Exchange::new(&context, &manager, &mut connection, &mut timer);
                // On its own, so that a connection that waits does not hold the room that a request needs.
                Box::pin(exchange.serve(head)).await;
                if !finish_http1(&manager, &mut connection).await {
                    break;
                }
            }
            Heard::Refused(error) => {
                context.cells.http.downstream_cx_protocol_error.one();
                refuse(&context, &manager, &mut connection, error);
                break;
            }
            Heard::Over => break,
        }
    }
    let linger = manager.timeouts.delayed_close.unwrap_or(Duration::from_secs(1));
    let _ = tokio::time::timeout(linger, poll_fn(|cx| connection.poll_close(cx))).await;
}

/// Whether another exchange may follow.
async fn finish_http1(manager: &HttpManager, connection: &mut http1::ServerConnection) -> bool {
    let limit = manager.timeouts.stream_idle.unwrap_or(Duration::from_secs(300));
    let finished = tokio::time::timeout(limit, poll_fn(|cx| connection.poll_finish(cx))).await;
    matches!(finished, Ok(Ok(Next::KeepAlive)))
}

fn http1_options(manager: &HttpManager) -> http1::server::Options {
    let mut options = http1::server::Options::default();
    options.limits.max_head_bytes = manager.limits.max_head_bytes as usize;
    options.limits.max_headers = manager.limits.max_headers as usize;
    options
}

/// The next request head, within the connection's time limits.
async fn next_head(
    context: &HttpContext,
    manager: &HttpManager,
    connection: &mut http1::ServerConnection,
    timer: &mut LazyTimer,
) -> Heard {
    let since = context.last_active.get();
    let mut head_since: Option<Instant> = None;
    poll_fn(|cx| {
        match connection.poll_head(cx) {
            Poll::Ready(Ok(Some(head))) => return Poll::Ready(Heard::Head(head)),
            Poll::Ready(Err(HeadFailure::Refused(error))) => return Poll::Ready(Heard::Refused(error)),
            Poll::Ready(Ok(None) | Err(HeadFailure::Stream(_))) => return Poll::Ready(Heard::Over),
            Poll::Pending => {}
        }
        if connection.head_started() && head_since.is_none() {
            head_since = Some(Instant::now());
        }
        let life = context.handle.life();
        if context.handle.poll_shorter(life, cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        let limit = match (life, head_since) {
            (Life::Closing, _) => return Poll::Ready(Heard::Over),
            (_, Some(begun)) => manager.timeouts.request_headers.map(|limit| begun + limit),
            (Life::Draining, None) if context.worker.connections.is_draining() => {
                Some(since + IDLE_WHILE_DRAINING)
            }
            // Whose chain is gone may wait for its last request until the drain time is over.
            (Life::Draining | Life::Serving, None) => idle_limit(context, manager, since),
        };
        match limit.map(|at| timer.poll(at, cx)) {
            Some(Poll::Ready(())) if head_since.is_some() => {
                let timeout = HeadError {
                    status: StatusCode::REQUEST_TIMEOUT,
                    details: HEAD_TIMEOUT,
                };
                match connection.refuse(timeout) {
                    HeadFailure::Refused(error) => Poll::Ready(Heard::Refused(error)),
                    HeadFailure::Stream(_) => Poll::Ready(Heard::Over),
                }
            }
            Some(Poll::Ready(())) => {
                if !context.outlives(manager) {
                    context.cells.http.downstream_cx_idle_timeout.one();
                }
                Poll::Ready(Heard::Over)
            }
            Some(Poll::Pending) | None => Poll::Pending,
        }
    })
    .await
}

/// When an idle connection closes.
fn idle_limit(context: &HttpContext, manager: &HttpManager, since: Instant) -> Option<Instant> {
    let idle = manager.timeouts.connection_idle.map(|limit| since + limit);
    let old = manager
        .timeouts
        .connection_duration
        .map(|limit| context.record.accepted + limit);
    match (idle, old) {
        (Some(idle), Some(old)) => Some(idle.min(old)),
        (idle, old) => idle.or(old),
    }
}

/// Answers a head that could not be accepted.
fn refuse(
    context: &Rc<HttpContext>,
    manager: &HttpManager,
    connection: &mut http1::ServerConnection,
    error: HeadError,
) {
    let mut record = ExchangeRecord::new(Rc::clone(&context.record), Instant::now());
    let failure = Failure::BadRequest(error);
    let said = failure.said();
    record.flags.push(said.flag);
    record.details = said.details;
    record.failure = Some(failure.sentence());
    context.cells.http.downstream_rq_total.one();
    let mut reply = Reply::to_failure(&failure, false, false);
    let rare = manager.rare.as_ref();
    if let Some(said) = rare.and_then(|rare| rare.local_replies.as_ref()) {
        own_reply::rewrite(&mut reply, said, &mut record, &http::HeaderMap::new());
    }
    reply.complete(false);
    response_head::finish(&mut reply.headers, manager, None);
    // A client that is gone hears no answer.
    let _ = reply.send(connection, &http::Method::GET, &mut record);
    record.ended = Some(record.started.elapsed());
    context.request_ended(manager, &record);
}

fn http2_options(manager: &HttpManager) -> http2::Options {
    http2::Options {
        http2: manager.http2.clone(),
        max_head_bytes: manager.limits.max_head_bytes,
        max_headers: manager.limits.max_headers as usize,
        extended_connect: true,
        ..http2::Options::default()
    }
}

/// Serves an HTTP/2 connection to its end.
pub async fn serve_http2(context: Rc<HttpContext>, io: Io) {
    context.cells.http.downstream_cx_http2_total.one();
    let manager = context.newest_manager();
    let mut connection = http2::ServerConnection::new(io, http2_options(&manager));
    let mut timer = LazyTimer::default();
    let mut life = Life::Serving;
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                return Poll::Ready(Event::Stream(accepted));
            }
            if let Poll::Ready(shorter) = context.handle.poll_shorter(life, cx) {
                return Poll::Ready(Event::Life(shorter));
            }
            let limit =
                idle_limit(&context, &manager, context.last_active.get()).filter(|_| life == Life::Serving);
            match limit.map(|at| timer.poll(at, cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Event::Timer),
                _ => Poll::Pending,
            }
        })
        .await;
        let before = life;
        match event {
            Event::Stream(Some(Ok((head, stream)))) => {
                spawn(serve_stream(Rc::clone(&context), head, stream));
                if life == Life::Serving && context.spent(&manager) {
                    context.cells.http.downstream_cx_max_requests_reached.one();
                    life = life.max(Life::Draining);
                }
            }
            Event::Stream(Some(Err(error))) => {
                if !matches!(error, StreamError::Io(_) | StreamError::Truncated) {
                    context.cells.http.downstream_cx_protocol_error.one();
                }
                break;
            }
            Event::Stream(None) | Event::Life(Life::Closing) => break,
            Event::Life(shorter) => life = shorter,
            Event::Timer if context.outlives(&manager) => life = Life::Draining,
            Event::Timer if context.active.get() == 0 => {
                context.cells.http.downstream_cx_idle_timeout.one();
                life = Life::Draining;
            }
            // Streams are in flight: their end moves the limit.
            Event::Timer => context.last_active.set(Instant::now()),
        }
        if before == Life::Serving && life == Life::Draining {
            context.cells.http.downstream_cx_drain_close.one();
            connection.graceful_shutdown();
        }
    }
    // The last frames leave, or the client is gone.
    let linger = manager.timeouts.delayed_close.unwrap_or(Duration::from_secs(1));
    let _ = tokio::time::timeout(linger, poll_fn(|cx| connection.poll_close(cx))).await;
}

/// What an HTTP/2 connection brought.
enum Event<S> {
    Stream(S),
    Life(Life),
    Timer,
}

/// Serves one HTTP/2 stream.
async fn serve_stream(context: Rc<HttpContext>, head: RequestHead, mut stream: http2::ServerStream) {
    let manager = context.newest_manager();
    let mut timer = LazyTimer::default();
    let exchange = Exchange::new(&context, &manager, &mut stream, &mut timer);
    // A task is copied several times between its start and its end.
    Box::pin(exchange.serve(head)).await;
}
