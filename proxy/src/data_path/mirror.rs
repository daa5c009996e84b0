//! Copies of a request for clusters whose answers nobody sees (`request_mirror_policies`).
//!
//! Holds: a copy is a task of its own and the request never waits for it: what it has not sent yet is bounded, and one
//! that falls behind is given up and counted. Bytes are shared with the request, not copied. A copy whose request ends
//! unfinished ends so too.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use remora_model::cluster::{Cluster, Level};
use remora_model::filter::apply_operations;
use remora_model::listener::HttpManager;
use remora_model::route::{Mirror, Origin, TimeLimit};

use super::ask::{Whose, reach};
use super::deadlines::LazyTimer;
use super::forwarded_for;
use super::http::HttpContext;
use super::mutation::Printer;
use super::target;
use crate::exchange::{
    BodyLength, Frame, Receive, RequestHead, ResponseEvent, StreamError, Transmit, Upstream,
};
use crate::failure::{Failure, Timer};
use crate::observe::{ExchangeRecord, HttpCells};
use crate::upstream::{Protocol, UpstreamExchange};
use crate::worker::{Worker, spawn};

/// How long a copy may take for anything but waiting for its client, where the route sets no timeout.
const PATIENCE: TimeLimit = TimeLimit {
    limit: Duration::from_secs(15),
    from: Origin::RouteDefault,
};

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");

/// The body of a request on its way to its copy.
#[derive(Debug, Default)]
struct Feed {
    /// How many bytes may wait.
    limit: usize,
    waiting: Cell<usize>,
    frames: RefCell<VecDeque<Frame>>,
    state: Cell<Flow>,
    waker: RefCell<Option<Waker>>,
}

/// How far the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Flow {
    /// Frames may follow.
    #[default]
    Open,
    /// Complete.
    Ended,
    /// The request ended unfinished.
    Broken,
    /// The copy fell behind, or is over.
    GivenUp,
}

impl Feed {
    fn set(&self, state: Flow) {
        self.state.set(state);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next frame; `None` at the end.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Failure>>> {
        if self.state.get() == Flow::GivenUp {
            return Poll::Ready(Some(Err(Failure::ClientGone(StreamError::Truncated))));
        }
        if let Some(frame) = self.frames.borrow_mut().pop_front() {
            if let Frame::Data(data) = &frame {
                self.waiting.set(self.waiting.get() - data.len());
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        match self.state.get() {
            Flow::Open => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            Flow::Ended => Poll::Ready(None),
            Flow::Broken | Flow::GivenUp => {
                Poll::Ready(Some(Err(Failure::ClientGone(StreamError::Truncated))))
            }
        }
    }
}

/// The copies that a request's body is given to.
#[derive(Debug)]
pub struct Copies {
    feeds: Vec<Rc<Feed>>,
    cells: Arc<HttpCells>,
}

impl Copies {
    /// Gives every copy a piece of the body; those that fell behind are given up.
    pub fn data(&mut self, data: &Bytes) {
        self.feeds.retain(|feed| {
            let waiting = feed.waiting.get() + data.len();
            let kept = feed.state.get() == Flow::Open && waiting <= feed.limit;
            if kept {
                feed.waiting.set(waiting);
                feed.frames.borrow_mut().push_back(Frame::Data(data.clone()));
                feed.set(Flow::Open);
            } else if feed.state.get() == Flow::Open {
                self.cells.http.rq_mirror_overflow.one();
                feed.frames.borrow_mut().clear();
                feed.set(Flow::GivenUp);
            }
            kept
        });
    }

    /// Gives every copy the trailers.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        for feed in &self.feeds {
            feed.frames
                .borrow_mut()
                .push_back(Frame::Trailers(trailers.clone()));
        }
        self.end();
    }

    /// The body is complete.
    pub fn end(&mut self) {
        for feed in self.feeds.drain(..) {
            feed.set(Flow::Ended);
        }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        for feed in &self.feeds {
            feed.set(Flow::Broken);
        }
    }
}

/// What the copies of one request have in common.
pub struct Source<'a> {
    /// The connection that it came on.
    pub context: &'a HttpContext,
    /// What is known of the request.
    pub record: &'a ExchangeRecord,
    /// Its head as the upstream gets it.
    pub head: &'a RequestHead,
    /// The connection manager, as the request has it.
    pub manager: &'a HttpManager,
    /// The route's timeout.
    pub timeout: Option<TimeLimit>,
    /// How many bytes of its body may wait for a copy.
    pub buffer: u64,
}

/// Starts the copies that `mirrors` ask for; `None` where there are none that want a body.
pub fn start(mirrors: &[Mirror], source: &Source<'_>) -> Option<Copies> {
    let (context, head) = (source.context, source.head);
    if head.upgrade.is_some() || head.method == Method::CONNECT {
        return None;
    }
    let mut feeds = Vec::new();
    for mirror in mirrors {
        if !context.worker.with_rng(|rng| mirror.wants(rng)) {
            continue;
        }
        let world = context.worker.world();
        let Some(cluster) = target::cluster_of(&mirror.cluster, None, &head.headers, &world) else {
            context.cells.http.rq_mirror_failed.one();
            continue;
        };
        let Ok((cluster, level)) = target::serving(&context.worker, &cluster) else {
            context.cells.http.rq_mirror_failed.one();
            continue;
        };
        let feed = Rc::new(Feed {
            limit: usize::try_from(source.buffer).unwrap_or(usize::MAX),
            ..Feed::default()
        });
        if head.body == BodyLength::None {
            feed.set(Flow::Ended);
        } else {
            feeds.push(Rc::clone(&feed));
        }
        context.cells.http.rq_mirrored.one();
        let http2 = head.version == http::Version::HTTP_2;
        let protocol = Protocol::towards(cluster.config.http.protocol, http2);
        let copy = Copy {
            protocol,
            trailers: target::trailers(source.manager, &cluster, head.version, protocol).0,
            worker: Rc::clone(&context.worker),
            cells: Arc::clone(&context.cells),
            cluster,
            level,
            head: head_of(mirror, source),
            record: ExchangeRecord::new(Rc::clone(&context.record), Instant::now()),
            feed,
            limit: source.timeout.unwrap_or(PATIENCE),
        };
        spawn(copy.run());
    }
    let cells = Arc::clone(&context.cells);
    (!feeds.is_empty()).then_some(Copies { feeds, cells })
}

/// The copy's head: the request's own, its host by the policy, as from inside and from here, then the policy's mutations.
fn head_of(mirror: &Mirror, source: &Source<'_>) -> RequestHead {
    let mut head = source.head.clone();
    if head.expects_continue {
        head.expects_continue = false;
        head.headers.remove(header::EXPECT);
    }
    let authority = head.authority.as_ref().map_or("", |authority| authority.as_str());
    if let Some(host) = mirror.host.apply(authority) {
        head.authority = Some(host);
    }
    if !mirror.headers.is_empty() {
        let printer = Printer {
            record: source.record,
            request: Some(&source.head.headers),
            response: None,
        };
        apply_operations(&mirror.headers, &mut head.headers, &printer);
    }
    head.headers.insert(INTERNAL, HeaderValue::from_static("true"));
    forwarded_for::append(&mut head.headers, source.context.record.local.ip());
    head
}

/// One copy on its way.
struct Copy {
    worker: Rc<Worker>,
    cells: Arc<HttpCells>,
    cluster: Arc<Cluster>,
    level: Option<Level>,
    protocol: Protocol,
    trailers: bool,
    head: RequestHead,
    record: ExchangeRecord,
    feed: Rc<Feed>,
    limit: TimeLimit,
}

impl Copy {
    async fn run(mut self) {
        if self.travel().await.is_err() && self.feed.state.get() != Flow::GivenUp {
            self.cells.http.rq_mirror_failed.one();
        }
        self.feed.set(Flow::GivenUp);
    }

    async fn travel(&mut self) -> Result<(), Failure> {
        let whose = Whose {
            caller: &self.record.connection,
            protocol: self.protocol,
            level: self.level,
        };
        let reached = reach(&self.worker, &self.cluster, whose, &self.head);
        let timed_out = |_| Failure::Timeout(Timer::Response(self.limit));
        let reached = tokio::time::timeout(self.limit.limit, reached).await;
        let mut upstream = reached.map_err(timed_out)??;
        match self.exchange(&mut upstream).await {
            Ok(()) => {
                upstream.finish(&self.record, Instant::now());
                Ok(())
            }
            Err(failure) => {
                upstream.fail(&failure, &self.record);
                Err(failure)
            }
        }
    }

    /// Sends the body as it comes and throws the answer away.
    async fn exchange(&mut self, upstream: &mut UpstreamExchange) -> Result<(), Failure> {
        let mut timer = LazyTimer::default();
        let mut until = Instant::now() + self.limit.limit;
        let mut sending = self.head.body != BodyLength::None;
        poll_fn(|cx| {
            let mut waits_for_client = false;
            while sending && upstream.poll_ready(cx).is_ready() {
                let Poll::Ready(frame) = self.feed.poll(cx) else {
                    waits_for_client = true;
                    break;
                };
                until = Instant::now() + self.limit.limit;
                // That it reads no more shows when its answer is read.
                sending = self.pass(upstream, frame.transpose()?);
            }
            let flushed = upstream.poll_flush(cx).is_ready();
            if let Poll::Ready(outcome) = answer(upstream, &mut self.record, cx) {
                return Poll::Ready(outcome);
            }
            if waits_for_client && flushed {
                return Poll::Pending;
            }
            let timed_out = Failure::Timeout(Timer::Response(self.limit));
            timer.poll(until, cx).map(|()| Err(timed_out))
        })
        .await
    }

    /// Sends a frame; whether more may follow.
    fn pass(&mut self, upstream: &mut UpstreamExchange, frame: Option<Frame>) -> bool {
        let ended = match frame {
            Some(Frame::Data(data)) => {
                self.record.received += data.len() as u64;
                return upstream.send_data(data, false).is_ok();
            }
            Some(Frame::Trailers(trailers)) if self.trailers => upstream.send_trailers(trailers),
            Some(Frame::Trailers(_)) | None => upstream.send_data(Bytes::new(), true),
        };
        // What went wrong shows when the answer is read.
        drop(ended);
        false
    }
}

/// Reads the answer to its end; its status is entered once it is known.
fn answer(
    upstream: &mut UpstreamExchange,
    record: &mut ExchangeRecord,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Failure>> {
    while record.status.is_none() {
        match ready!(upstream.poll_response(cx)).map_err(Failure::UpstreamReset)? {
            ResponseEvent::Informational(_) => {}
            ResponseEvent::Head(head) if head.body == BodyLength::None => {
                record.status = Some(head.status.as_u16());
                return Poll::Ready(Ok(()));
            }
            ResponseEvent::Head(head) => record.status = Some(head.status.as_u16()),
        }
    }
    loop {
        match ready!(upstream.poll_frame(cx)) {
            None => return Poll::Ready(Ok(())),
            Some(Ok(Frame::Data(data))) => record.sent += data.len() as u64,
            Some(Ok(Frame::Trailers(_))) => {}
            Some(Err(error)) => return Poll::Ready(Err(Failure::UpstreamCut(error))),
        }
    }
}
