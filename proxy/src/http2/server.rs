//! The server's side of an HTTP/2 connection.
//!
//! Holds: a malformed request is reset and never given out; a connection makes progress only while
//! [`ServerConnection::poll_accept`] is polled, also when no stream is wanted.
//! Does not: spawn. Streams live where the caller puts them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::blank_frames::PREFACE;
use super::convert::{self, Refusal, failure};
use super::gather::Gather;
use super::keepalive::Keepalive;
use super::streaming::{Incoming, Outgoing};
use super::{Options, SEND_BUFFER, details};
use crate::exchange::{
    BodyLength, Downstream, Frame, Receive, RequestHead, ResponseHead, StreamError, Transmit,
};
use crate::io::Io;

/// See the module.
#[derive(Debug)]
pub struct ServerConnection {
    state: State,
    gather: Gather,
    keepalive: Option<Keepalive>,
    options: Options,
    /// A shutdown was asked for during the handshake.
    drain: bool,
}

enum State {
    Handshake(Box<Handshake<Gather, Bytes>>),
    Open(Box<Connection<Gather, Bytes>>),
    Ended,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Handshake(_) => "Handshake",
            Self::Open(_) => "Open",
            Self::Ended => "Ended",
        })
    }
}

impl ServerConnection {
    /// Serves a connection whose client will send, or has sent, the preface.
    pub fn new(io: Io, options: Options) -> Self {
        let gather = Gather::new(io, PREFACE);
        let mut builder = Builder::new();
        builder
            .initial_window_size(options.http2.stream_window)
            .initial_connection_window_size(options.http2.connection_window)
            .max_header_list_size(options.max_head_bytes)
            .max_pending_accept_reset_streams(options.max_pending_accept_reset_streams)
            .max_local_error_reset_streams(Some(options.max_local_error_reset_streams))
            .max_send_buffer_size(SEND_BUFFER);
        if let Some(streams) = options.http2.max_concurrent_streams {
            builder.max_concurrent_streams(streams);
        }
        if options.extended_connect {
            builder.enable_connect_protocol();
        }
        let state = State::Handshake(Box::new(builder.handshake(gather.clone())));
        Self {
            state,
            gather,
            keepalive: None,
            options,
            drain: false,
        }
    }

    /// The next request; `None` when the connection ended in good order. Poll it until it is pending, and again
    /// whenever it wakes, also when no request is wanted: it reads, writes and answers pings for all streams.
    ///
    /// # Errors
    /// The connection ended; its streams have failed too.
    pub fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(RequestHead, ServerStream), StreamError>>> {
        loop {
            let end = match self.step(cx) {
                Step::Request(request, respond) => {
                    match accept(*request, respond, self.options.max_headers) {
                        Some(accepted) => return Poll::Ready(Some(Ok(accepted))),
                        None => continue,
                    }
                }
                Step::Wait => Some(ready!(self.poll_end_of_turn(cx))),
                Step::Failed(error) => Some(error),
                Step::Ended => None,
            };
            self.state = State::Ended;
            return Poll::Ready(end.map(Err));
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            match &mut self.state {
                State::Handshake(handshake) => match Pin::new(handshake).poll(cx) {
                    Poll::Pending => return Step::Wait,
                    Poll::Ready(Err(error)) => return Step::Failed(failure(error)),
                    Poll::Ready(Ok(mut connection)) => {
                        self.keepalive = Keepalive::new(connection.ping_pong(), self.options.http2.keepalive);
                        if self.drain {
                            connection.graceful_shutdown();
                        }
                        self.state = State::Open(Box::new(connection));
                    }
                },
                State::Open(connection) => {
                    return match connection.poll_accept(cx) {
                        Poll::Pending => Step::Wait,
                        Poll::Ready(None) => Step::Ended,
                        Poll::Ready(Some(Err(error))) => Step::Failed(failure(error)),
                        Poll::Ready(Some(Ok((request, respond)))) => {
                            Step::Request(Box::new(request), respond)
                        }
                    };
                }
                State::Ended => return Step::Ended,
            }
        }
    }

    /// Pings when it is time and writes what all streams gave. Ready when the connection is dead.
    fn poll_end_of_turn(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        if let Some(keepalive) = &mut self.keepalive
            && keepalive.poll_dead(cx).is_ready()
        {
            return Poll::Ready(StreamError::Io(io::ErrorKind::TimedOut));
        }
        match self.gather.poll_write_out(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error.into()),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Ends in good order: GOAWAY that names no last stream, and a round trip later another that does; streams finish.
    /// [`Self::poll_accept`] then ends with `None`.
    pub fn graceful_shutdown(&mut self) {
        match &mut self.state {
            State::Handshake(_) => self.drain = true,
            State::Open(connection) => connection.graceful_shutdown(),
            State::Ended => {}
        }
    }

    /// Ends at once with a GOAWAY for this reason.
    pub fn abort(&mut self, reason: h2::Reason) {
        match &mut self.state {
            State::Open(connection) => connection.abrupt_shutdown(reason),
            State::Handshake(_) => self.state = State::Ended,
            State::Ended => {}
        }
    }

    /// After [`Self::poll_accept`] ended: ends our direction and reads until the client ends its own, so that the last
    /// frames (a GOAWAY with its reason) are not lost to a reset. The caller bounds the wait (`delayed_close_timeout`).
    ///
    /// # Errors
    /// The transport failed first.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state = State::Ended;
        self.gather.poll_close(cx)
    }

    /// Whether any stream is open.
    pub fn has_streams(&self) -> bool {
        match &self.state {
            State::Open(connection) => connection.has_streams(),
            State::Handshake(_) | State::Ended => false,
        }
    }

    /// The byte stream underneath, with its counters.
    pub fn gather(&self) -> &Gather {
        &self.gather
    }
}

/// What polling once came to.
enum Step {
    Request(Box<Request<h2::RecvStream>>, SendResponse<Bytes>),
    Wait,
    Failed(StreamError),
    Ended,
}

/// Takes a request if it is well-formed, and refuses it otherwise.
fn accept(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    max_headers: usize,
) -> Option<(RequestHead, ServerStream)> {
    let (parts, body) = request.into_parts();
    let connect = parts.method == Method::CONNECT;
    let is_head = parts.method == Method::HEAD;
    match convert::request(Request::from_parts(parts, ()), body.is_end_stream(), max_headers) {
        Ok(head) => {
            let tunnel = if connect { Tunnel::Asked } else { Tunnel::No };
            Some((
                head,
                ServerStream {
                    respond,
                    outgoing: None,
                    incoming: Incoming::new(body),
                    tunnel,
                    is_head,
                },
            ))
        }
        Err(Refusal::Malformed) => {
            respond.send_reset(h2::Reason::PROTOCOL_ERROR);
            None
        }
        Err(Refusal::TooManyFields) => {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            // If the stream is gone already, nobody waits for the answer.
            let _ = respond.send_response(response, true);
            None
        }
    }
}

/// One exchange, on the server's side. Dropped before its end it is reset.
#[derive(Debug)]
pub struct ServerStream {
    respond: SendResponse<Bytes>,
    outgoing: Option<Outgoing>,
    incoming: Incoming,
    tunnel: Tunnel,
    /// The response to HEAD has no body whatever is sent.
    is_head: bool,
}

/// Whether the stream is a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tunnel {
    No,
    /// It was asked for; until the switch no byte is given out.
    Asked,
    Open,
}

impl ServerStream {
    /// The number of the stream.
    pub fn id(&self) -> u32 {
        self.respond.stream_id().as_u32()
    }

    fn outgoing(&mut self) -> Result<&mut Outgoing, StreamError> {
        self.outgoing
            .as_mut()
            .ok_or(StreamError::Protocol(details::VIOLATION))
    }
}

impl Receive for ServerStream {
    /// After a switch was sent, frames come though `None` was returned before: raw bytes.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        if self.tunnel == Tunnel::Asked {
            return Poll::Ready(None);
        }
        self.incoming.poll_frame(cx)
    }

    fn is_end(&self) -> bool {
        self.incoming.is_end()
    }
}

impl Transmit for ServerStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        self.outgoing()?.poll_ready(cx)
    }

    fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), StreamError> {
        if self.is_head {
            return Ok(());
        }
        self.outgoing()?.data(data, end)
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError> {
        if self.is_head {
            return Ok(());
        }
        self.outgoing()?.trailers(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match &mut self.outgoing {
            Some(outgoing) => outgoing.poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Downstream for ServerStream {
    fn send_informational(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        self.respond
            .send_informational(convert::to_response(head))
            .map_err(failure)
    }

    fn send_head(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        let switched = match head.status {
            StatusCode::SWITCHING_PROTOCOLS => true,
            status => self.tunnel == Tunnel::Asked && status.is_success(),
        };
        let ends = !switched && (head.body == BodyLength::None || self.is_head);
        if switched {
            self.tunnel = Tunnel::Open;
        }
        let stream = self
            .respond
            .send_response(convert::to_response(head), ends)
            .map_err(failure)?;
        self.outgoing = Some(Outgoing::new(stream, ends));
        Ok(())
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        if let Some(outgoing) = &mut self.outgoing {
            return outgoing.poll_reset(cx);
        }
        Poll::Ready(match ready!(self.respond.poll_reset(cx)) {
            Ok(reason) => StreamError::Reset(reason),
            Err(error) => failure(error),
        })
    }

    fn reset(&mut self, reason: h2::Reason) {
        match &mut self.outgoing {
            Some(outgoing) => outgoing.reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}
