//! Moves the frames of one exchange in both directions at once, with backpressure, within its time limits.
//!
//! Holds: one future drives both sides, so no task and no channel stands between them; a frame is taken from one side
//! only when the other has room; a head and the body that came with it leave in one write. An upstream that answers
//! before it has read the request is listened to even if writing to it fails.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use remora_model::route::TimeLimit;

use super::body::{Stages, Through};
use super::deadlines::{Deadlines, LazyTimer, starting};
use super::http::HttpContext;
use super::replay::Replay;
use crate::exchange::{BodyLength, Downstream, Frame, ResponseEvent, ResponseHead, StreamError, Upstream};
use crate::failure::{Failure, Timer};
use crate::observe::ExchangeRecord;

/// How far the request is on its way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// Frames may follow.
    Open,
    /// An upgrade was asked for: bytes follow only once the upstream agreed.
    AwaitingUpgrade,
    /// Complete, or given up because the upstream reads no more.
    Ended,
}

/// How far the response is on its way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    /// No final head yet.
    AwaitingHead,
    /// Frames may follow.
    Body,
    /// Complete.
    Ended,
}

/// Why a transfer ended early, and what is still possible.
#[derive(Debug, Clone)]
pub struct Cut {
    /// What happened.
    pub failure: Failure,
    /// The client has seen a final head.
    pub head_sent: bool,
}

impl From<Failure> for Cut {
    /// A failure before anything was sent to either side.
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            head_sent: false,
        }
    }
}

/// What of the request could be sent once more when its response came.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Everything that was taken of it.
    pub possible: bool,
    /// It was received whole.
    pub whole: bool,
}

/// How a transfer came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The response is with the client.
    Complete,
    /// The response was not wanted: the client has seen nothing of it.
    Declined,
}

/// One exchange on its way.
pub struct Transfer<'a, D, U> {
    /// The client.
    pub downstream: &'a mut D,
    /// The endpoint; its request head was sent.
    pub upstream: &'a mut U,
    /// Its time limits.
    pub deadlines: &'a mut Deadlines,
    /// Watches them.
    pub timer: &'a mut LazyTimer,
    /// The connection, which may have to close.
    pub context: &'a HttpContext,
    /// Filled as it goes.
    pub record: &'a mut ExchangeRecord,
    /// What was taken of the request's body before, and is taken now.
    pub replay: &'a mut Replay,
    /// Route timeout, to be armed when the request is complete.
    pub response_limit: Option<TimeLimit>,
    /// `per_try_timeout`, likewise.
    pub attempt_limit: Option<TimeLimit>,
    /// Keep response trailers for the log.
    pub keep_trailers: bool,
    /// Whether trailers pass: up, and down.
    pub trailers: (bool, bool),
    /// What filters do to the request's body.
    pub up: Option<&'a mut Stages>,
    /// What they do to the response's, once its head was seen.
    pub down: Option<Box<Stages>>,
}

/// What is done to a final head before the client sees it; it may put stages in the way of its body.
pub trait Prepare: FnMut(&mut ResponseHead, &mut ExchangeRecord, &mut Option<Box<Stages>>) {}

impl<F: FnMut(&mut ResponseHead, &mut ExchangeRecord, &mut Option<Box<Stages>>)> Prepare for F {}

impl<D: Downstream, U: Upstream> Transfer<'_, D, U> {
    /// Runs to the end of the response. `declines` sees the final head first, with whether the request could be sent again, and may want another attempt instead;
    /// `prepare` sees it before the client does.
    ///
    /// # Errors
    /// A [`Cut`] that says what failed and how far things were.
    pub async fn run(
        mut self,
        body: BodyLength,
        upgrade: bool,
        mut declines: impl FnMut(&ResponseHead, Kept) -> bool,
        mut prepare: impl Prepare,
    ) -> Result<Done, Cut> {
        let request = match (upgrade, body) {
            (true, _) => Request::AwaitingUpgrade,
            (false, BodyLength::None) => Request::Ended,
            (false, BodyLength::Exact(_) | BodyLength::Unknown) => Request::Open,
        };
        let mut state = State {
            request,
            response: Response::AwaitingHead,
            moved: false,
            clock: None,
        };
        if request != Request::Open {
            self.request_ended(state.now());
        }
        let outcome = poll_fn(|cx| {
            let outcome = self.poll(&mut state, &mut declines, &mut prepare, cx);
            state.clock = None;
            outcome
        })
        .await;
        outcome.map_err(|failure| Cut {
            failure,
            head_sent: state.response != Response::AwaitingHead,
        })
    }

    fn poll(
        &mut self,
        state: &mut State,
        declines: &mut impl FnMut(&ResponseHead, Kept) -> bool,
        prepare: &mut impl Prepare,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Done, Failure>> {
        state.moved = false;
        self.poll_request(state, cx)?;
        if self.poll_response(state, declines, prepare, cx)? == Done::Declined {
            return Poll::Ready(Ok(Done::Declined));
        }
        let flushed = self
            .downstream
            .poll_flush(cx)
            .map_err(Failure::ClientGone)?
            .is_ready();
        if state.response == Response::Ended && flushed {
            return Poll::Ready(Ok(Done::Complete));
        }
        if state.request == Request::Ended
            && state.response != Response::Ended
            && let Poll::Ready(gone) = self.downstream.poll_gone(cx)
        {
            return Poll::Ready(Err(Failure::ClientGone(gone)));
        }
        if self.context.poll_closing(cx).is_ready() {
            return Poll::Ready(Err(Failure::Draining));
        }
        if state.moved {
            self.deadlines.progress = Some(state.now());
        }
        self.deadlines
            .poll(self.timer, cx)
            .map(|timer| Err(Failure::Timeout(timer)))
    }

    /// Client to upstream.
    fn poll_request(&mut self, state: &mut State, cx: &mut Context<'_>) -> Result<(), Failure> {
        while state.request == Request::Open {
            match self.upstream.poll_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => {
                    // Its answer, or its failure, shows when we read.
                    state.request = Request::Ended;
                    break;
                }
            }
            let mut client = Through {
                sender: &mut *self.downstream,
                stages: self.up.as_deref_mut(),
            };
            match self.replay.poll_frame(&mut client, cx) {
                Poll::Pending => break,
                Poll::Ready(frame) => {
                    state.moved = true;
                    self.pass_up(state, frame)?;
                }
            }
        }
        if let Poll::Ready(Err(_)) = self.upstream.poll_flush(cx) {
            state.request = Request::Ended;
        }
        Ok(())
    }

    fn pass_up(
        &mut self,
        state: &mut State,
        frame: Option<Result<Frame, StreamError>>,
    ) -> Result<(), Failure> {
        let sent = match frame {
            Some(Err(StreamError::Protocol(details))) => return Err(Failure::ClientProtocol(details)),
            Some(Err(error)) => return Err(Failure::ClientGone(error)),
            Some(Ok(Frame::Data(data))) => {
                let client = Through {
                    sender: &mut *self.downstream,
                    stages: self.up.as_deref_mut(),
                };
                let end = self.replay.is_end(&client);
                let sent = client.stages.map(|stages| stages.taken());
                self.record.received = sent.unwrap_or(self.replay.taken());
                if end {
                    state.request = Request::Ended;
                }
                self.upstream.send_data(data, end)
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                state.request = Request::Ended;
                if self.trailers.0 {
                    self.upstream.send_trailers(trailers)
                } else {
                    self.upstream.send_data(Bytes::new(), true)
                }
            }
            None => {
                state.request = Request::Ended;
                self.upstream.send_data(Bytes::new(), true)
            }
        };
        if sent.is_err() {
            state.request = Request::Ended;
        }
        if state.request == Request::Ended {
            self.request_ended(state.now());
        }
        Ok(())
    }

    /// The request is complete: the route's timeout starts (`RouteAction.timeout`).
    fn request_ended(&mut self, now: Instant) {
        self.record.request_received = Some(now.saturating_duration_since(self.record.started));
        self.deadlines.request = None;
        if self.deadlines.response.is_none() {
            self.deadlines.response = starting(now, self.response_limit);
        }
        if self.deadlines.attempt.is_none() {
            self.deadlines.attempt = starting(now, self.attempt_limit);
        }
    }

    /// Upstream to client.
    fn poll_response(
        &mut self,
        state: &mut State,
        declines: &mut impl FnMut(&ResponseHead, Kept) -> bool,
        prepare: &mut impl Prepare,
        cx: &mut Context<'_>,
    ) -> Result<Done, Failure> {
        while state.response == Response::AwaitingHead {
            match self.upstream.poll_response(cx) {
                Poll::Pending => return Ok(Done::Complete),
                Poll::Ready(Err(error)) => return Err(Failure::UpstreamReset(error)),
                Poll::Ready(Ok(ResponseEvent::Informational(head))) => {
                    state.moved = true;
                    self.downstream
                        .send_informational(head)
                        .map_err(Failure::ClientGone)?;
                }
                Poll::Ready(Ok(ResponseEvent::Head(mut head))) => {
                    let kept = Kept {
                        possible: self.replay.possible(),
                        whole: state.request == Request::Ended,
                    };
                    if declines(&head, kept) {
                        return Ok(Done::Declined);
                    }
                    state.moved = true;
                    // Attempts are over: what is left is the route's to limit.
                    self.attempt_limit = None;
                    (self.deadlines.attempt, self.deadlines.attempt_idle) = (None, None);
                    self.record.response_started =
                        Some(state.now().saturating_duration_since(self.record.started));
                    prepare(&mut head, self.record, &mut self.down);
                    self.head_down(state, head)?;
                }
            }
        }
        while state.response == Response::Body {
            match self.downstream.poll_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(Failure::ClientGone(error)),
            }
            let polled = match &mut self.down {
                None => self.upstream.poll_frame(cx),
                Some(stages) => stages.poll_frame(self.upstream, cx),
            };
            match polled {
                Poll::Pending => break,
                Poll::Ready(frame) => {
                    state.moved = true;
                    self.pass_down(state, frame)?;
                }
            }
        }
        Ok(Done::Complete)
    }

    fn head_down(&mut self, state: &mut State, head: ResponseHead) -> Result<(), Failure> {
        self.record.status = Some(head.status.as_u16());
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        match state.request {
            Request::AwaitingUpgrade if switched || head.status.is_success() => {
                state.request = Request::Open;
                // A tunnel lives as long as it is used.
                self.response_limit = None;
                self.deadlines.response = None;
            }
            Request::AwaitingUpgrade => state.request = Request::Ended,
            Request::Open | Request::Ended => {}
        }
        state.response = match head.body {
            BodyLength::None if !switched => Response::Ended,
            BodyLength::None | BodyLength::Exact(_) | BodyLength::Unknown => Response::Body,
        };
        if let Some(status) = grpc_status_in(&head.headers) {
            self.record.grpc_status = Some(status);
        }
        if self.context.is_ending() && !switched {
            self.downstream.set_close();
        }
        self.downstream.send_head(head).map_err(Failure::ClientGone)
    }

    fn pass_down(
        &mut self,
        state: &mut State,
        frame: Option<Result<Frame, StreamError>>,
    ) -> Result<(), Failure> {
        let sent = match frame {
            Some(Err(error)) => return Err(Failure::UpstreamCut(error)),
            Some(Ok(Frame::Data(data))) => {
                self.record.sent += data.len() as u64;
                let end = match &self.down {
                    None => self.upstream.is_end(),
                    Some(stages) => stages.is_end(),
                };
                if end {
                    state.response = Response::Ended;
                }
                self.downstream.send_data(data, end)
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                state.response = Response::Ended;
                if let Some(status) = grpc_status_in(&trailers) {
                    self.record.grpc_status = Some(status);
                }
                if self.keep_trailers {
                    self.record.response_trailers = Some(trailers.clone());
                }
                if self.trailers.1 {
                    self.downstream.send_trailers(trailers)
                } else {
                    self.downstream.send_data(Bytes::new(), true)
                }
            }
            None => {
                state.response = Response::Ended;
                self.downstream.send_data(Bytes::new(), true)
            }
        };
        sent.map_err(Failure::ClientGone)
    }
}

/// Where a transfer stands.
struct State {
    request: Request,
    response: Response,
    moved: bool,
    /// Time of this turn, read once and only if somebody asks.
    clock: Option<Instant>,
}

impl State {
    fn now(&mut self) -> Instant {
        *self.clock.get_or_insert_with(Instant::now)
    }
}

/// `grpc-status` of a head or trailers.
fn grpc_status_in(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Waits for `work` within the exchange's time limits, and as long as the client is there.
///
/// # Errors
/// [`Failure::Timeout`] or [`Failure::ClientGone`]; those of `work` are its own.
pub async fn within<D: Downstream, T>(
    downstream: &mut D,
    deadlines: &Deadlines,
    timer: &mut LazyTimer,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Failure> {
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        if let Poll::Ready(gone) = downstream.poll_gone(cx) {
            return Poll::Ready(Err(Failure::ClientGone(gone)));
        }
        deadlines
            .poll(timer, cx)
            .map(|timer: Timer| Err(Failure::Timeout(timer)))
    })
    .await
}
