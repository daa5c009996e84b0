//! Copying both ways until both directions ended, one side broke off, or a limit ran out.
//!
//! Holds: an idle tunnel holds no buffer (a read happens only when there is something to read, into a buffer of the
//! worker); what one side has not taken yet is bounded by that one buffer per direction; the end of one direction is
//! passed on as the end of that direction only (RFC 9293 section 3.6, half-closed connections).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::data_path::deadlines::LazyTimer;
use crate::io::Io;
use crate::worker::{ConnectionHandle, Life};

/// Bytes read at once, and the most that waits for the other side to take it.
const CHUNK: usize = 64 * 1024;

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Both directions ended in order.
    Closed,
    /// A side broke off.
    Broken,
    /// No byte moved for `idle_timeout`.
    Idle,
    /// `max_downstream_connection_duration`.
    TooOld,
    /// The chain is gone and the drain time is over.
    Drained,
}

/// What a tunnel carried.
pub(super) struct Copied {
    pub up: u64,
    pub down: u64,
    pub end: End,
}

/// One direction of a tunnel.
#[derive(Default)]
struct Direction {
    waiting: Bytes,
    moved: u64,
    read_ended: bool,
    ended: bool,
}

thread_local! {
    /// Where a worker's tunnels read to; what the other side takes at once never leaves it.
    static SCRATCH: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; CHUNK]);
}

impl Direction {
    /// Moves what can be moved. Ready when this direction has ended.
    fn poll(&mut self, from: &mut Io, to: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            while !self.waiting.is_empty() {
                let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.waiting.advance(n);
                self.moved += n as u64;
            }
            if self.read_ended {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.ended = true;
                continue;
            }
            if from.poll_readable(cx)?.is_pending() {
                // What TLS still holds leaves before we wait.
                let _ = Pin::new(&mut *to).poll_flush(cx)?;
                return Poll::Pending;
            }
            if !SCRATCH.with_borrow_mut(|scratch| self.move_once(scratch, from, to, cx))? {
                let _ = Pin::new(&mut *to).poll_flush(cx)?;
                return Poll::Pending;
            }
        }
    }

    /// One read, and as much of it written as the other side takes. False: there was nothing to read yet.
    fn move_once(
        &mut self,
        scratch: &mut [u8],
        from: &mut Io,
        to: &mut Io,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(outcome) => outcome?,
        }
        let mut rest = buffer.filled();
        if rest.is_empty() {
            self.read_ended = true;
            return Ok(true);
        }
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(written) => {
                    let n = written?;
                    if n == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    self.moved += n as u64;
                    rest = &rest[n..];
                }
                Poll::Pending => break,
            }
        }
        if !rest.is_empty() {
            self.waiting = BytesMut::from(rest).freeze();
        }
        Ok(true)
    }
}

/// Copies both ways until both directions ended, one side broke off, or a limit ran out.
pub(super) async fn copy(
    mut client: Io,
    mut upstream: Io,
    handle: &ConnectionHandle,
    idle: Option<Duration>,
    life: Option<Instant>,
) -> Copied {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut timer = LazyTimer::default();
    let mut progress = (0, Instant::now());
    let end = poll_fn(|cx| {
        let upwards = up.poll(&mut client, &mut upstream, cx);
        let downwards = down.poll(&mut upstream, &mut client, cx);
        match (upwards, downwards) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(End::Broken),
            _ => {}
        }
        if handle.poll_shorter(Life::Draining, cx).is_ready() {
            return Poll::Ready(End::Drained);
        }
        if up.moved + down.moved != progress.0 {
            progress = (up.moved + down.moved, Instant::now());
        }
        let idle_at = idle.map(|limit| progress.1 + limit);
        let (at, why) = match (idle_at, life) {
            (Some(idle), Some(life)) if life < idle => (life, End::TooOld),
            (Some(idle), _) => (idle, End::Idle),
            (None, Some(life)) => (life, End::TooOld),
            (None, None) => return Poll::Pending,
        };
        timer.poll(at, cx).map(|()| why)
    })
    .await;
    Copied {
        up: up.moved,
        down: down.moved,
        end,
    }
}
