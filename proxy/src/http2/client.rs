//! The client's side of an HTTP/2 connection.
//!
//! Who sends: [`Sender`], one per user of the connection, all on one thread. Who makes progress: [`Connection`], a
//! future to be spawned. Who counts: the sender, for the pool.
//!
//! Holds: a stream that the server did not process fails with [`StreamError::Refused`], and only such a one.
//! Does not: queue. A caller asks for room before it sends.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{HeaderMap, Method};

use super::convert::{self, failure};
use super::gather::Gather;
use super::keepalive::Keepalive;
use super::streaming::{Incoming, Outgoing};
use super::{Options, SEND_BUFFER, details};
use crate::exchange::{
    BodyLength, Frame, Receive, RequestHead, ResponseEvent, StreamError, Transmit, Upstream,
};
use crate::io::Io;

/// Informational heads accepted in one exchange.
const MAX_INFORMATIONAL: u8 = 100;

/// Sends the preface and our settings.
///
/// # Errors
/// The transport failed.
pub async fn handshake(io: Io, options: &Options) -> Result<(Sender, Connection), StreamError> {
    let gather = Gather::new(io, 0);
    let mut builder = Builder::new();
    builder
        .initial_window_size(options.http2.stream_window)
        .initial_connection_window_size(options.http2.connection_window)
        .max_header_list_size(options.max_head_bytes)
        .max_pending_accept_reset_streams(options.max_pending_accept_reset_streams)
        .max_local_error_reset_streams(Some(options.max_local_error_reset_streams))
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false);
    let (sender, mut connection) = builder
        .handshake::<_, Bytes>(gather.clone())
        .await
        .map_err(failure)?;
    let keepalive = Keepalive::new(connection.ping_pong(), options.http2.keepalive);
    let shared = Rc::new(Shared {
        active: Cell::new(0),
        ended: Cell::new(false),
    });
    let limits = Limits {
        max_streams: options.http2.max_concurrent_streams,
        max_headers: options.max_headers,
    };
    let sender = Sender {
        sender,
        shared: Rc::clone(&shared),
        gather: gather.clone(),
        limits,
    };
    Ok((
        sender,
        Connection {
            connection: Box::new(connection),
            gather,
            keepalive,
            shared,
        },
    ))
}

/// What the senders of a connection know together.
#[derive(Debug)]
struct Shared {
    active: Cell<usize>,
    ended: Cell<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    max_streams: Option<u32>,
    max_headers: usize,
}

/// Drives a connection. Ready when it ended: every sender was dropped, the server closed, or it failed.
#[must_use = "a connection makes progress only while it is polled"]
pub struct Connection {
    connection: Box<h2::client::Connection<Gather, Bytes>>,
    gather: Gather,
    keepalive: Option<Keepalive>,
    shared: Rc<Shared>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl Future for Connection {
    type Output = Result<(), StreamError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut end = Pin::new(&mut *this.connection).poll(cx).map_err(failure);
        if end.is_pending() {
            let dead = this
                .keepalive
                .as_mut()
                .is_some_and(|keepalive| keepalive.poll_dead(cx).is_ready());
            if dead {
                end = Poll::Ready(Err(StreamError::Io(io::ErrorKind::TimedOut)));
            } else if let Poll::Ready(Err(error)) = this.gather.poll_write_out(cx) {
                end = Poll::Ready(Err(error.into()));
            }
        }
        if end.is_ready() {
            this.shared.ended.set(true);
        }
        end
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.ended.set(true);
    }
}

/// Opens streams on a connection.
#[derive(Debug, Clone)]
pub struct Sender {
    sender: SendRequest<Bytes>,
    shared: Rc<Shared>,
    gather: Gather,
    limits: Limits,
}

impl Sender {
    /// Ready when a request may be sent.
    ///
    /// # Errors
    /// The connection takes no more requests: GOAWAY ([`StreamError::Refused`]), closed, or failed.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.shared.ended.get() {
            return Poll::Ready(Err(StreamError::Refused));
        }
        self.sender.poll_ready(cx).map_err(failure)
    }

    /// Whether the connection still takes requests, as far as is known; no GOAWAY, not closed.
    pub fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        !matches!(self.poll_ready(&mut context), Poll::Ready(Err(_)))
    }

    /// Streams that are open.
    pub fn active_streams(&self) -> usize {
        self.shared.active.get()
    }

    /// Streams that may be open at a time: what the server says (100 until it does), and our own limit.
    pub fn max_concurrent_streams(&self) -> usize {
        let ours = self
            .limits
            .max_streams
            .and_then(|max| usize::try_from(max).ok())
            .unwrap_or(usize::MAX);
        self.sender.current_max_send_streams().min(ours)
    }

    /// Whether the server takes extended CONNECT (RFC 8441).
    pub fn takes_extended_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// The byte stream underneath, with its counters.
    pub fn gather(&self) -> &Gather {
        &self.gather
    }

    /// Opens a stream. With `upgrade`, and with CONNECT, the stream stays open and nothing is sent on it until the
    /// server switched; the response that switches an upgrade has status 101 here.
    ///
    /// # Errors
    /// [`StreamError::Refused`] when the connection takes no more requests; [`StreamError::Protocol`] when the head
    /// has no HTTP/2 form.
    pub fn send_request(&mut self, mut head: RequestHead) -> Result<ClientStream, StreamError> {
        if head.upgrade.is_some() {
            if head.body != BodyLength::None {
                // An upgrade may be ignored (RFC 9110 section 7.8), and extended CONNECT has no body before the switch.
                head.upgrade = None;
            } else if !self.takes_extended_connect() {
                return Err(StreamError::Protocol(details::NO_EXTENDED_CONNECT));
            }
        }
        let tunnel = head.upgrade.is_some() || head.method == Method::CONNECT;
        let ends = head.body == BodyLength::None && !tunnel;
        let upgrade = head.upgrade.clone();
        let request = convert::to_request(head)?;
        let (response, stream) =
            self.sender
                .send_request(request, ends)
                .map_err(|error| match failure(error) {
                    // What could not be given to the connection was not processed.
                    StreamError::Io(_) => StreamError::Refused,
                    error => error,
                })?;
        self.shared.active.set(self.shared.active.get() + 1);
        Ok(ClientStream {
            response: Some(response),
            outgoing: Outgoing::new(stream, ends),
            incoming: None,
            tunnel: if tunnel {
                Tunnel::Asked(upgrade)
            } else {
                Tunnel::No
            },
            informational: 0,
            max_headers: self.limits.max_headers,
            shared: Rc::clone(&self.shared),
        })
    }
}

/// One exchange, on the client's side. Dropped before its end it is reset with CANCEL.
#[derive(Debug)]
pub struct ClientStream {
    /// Until the final head came.
    response: Option<ResponseFuture>,
    outgoing: Outgoing,
    incoming: Option<Incoming>,
    tunnel: Tunnel,
    informational: u8,
    max_headers: usize,
    shared: Rc<Shared>,
}

/// Whether the stream is a tunnel.
#[derive(Debug)]
enum Tunnel {
    No,
    /// It was asked for, with the protocol of an extended CONNECT; until the switch nothing is sent.
    Asked(Option<Box<str>>),
    Open,
}

impl ClientStream {
    /// The number of the stream.
    pub fn id(&self) -> u32 {
        self.response
            .as_ref()
            .map_or(0, |response| response.stream_id().as_u32())
    }

    fn accept(&mut self, response: http::Response<h2::RecvStream>) -> Result<ResponseEvent, StreamError> {
        let (parts, body) = response.into_parts();
        if parts.headers.len() > self.max_headers {
            return Err(StreamError::Protocol("http2.too_many_headers"));
        }
        let ended = body.is_end_stream();
        let response = http::Response::from_parts(parts, ());
        let success = response.status().is_success();
        let head = match std::mem::replace(&mut self.tunnel, Tunnel::No) {
            Tunnel::Asked(upgrade) if success => {
                self.tunnel = Tunnel::Open;
                convert::response(response, ended, upgrade.as_deref())?
            }
            Tunnel::Asked(_) => {
                // No switch: nothing will be sent. That the server may have closed the stream already is no error.
                let _ = self.outgoing.data(Bytes::new(), true);
                convert::response(response, ended, None)?
            }
            Tunnel::No | Tunnel::Open => convert::response(response, ended, None)?,
        };
        self.incoming = Some(Incoming::new(body));
        Ok(ResponseEvent::Head(head))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.shared.active.set(self.shared.active.get().saturating_sub(1));
    }
}

impl Receive for ClientStream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        match &mut self.incoming {
            Some(incoming) => incoming.poll_frame(cx),
            None => Poll::Ready(Some(Err(StreamError::Protocol(details::VIOLATION)))),
        }
    }

    fn is_end(&self) -> bool {
        self.incoming.as_ref().is_some_and(Incoming::is_end)
    }
}

impl Transmit for ClientStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        self.outgoing.poll_ready(cx)
    }

    fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), StreamError> {
        if matches!(self.tunnel, Tunnel::Asked(_)) {
            // The end of the request is not the end of the tunnel.
            return if data.is_empty() {
                Ok(())
            } else {
                Err(StreamError::Protocol(details::VIOLATION))
            };
        }
        self.outgoing.data(data, end)
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError> {
        self.outgoing.trailers(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.outgoing.poll_flush(cx)
    }
}

impl Upstream for ClientStream {
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent, StreamError>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(StreamError::Protocol(details::VIOLATION)));
        };
        match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(head))) => {
                self.informational += 1;
                if self.informational > MAX_INFORMATIONAL {
                    return Poll::Ready(Err(StreamError::Protocol(details::FLOOD)));
                }
                return Poll::Ready(convert::response(head, true, None).map(ResponseEvent::Informational));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(failure(error))),
            Poll::Ready(None) | Poll::Pending => {}
        }
        let result = ready!(Pin::new(response).poll(cx));
        self.response = None;
        Poll::Ready(result.map_err(failure).and_then(|response| self.accept(response)))
    }

    fn reset(&mut self, reason: h2::Reason) {
        self.outgoing.reset(reason);
    }
}
