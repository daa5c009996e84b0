//! Bytes of a socket inside a request's and a response's body, both ways: TCP inside CONNECT or POST, from either side.
//!
//! Holds: nothing is read that the other side has no room for; the end of one direction ends the other side's message
//! in that direction only.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::copy::{CHUNK, SCRATCH, is_reset};
use super::watch::{Broken, End, Moved, Side, Watch};
use crate::exchange::{Frame, Receive, Transmit};
use crate::io::Io;

/// Which of the two is the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data_path) enum Inside {
    /// The client speaks TCP, and its bytes travel in an upstream's exchange.
    Upstream,
    /// The client's exchange carries bytes for a server that speaks TCP.
    Downstream,
}

/// From the socket into the exchange.
#[derive(Debug, Default, PartialEq, Eq)]
enum Entering {
    #[default]
    Open,
    Ending,
    Ended,
}

/// From the exchange to the socket.
#[derive(Debug, Default)]
struct Leaving {
    waiting: Bytes,
    read_ended: bool,
    ended: bool,
}

/// Who failed.
enum Fault {
    Socket { reset: bool },
    Exchange,
}

/// Carries bytes until both directions ended, a side broke off, or the watch ends it.
pub(in crate::data_path) async fn relay<X: Receive + Transmit>(
    socket: &mut Io,
    exchange: &mut X,
    inside: Inside,
    mut watch: Watch<'_>,
) -> (Moved, End) {
    let (mut entering, mut leaving) = (Entering::default(), Leaving::default());
    let (mut entered, mut left) = (0, 0);
    let moved = |entered, left| match inside {
        Inside::Upstream => Moved {
            up: entered,
            down: left,
        },
        Inside::Downstream => Moved {
            up: left,
            down: entered,
        },
    };
    let end = poll_fn(|cx| {
        let inwards = entering.poll(socket, exchange, &mut entered, cx);
        let outwards = leaving.poll(socket, exchange, &mut left, cx);
        match (inwards, outwards) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            (Poll::Ready(Err(fault)), _) | (_, Poll::Ready(Err(fault))) => {
                return Poll::Ready(End::Broken(fault.of(inside)));
            }
            _ => {}
        }
        watch.poll(moved(entered, left), cx)
    })
    .await;
    (moved(entered, left), end)
}

impl Fault {
    fn of(self, inside: Inside) -> Broken {
        let (socket, exchange) = match inside {
            Inside::Upstream => (Side::Client, Side::Upstream),
            Inside::Downstream => (Side::Upstream, Side::Client),
        };
        match self {
            Self::Socket { reset } => Broken { side: socket, reset },
            Self::Exchange => Broken {
                side: exchange,
                reset: true,
            },
        }
    }

    fn socket(error: &std::io::Error) -> Self {
        Self::Socket {
            reset: is_reset(error),
        }
    }
}

impl Entering {
    fn poll<X: Transmit>(
        &mut self,
        socket: &mut Io,
        exchange: &mut X,
        moved: &mut u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        loop {
            match self {
                Self::Ended => return Poll::Ready(Ok(())),
                Self::Ending => {
                    ready!(exchange.poll_flush(cx)).map_err(|_| Fault::Exchange)?;
                    *self = Self::Ended;
                }
                Self::Open => {
                    let bytes = match read(socket, exchange, cx) {
                        Poll::Ready(bytes) => bytes?,
                        Poll::Pending => {
                            let _ = exchange.poll_flush(cx).map_err(|_| Fault::Exchange)?;
                            return Poll::Pending;
                        }
                    };
                    *moved += bytes.len() as u64;
                    let end = bytes.is_empty();
                    exchange.send_data(bytes, end).map_err(|_| Fault::Exchange)?;
                    if end {
                        *self = Self::Ending;
                    }
                }
            }
        }
    }
}

/// The next bytes that the exchange has room for; empty: the end.
fn read<X: Transmit>(socket: &mut Io, exchange: &mut X, cx: &mut Context<'_>) -> Poll<Result<Bytes, Fault>> {
    ready!(socket.poll_readable(cx)).map_err(|error| Fault::socket(&error))?;
    let room = ready!(exchange.poll_ready(cx)).map_err(|_| Fault::Exchange)?;
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(&mut scratch[..room.clamp(1, CHUNK)]);
        ready!(Pin::new(socket).poll_read(cx, &mut buffer)).map_err(|error| Fault::socket(&error))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
    })
}

impl Leaving {
    fn poll<X: Receive>(
        &mut self,
        socket: &mut Io,
        exchange: &mut X,
        moved: &mut u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let failed = |error: std::io::Error| Fault::socket(&error);
        loop {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            while !self.waiting.is_empty() {
                let n = ready!(Pin::new(&mut *socket).poll_write(cx, &self.waiting)).map_err(failed)?;
                if n == 0 {
                    return Poll::Ready(Err(Fault::Socket { reset: false }));
                }
                self.waiting.advance(n);
                *moved += n as u64;
            }
            if self.read_ended {
                ready!(Pin::new(&mut *socket).poll_flush(cx)).map_err(failed)?;
                ready!(Pin::new(&mut *socket).poll_shutdown(cx)).map_err(failed)?;
                self.ended = true;
                continue;
            }
            match exchange.poll_frame(cx) {
                Poll::Ready(Some(Ok(Frame::Data(bytes)))) => self.waiting = bytes,
                Poll::Ready(Some(Ok(Frame::Trailers(_)))) => {}
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Fault::Exchange)),
                Poll::Ready(None) => self.read_ended = true,
                Poll::Pending => {
                    let _ = Pin::new(&mut *socket).poll_flush(cx).map_err(failed)?;
                    return Poll::Pending;
                }
            }
        }
    }
}
