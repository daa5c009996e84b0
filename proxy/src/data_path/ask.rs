//! Asks a service in the middle of a request: one call to a cluster, over the pools that requests use.
//!
//! Holds: a call is made once; it has one deadline from the choice of an endpoint to the last byte of its answer, and one
//! bound for the answer's size; whoever drops it ends it. Does not know what is asked, nor what follows from the answer.

mod grpc;

pub use grpc::{Unary, unary};

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use remora_model::balance::Bringing;
use remora_model::cluster::{Cluster, Level, PickFacts, RequestPriority};

use super::target;
use crate::exchange::{
    BodyLength, Frame, Receive, RequestHead, ResponseEvent, ResponseHead, Transmit, Upstream,
};
use crate::failure::Failure;
use crate::observe::{ConnectionRecord, ExchangeRecord};
use crate::upstream::{Acquire, Protocol, UpstreamExchange};
use crate::worker::Worker;

/// How long a service may take where it is said to have all the time it wants.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is sent, and what may come back.
#[derive(Debug)]
pub struct Call {
    /// The head; its cluster may rewrite nothing.
    pub head: RequestHead,
    /// The body.
    pub body: Bytes,
    /// The longest body that is read, bytes.
    pub longest: usize,
    /// Everything within this; zero: within a bound of our own.
    pub limit: Duration,
}

/// Whose call it is, and how it goes.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The connection whose request asks.
    pub caller: &'a ConnectionRecord,
    /// What is spoken.
    pub protocol: Protocol,
    /// What an aggregate cluster chose of the cluster.
    pub level: Option<Level>,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    /// Its head.
    pub head: ResponseHead,
    /// Its body.
    pub body: Bytes,
    /// Its trailers, if it had any.
    pub trailers: Option<HeaderMap>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The service could not be reached, or broke off.
    Failed(Failure),
    /// It took too long.
    TimedOut(Duration),
    /// It answered at more length than is read.
    TooLong(usize),
    /// It answered with an HTTP status that is none of its service.
    Http(StatusCode),
    /// It answered with a gRPC status other than 0.
    Grpc(u32),
    /// Its answer is not what the protocol has.
    Malformed(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => f.write_str(&failure.sentence()),
            Self::TimedOut(limit) => write!(f, "no answer within {limit:?}"),
            Self::TooLong(longest) => write!(f, "an answer of more than {longest} bytes"),
            Self::Http(status) => write!(f, "HTTP status {}", status.as_u16()),
            Self::Grpc(status) => write!(f, "gRPC status {status}"),
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Makes the call.
///
/// # Errors
/// Why there is no answer.
pub async fn call(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    (caller, protocol): (&Rc<ConnectionRecord>, Protocol),
    call: Call,
) -> Result<Answer, Unanswered> {
    let limit = if call.limit.is_zero() {
        PATIENCE
    } else {
        call.limit
    };
    let mut record = ExchangeRecord::new(Rc::clone(caller), Instant::now());
    let whole = async {
        let (cluster, level) = target::serving(worker, cluster)?;
        let whose = Whose {
            caller,
            protocol,
            level,
        };
        let mut upstream = reach(worker, &cluster, whose, &call.head).await?;
        match exchange(&mut upstream, call.body, call.longest, &mut record).await {
            Ok(answer) => {
                upstream.finish(&record, Instant::now());
                Ok(answer)
            }
            Err(unanswered) => {
                if let Unanswered::Failed(failure) = &unanswered {
                    upstream.fail(failure, &record);
                }
                Err(unanswered)
            }
        }
    };
    let timed_out = |_| Unanswered::TimedOut(limit);
    tokio::time::timeout(limit, whole).await.map_err(timed_out)?
}

/// A connection to an endpoint of the cluster, with the head sent; the endpoints are asked for, where they come by use.
///
/// # Errors
/// Why there is none.
pub async fn reach(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    whose: Whose<'_>,
    head: &RequestHead,
) -> Result<UpstreamExchange, Failure> {
    let first_use = if cluster.endpoints.endpoints.is_empty() {
        target::with_endpoints(worker, cluster).await?
    } else {
        None
    };
    let cluster = first_use.as_ref().unwrap_or(cluster);
    let facts = PickFacts {
        level: whose.level,
        ..PickFacts::default()
    };
    let bringing = Bringing {
        headers: Some(&head.headers),
        ..Bringing::default()
    };
    let endpoint = target::endpoint_of(worker, cluster, &facts, None, &bringing)?;
    let server_name = cluster.config.server_name(head.authority.as_ref(), &head.headers);
    let wanted = Acquire {
        cluster,
        endpoint: &endpoint,
        priority: RequestPriority::Default,
        protocol: whose.protocol,
        server_name,
        alpn: None,
        caller: Some(whose.caller),
        fresh: false,
    };
    let lease = worker.pools.acquire(worker, wanted).await?;
    UpstreamExchange::begin(worker, cluster, lease, head).map_err(|(error, _)| Failure::UpstreamReset(error))
}

/// Sends the body and reads the answer to its end.
async fn exchange(
    upstream: &mut UpstreamExchange,
    body: Bytes,
    longest: usize,
    record: &mut ExchangeRecord,
) -> Result<Answer, Unanswered> {
    record.received = body.len() as u64;
    let mut unsent = Some(body).filter(|body| !body.is_empty());
    let mut reading = Reading::default();
    poll_fn(|cx| {
        if unsent.is_some()
            && upstream.poll_ready(cx).is_ready()
            && let Some(body) = unsent.take()
        {
            // That it reads no more shows when its answer is read.
            let _ = upstream.send_data(body, true);
        }
        let _ = upstream.poll_flush(cx);
        reading.poll(upstream, longest, record, cx)
    })
    .await?;
    let head = reading
        .head
        .ok_or_else(|| Unanswered::Malformed("no head".into()))?;
    Ok(Answer {
        head,
        body: reading.body.freeze(),
        trailers: reading.trailers,
    })
}

/// An answer as far as it came.
#[derive(Default)]
struct Reading {
    head: Option<ResponseHead>,
    body: BytesMut,
    trailers: Option<HeaderMap>,
}

impl Reading {
    fn poll(
        &mut self,
        upstream: &mut UpstreamExchange,
        longest: usize,
        record: &mut ExchangeRecord,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unanswered>> {
        while self.head.is_none() {
            if let ResponseEvent::Head(head) =
                ready!(upstream.poll_response(cx)).map_err(Failure::UpstreamReset)?
            {
                record.status = Some(head.status.as_u16());
                let ended = head.body == BodyLength::None;
                self.head = Some(head);
                if ended {
                    return Poll::Ready(Ok(()));
                }
            }
        }
        loop {
            match ready!(upstream.poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(Failure::UpstreamCut(error).into())),
                Some(Ok(Frame::Data(data))) if self.body.len() + data.len() > longest => {
                    return Poll::Ready(Err(Unanswered::TooLong(longest)));
                }
                Some(Ok(Frame::Data(data))) => {
                    record.sent += data.len() as u64;
                    self.body.extend_from_slice(&data);
                }
                Some(Ok(Frame::Trailers(trailers))) => self.trailers = Some(trailers),
            }
        }
    }
}
