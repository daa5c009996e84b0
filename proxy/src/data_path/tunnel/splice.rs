//! Bulk between two bare sockets, moved by the kernel alone (`splice`, through a pipe).
//!
//! Holds: a pipe is held only while bytes flow; an idle tunnel gives it back, and a worker keeps a few for the next one.
//! What a pipe holds is bounded by its size. Not used where TLS or replayed bytes are on either side, nor for small messages, which
//! are cheaper to copy.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::copy::Fault;
use crate::io::Socket;

/// Bytes that a pipe is asked to hold; the system may give less.
const SIZE: usize = 256 * 1024;

/// A read of so many bytes is bulk, copied or spliced.
const LARGE: usize = 16 * 1024;

/// So many large reads in a row make a flow, so many small ones end it.
const HABIT: u8 = 4;

/// Pipes that a worker keeps.
const KEPT: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// An empty pipe, or one that is in use.
#[derive(Debug)]
struct Pipe {
    from: OwnedFd,
    to: OwnedFd,
    /// Bytes inside.
    held: usize,
}

impl Pipe {
    fn take() -> io::Result<Self> {
        if let Some(pipe) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (from, to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller pipe is slower, not wrong.
        let _ = fcntl_setpipe_size(&to, SIZE);
        Ok(Self { from, to, held: 0 })
    }

    fn give_back(self) {
        if self.held == 0 {
            POOL.with_borrow_mut(|pool| {
                if pool.len() < KEPT {
                    pool.push(self);
                }
            });
        }
    }
}

/// Whether one direction of a tunnel is bulk, and its pipe while it is.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    pipe: Option<Pipe>,
    /// Large reads in a row; in a flow, small ones.
    habit: u8,
    flows: bool,
    /// The system refused.
    refused: bool,
}

/// What became of one turn.
pub(super) enum Turn {
    /// Bytes moved, or there is something else to do.
    Moved,
    /// The source has ended.
    Ended,
}

impl Bulk {
    /// Takes note of a copied read.
    pub(super) fn copied(&mut self, bytes: usize) {
        self.habit = if bytes >= LARGE { self.habit + 1 } else { 0 };
        if self.habit >= HABIT && !self.refused {
            self.flows = true;
            self.habit = 0;
        }
    }

    /// Whether the kernel is to move what comes next, or still has some.
    pub(super) fn flows(&self) -> bool {
        self.flows
    }

    /// Moves what can be moved, counting into `moved`. Pending: the source has nothing, or the sink takes nothing.
    pub(super) fn poll(
        &mut self,
        source: &Socket,
        sink: &Socket,
        moved: &mut u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Turn, Fault>> {
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            none => match Pipe::take() {
                Ok(pipe) => none.insert(pipe),
                Err(error) => {
                    tracing::debug!(%error, "no pipe; copying");
                    self.stop();
                    return Poll::Ready(Ok(Turn::Moved));
                }
            },
        };
        while pipe.held > 0 {
            ready!(sink.poll_writable(cx)).map_err(Fault::writing)?;
            match sink.try_write_by(|fd| Ok(splice(&pipe.from, None, fd, None, pipe.held, FLAGS)?)) {
                Ok(0) => return Poll::Ready(Err(Fault::writing(io::ErrorKind::WriteZero.into()))),
                Ok(n) => {
                    pipe.held -= n;
                    *moved += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(Fault::writing(error))),
            }
        }
        match source.poll_readable(cx) {
            Poll::Ready(ready) => ready.map_err(Fault::reading)?,
            Poll::Pending => {
                if let Some(pipe) = self.pipe.take() {
                    pipe.give_back();
                }
                return Poll::Pending;
            }
        }
        match source.try_read_by(|fd| Ok(splice(fd, None, &pipe.to, None, SIZE, FLAGS)?)) {
            Ok(0) => {
                self.stop();
                Poll::Ready(Ok(Turn::Ended))
            }
            Ok(n) => {
                pipe.held = n;
                self.habit = if n < LARGE { self.habit + 1 } else { 0 };
                Poll::Ready(Ok(Turn::Moved))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Ok(Turn::Moved)),
            // These sockets cannot be spliced.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused = true;
                self.stop();
                Poll::Ready(Ok(Turn::Moved))
            }
            Err(error) => Poll::Ready(Err(Fault::reading(error))),
        }
    }

    /// Back to copying, once nothing is in the pipe and messages have become small.
    pub(super) fn rest(&mut self) {
        if self.habit >= HABIT && self.pipe.as_ref().is_none_or(|pipe| pipe.held == 0) {
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.flows = false;
        self.habit = 0;
        if let Some(pipe) = self.pipe.take() {
            pipe.give_back();
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::io::{Io, Transport};

    #[test]
    fn four_large_reads_in_a_row_make_a_flow() {
        let mut bulk = Bulk::default();
        for bytes in [LARGE, LARGE, LARGE, LARGE - 1, LARGE, LARGE, LARGE] {
            bulk.copied(bytes);
            assert!(!bulk.flows());
        }
        bulk.copied(LARGE);
        assert!(bulk.flows());
        let mut refused = Bulk {
            refused: true,
            ..Bulk::default()
        };
        (0..100).for_each(|_| refused.copied(LARGE));
        assert!(!refused.flows(), "what the system refused is not asked again");
    }

    #[tokio::test]
    async fn small_messages_end_a_flow_and_the_pipe_goes_back_empty() {
        let ((mut client, source), (sink, mut server)) =
            (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let [source, sink] = [source, sink].map(|end| Socket::new(Transport::Unix(end)));
        let mut bulk = Bulk::default();
        (0..4).for_each(|_| bulk.copied(LARGE));
        let mut moved = 0;
        let mut small = 0u64;
        while bulk.flows() {
            client.write_all(b"small").await.unwrap();
            small += 5;
            poll_fn(|cx| {
                while moved < small && bulk.flows() {
                    match ready!(bulk.poll(&source, &sink, &mut moved, cx)) {
                        Ok(Turn::Moved) => bulk.rest(),
                        _ => panic!("neither end failed"),
                    }
                }
                Poll::Ready(())
            })
            .await;
            assert!(small <= 100, "it never ends");
        }
        assert!(bulk.pipe.is_none() && moved == small);
        let mut heard = vec![0; usize::try_from(small).unwrap()];
        server.read_exact(&mut heard).await.unwrap();
        assert!(heard.starts_with(b"smallsmall"));
    }

    #[tokio::test]
    async fn only_bare_sockets_are_spliced() {
        let (end, _other) = UnixStream::pair().unwrap();
        let io = Io::Plain(Socket::new(Transport::Unix(end)));
        assert!(io.bare().is_some());
        let replayed = io.replay(Bytes::from_static(b"first"));
        assert!(replayed.bare().is_none(), "its first bytes are ours to give");
        let memory = Io::Plain(Socket::new(Transport::Memory(tokio::io::duplex(1).0)));
        assert!(memory.bare().is_none());
    }
}
