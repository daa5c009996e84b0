//! Filters of connections and requests: a closed set with static dispatch.
//!
//! To add one: `filter/x.rs` with its configuration and its pure verdict, an arm here, `translate/filter/x.rs`, one
//! scenario test. The exhaustive matches are the list of places. IO is asked for by a verdict and done by the shell.

use std::sync::Arc;

/// A network filter before the terminal one.
#[derive(Debug, Clone)]
pub enum NetworkFilter {}

/// An HTTP filter before the router.
#[derive(Debug, Clone)]
pub enum HttpFilter {
    /// Istio's `io.istio.http.peer_metadata`: its two headers never reach the application.
    StripPeerMetadata,
    /// Istio's `istio.alpn`: what is offered by ALPN upstream, by the protocol that will be spoken there.
    UpstreamAlpn(Arc<UpstreamAlpn>),
}

/// ALPN offers by upstream protocol; an empty list leaves the TLS context's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamAlpn {
    /// Towards HTTP/1.0.
    pub http10: Vec<Box<[u8]>>,
    /// Towards HTTP/1.1.
    pub http11: Vec<Box<[u8]>>,
    /// Towards HTTP/2.
    pub http2: Vec<Box<[u8]>>,
}
