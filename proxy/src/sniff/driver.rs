//! Reads the first bytes of an accepted connection until a [`Sniffer`] has decided, and gives them back.
//!
//! Holds: however it ends, every byte that was read is read again by whoever owns the socket next; no buffer is held
//! before the first byte is there.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use remora_model::listener::Inspection;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::{Inspectors, Protocol, Sniffer, Verdict};
use crate::io::Socket;

/// Room for one read: most hellos and request heads fit.
const READ: usize = 2048;

/// Why nothing is known of a connection. It is closed without a byte then.
#[derive(Debug, thiserror::Error)]
pub enum SniffFailure {
    /// `listener_filters_timeout` passed and `continue_on_listener_filters_timeout` is not set.
    #[error("no protocol recognised within {0:?} (listener_filters_timeout)")]
    Timeout(Duration),
    /// A PROXY header that must be there is not, or is not acceptable.
    #[error("no acceptable PROXY protocol header")]
    ProxyHeader,
    /// The client closed before its first byte.
    #[error("the client closed before it sent a byte")]
    Closed,
    /// The client's socket failed.
    #[error("the client's socket failed before its protocol was known: {0}")]
    Io(#[from] io::Error),
}

/// Finds out what a connection carries. The bytes read stay in front of `socket`.
///
/// A client that ends its side in the middle of what might become a hello or a request has sent all it will:
/// [`Protocol::Opaque`]. The same holds at the timeout with `continue_on_timeout`.
///
/// # Errors
/// [`SniffFailure`].
pub async fn sniff(
    socket: &mut Socket,
    inspectors: Inspectors,
    inspection: &Inspection,
) -> Result<Protocol, SniffFailure> {
    let mut sniffer = Sniffer::new(inspectors);
    let mut seen = BytesMut::new();
    let found = match inspection.timeout {
        None => read_until_decided(socket, &mut sniffer, &mut seen).await,
        Some(limit) => {
            let reading = read_until_decided(socket, &mut sniffer, &mut seen);
            match timeout_at(Instant::now() + limit, reading).await {
                Ok(found) => found,
                Err(_) if inspection.continue_on_timeout => Ok(Protocol::Opaque),
                Err(_) => Err(SniffFailure::Timeout(limit)),
            }
        }
    };
    if !seen.is_empty() {
        socket.replay(seen.freeze());
    }
    found
}

async fn read_until_decided(
    socket: &mut Socket,
    sniffer: &mut Sniffer,
    seen: &mut BytesMut,
) -> Result<Protocol, SniffFailure> {
    poll_fn(|cx| socket.poll_readable(cx)).await?;
    loop {
        let before = seen.len();
        seen.reserve(READ);
        if socket.read_buf(seen).await? == 0 {
            return if seen.is_empty() {
                Err(SniffFailure::Closed)
            } else {
                Ok(Protocol::Opaque)
            };
        }
        if let Verdict::Decided(protocol) = sniffer.feed(&seen[before..]) {
            return Ok(protocol);
        }
    }
}
