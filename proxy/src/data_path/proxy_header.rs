//! Who is at the ends of a connection? The `proxy_protocol` listener filter.
//!
//! Holds: where the filter runs, nothing else is looked at before a header was read or is known to be absent; what
//! follows the header is given back. Bounded by the longest header and by `listener_filters_timeout`.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use remora_model::listener::Listener;
use remora_model::proxy_protocol::{Announced, Outcome, ProxyFilter, Version, parse};

use crate::io::{Socket, next_bytes};
use crate::observe::{HeaderRecord, ProxyHeaderCells};
use crate::sniff::SniffFailure;
use crate::worker::Worker;

/// Room for one read; most headers fit.
const READ: usize = 512;

/// The ends of a connection.
#[derive(Debug)]
pub(super) struct Ends {
    /// The client.
    pub(super) client: SocketAddr,
    /// Where it wanted to go.
    pub(super) local: SocketAddr,
    /// What else was kept of a header.
    pub(super) header: Option<Box<HeaderRecord>>,
}

/// The ends of an accepted connection: those of its PROXY header where there is one.
///
/// # Errors
/// There is none and one must be, or it is not acceptable; or nothing came in time.
pub(super) async fn ends_of(
    worker: &Worker,
    listener: &Listener,
    socket: &mut Socket,
    [peer, local]: [SocketAddr; 2],
) -> Result<Ends, SniffFailure> {
    let own = Ends {
        client: peer,
        local,
        header: None,
    };
    let filter = match &listener.inspection.proxy {
        Some(filter) if filter.scope.covers(local.port()) => filter,
        _ => return Ok(own),
    };
    let reading = Box::pin(read(socket, filter));
    let outcome = match listener.inspection.timeout {
        None => reading.await?,
        Some(limit) => match tokio::time::timeout(limit, reading).await {
            Ok(outcome) => outcome?,
            // What might have become a header is not for anybody else.
            Err(_) => return Err(SniffFailure::Timeout(limit)),
        },
    };
    let cells = worker.counters.proxy_header(&filter.stat_name);
    if !count(&cells, filter, &outcome) {
        return Err(SniffFailure::ProxyHeader);
    }
    Ok(match outcome {
        Outcome::Header { said: Some(said), .. } => announced(filter, *said),
        _ => own,
    })
}

/// Reads until the bytes are a header or cannot be one; gives back what is not part of it.
async fn read(socket: &mut Socket, filter: &ProxyFilter) -> Result<Outcome, SniffFailure> {
    let mut seen = BytesMut::new();
    loop {
        let more = next_bytes(socket, Socket::poll_readable, READ).await?;
        if more.is_empty() {
            return Err(SniffFailure::Closed);
        }
        seen.extend_from_slice(&more);
        let outcome = parse(&seen, filter.strictness);
        match &outcome {
            Outcome::More => continue,
            Outcome::Header { length, .. } => {
                let _ = seen.split_to(*length);
            }
            _ => {}
        }
        if !seen.is_empty() {
            socket.replay(seen.freeze());
        }
        return Ok(outcome);
    }
}

fn announced(filter: &ProxyFilter, said: Announced) -> Ends {
    let metadata = filter.metadata(&said.tlvs, |bytes| STANDARD.encode(bytes));
    let mut tlvs = said.tlvs;
    tlvs.retain(|tlv| filter.keep.passes(tlv.kind));
    Ends {
        client: said.source,
        local: said.destination,
        header: Some(Box::new(HeaderRecord { tlvs, metadata })),
    }
}

/// Counts as Envoy does. False: the connection may not go on.
fn count(cells: &ProxyHeaderCells, filter: &ProxyFilter, outcome: &Outcome) -> bool {
    let of = |version: Version| match version {
        Version::V1 => &cells.v1,
        Version::V2 => &cells.v2,
    };
    match outcome {
        Outcome::Header { version, .. } => {
            of(*version).found.one();
            true
        }
        Outcome::Disallowed(version) => {
            of(*version).found.one();
            of(*version).disallowed.one();
            false
        }
        Outcome::Wrong(version) => {
            of(*version).error.one();
            cells.errors.downstream_cx_proxy_proto_error.one();
            false
        }
        Outcome::NoHeader if filter.strictness.optional => {
            cells.absent.not_found_allowed.one();
            true
        }
        Outcome::NoHeader | Outcome::More => {
            cells.absent.not_found_disallowed.one();
            cells.errors.downstream_cx_proxy_proto_error.one();
            false
        }
    }
}
