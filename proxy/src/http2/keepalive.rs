//! Is the peer still there? A PING at every interval, an answer within the timeout (`connection_keepalive`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// Pings one connection.
#[derive(Debug)]
pub(super) struct Keepalive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    /// Until the next ping, or until the answer is overdue.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Keepalive {
    /// `None` when no keepalive is configured.
    pub(super) fn new(pings: Option<PingPong>, configured: Option<(Duration, Duration)>) -> Option<Self> {
        let (pings, (interval, timeout)) = (pings?, configured?);
        Some(Self {
            pings,
            interval,
            timeout,
            timer: Box::pin(sleep(interval)),
            waiting: false,
        })
    }

    /// Ready when an answer is overdue.
    pub(super) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting && self.pings.poll_pong(cx).is_ready() {
                self.waiting = false;
                self.timer.as_mut().reset(Instant::now() + self.interval);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.waiting {
                return Poll::Ready(());
            }
            // An error means that the connection is ending, which its owner learns from the connection itself.
            self.waiting = self.pings.send_ping(Ping::opaque()).is_ok();
            let wait = if self.waiting { self.timeout } else { self.interval };
            self.timer.as_mut().reset(Instant::now() + wait);
        }
    }
}
