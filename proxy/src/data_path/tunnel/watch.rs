//! What ends a tunnel from outside, and what is told of it while it is open.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::data_path::deadlines::LazyTimer;
use crate::worker::{ConnectionHandle, Life};

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both directions ended in order.
    Closed,
    /// A side broke off.
    Broken(Broken),
    /// No byte moved for `idle_timeout`.
    Idle,
    /// `max_downstream_connection_duration`.
    TooOld,
    /// The chain is gone and the drain time is over.
    Drained,
}

/// How a side broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// Which one.
    pub side: Side,
    /// It sent a reset, so the other side is to get one.
    pub reset: bool,
}

/// The two ends of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Upstream,
}

/// Bytes carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the client.
    pub up: u64,
    /// To the client.
    pub down: u64,
}

/// Says now and then how much was carried.
pub type Report<'t> = Box<dyn FnMut(Moved) + 't>;

/// The limits of one tunnel.
pub struct Watch<'t> {
    handle: &'t ConnectionHandle,
    idle: Option<Duration>,
    life: Option<Instant>,
    report: Option<(Duration, Report<'t>)>,
    timer: LazyTimer,
    ticks: LazyTimer,
    next_tick: Instant,
    progress: (Moved, Instant),
}

impl<'t> Watch<'t> {
    /// Counts from now.
    pub fn new(handle: &'t ConnectionHandle, idle: Option<Duration>, life: Option<Instant>) -> Self {
        let now = Instant::now();
        Self {
            handle,
            idle,
            life,
            report: None,
            timer: LazyTimer::default(),
            ticks: LazyTimer::default(),
            next_tick: now,
            progress: (Moved::default(), now),
        }
    }

    /// Has it reported every so often.
    pub fn reporting(mut self, every: Option<Duration>, report: impl FnMut(Moved) + 't) -> Self {
        if let Some(every) = every {
            self.next_tick = self.progress.1 + every;
            self.report = Some((every, Box::new(report)));
        }
        self
    }

    /// Ready when the tunnel is to end, although its sides would go on.
    pub fn poll(&mut self, moved: Moved, cx: &mut Context<'_>) -> Poll<End> {
        if self.handle.poll_shorter(Life::Draining, cx).is_ready() {
            return Poll::Ready(End::Drained);
        }
        if moved != self.progress.0 {
            self.progress = (moved, Instant::now());
        }
        if let Some((every, report)) = &mut self.report {
            while self.ticks.poll(self.next_tick, cx).is_ready() {
                report(moved);
                self.next_tick = Instant::now() + *every;
            }
        }
        let idle_at = self.idle.map(|limit| self.progress.1 + limit);
        let (at, why) = match (idle_at, self.life) {
            (Some(idle), Some(life)) if life < idle => (life, End::TooOld),
            (Some(idle), _) => (idle, End::Idle),
            (None, Some(life)) => (life, End::TooOld),
            (None, None) => return Poll::Pending,
        };
        self.timer.poll(at, cx).map(|()| why)
    }
}
