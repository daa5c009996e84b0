//! HTTP/2 by the h2 crate, driven directly.
//!
//! How does an HTTP/2 stream become an exchange? [`server`] accepts streams, [`client`] opens them; [`convert`] turns
//! heads into the shape of `exchange` and back, and refuses what h2 lets pass.
//!
//! Holds: everything that became ready in one turn leaves in one write ([`gather`]); flow control is given back when a
//! frame is taken, and window is claimed only for bytes in hand; an extended CONNECT (RFC 8441) looks like an HTTP/1
//! upgrade on both sides: `upgrade` is set, 101 switches.
//! Does not: see a fragment in `:path` (h2 cuts it off before anybody can refuse it).

mod blank_frames;
pub mod client;
pub mod convert;
pub mod gather;
mod keepalive;
pub mod server;
mod streaming;

#[cfg(test)]
mod tests;

pub use client::{ClientStream, Sender};
pub use server::{ServerConnection, ServerStream};

use remora_model::listener::Http2Options;

/// Bounds of a connection beside those of the model.
#[derive(Debug, Clone)]
pub struct Options {
    /// Windows, streams, keepalive.
    pub http2: Http2Options,
    /// Bytes of a head as RFC 9113 section 6.5.2 counts them. Envoy's default is 60 KiB; h2's is 16 MiB.
    pub max_head_bytes: u32,
    /// Fields of a head, `cookie` not counted. Envoy's default 100.
    pub max_headers: usize,
    /// Streams that the peer may reset before we accepted them, at a time (rapid reset, CVE-2023-44487).
    pub max_pending_accept_reset_streams: usize,
    /// Streams that we may have to reset for the peer's errors in all (CVE-2025-8671).
    pub max_local_error_reset_streams: usize,
    /// Whether extended CONNECT is offered (a server) or used (a client).
    pub extended_connect: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            http2: Http2Options::default(),
            max_head_bytes: 60 << 10,
            max_headers: 100,
            max_pending_accept_reset_streams: 20,
            max_local_error_reset_streams: 128,
            extended_connect: false,
        }
    }
}

/// Bytes that h2 buffers for one stream that cannot send.
const SEND_BUFFER: usize = 64 << 10;

/// Words of `response_code_details`, as Envoy 1.40 prints them where it refuses the same thing.
pub mod details {
    /// A message that RFC 9113 section 8 calls malformed.
    pub const VIOLATION: &str = "http2.violation.of.messaging.rule";
    /// A field that HTTP/2 does not allow.
    pub const INVALID_FIELD: &str = "http2.invalid.header.field";
    /// The peer sends more than we keep up with.
    pub const FLOOD: &str = "http2.inbound_frames_flood";
    /// The peer did not answer a ping in time.
    pub const PING_TIMEOUT: &str = "http2.ping_timeout";
    /// The server does not take extended CONNECT.
    pub const NO_EXTENDED_CONNECT: &str = "http2.extended_connect_not_enabled";
}
