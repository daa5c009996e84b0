//! The byte stream of one HTTP/1 connection with what was read ahead and what waits to be written.
//!
//! Holds: reads go through one buffer per thread, and what a connection keeps of them is only as large as its content,
//! so a connection that waits holds no buffer; large pieces are never copied, small ones are written together; after
//! a failed write nothing more is written.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::grammar::Limits;
use super::grammar::body::{Decoded, Decoder};
use crate::exchange::{Frame, StreamError};
use crate::io::Io;

/// Bytes asked for by one read.
pub(super) const READ_SIZE: usize = 64 << 10;

/// From this size on a piece is written from where it is instead of being copied behind others.
const COPY_BELOW: usize = 1 << 10;

/// Pieces given to one vectored write.
const MAX_SLICES: usize = 32;

thread_local! {
    /// The read buffer of this worker.
    static SCRATCH: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// See the module.
#[derive(Debug)]
pub(super) struct Wire {
    io: Io,
    /// Read and not yet consumed.
    pub(super) input: BytesMut,
    /// To be written: `pieces`, then `tail`.
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    pieces_bytes: usize,
    received: u64,
    sent: u64,
    /// The peer ended its direction.
    read_end: bool,
    writing: Writing,
    #[cfg(test)]
    writes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// Our direction ends when everything is written.
    Ending,
    Ended,
    Failed(io::ErrorKind),
}

impl Wire {
    pub(super) fn new(io: Io) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            pieces_bytes: 0,
            received: 0,
            sent: 0,
            read_end: false,
            writing: Writing::Open,
            #[cfg(test)]
            writes: 0,
        }
    }

    pub(super) fn io(&self) -> &Io {
        &self.io
    }

    /// The stream, and what was read ahead of it.
    pub(super) fn into_parts(self) -> (Io, Bytes) {
        (self.io, self.input.freeze())
    }

    /// Bytes read so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes written so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the peer ended its direction.
    pub(super) fn read_ended(&self) -> bool {
        self.read_end
    }

    /// Reads more input; 0 at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read_end {
            return Poll::Ready(Ok(0));
        }
        let mut scratch = SCRATCH.take();
        scratch.clear();
        scratch.reserve(READ_SIZE);
        let result = pin!(self.io.read_buf(&mut scratch)).poll(cx);
        match &result {
            Poll::Ready(Ok(0)) => self.read_end = true,
            Poll::Ready(Ok(n)) => {
                self.received += *n as u64;
                self.keep(&mut scratch);
            }
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        SCRATCH.set(scratch);
        result
    }

    /// Keeps what was read: the buffer itself when it is mostly full, else a copy of the right size.
    fn keep(&mut self, scratch: &mut BytesMut) {
        if !self.input.is_empty() {
            self.input.extend_from_slice(scratch);
        } else if scratch.len() >= READ_SIZE / 2 {
            self.input = std::mem::take(scratch);
        } else {
            self.input = BytesMut::from(&scratch[..]);
        }
    }

    /// Takes bytes from the front of the input; the last ones take their buffer along.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        if length == self.input.len() {
            std::mem::take(&mut self.input).freeze()
        } else {
            self.input.split_to(length).freeze()
        }
    }

    /// The next frame of a body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder,
        limits: &Limits,
    ) -> Poll<Option<Result<Frame, StreamError>>> {
        loop {
            match decoder.decode(&mut self.input, limits) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::Trailers(trailers)))),
                Ok(Decoded::Done) => return Poll::Ready(None),
                Ok(Decoded::Wait) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if self.input.is_empty() {
                // An advanced buffer keeps its memory; a waiting connection must not.
                self.input = BytesMut::new();
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => {
                    if let Err(error) = decoder.end_of_input() {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Where small pieces are written to.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Queues a piece.
    pub(super) fn push(&mut self, data: Bytes) {
        if data.len() < COPY_BELOW {
            self.tail.extend_from_slice(&data);
            return;
        }
        if !self.tail.is_empty() {
            let before = std::mem::take(&mut self.tail).freeze();
            self.pieces_bytes += before.len();
            self.pieces.push_back(before);
        }
        self.pieces_bytes += data.len();
        self.pieces.push_back(data);
    }

    /// Bytes queued and not yet written.
    pub(super) fn queued(&self) -> usize {
        self.pieces_bytes + self.tail.len()
    }

    /// Ends our direction once everything queued is written.
    pub(super) fn end(&mut self) {
        if self.writing == Writing::Open {
            self.writing = Writing::Ending;
        }
    }

    /// Ready with the room below `limit`, writing as much as that takes.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        if let Writing::Failed(kind) = self.writing {
            return Poll::Ready(Err(kind.into()));
        }
        while self.queued() >= limit {
            ready!(self.poll_write_some(cx))?;
        }
        Poll::Ready(Ok(limit - self.queued()))
    }

    /// Ready when everything queued was written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Writing::Failed(kind) = self.writing {
            return Poll::Ready(Err(kind.into()));
        }
        while self.queued() > 0 {
            ready!(self.poll_write_some(cx))?;
        }
        self.tail = BytesMut::new();
        let result = match self.writing {
            Writing::Ending => {
                let result = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
                if result.is_ok() {
                    self.writing = Writing::Ended;
                }
                result
            }
            _ => ready!(Pin::new(&mut self.io).poll_flush(cx)),
        };
        Poll::Ready(result.map_err(|error| self.fail(error)))
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = Pin::new(&mut self.io);
        let result = if self.pieces.is_empty() {
            ready!(io.poll_write(cx, &self.tail))
        } else {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let pieces = self.pieces.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            ready!(io.poll_write_vectored(cx, &slices[..count]))
        };
        #[cfg(test)]
        {
            self.writes += 1;
        }
        match result {
            Ok(0) => Poll::Ready(Err(self.fail(io::ErrorKind::WriteZero.into()))),
            Ok(written) => {
                self.sent += written as u64;
                self.written(written);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    fn written(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut().filter(|_| written > 0) {
            let part = piece.len().min(written);
            piece.advance(part);
            self.pieces_bytes -= part;
            written -= part;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.tail.advance(written);
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.writing = Writing::Failed(error.kind());
        self.pieces = VecDeque::new();
        self.pieces_bytes = 0;
        self.tail = BytesMut::new();
        error
    }

    /// Bytes of memory held for input and output.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.input.capacity() + self.tail.capacity() + self.pieces_bytes
    }

    /// Writes made so far.
    #[cfg(test)]
    pub(super) fn writes(&self) -> u32 {
        self.writes
    }
}
