//! The time limits of one exchange, watched by one timer.
//!
//! Holds: the timer is armed for the earliest limit and re-armed only when it fires too early, so a keep-alive
//! connection does not touch the timer wheel for each request. The limit that ran out names itself.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::failure::Timer;

/// One lazily armed timer, kept for the life of a connection or a stream.
#[derive(Debug, Default)]
pub struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready when `at` has passed.
    pub fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let sleep = self
                .0
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
            if sleep.deadline().into_std() > at {
                sleep.as_mut().reset(at.into());
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= at {
                self.0 = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at.into());
        }
    }
}

/// The limits of one exchange.
#[derive(Debug, Clone, Default)]
pub struct Deadlines {
    /// `request_timeout`, until the request is complete.
    pub request: Option<(Instant, Duration)>,
    /// Route timeout, from the request's end.
    pub response: Option<(Instant, Duration)>,
    /// `per_try_timeout` of the attempt that runs.
    pub attempt: Option<(Instant, Duration)>,
    /// `per_try_idle_timeout`; counted from `progress`.
    pub attempt_idle: Option<Duration>,
    /// `max_stream_duration`.
    pub stream: Option<(Instant, Duration)>,
    /// Idle limit; counted from `progress`.
    pub idle: Option<Duration>,
    /// Last time a byte moved.
    pub progress: Option<Instant>,
}

impl Deadlines {
    /// The earliest limit.
    pub fn earliest(&self) -> Option<(Instant, Timer)> {
        let named = [
            self.request.map(|(at, limit)| (at, Timer::Request(limit))),
            self.response.map(|(at, limit)| (at, Timer::Response(limit))),
            self.attempt.map(|(at, limit)| (at, Timer::PerTry(limit))),
            self.attempt_idle
                .zip(self.progress)
                .map(|(limit, since)| (since + limit, Timer::PerTryIdle(limit))),
            self.stream.map(|(at, limit)| (at, Timer::StreamDuration(limit))),
            self.idle
                .zip(self.progress)
                .map(|(limit, since)| (since + limit, Timer::StreamIdle(limit))),
        ];
        named.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Ready with the limit that ran out.
    pub fn poll(&self, timer: &mut LazyTimer, cx: &mut Context<'_>) -> Poll<Timer> {
        match self.earliest() {
            None => Poll::Pending,
            Some((at, named)) => timer.poll(at, cx).map(|()| named),
        }
    }
}
