//! The server's side of an HTTP/1 connection: one exchange after the other.
//!
//! ```text
//! poll_head -> (poll_frame | send_informational)* -> send_head -> (poll_frame | send_data)* -> poll_finish
//!     ^                                                                                            |
//!     +------------------------------------ KeepAlive ---------------------------------------------+-- Close -> poll_close
//! ```
//!
//! Holds: while it waits for a head it holds no buffer; pipelined bytes are kept for the next head; after an `Upgrade`
//! or CONNECT request no byte is given out as body before the switch was sent ([`Framing::UntilClose`] from then on).
//! Does not: know time. A caller bounds every wait.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version};

use super::grammar::body::Decoder;
use super::grammar::encode::{self, Persistence};
use super::grammar::{Framing, Limits, head, request};
use super::sending::{Ends, Sending};
use super::wire::{READ_SIZE, Wire};
use crate::exchange::{
    BodyLength, Downstream, Frame, HeadError, Receive, RequestHead, ResponseHead, StreamError, Transmit,
};
use crate::io::{Io, Transport};

/// Bytes of a request body that are read and dropped to keep a connection.
const DRAIN_LIMIT: u64 = 64 << 10;

/// Bounds of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// On heads and trailers.
    pub limits: Limits,
    /// Bytes that may wait to be written before [`Transmit::poll_ready`] waits.
    pub send_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            send_buffer: 64 << 10,
        }
    }
}

/// Why there is no next head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadFailure {
    /// The head is refused: answer it with [`Downstream::send_head`]; the connection closes after that.
    Refused(HeadError),
    /// The connection failed.
    Stream(StreamError),
}

/// What follows an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another head may come.
    KeepAlive,
    /// The connection is to be closed.
    Close,
}

/// See the module.
#[derive(Debug)]
pub struct ServerConnection {
    wire: Wire,
    options: Options,
    /// What of an incomplete head was searched for its end.
    scanned: usize,
    decoder: Decoder,
    sending: Sending,
    method: Method,
    version: Version,
    persistence: Persistence,
    /// The client waits for 100 before it sends its body.
    owes_continue: bool,
    /// The next response says `close`.
    close: bool,
}

impl ServerConnection {
    /// Serves a connection that was accepted.
    pub fn new(io: Io, options: Options) -> Self {
        Self {
            wire: Wire::new(io),
            options,
            scanned: 0,
            decoder: Decoder::new(Framing::None),
            sending: Sending::Idle,
            method: Method::GET,
            version: Version::HTTP_11,
            persistence: Persistence::Default,
            owes_continue: false,
            close: false,
        }
    }

    /// The next request head; `None` when the client closed between requests.
    ///
    /// # Errors
    /// [`HeadFailure::Refused`] is to be answered, [`HeadFailure::Stream`] ends the connection.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RequestHead>, HeadFailure>> {
        debug_assert!(
            self.sending == Sending::Idle,
            "an exchange is finished before the next"
        );
        loop {
            self.skip_empty_lines();
            let found =
                head::find_end(&self.wire.input, &mut self.scanned, &self.options.limits).and_then(|end| {
                    if end.is_none() {
                        head::check_start(&self.wire.input)?;
                    }
                    Ok(end)
                });
            match found {
                Ok(Some(length)) => return Poll::Ready(self.accept(length).map(Some)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(self.refuse(error))),
            }
            match ready!(self.wire.poll_fill(cx)) {
                Ok(0) if self.wire.input.is_empty() => return Poll::Ready(Ok(None)),
                Ok(0) => return Poll::Ready(Err(HeadFailure::Stream(StreamError::Truncated))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(HeadFailure::Stream(error.into()))),
            }
        }
    }

    /// Whether bytes of a next head have arrived: a timeout is then a 408, otherwise a quiet close.
    pub fn head_started(&self) -> bool {
        !self.wire.input.is_empty()
    }

    /// Makes the client wait no longer for [`Self::poll_head`]: the connection takes a response now and then closes.
    /// For 408, and for what the caller refuses about a head.
    pub fn refuse(&mut self, error: HeadError) -> HeadFailure {
        self.wire.input = BytesMut::new();
        self.scanned = 0;
        self.decoder = Decoder::new(Framing::None);
        self.sending = Sending::Head;
        self.method = Method::GET;
        self.version = Version::HTTP_11;
        self.persistence = Persistence::Close;
        HeadFailure::Refused(error)
    }

    fn skip_empty_lines(&mut self) {
        let empty = head::leading_empty_lines(&self.wire.input);
        if empty > 0 {
            self.scanned = 0;
            self.wire.input.advance(empty);
        }
        if self.wire.input.is_empty() {
            self.wire.input = BytesMut::new();
        }
    }

    fn accept(&mut self, length: usize) -> Result<RequestHead, HeadFailure> {
        self.scanned = 0;
        let head = self.wire.take(length);
        let request = request::parse(head, &self.options.limits).map_err(|error| self.refuse(error))?;
        self.decoder = Decoder::new(request.framing);
        self.sending = Sending::Head;
        self.method = request.head.method.clone();
        self.version = request.head.version;
        self.persistence = match (request.keep_alive, self.version) {
            (false, _) => Persistence::Close,
            (true, Version::HTTP_10) => Persistence::KeepAlive,
            (true, _) => Persistence::Default,
        };
        self.owes_continue = request.head.expects_continue;
        Ok(request.head)
    }

    /// Puts `Connection: close` on the next response, after which the connection closes.
    pub fn set_close(&mut self) {
        self.close = true;
    }

    /// Ends an exchange: writes what is queued, then drops the rest of the request body if there is little of it.
    /// The caller bounds the wait.
    ///
    /// # Errors
    /// The response could not be written.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, StreamError>> {
        if self.sending != Sending::Done {
            return Poll::Ready(Ok(Next::Close));
        }
        ready!(self.wire.poll_flush(cx))?;
        if self.persistence == Persistence::Close || !ready!(self.poll_drain(cx)) {
            return Poll::Ready(Ok(Next::Close));
        }
        self.sending = Sending::Idle;
        Poll::Ready(Ok(Next::KeepAlive))
    }

    /// Ready with whether the request body is at its end.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let limit = self.wire.received().saturating_add(DRAIN_LIMIT);
        while !self.decoder.is_done() {
            let too_long = self.decoder.left().is_some_and(|left| left > DRAIN_LIMIT);
            if self.owes_continue || too_long || self.wire.received() > limit {
                return Poll::Ready(false);
            }
            match ready!(self.wire.poll_body(cx, &mut self.decoder, &self.options.limits)) {
                Some(Ok(_)) => {}
                Some(Err(_)) => return Poll::Ready(false),
                None => break,
            }
        }
        Poll::Ready(true)
    }

    /// Closes: writes what is queued, ends our direction, then reads until the client ends its own, so that a response
    /// is not lost to a reset (RFC 9112 section 9.6). The caller bounds the wait (`delayed_close_timeout`).
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.end();
        ready!(self.wire.poll_flush(cx))?;
        loop {
            self.wire.input = BytesMut::new();
            if ready!(self.wire.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The byte stream underneath.
    pub fn io(&self) -> &Io {
        self.wire.io()
    }

    /// Bytes read from the client so far.
    pub fn bytes_received(&self) -> u64 {
        self.wire.received()
    }

    /// Bytes handed to the kernel so far.
    pub fn bytes_sent(&self) -> u64 {
        self.wire.sent()
    }

    /// Takes the byte stream and what was read ahead, for a tunnel. Everything sent must have been flushed.
    pub fn into_parts(self) -> (Io, Bytes) {
        debug_assert!(
            self.wire.queued() == 0,
            "a tunnel begins after the head of its response was written"
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
}

impl Receive for ServerConnection {
    /// After a switch of protocols was sent, frames come again, though `None` was returned before: raw bytes.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        let frame = ready!(self.wire.poll_body(cx, &mut self.decoder, &self.options.limits));
        // A client may send its body without having been told to (RFC 9110 section 10.1.1).
        self.owes_continue = false;
        Poll::Ready(frame)
    }

    fn is_end(&self) -> bool {
        self.decoder.is_done()
    }
}

impl Transmit for ServerConnection {
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

impl Downstream for ServerConnection {
    fn set_close(&mut self) {
        Self::set_close(self);
    }

    fn send_informational(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        debug_assert!(head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS);
        if self.sending != Sending::Head {
            return Err(StreamError::Protocol(super::grammar::details::CODEC_ERROR));
        }
        // RFC 9110 section 15.2: never to an HTTP/1.0 client.
        if self.version == Version::HTTP_11 {
            self.owes_continue &= head.status != StatusCode::CONTINUE;
            let out = self.wire.tail();
            encode::response(&head, Framing::None, Persistence::Default, self.version, out);
        }
        Ok(())
    }

    fn send_head(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        if self.sending != Sending::Head {
            return Err(StreamError::Protocol(super::grammar::details::CODEC_ERROR));
        }
        let framing = encode::response_framing(&head, &self.method, self.version);
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS
            || (self.method == Method::CONNECT && head.status.is_success());
        if switched {
            encode::response(
                &head,
                framing,
                Persistence::Default,
                self.version,
                self.wire.tail(),
            );
            self.decoder.switch();
            self.persistence = Persistence::Close;
        } else {
            if self.close || framing == Framing::UntilClose || self.owes_continue {
                self.persistence = Persistence::Close;
            }
            encode::response(&head, framing, self.persistence, self.version, self.wire.tail());
        }
        let ends = if head.body == BodyLength::None {
            Ends::WithHead
        } else {
            Ends::Later
        };
        self.sending = Sending::after_head(framing, ends);
        Ok(())
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        loop {
            // A client that sends ahead more than this is alive enough.
            if self.wire.input.len() >= READ_SIZE && !self.wire.read_ended() {
                return Poll::Pending;
            }
            match ready!(self.wire.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(StreamError::Truncated),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error.into()),
            }
        }
    }

    fn reset(&mut self, _reason: h2::Reason) {
        if self.sending == Sending::Raw
            && let Transport::Tcp(tcp) = self.wire.io().socket().transport()
        {
            // An orderly close would look like the end of the body; only a reset shows that it is not. If the option
            // cannot be set there is nothing else to do.
            let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
        }
        if self.sending != Sending::Done {
            self.sending = Sending::Broken;
        }
        self.persistence = Persistence::Close;
    }
}
