//! The client's side of an HTTP/1 connection: one exchange after the other.
//!
//! Holds: a connection is reusable only when both messages ended as framed and nothing came after; whether the server
//! sent anything since the request is known, so that a reused connection that dies can be told from a failed request.
//! Does not: know time, connect, or retry.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};

use super::grammar::body::Decoder;
use super::grammar::encode;
use super::grammar::response::{self, Asked};
use super::grammar::{Framing, details, head};
use super::sending::{Ends, Sending};
use super::server::Options;
use super::wire::Wire;
use crate::exchange::{
    BodyLength, Frame, Receive, RequestHead, ResponseEvent, StreamError, Transmit, Upstream,
};
use crate::io::Io;

/// Informational heads accepted in one exchange.
const MAX_INFORMATIONAL: u8 = 100;

/// See the module.
#[derive(Debug)]
pub struct ClientConnection {
    wire: Wire,
    options: Options,
    /// What of an incomplete head was searched for its end.
    scanned: usize,
    receiving: Receiving,
    sending: Sending,
    decoder: Decoder,
    asked: Asked,
    informational: u8,
    /// Bytes that had been received when the request was sent.
    received_before: u64,
}

/// Where we are in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    /// Nothing was asked.
    Idle,
    /// A head is expected.
    Head,
    /// The body; afterwards another request may follow.
    Body,
    /// The body; afterwards the connection is of no use.
    LastBody,
    /// The response failed, or the exchange was given up.
    Broken,
}

impl ClientConnection {
    /// Takes a connected stream.
    pub fn new(io: Io, options: Options) -> Self {
        Self {
            wire: Wire::new(io),
            options,
            scanned: 0,
            receiving: Receiving::Idle,
            sending: Sending::Idle,
            decoder: Decoder::new(Framing::None),
            asked: Asked::Other,
            informational: 0,
            received_before: 0,
        }
    }

    /// Queues the head of a request; it leaves with the first body bytes or at the next flush. What it says about
    /// hop-by-hop fields is ours: `Host` and the target from `authority` and `path`, the framing from `body`,
    /// `Upgrade` from `upgrade`.
    ///
    /// # Errors
    /// The connection is not free for a request.
    pub fn send_request(&mut self, head: &RequestHead) -> Result<(), StreamError> {
        if self.receiving != Receiving::Idle && !self.reusable() {
            return Err(StreamError::Protocol(details::CODEC_ERROR));
        }
        let framing = encode::request(head, self.wire.tail());
        let ends = if head.body == BodyLength::None {
            Ends::WithHead
        } else {
            Ends::Later
        };
        self.sending = Sending::after_head(framing, ends);
        self.asked = match head.method {
            Method::HEAD => Asked::Head,
            Method::CONNECT => Asked::Connect,
            _ if head.upgrade.is_some() => Asked::Upgrade,
            _ => Asked::Other,
        };
        self.receiving = Receiving::Head;
        self.decoder = Decoder::new(Framing::None);
        self.scanned = 0;
        self.informational = 0;
        self.received_before = self.wire.received();
        Ok(())
    }

    /// Whether another request may be sent: both messages are complete, written and read, and the server keeps the
    /// connection.
    pub fn reusable(&self) -> bool {
        let both_ended = self.sending == Sending::Done && self.decoder.is_done();
        let quiet = self.wire.queued() == 0 && self.wire.input.is_empty() && !self.wire.read_ended();
        both_ended && quiet && matches!(self.receiving, Receiving::Body | Receiving::Idle)
    }

    /// While idle: ready when the connection is of no more use, because the server closed it or sent bytes that nobody
    /// asked for. Without a readiness event from the kernel this costs no system call.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.wire.poll_fill(cx)) {
            Ok(_) | Err(_) => {
                self.receiving = Receiving::Broken;
                Poll::Ready(())
            }
        }
    }

    /// Whether the server sent no byte since the request.
    pub fn nothing_received(&self) -> bool {
        self.wire.received() == self.received_before
    }

    /// Bytes read from the server so far.
    pub fn bytes_received(&self) -> u64 {
        self.wire.received()
    }

    /// Bytes handed to the kernel so far.
    pub fn bytes_sent(&self) -> u64 {
        self.wire.sent()
    }

    /// The byte stream underneath.
    pub fn io(&self) -> &Io {
        self.wire.io()
    }

    /// Takes the byte stream and what was read ahead, for a tunnel. Everything sent must have been flushed.
    pub fn into_parts(self) -> (Io, Bytes) {
        debug_assert!(
            self.wire.queued() == 0,
            "a tunnel begins after its request was written"
        );
        self.wire.into_parts()
    }

    /// Bytes of memory held in buffers.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.wire.held()
    }

    /// Writes made so far.
    #[cfg(test)]
    pub(super) fn writes(&self) -> u32 {
        self.wire.writes()
    }

    fn accept(&mut self, length: usize) -> Result<ResponseEvent, StreamError> {
        self.scanned = 0;
        let head = self.wire.take(length);
        let response = response::parse(head, self.asked, &self.options.limits)?;
        if response.head.status.is_informational() && !response.switched {
            self.informational += 1;
            if self.informational > MAX_INFORMATIONAL {
                return Err(StreamError::Protocol(details::CODEC_ERROR));
            }
            return Ok(ResponseEvent::Informational(response.head));
        }
        self.decoder = Decoder::new(response.framing);
        self.receiving = if response.keep_alive {
            Receiving::Body
        } else {
            Receiving::LastBody
        };
        if response.switched {
            self.sending = Sending::Raw;
        }
        Ok(ResponseEvent::Head(response.head))
    }

    fn find_head(&mut self) -> Result<Option<usize>, StreamError> {
        let found = head::find_end(&self.wire.input, &mut self.scanned, &self.options.limits);
        let end = found.map_err(|error| StreamError::Protocol(error.details))?;
        if end.is_none() {
            response::check_start(&self.wire.input)?;
        }
        Ok(end)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent, StreamError>> {
        loop {
            if let Some(length) = self.find_head()? {
                return Poll::Ready(self.accept(length));
            }
            if self.wire.input.is_empty() {
                self.wire.input = BytesMut::new();
            }
            if ready!(self.wire.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(StreamError::Truncated));
            }
        }
    }
}

impl Receive for ClientConnection {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        debug_assert!(
            self.receiving != Receiving::Head,
            "the head of a response comes before its body"
        );
        let frame = ready!(self.wire.poll_body(cx, &mut self.decoder, &self.options.limits));
        if matches!(frame, Some(Err(_))) {
            self.receiving = Receiving::Broken;
        }
        Poll::Ready(frame)
    }

    fn is_end(&self) -> bool {
        self.decoder.is_done()
    }
}

impl Transmit for ClientConnection {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        self.wire
            .poll_room(cx, self.options.send_buffer)
            .map_err(StreamError::from)
    }

    fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), StreamError> {
        self.sending.data(&mut self.wire, data, Ends::from_flag(end))
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError> {
        self.sending.trailers(&mut self.wire, &trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.wire.poll_flush(cx).map_err(StreamError::from)
    }
}

impl Upstream for ClientConnection {
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent, StreamError>> {
        if self.receiving != Receiving::Head {
            return Poll::Ready(Err(StreamError::Protocol(details::CODEC_ERROR)));
        }
        let event = ready!(self.poll_head(cx));
        if event.is_err() {
            self.receiving = Receiving::Broken;
        }
        Poll::Ready(event)
    }

    fn reset(&mut self, _reason: h2::Reason) {
        self.receiving = Receiving::Broken;
    }
}
