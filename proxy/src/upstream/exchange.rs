//! One exchange on an upstream connection, over either protocol, and what becomes of the connection afterwards.
//!
//! Holds: an HTTP/1 connection goes back to its pool only after a complete exchange that left it reusable; dropped
//! halfway, it is closed. Requests in flight are counted from `begin` to the end, however it comes.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method};
use remora_model::cluster::Cluster;
use remora_model::endpoint::Endpoint;

use super::lease::{InFlight, Lease, PooledHttp1, SharedHttp2};
use super::pool::Pool;
use crate::exchange::{
    Frame, Receive, RequestHead, ResponseEvent, ResponseHead, StreamError, Transmit, Upstream,
};
use crate::failure::{Failure, Timer};
use crate::http2;
use crate::observe::metrics::class_of;
use crate::observe::{ClusterCells, ExchangeRecord};
use crate::worker::Worker;

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost an allocation for each HTTP/2 request"
)]
enum Side {
    Http1(Option<Box<PooledHttp1>>, Rc<Pool>),
    /// A stream, and its connection, which lives as long as somebody holds it.
    Http2 {
        stream: http2::ClientStream,
        _connection: Rc<SharedHttp2>,
    },
}

/// An exchange whose request head was sent.
#[derive(Debug)]
pub struct UpstreamExchange {
    side: Side,
    /// A head that was read and is heard again.
    again: Option<Box<ResponseHead>>,
    active: ActiveUpstream,
    worker: Rc<Worker>,
}

/// A request in flight to an endpoint.
#[derive(Debug)]
struct ActiveUpstream {
    cells: Arc<ClusterCells>,
    endpoint: Arc<Endpoint>,
    _in_flight: InFlight,
}

impl ActiveUpstream {
    fn begin(cells: Arc<ClusterCells>, endpoint: Arc<Endpoint>, in_flight: InFlight) -> Self {
        endpoint.live().active.fetch_add(1, Ordering::Relaxed);
        endpoint.live().total.fetch_add(1, Ordering::Relaxed);
        cells.traffic.upstream_rq_total.one();
        cells.traffic.upstream_rq_active.add(1);
        Self {
            cells,
            endpoint,
            _in_flight: in_flight,
        }
    }
}

impl Drop for ActiveUpstream {
    fn drop(&mut self) {
        self.endpoint.live().active.fetch_sub(1, Ordering::Relaxed);
        self.cells.traffic.upstream_rq_active.add(-1);
    }
}

impl UpstreamExchange {
    /// Sends the head of `head` on the leased connection.
    ///
    /// # Errors
    /// Why it could not be sent, and whether it is proven that the endpoint saw nothing of it.
    pub fn begin(
        worker: &Rc<Worker>,
        cluster: &Cluster,
        (lease, in_flight): (Lease, InFlight),
        head: &RequestHead,
    ) -> Result<Self, (StreamError, bool)> {
        let cells = worker.counters.cluster(&cluster.config);
        let endpoint = Arc::clone(&lease.record().endpoint);
        let active = ActiveUpstream::begin(cells, endpoint, in_flight);
        let side = match lease {
            Lease::Http1(mut pooled, pool) => {
                let sent = pooled.connection.send_request(head);
                let this = Self {
                    side: Side::Http1(Some(pooled), pool),
                    again: None,
                    active,
                    worker: Rc::clone(worker),
                };
                // Nothing left this process yet.
                return sent.map(|()| this).map_err(|error| (error, true));
            }
            Lease::Http2(shared) => {
                // The head may be needed again: a refused stream is sent anew.
                let sent = shared.sender.borrow_mut().send_request(head.clone());
                let stream = sent.map_err(|error| (error, true))?;
                Side::Http2 {
                    stream,
                    _connection: shared,
                }
            }
        };
        Ok(Self {
            side,
            again: None,
            active,
            worker: Rc::clone(worker),
        })
    }

    /// Whom it is with.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.active.endpoint
    }

    /// Whom it is with, where the health of the cluster's endpoints is watched.
    pub fn watched(&self, cluster: &Cluster) -> Option<Arc<Endpoint>> {
        cluster.config.health.as_ref()?;
        Some(Arc::clone(self.endpoint()))
    }

    /// The exchange was complete at `now`: counts it and gives the connection back.
    pub fn finish(mut self, record: &ExchangeRecord, now: Instant) {
        self.answered(record.status.unwrap_or(0));
        let traffic = &self.active.cells.traffic;
        traffic
            .upstream_rq_time
            .record(now.saturating_duration_since(record.started));
        self.count_bytes(record);
        if let Side::Http1(slot, pool) = &mut self.side
            && let Some(pooled) = slot.take()
        {
            if pooled.connection.reusable() {
                self.worker.pools.put_back(pool, pooled, now);
            } else {
                self.active.cells.traffic.upstream_cx_destroy_local.one();
            }
        }
    }

    /// Counts an answer by its status.
    fn answered(&self, status: u16) {
        let traffic = &self.active.cells.traffic;
        traffic.upstream_rq_completed.one();
        let classes = [
            &traffic.upstream_rq_1xx,
            &traffic.upstream_rq_2xx,
            &traffic.upstream_rq_3xx,
            &traffic.upstream_rq_4xx,
            &traffic.upstream_rq_5xx,
        ];
        class_of(status, classes);
        self.active.cells.codes.record(status);
        if status >= 500 {
            self.active.endpoint.live().errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Its answer is not wanted, because the request is tried again; its stream or connection is given up.
    pub fn discard(mut self, status: u16) {
        self.answered(status);
        self.reset(h2::Reason::CANCEL);
    }

    /// The head of its response was read; whoever reads next hears it once more.
    pub fn hears_again(&mut self, response: ResponseHead) {
        self.again = Some(Box::new(response));
    }

    /// Nobody waits for its answer any more.
    pub fn give_up(mut self) {
        self.active.cells.traffic.upstream_rq_tx_reset.one();
        self.reset(h2::Reason::CANCEL);
    }

    /// The exchange failed: counts it; its connection or stream is given up.
    pub fn fail<'r>(mut self, failure: &Failure, record: impl Into<Option<&'r ExchangeRecord>>) {
        let traffic = &self.active.cells.traffic;
        match failure {
            Failure::UpstreamReset(error) | Failure::UpstreamCut(error) => {
                traffic.upstream_rq_rx_reset.one();
                match error {
                    StreamError::Io(_) | StreamError::Truncated => {
                        traffic.upstream_cx_destroy_remote_with_active_rq.one();
                    }
                    StreamError::Protocol(_) => traffic.upstream_cx_protocol_error.one(),
                    StreamError::Reset(_) | StreamError::Refused => {}
                }
            }
            Failure::Timeout(Timer::Response(_)) => traffic.upstream_rq_timeout.one(),
            Failure::Timeout(Timer::PerTry(_)) => traffic.upstream_rq_per_try_timeout.one(),
            Failure::Timeout(Timer::PerTryIdle(_)) => traffic.upstream_rq_per_try_idle_timeout.one(),
            Failure::Timeout(Timer::UpstreamDuration(_)) => {
                traffic.upstream_rq_max_duration_reached.one();
            }
            Failure::ClientGone(_) => traffic.upstream_rq_cancelled.one(),
            _ => {}
        }
        if failure.blames_upstream() {
            self.active.endpoint.live().errors.fetch_add(1, Ordering::Relaxed);
        } else {
            traffic.upstream_rq_tx_reset.one();
        }
        if let Some(record) = record.into() {
            self.count_bytes(record);
        }
        self.reset(h2::Reason::CANCEL);
    }

    /// Whether the endpoint cannot have processed the request, so that it may be sent again: it said so
    /// (`REFUSED_STREAM`, GOAWAY), or a reused connection died without a byte of an answer and sending twice what the
    /// method allows to be sent twice is no harm (RFC 9110 section 9.2.2).
    pub fn proves_unprocessed(&self, failure: &Failure, reused: bool, method: &Method) -> bool {
        match failure {
            Failure::UpstreamReset(StreamError::Refused) => true,
            Failure::UpstreamReset(StreamError::Io(_) | StreamError::Truncated) => {
                let silent = match &self.side {
                    Side::Http1(Some(pooled), _) => pooled.connection.nothing_received(),
                    Side::Http1(None, _) => false,
                    Side::Http2 { .. } => true,
                };
                reused && silent && method.is_idempotent()
            }
            _ => false,
        }
    }

    fn count_bytes(&self, record: &ExchangeRecord) {
        let traffic = &self.active.cells.traffic;
        traffic.upstream_cx_tx_bytes_total.add(record.received);
        traffic.upstream_cx_rx_bytes_total.add(record.sent);
    }
}

/// Asks whichever side it is; an HTTP/1 side without its connection has ended.
macro_rules! either {
    ($self:expr, $io:ident => $act:expr, $ended:expr) => {
        match &mut $self.side {
            Side::Http1(Some(pooled), _) => {
                let $io = &mut pooled.connection;
                $act
            }
            Side::Http1(None, _) => $ended,
            Side::Http2 { stream: $io, .. } => $act,
        }
    };
}

impl Receive for UpstreamExchange {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        either!(self, io => io.poll_frame(cx), Poll::Ready(None))
    }

    fn is_end(&self) -> bool {
        match &self.side {
            Side::Http1(Some(pooled), _) => pooled.connection.is_end(),
            Side::Http1(None, _) => true,
            Side::Http2 { stream, .. } => stream.is_end(),
        }
    }
}

impl Transmit for UpstreamExchange {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        either!(self, io => io.poll_ready(cx), Poll::Ready(Err(StreamError::Truncated)))
    }

    fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), StreamError> {
        either!(self, io => io.send_data(data, end), Err(StreamError::Truncated))
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError> {
        either!(self, io => io.send_trailers(trailers), Err(StreamError::Truncated))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        either!(self, io => io.poll_flush(cx), Poll::Ready(Ok(())))
    }
}

impl Upstream for UpstreamExchange {
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent, StreamError>> {
        if let Some(head) = self.again.take() {
            return Poll::Ready(Ok(ResponseEvent::Head(*head)));
        }
        either!(self, io => io.poll_response(cx), Poll::Ready(Err(StreamError::Truncated)))
    }

    fn reset(&mut self, reason: h2::Reason) {
        either!(self, io => io.reset(reason), ());
    }
}
