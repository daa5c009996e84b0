//! Who speaks first? What the first bytes of a connection say, without making a server wait that would greet.
//!
//! Holds: where every candidate chain leads to one cluster (`Listener::common_upstream`), the upstream connection is made
//! while the client is silent, and whoever speaks first decides; a byte of the client always wins. The connection
//! serves the tunnel that comes of it and is closed where HTTP or another cluster does. Where clients spoke first
//! the last times, it is made only after [`PATIENCE`], so that a port of HTTP does not pay for it. Where candidates
//! differ nothing is connected: `listener_filters_timeout` bounds the wait.

use std::sync::Arc;
use std::time::Duration;

use remora_model::listener::{CommonUpstream, ConnectionFacts, FilterChain, Listener, Terminal};
use remora_model::route::ClusterChoice;

use super::tunnel::{Caller, Dialled, Tried, dial};
use crate::io::{Io, Socket, next_bytes};
use crate::sniff::{self, Inspectors, Protocol, SniffFailure};
use crate::worker::{FirstWord, Worker};

/// How long a client is waited for where clients usually speak first.
const PATIENCE: Duration = Duration::from_millis(2);

/// How long a client may still speak once the server is not there, or has hung up without a word.
const WITHOUT_SERVER: Duration = Duration::from_secs(1);

/// Room for the first bytes of either side.
const WORD: usize = 2048;

/// What is known before a chain is chosen.
#[derive(Debug)]
pub(super) struct Heard {
    /// What the first bytes are, if anybody asked.
    pub(super) protocol: Option<Protocol>,
    /// The upstream connection that was made meanwhile.
    early: Option<Box<Dialled>>,
}

impl Heard {
    fn only(protocol: Option<Protocol>) -> Self {
        Self {
            protocol,
            early: None,
        }
    }

    /// The early connection, where `chain` is a tunnel to where it leads.
    pub(super) fn early_for(&mut self, chain: &FilterChain) -> Option<Box<Dialled>> {
        let early = self.early.take()?;
        match &chain.terminal {
            Terminal::Tcp(proxy) => match proxy.cluster {
                ClusterChoice::One(id) if id == early.cluster.config.id => Some(early),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Looks at the first bytes where the listener, or a chain that must know, asks for it.
pub(super) async fn listen(
    worker: &Worker,
    listener: &Listener,
    socket: &mut Socket,
    caller: Caller<'_>,
) -> Result<Heard, SniffFailure> {
    let port = caller.destination.port();
    let Some(inspectors) = Inspectors::of(&listener.inspection, port) else {
        return match needed(listener) {
            None => Ok(Heard::only(None)),
            Some(tls) => sniff::sniff(socket, tls, &listener.inspection)
                .await
                .map(|protocol| Heard::only(Some(protocol))),
        };
    };
    let common = listener.common_upstream(&silent(caller), &worker.world());
    let Some(common) = common else {
        return sniff::sniff(socket, inspectors, &listener.inspection)
            .await
            .map(|protocol| Heard::only(Some(protocol)));
    };
    let place = worker.first_words.of(common.cluster, caller.destination);
    let mut early = None;
    let race = async {
        tokio::select! {
            biased;
            bytes = next_bytes(socket, Socket::poll_readable, WORD) => Some(bytes),
            // On the heap, so that connections that never wait for a server have no room for it.
            () = Box::pin(server_speaks(worker, &common, caller, place, &mut early)) => None,
        }
    };
    let inspection = &listener.inspection;
    let first = match inspection.timeout {
        None => Ok(race.await),
        Some(limit) => tokio::time::timeout(limit, race).await.map_err(|_| limit),
    };
    let protocol = match first {
        Ok(Some(bytes)) => {
            let bytes = bytes?;
            if bytes.is_empty() {
                return Err(SniffFailure::Closed);
            }
            socket.replay(bytes);
            let protocol = sniff::sniff(socket, inspectors, inspection).await?;
            place.client_spoke();
            protocol
        }
        Ok(None) => Protocol::Opaque,
        Err(_) if inspection.continue_on_timeout => Protocol::Opaque,
        Err(limit) => return Err(SniffFailure::Timeout(limit)),
    };
    Ok(Heard {
        protocol: Some(protocol),
        early,
    })
}

/// What a single chain without inspectors needs itself: TLS its ClientHello.
fn needed(listener: &Listener) -> Option<Inspectors> {
    let only = match (listener.chains.as_slice(), &listener.default_chain) {
        ([chain], None) => chain,
        ([], Some(chain)) => chain,
        _ => return None,
    };
    only.tls.as_ref().map(|_| Inspectors::Tls)
}

/// The facts of a connection whose client said nothing.
fn silent(caller: Caller<'_>) -> ConnectionFacts<'static> {
    ConnectionFacts {
        destination: caller.destination,
        source: caller.client,
        direct_source: caller.peer,
        server_name: None,
        tls: false,
        application_protocols: &[],
    }
}

/// Connects, and is ready when the server has spoken, or when there is none and the client was given its time.
async fn server_speaks(
    worker: &Worker,
    common: &CommonUpstream,
    caller: Caller<'_>,
    place: FirstWord<'_>,
    early: &mut Option<Box<Dialled>>,
) {
    if place.client_speaks_first() {
        tokio::time::sleep(PATIENCE).await;
    }
    let cluster = worker.world().cluster(common.cluster).map(Arc::clone);
    if let Some(cluster) = cluster {
        let labels = common.proxy.labels.as_deref();
        let dialled = dial(
            worker,
            &common.proxy,
            (cluster, labels),
            caller,
            &mut Tried::default(),
        )
        .await;
        *early = dialled.ok().map(Box::new);
    }
    if greeted(early).await {
        place.server_spoke();
    } else {
        *early = None;
        tokio::time::sleep(WITHOUT_SERVER).await;
    }
}

/// Waits for the server's first bytes and puts them back in front; false: there is no server, or it ended.
async fn greeted(early: &mut Option<Box<Dialled>>) -> bool {
    let Some(io) = early.as_mut().map(|dialled| &mut dialled.connected.io) else {
        return false;
    };
    let bytes = match next_bytes(io, Io::poll_readable, WORD).await {
        Ok(bytes) if !bytes.is_empty() => bytes,
        _ => return false,
    };
    *early = early.take().map(|dialled| {
        let mut dialled = *dialled;
        dialled.connected.io = dialled.connected.io.replay(bytes);
        Box::new(dialled)
    });
    true
}
