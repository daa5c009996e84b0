//! Attempts that go on after their time, beside the one that was made after them (`hedge_on_per_try_timeout`): which of
//! them answers first?
//!
//! Holds: the first answer that is no reason for a retry is the client's and ends the others; one that is a reason is
//! given up while others run, and the last one counts whatever it is. As soon as the client has seen a head, nobody else
//! is listened to. A route without hedging pays for one test where a response begins.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use remora_model::cluster::Cluster;
use remora_model::retry::{Ended, RetryPolicy};

use super::attempts::reset_of;
use super::forward::{Cut, within};
use super::journey::{Journey, Next};
use super::local_reply::is_grpc;
use super::request::Exchange;
use crate::exchange::{BodyLength, Downstream, RequestHead, ResponseEvent, ResponseHead, Upstream};
use crate::failure::{Failure, Timer};
use crate::observe::UpstreamRecord;
use crate::upstream::{UpstreamExchange, health};
use crate::worker::Worker;

/// The attempts of one request that go on.
#[derive(Debug, Default)]
pub struct Beside {
    running: Vec<Running>,
    shared: Rc<Shared>,
}

/// What an attempt and those who listen beside it tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// How many run beside the attempt that is made now.
    others: Cell<usize>,
    /// The client has seen a head.
    committed: Cell<bool>,
}

/// An attempt whose time is over and that goes on.
#[derive(Debug)]
struct Running {
    upstream: UpstreamExchange,
    record: UpstreamRecord,
}

/// What came of attempts that go on.
enum Heard {
    /// The answer for the client.
    Won(Box<(Running, ResponseHead)>),
    /// The last one failed.
    Failed(Failure),
}

/// What came first.
enum First {
    Attempt(Result<Next, Cut>),
    Heard(Heard),
}

impl Beside {
    /// Whether an attempt may end in vain, because others run.
    pub fn has_others(&self) -> bool {
        self.shared.others.get() > 0
    }

    /// The client sees a head now.
    pub fn commit(&self) {
        self.shared.committed.set(true);
    }

    /// An attempt goes on.
    pub fn goes_on(&mut self, upstream: UpstreamExchange, record: UpstreamRecord) {
        self.running.push(Running { upstream, record });
    }

    /// Whether attempts go on.
    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }
}

/// Whether an attempt that failed so goes on: its route hedges, and its endpoint has the whole request.
pub fn outlives(journey: &Journey<'_>, cut: &Cut, head: BodyLength) -> bool {
    let whole = head == BodyLength::None || journey.replay.is_complete();
    let over = matches!(cut.failure, Failure::Timeout(Timer::PerTry(_)));
    journey.beside.is_some() && !cut.head_sent && whole && over
}

impl<D: Downstream> Exchange<'_, D> {
    /// One more attempt: alone, or after a wait beside others that go on; if none follows it, what comes of those.
    ///
    /// # Errors
    /// That of the last of all, or what ends the request whoever might answer.
    pub(super) async fn hedged(
        &mut self,
        journey: &mut Journey<'_>,
        head: &mut RequestHead,
        wait: Duration,
    ) -> Result<Next, Cut> {
        let next = if journey.goes_on() {
            self.attempt_beside(journey, head, wait).await?
        } else {
            self.attempt(journey, head).await?
        };
        match next {
            Next::Await(cut) => self.await_running(journey, head, cut).await,
            next => Ok(next),
        }
    }

    /// An attempt that is not answered in time goes on, beside another if there may be one.
    pub(super) fn hedge(&mut self, journey: &mut Journey<'_>, upstream: UpstreamExchange, cut: Cut) -> Next {
        journey.cells.traffic.upstream_rq_per_try_timeout.one();
        if let (Some(beside), Some(record)) = (&mut journey.beside, &self.record.upstream) {
            beside.goes_on(upstream, record.clone());
        }
        let (cluster, cells) = journey.retrying();
        let again = self
            .context
            .worker
            .with_rng(|rng| journey.attempts.hedge(cluster, cells, rng));
        self.note_exhausted(journey);
        again.map_or(Next::Await(cut), Next::Again)
    }

    /// An attempt, after a wait, while others go on.
    async fn attempt_beside(
        &mut self,
        journey: &mut Journey<'_>,
        head: &mut RequestHead,
        wait: Duration,
    ) -> Result<Next, Cut> {
        let Some(beside) = &mut journey.beside else {
            return self.attempt(journey, head).await;
        };
        let (mut others, shared) = (std::mem::take(&mut beside.running), Rc::clone(&beside.shared));
        shared.others.set(others.len());
        let ears = Ears::new(&self.context.worker, journey, head);
        let first = {
            let mut attempt = pin!(async {
                let sleep = pin!(tokio::time::sleep(wait));
                within(self.downstream, &journey.deadlines, self.timer, sleep).await?;
                self.attempt(journey, head).await
            });
            poll_fn(|cx| {
                if let Poll::Ready(outcome) = attempt.as_mut().poll(cx) {
                    return Poll::Ready(First::Attempt(outcome));
                }
                if shared.committed.get() {
                    return Poll::Pending;
                }
                let heard = ears.poll(&mut others, Last::IsElsewhere, cx);
                shared.others.set(others.len());
                heard.map(First::Heard)
            })
            .await
        };
        shared.others.set(0);
        let outcome = match first {
            First::Attempt(outcome) => outcome,
            First::Heard(Heard::Failed(failure)) => Err(failure.into()),
            First::Heard(Heard::Won(won)) => {
                others.into_iter().for_each(|lost| lost.upstream.give_up());
                return self.win(journey, head, *won).await;
            }
        };
        if matches!(outcome, Ok(Next::Done | Next::Redirected)) {
            others.drain(..).for_each(|lost| lost.upstream.give_up());
        }
        if let Some(beside) = &mut journey.beside {
            beside.running.append(&mut others);
        }
        match outcome {
            Err(cut) if !cut.head_sent && reset_of(&cut.failure).is_some() && journey.goes_on() => {
                Ok(Next::Await(cut))
            }
            other => other,
        }
    }

    /// No other attempt follows: waits for those that go on. `cut` where none does.
    async fn await_running(
        &mut self,
        journey: &mut Journey<'_>,
        head: &mut RequestHead,
        cut: Cut,
    ) -> Result<Next, Cut> {
        let running = journey.beside.as_mut();
        let mut running = running
            .map(|beside| std::mem::take(&mut beside.running))
            .unwrap_or_default();
        if running.is_empty() {
            return Err(cut);
        }
        journey.deadlines.attempt = None;
        journey.deadlines.attempt_idle = None;
        journey.deadlines.upstream = None;
        let ears = Ears::new(&self.context.worker, journey, head);
        let heard = poll_fn(|cx| ears.poll(&mut running, Last::IsHere, cx));
        let heard = within(self.downstream, &journey.deadlines, self.timer, pin!(heard)).await;
        match heard {
            Ok(Heard::Won(won)) => {
                running.into_iter().for_each(|lost| lost.upstream.give_up());
                self.win(journey, head, *won).await
            }
            Ok(Heard::Failed(failure)) => Err(failure.into()),
            Err(failure) => {
                for lost in running {
                    lost.upstream.fail(&failure, &self.record);
                }
                Err(failure.into())
            }
        }
    }

    /// The answer of an attempt that went on is the client's.
    async fn win(
        &mut self,
        journey: &mut Journey<'_>,
        head: &mut RequestHead,
        (mut won, response): (Running, ResponseHead),
    ) -> Result<Next, Cut> {
        won.upstream.hears_again(response);
        self.record.upstream = Some(won.record);
        journey.attempts.end();
        journey.deadlines.attempt = None;
        // It has the whole request.
        self.transfer(journey, head, (won.upstream, BodyLength::None), false)
            .await
    }
}

/// Where the last attempt of all is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Among those that are listened to: it counts whatever it says.
    IsHere,
    /// Somewhere else.
    IsElsewhere,
}

/// What it takes to listen to attempts.
struct Ears {
    worker: Rc<Worker>,
    cluster: Arc<Cluster>,
    policy: Option<Arc<RetryPolicy>>,
    grpc: bool,
}

impl Ears {
    fn new(worker: &Rc<Worker>, journey: &Journey<'_>, head: &RequestHead) -> Self {
        Self {
            worker: Rc::clone(worker),
            cluster: Arc::clone(journey.cluster),
            policy: journey.attempts.policy(),
            grpc: is_grpc(&head.headers),
        }
    }

    /// Ready with an answer for the client, or when the last of all has failed.
    fn poll(&self, running: &mut Vec<Running>, last: Last, cx: &mut Context<'_>) -> Poll<Heard> {
        let mut at = 0;
        while let Some(next) = running.get_mut(at) {
            let polled = match next.upstream.poll_response(cx) {
                Poll::Pending => {
                    at += 1;
                    continue;
                }
                Poll::Ready(Ok(ResponseEvent::Informational(_))) => continue,
                Poll::Ready(Ok(ResponseEvent::Head(response))) => Ok(response),
                Poll::Ready(Err(error)) => Err(Failure::UpstreamReset(error)),
            };
            let heard = running.swap_remove(at);
            let is_last = last == Last::IsHere && running.is_empty();
            match polled {
                Ok(response) if is_last || !self.declines(&response) => {
                    return Poll::Ready(Heard::Won(Box::new((heard, response))));
                }
                Ok(response) => {
                    let endpoint = heard.upstream.endpoint();
                    health::answered(
                        &self.worker,
                        &self.cluster,
                        endpoint,
                        &response,
                        || self.grpc,
                        (&mut None, None),
                    );
                    heard.upstream.discard(response.status.as_u16());
                }
                Err(failure) => {
                    health::failed(&self.worker, &self.cluster, heard.upstream.endpoint(), &failure);
                    heard.upstream.fail(&failure, None);
                    if is_last {
                        return Poll::Ready(Heard::Failed(failure));
                    }
                }
            }
        }
        Poll::Pending
    }

    fn declines(&self, response: &ResponseHead) -> bool {
        let ended = Ended::Answered(response.status, &response.headers);
        self.policy
            .as_ref()
            .is_some_and(|policy| policy.wants_retry(&ended))
    }
}
