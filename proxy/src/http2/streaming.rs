//! The two directions of one HTTP/2 stream.
//!
//! Holds: window is claimed only for bytes that are in hand, so that a stream with nothing to send cannot starve the
//! others of its connection; what was received is given back to the window when it is taken.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;

use super::convert::{self, failure};
use crate::exchange::{Frame, StreamError};

/// Bytes given to a stream that still waits for window before its sender waits for room.
const ROOM: usize = 16 << 10;

/// What is sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
    /// Waiting for window.
    pending: VecDeque<Bytes>,
    pending_bytes: usize,
    end: End,
}

/// The end of what is sent.
#[derive(Debug)]
enum End {
    /// Not told.
    Open,
    /// After the pending bytes.
    Data,
    /// After the pending bytes, with trailers.
    Trailers(HeaderMap),
    /// Given to h2.
    Sent,
}

impl Outgoing {
    pub(super) fn new(stream: SendStream<Bytes>, ended: bool) -> Self {
        let end = if ended { End::Sent } else { End::Open };
        Self {
            stream,
            pending: VecDeque::new(),
            pending_bytes: 0,
            end,
        }
    }

    pub(super) fn data(&mut self, data: Bytes, end: bool) -> Result<(), StreamError> {
        if !matches!(self.end, End::Open) {
            // Its end may be told again, nothing else.
            return if data.is_empty() {
                Ok(())
            } else {
                Err(StreamError::Protocol(super::details::VIOLATION))
            };
        }
        if !data.is_empty() {
            self.pending_bytes += data.len();
            self.pending.push_back(data);
        }
        if end {
            self.end = End::Data;
        }
        self.send_what_fits()
    }

    pub(super) fn trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError> {
        if !matches!(self.end, End::Open) {
            return Ok(());
        }
        self.end = End::Trailers(trailers);
        self.send_what_fits()
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        while self.pending_bytes >= ROOM {
            ready!(self.poll_send(cx))?;
        }
        Poll::Ready(Ok(ROOM - self.pending_bytes))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        while !self.pending.is_empty() {
            ready!(self.poll_send(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for window, then sends.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.send_what_fits()?;
        if self.pending.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.stream.poll_capacity(cx)) {
            Some(Ok(_)) => Poll::Ready(Ok(())),
            Some(Err(error)) => Poll::Ready(Err(failure(error))),
            None => Poll::Ready(Err(match self.stream.poll_reset(cx) {
                Poll::Ready(Ok(reason)) => StreamError::Reset(reason),
                Poll::Ready(Err(error)) => failure(error),
                Poll::Pending => StreamError::Reset(h2::Reason::STREAM_CLOSED),
            })),
        }
    }

    fn send_what_fits(&mut self) -> Result<(), StreamError> {
        while let Some(front) = self.pending.front_mut() {
            self.stream.reserve_capacity(front.len());
            let fits = self.stream.capacity().min(front.len());
            if fits == 0 {
                return Ok(());
            }
            let part = front.split_to(fits);
            self.pending_bytes -= fits;
            if front.is_empty() {
                self.pending.pop_front();
            }
            let last = self.pending.is_empty() && matches!(self.end, End::Data);
            self.stream.send_data(part, last).map_err(failure)?;
            if last {
                self.end = End::Sent;
            }
        }
        match std::mem::replace(&mut self.end, End::Sent) {
            End::Open => self.end = End::Open,
            End::Data => self.stream.send_data(Bytes::new(), true).map_err(failure)?,
            End::Trailers(trailers) => self.stream.send_trailers(trailers).map_err(failure)?,
            End::Sent => {}
        }
        Ok(())
    }

    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        Poll::Ready(match ready!(self.stream.poll_reset(cx)) {
            Ok(reason) => StreamError::Reset(reason),
            Err(error) => failure(error),
        })
    }

    pub(super) fn reset(&mut self, reason: h2::Reason) {
        self.pending.clear();
        self.pending_bytes = 0;
        self.end = End::Sent;
        self.stream.send_reset(reason);
    }
}

/// What is received.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: RecvStream,
    state: Receiving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Data,
    Trailers,
    Done,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            state: Receiving::Data,
        }
    }

    /// Neither bytes nor trailers follow.
    pub(super) fn is_end(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        while self.state == Receiving::Data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // It fails only for more than was received.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Some(Err(error)) => {
                    self.state = Receiving::Done;
                    return Poll::Ready(Some(Err(failure(error))));
                }
                None => self.state = Receiving::Trailers,
            }
        }
        if self.state == Receiving::Done {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.state = Receiving::Done;
        Poll::Ready(match trailers {
            Ok(None) => None,
            Ok(Some(trailers)) => convert::trailers(trailers)
                .transpose()
                .map(|t| t.map(Frame::Trailers)),
            Err(error) => Some(Err(failure(error))),
        })
    }
}
