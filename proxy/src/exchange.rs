//! The one shape of an HTTP exchange, whatever the protocol under it: a head, a body as frames with backpressure,
//! trailers, a reset with its reason.
//!
//! Holds: everything is poll-based and `!Send`, so that one future drives both sides of a request without a task or a
//! channel between them; a sender is asked for room before it is given bytes; after an error nothing more is sent.
//! Heads are canonical: pseudo-headers live in fields, hop-by-hop headers are still there for the data path to strip.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Version};

/// A piece of a message body.
#[derive(Debug)]
pub enum Frame {
    /// Bytes, never empty.
    Data(Bytes),
    /// Trailers; nothing follows.
    Trailers(HeaderMap),
}

/// How long the body of a message is, as its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// The message ends with its head.
    None,
    /// `Content-Length`.
    Exact(u64),
    /// Chunked, or HTTP/2 DATA up to END_STREAM, or until close.
    Unknown,
}

/// The head of a request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// `:scheme`, or that of an absolute-form target; `None` where HTTP/1 did not say.
    pub scheme: Option<Scheme>,
    /// `:authority`, the absolute-form's authority, or `Host`; validated. `None` only for HTTP/1.0 without a host.
    pub authority: Option<Authority>,
    /// Path and query; `*` for `OPTIONS *`; empty (`""` cannot be: `/`) for CONNECT.
    pub path: PathAndQuery,
    /// All other headers, without `Host` (it is `authority`).
    pub headers: HeaderMap,
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// Body.
    pub body: BodyLength,
    /// The protocol that the client wants to switch to: the `Upgrade` token in lower case, or HTTP/2's `:protocol`.
    pub upgrade: Option<Box<str>>,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: BodyLength,
    /// The version the peer spoke (on the way in); ignored on the way out.
    pub version: Version,
}

/// What an upstream says before its body.
#[derive(Debug)]
pub enum ResponseEvent {
    /// 100, 102, 103: more heads follow.
    Informational(ResponseHead),
    /// The final head. 101 to an upgrade is final: raw bytes follow as `Data` frames in both directions.
    Head(ResponseHead),
}

/// Why a side of an exchange ended before its message did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamError {
    /// The transport failed.
    Io(io::ErrorKind),
    /// The peer closed in the middle of a message.
    Truncated,
    /// The peer broke the protocol; the word is Envoy's `response_code_details` where there is one.
    Protocol(&'static str),
    /// The peer, or we, reset the stream.
    Reset(h2::Reason),
    /// Proof that the peer did not process the request: `REFUSED_STREAM`, or GOAWAY with a lower last stream.
    Refused,
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// A request head that could not be accepted; the connection answers with `status` and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadError {
    /// 400, 408, 414, 431, 501 or 505.
    pub status: StatusCode,
    /// What is wrong, as `response_code_details` (`http1.codec_error` family, Envoy's words where they exist).
    pub details: &'static str,
}

/// Receives the frames of a body.
pub trait Receive {
    /// The next frame; `None` after the last. Repeated after `None` it stays `None`.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>>;
    /// Whether it is known already that nothing follows, so that the last bytes can be sent on as the last.
    fn is_end(&self) -> bool;
}

/// Sends the frames of a body.
pub trait Transmit {
    /// Ready when at least one byte may be given to `send_data`; says how many at least (a hint; more is buffered).
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>>;
    /// Gives bytes; with `end` the message ends here. Empty bytes with `end` end it alone.
    fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), StreamError>;
    /// Gives trailers and ends the message. Dropped silently where the protocol cannot carry them.
    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError>;
    /// Ready when everything given was handed to the kernel (HTTP/1) or to the connection's writer (HTTP/2).
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>>;
}

/// The client's side of an exchange: we are the server.
pub trait Downstream: Receive + Transmit {
    /// Sends an informational head (100, 103).
    fn send_informational(&mut self, head: ResponseHead) -> Result<(), StreamError>;
    /// Sends the final head; with `BodyLength::None` the response ends here (HEAD and 304 too).
    fn send_head(&mut self, head: ResponseHead) -> Result<(), StreamError>;
    /// Ready when the client is gone (reset, or its transport closed), so that waiting for the upstream is in vain.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<StreamError>;
    /// No other exchange follows on this connection, and the client is told (`Connection: close`). HTTP/2 has no need.
    fn set_close(&mut self) {}
    /// Ends the exchange visibly unfinished: RST_STREAM, or close without a last chunk.
    fn reset(&mut self, reason: h2::Reason);
}

/// The server's side of an exchange: we are the client. The request head was sent when this came to be.
pub trait Upstream: Receive + Transmit {
    /// The next head.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent, StreamError>>;
    /// Ends the exchange: RST_STREAM, or the connection is not used again.
    fn reset(&mut self, reason: h2::Reason);
}
