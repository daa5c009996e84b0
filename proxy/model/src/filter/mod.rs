//! Filters of connections and requests: a closed set with static dispatch.
//!
//! To add one: `filter/x.rs` with its configuration and its pure verdict, an arm here, `translate/filter/x.rs`, one
//! scenario test. The exhaustive matches are the list of places. IO is asked for by a verdict and done by the shell.

/// A network filter before the terminal one.
#[derive(Debug, Clone)]
pub enum NetworkFilter {}

/// An HTTP filter before the router.
#[derive(Debug, Clone)]
pub enum HttpFilter {
    /// Istio's `io.istio.http.peer_metadata`: its two headers never reach the application.
    StripPeerMetadata,
}
