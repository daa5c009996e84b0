//! Handshakes: rustls configurations derived from `remora_model::identity`, and what is known of the peer afterwards.
//!
//! Holds: a derived context ([`ServerContext`], [`ClientContext`]) stands for one TLS context and one generation of each
//! of its secrets, and owns its session stores. A resumed session is not verified again by rustls, so sessions are never
//! shared between contexts or generations, and a resumed peer's certificate must still be within its dates.
//! A rotated secret touches new handshakes, and judges the peers of the old ones again ([`PeerCertificate::is_refused`]): their
//! connections are ended by whoever holds them. The verifier and the ALPN choice are ours: a handshake without common
//! ALPN completes without ALPN. The provider is aws-lc-rs, given to each configuration; there is no process default.
//! Does not ask the control plane for a secret: one that has not arrived is [`TlsFailure::SecretNotReady`].

mod check;
mod client;
mod crypto;
mod failure;
mod leaf;
mod material;
mod peer;
mod secrets;
mod server;
mod sessions;
mod spiffe;
mod verify;

#[cfg(test)]
mod tests;

pub use check::check;
pub use client::{ClientContext, Target, server_name};
pub use failure::{Side, TlsFailure, TlsStat};
pub use peer::{PeerCertificate, Session};
pub use server::ServerContext;
pub use spiffe::SpiffeId;

use remora_model::snapshot::Snapshot;

use crate::io::Io;

/// A finished handshake.
#[derive(Debug)]
pub struct Secured {
    /// The byte stream inside TLS.
    pub io: Io,
    /// What was negotiated, and with whom.
    pub session: Session,
}

/// Derives the contexts that are in use anew where one of their secrets changed, and judges their peers by it: the
/// caller's thread does what a worker's next handshake would do otherwise.
pub fn renew(snapshot: &Snapshot) {
    // One that cannot be derived says so in its next handshake.
    for context in snapshot.server_contexts().filter(|tls| tls.prepared.is_used()) {
        let _ = ServerContext::of(context, snapshot);
    }
    for context in snapshot.client_contexts().filter(|tls| tls.prepared.is_used()) {
        let _ = ClientContext::of(context, snapshot);
    }
}
