//! Copying both ways until both directions ended, one side broke off, or a limit ran out.
//!
//! Holds: an idle tunnel holds no buffer (a read happens only when there is something to read, into a buffer of the
//! worker); what one side has not taken yet is bounded by that one buffer per direction; the end of one direction is
//! passed on as the end of that direction only (RFC 9293 section 3.6, half-closed connections), a reset as a reset.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::splice::{Bulk, Turn};
use super::watch::{Broken, End, Moved, Side, Watch};
use crate::io::Io;

/// Bytes read at once, and the most that waits for the other side to take it.
pub(super) const CHUNK: usize = 64 * 1024;

/// One direction of a tunnel.
#[derive(Default)]
struct Direction {
    waiting: Bytes,
    moved: u64,
    read_ended: bool,
    ended: bool,
    bulk: Bulk,
}

thread_local! {
    /// Where a worker's tunnels read to; what the other side takes at once never leaves it.
    pub(super) static SCRATCH: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; CHUNK]);
}

impl Direction {
    /// Moves what can be moved. Ready when this direction has ended.
    fn poll(&mut self, from: &mut Io, to: &mut Io, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            while !self.waiting.is_empty() {
                let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting)).map_err(Fault::writing)?;
                if n == 0 {
                    return Poll::Ready(Err(Fault::writing(io::ErrorKind::WriteZero.into())));
                }
                self.waiting.advance(n);
                self.moved += n as u64;
            }
            if self.read_ended {
                ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Fault::writing)?;
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Fault::writing)?;
                self.ended = true;
                continue;
            }
            if self.bulk.flows()
                && let (Some(source), Some(sink)) = (from.bare(), to.bare())
            {
                match ready!(self.bulk.poll(source, sink, &mut self.moved, cx))? {
                    Turn::Moved => self.bulk.rest(),
                    Turn::Ended => self.read_ended = true,
                }
                continue;
            }
            if from.poll_readable(cx).map_err(Fault::reading)?.is_pending()
                || !SCRATCH.with_borrow_mut(|scratch| self.move_once(scratch, from, to, cx))?
            {
                // What TLS still holds leaves before we wait.
                let _ = Pin::new(&mut *to).poll_flush(cx).map_err(Fault::writing)?;
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
    ) -> Result<bool, Fault> {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(outcome) => outcome.map_err(Fault::reading)?,
        }
        let mut rest = buffer.filled();
        if rest.is_empty() {
            self.read_ended = true;
            return Ok(true);
        }
        self.bulk.copied(rest.len());
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(written) => {
                    let n = written.map_err(Fault::writing)?;
                    if n == 0 {
                        return Err(Fault::writing(io::ErrorKind::WriteZero.into()));
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

/// A side of a direction failed.
#[derive(Debug)]
pub(super) struct Fault {
    reading: bool,
    reset: bool,
}

impl Fault {
    pub(super) fn reading(error: io::Error) -> Self {
        Self {
            reading: true,
            reset: is_reset(&error),
        }
    }

    pub(super) fn writing(error: io::Error) -> Self {
        Self {
            reading: false,
            reset: is_reset(&error),
        }
    }

    /// Whose fault it is, in a direction that leads away from `from`.
    fn of(self, from: Side) -> Broken {
        let side = match (from, self.reading) {
            (Side::Client, true) | (Side::Upstream, false) => Side::Client,
            (Side::Client, false) | (Side::Upstream, true) => Side::Upstream,
        };
        Broken {
            side,
            reset: self.reset,
        }
    }
}

/// Whether the peer sent a reset. A write into a connection that got one fails with the second kind.
pub(super) fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Copies both ways until both directions ended, one side broke off, or the watch ends it.
pub(super) async fn copy(mut client: Io, mut upstream: Io, mut watch: Watch<'_>) -> (Moved, End) {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let end = poll_fn(|cx| {
        let upwards = up.poll(&mut client, &mut upstream, cx);
        let downwards = down.poll(&mut upstream, &mut client, cx);
        match (upwards, downwards) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            (Poll::Ready(Err(fault)), _) => return Poll::Ready(End::Broken(fault.of(Side::Client))),
            (_, Poll::Ready(Err(fault))) => return Poll::Ready(End::Broken(fault.of(Side::Upstream))),
            _ => {}
        }
        watch.poll(moved(&up, &down), cx)
    })
    .await;
    if let End::Broken(Broken { side, reset: true }) = end {
        // A reset stays a reset: who got half of a message must not take it for the whole.
        match side {
            Side::Client => upstream.reset_on_close(),
            Side::Upstream => client.reset_on_close(),
        }
    }
    (moved(&up, &down), end)
}

fn moved(up: &Direction, down: &Direction) -> Moved {
    Moved {
        up: up.moved,
        down: down.moved,
    }
}
