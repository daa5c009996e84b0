//! The time limits of one exchange, watched by one timer.
//!
//! Holds: the timer is armed for the earliest limit and re-armed only when it fires too early, so a keep-alive
//! connection does not touch the timer wheel for each request. The limit that ran out names itself.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use remora_model::route::{TimeLimit, TimeLimits};
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

/// A limit that is running: when it ends, and what it was.
pub type Running = Option<(Instant, TimeLimit)>;

/// The limits of one exchange.
#[derive(Debug, Clone, Default)]
pub struct Deadlines {
    /// `request_timeout`, until the request is complete.
    pub request: Running,
    /// Route timeout, from the request's end.
    pub response: Running,
    /// `per_try_timeout` of the attempt that runs.
    pub attempt: Running,
    /// `per_try_idle_timeout`; counted from `progress`.
    pub attempt_idle: Option<TimeLimit>,
    /// `max_stream_duration` of the listener or the route.
    pub stream: Running,
    /// `max_stream_duration` of the cluster, for the attempt that runs.
    pub upstream: Running,
    /// Idle limit; counted from `progress`.
    pub idle: Option<TimeLimit>,
    /// Last time a byte moved.
    pub progress: Option<Instant>,
}

/// A limit that starts at `from`.
pub fn starting(from: Instant, limit: Option<TimeLimit>) -> Running {
    limit.map(|limit| (from + limit.limit, limit))
}

impl Deadlines {
    /// Those of an exchange that began at `started`.
    pub fn new(limits: &TimeLimits, started: Instant) -> Self {
        Self {
            request: starting(started, limits.request),
            stream: starting(started, limits.stream),
            idle: limits.idle,
            progress: Some(started),
            ..Self::default()
        }
    }

    /// The earliest limit.
    pub fn earliest(&self) -> Option<(Instant, Timer)> {
        let since = |limit: Option<TimeLimit>| {
            let since = self.progress?;
            starting(since, limit)
        };
        let named = [
            self.request.map(|(at, limit)| (at, Timer::Request(limit))),
            self.response.map(|(at, limit)| (at, Timer::Response(limit))),
            self.attempt.map(|(at, limit)| (at, Timer::PerTry(limit))),
            since(self.attempt_idle).map(|(at, limit)| (at, Timer::PerTryIdle(limit))),
            self.stream.map(|(at, limit)| (at, Timer::StreamDuration(limit))),
            self.upstream
                .map(|(at, limit)| (at, Timer::UpstreamDuration(limit))),
            since(self.idle).map(|(at, limit)| (at, Timer::StreamIdle(limit))),
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
