//! The life of a connection: original destination, listener, inspection, filter chain, TLS, then HTTP or a tunnel.
//!
//! Holds: the steps stand in order here and nowhere else; a connection that ends before its chain was found closes
//! without a byte and is counted with its reason.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use remora_model::listener::{Codec, ConnectionFacts, FilterChain, ListenAddress, Listener, Terminal};

use tokio::io::AsyncReadExt;

use super::admission::{self, Admitted};
use super::first_word::{self, Heard};
use super::http::{HttpContext, IDLE_WHILE_DRAINING, serve_http1, serve_http2};
use super::permission;
use super::proxy_header::{self, Ends};
use super::tunnel::{self, Caller, Dialled};
use crate::accept::original_destination::{OriginalDestination, original_destination};
use crate::io::{Io, Socket, Transport};
use crate::observe::{ConnectionRecord, ListenerCells};
use crate::sniff::{Protocol, SniffFailure};
use crate::tls::{Secured, ServerContext, Session, TlsFailure};
use crate::worker::{Worker, World, catch_up, close_in_time};

/// A connection as it came out of `accept`.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub transport: Transport,
    /// The directly connected peer; for Unix sockets an unspecified address.
    pub peer: SocketAddr,
    /// Our address of the connection.
    pub local: SocketAddr,
    /// The configured address of the socket that accepted it.
    pub bound: ListenAddress,
}

/// A connection with its chain.
struct Recognised {
    chain: Arc<FilterChain>,
    record: ConnectionRecord,
    io: Io,
    /// Made while nobody had spoken.
    early: Option<Box<Dialled>>,
    /// What it counts as, to its end.
    admitted: Admitted,
}

/// Counts connections of this process.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// Serves a connection to its end.
pub async fn serve_connection(worker: Rc<Worker>, accepted: Accepted) {
    let started = Instant::now();
    let world = worker.world();
    let Some(listener) = world.listeners.bound(&accepted.bound) else {
        return;
    };
    let (listener, local) = destination(&world, listener, &accepted);
    drop(world);
    let cells = worker.counters.listener(&listener.stat_prefix);
    let _counted = worker.shared.count_connection();
    let _open = OpenDownstream::begin(&cells, started);
    let recognised = tokio::select! {
        biased;
        recognised = recognise(&worker, &listener, &cells, accepted, local) => recognised,
        () = silent_while_draining(&worker) => None,
    };
    if let Some(recognised) = recognised {
        run_chain(worker, recognised).await;
    }
}

/// Ready once everything is draining and who has said nothing by now was given a last chance to.
async fn silent_while_draining(worker: &Worker) {
    worker.connections.drained().await;
    tokio::time::sleep(IDLE_WHILE_DRAINING).await;
}

/// Inspection, filter chain, TLS, and which HTTP it is; `None` if the connection ends here.
async fn recognise(
    worker: &Worker,
    listener: &Listener,
    cells: &ListenerCells,
    accepted: Accepted,
    local: SocketAddr,
) -> Option<Recognised> {
    let started = Instant::now();
    let own = accepted.local;
    let mut socket = Socket::new(accepted.transport);
    let peer = accepted.peer;
    let looked = look(worker, listener, &mut socket, [peer, local, own]).await;
    let (ends, mut heard) = looked
        .inspect_err(|failure| unrecognised(listener, cells, peer, failure))
        .ok()?;
    let Some(chain) = chain_of(listener, heard.protocol.as_ref(), &ends, peer) else {
        cells.connections.no_filter_chain_match.one();
        worker
            .shared
            .observe
            .log_unmatched(listener, [peer, ends.client, ends.local], started);
        return None;
    };
    if matches!(chain.terminal, Terminal::Close) {
        tracing::debug!(listener = %listener.name, %peer, "connection closed: its filter chain has no filter");
        return None;
    }
    let admitted = admission::admit(worker, &chain).await?;
    let (io, session) = secure(worker, &chain, cells, socket)
        .await
        .inspect_err(|failure| handshake_failed(listener, cells, peer, failure))
        .ok()?;
    let (io, multiplexed) = match speaks_http2(&chain, heard.protocol.as_ref(), session.as_ref()) {
        Some(multiplexed) => (io, multiplexed),
        // Nothing was said yet: the first bytes decide.
        None => first_words(&chain, io).await?,
    };
    let server_name = heard.protocol.as_ref().and_then(Protocol::server_name);
    let record = ConnectionRecord {
        id: NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed),
        accepted: started,
        peer,
        client: ends.client,
        header: ends.header,
        local: ends.local,
        redirected: ends.local != own,
        server_name: server_name.map(Into::into),
        listener: Arc::clone(&listener.name),
        chain: Arc::clone(&chain.name),
        tls: session,
        multiplexed,
        metadata: None,
    };
    let record = permission::permit(worker, &chain, record).await?;
    Some(Recognised {
        early: heard.early_for(&chain),
        admitted,
        chain,
        record,
        io,
    })
}

/// What the listener filters find out.
async fn look(
    worker: &Worker,
    listener: &Listener,
    socket: &mut Socket,
    [peer, local, own]: [SocketAddr; 3],
) -> Result<(Ends, Heard), SniffFailure> {
    let ends = proxy_header::ends_of(worker, listener, socket, [peer, local]).await?;
    let caller = Caller {
        peer,
        client: ends.client,
        destination: ends.local,
        original: (ends.local != own).then_some(ends.local),
        tlvs: ends.header.as_ref().map(|header| &header.tlvs[..]),
    };
    let heard = first_word::listen(worker, listener, socket, caller).await?;
    Ok((ends, heard))
}

fn unrecognised(listener: &Listener, cells: &ListenerCells, peer: SocketAddr, failure: &SniffFailure) {
    if matches!(failure, SniffFailure::Timeout(_)) {
        cells.connections.downstream_pre_cx_timeout.one();
    }
    tracing::debug!(listener = %listener.name, %peer, %failure, "connection ended unrecognised");
}

/// The terminal filter takes over.
async fn run_chain(
    worker: Rc<Worker>,
    Recognised {
        chain,
        record,
        io,
        early,
        admitted: _admitted,
    }: Recognised,
) {
    let record = Rc::new(record);
    let handle = worker.connections.enter(&record, chain);
    let world = worker.world();
    close_in_time(&worker, handle.follow(&world));
    catch_up(&worker, &handle, &world);
    drop(world);
    let chain = handle.chain();
    match &chain.terminal {
        Terminal::Http(manager) => {
            let multiplexed = record.multiplexed;
            let context = Rc::new(HttpContext::new(worker, record, handle, Arc::clone(manager)));
            let _open = context.count_connection();
            if multiplexed {
                serve_http2(context, io).await;
            } else {
                serve_http1(context, io).await;
            }
        }
        Terminal::Tcp(proxy) => Box::pin(tunnel::serve(worker, record, handle, proxy, io, early)).await,
        // Closed by `recognise`, before any handshake.
        Terminal::Close => {}
    }
}

/// The listener that takes the connection, and where the client wanted to go.
fn destination(world: &World, bound: &Arc<Listener>, accepted: &Accepted) -> (Arc<Listener>, SocketAddr) {
    if !bound.inspection.original_destination && !bound.use_original_dst {
        return (Arc::clone(bound), accepted.local);
    }
    let Transport::Tcp(tcp) = &accepted.transport else {
        return (Arc::clone(bound), accepted.local);
    };
    match original_destination(tcp) {
        Ok(Some(OriginalDestination(address))) => {
            let listener = if bound.use_original_dst {
                world.listeners.hand_off(bound, address)
            } else {
                bound
            };
            (Arc::clone(listener), address)
        }
        Ok(None) => (Arc::clone(bound), accepted.local),
        Err(error) => {
            tracing::debug!(%error, listener = %bound.name, "no original destination; using the socket's own address");
            (Arc::clone(bound), accepted.local)
        }
    }
}

fn chain_of(
    listener: &Listener,
    seen: Option<&Protocol>,
    ends: &Ends,
    peer: SocketAddr,
) -> Option<Arc<FilterChain>> {
    let facts = ConnectionFacts {
        destination: ends.local,
        source: ends.client,
        direct_source: peer,
        server_name: seen.and_then(Protocol::server_name),
        tls: seen.is_some_and(Protocol::is_tls),
        application_protocols: seen.map_or(&[], Protocol::application_protocols),
    };
    listener.chain_for(&facts).map(Arc::clone)
}

/// The handshake, where the chain asks for TLS.
async fn secure(
    worker: &Worker,
    chain: &FilterChain,
    cells: &ListenerCells,
    socket: Socket,
) -> Result<(Io, Option<Session>), TlsFailure> {
    let Some(context) = &chain.tls else {
        return Ok((Io::Plain(socket), None));
    };
    let world = worker.world();
    let derived = ServerContext::of(context, &world)?;
    drop(world);
    let Secured { io, session } = Box::pin(derived.accept(socket, chain.handshake_timeout)).await?;
    cells.tls.count_handshake(&session);
    Ok((io, Some(session)))
}

fn handshake_failed(listener: &Listener, cells: &ListenerCells, peer: SocketAddr, failure: &TlsFailure) {
    cells.tls.count_failure(failure);
    if matches!(failure, TlsFailure::SecretNotReady(_)) {
        cells.connections.downstream_context_secrets_not_ready.one();
    }
    tracing::info!(listener = %listener.name, %peer, %failure, "TLS handshake failed");
}

/// Whether the connection speaks HTTP/2, as far as configuration, ALPN or inspection know.
fn speaks_http2(chain: &FilterChain, seen: Option<&Protocol>, session: Option<&Session>) -> Option<bool> {
    let Terminal::Http(manager) = &chain.terminal else {
        return Some(false);
    };
    match manager.codec {
        Codec::Http1 => Some(false),
        Codec::Http2 => Some(true),
        Codec::Auto => match session {
            Some(session) => session.alpn.as_deref().map(|alpn| alpn == b"h2"),
            None => match seen {
                Some(Protocol::H2c) => Some(true),
                Some(Protocol::Http10 | Protocol::Http11) => Some(false),
                _ => None,
            },
        },
    }
}

/// Which HTTP the client begins with; `None` if it says nothing for as long as a connection may be idle.
async fn first_words(chain: &FilterChain, io: Io) -> Option<(Io, bool)> {
    let idle = match &chain.terminal {
        Terminal::Http(manager) => manager.timeouts.connection_idle,
        Terminal::Tcp(_) | Terminal::Close => None,
    };
    match idle {
        Some(limit) => tokio::time::timeout(limit, begins_with_preface(io)).await.ok(),
        None => Some(begins_with_preface(io).await),
    }
}

/// Reads until the bytes are the HTTP/2 preface (RFC 9113 section 3.4) or cannot be any more, and gives them back.
async fn begins_with_preface(mut io: Io) -> (Io, bool) {
    const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut read = [0; PREFACE.len()];
    let mut length = 0;
    while length < PREFACE.len() && read[..length] == PREFACE[..length] {
        match io.read(&mut read[length..]).await {
            Ok(0) | Err(_) => break,
            Ok(n) => length += n,
        }
    }
    (
        io.replay(Bytes::copy_from_slice(&read[..length])),
        read[..length] == PREFACE[..],
    )
}

/// An open downstream connection of a listener.
struct OpenDownstream {
    cells: Arc<ListenerCells>,
    started: Instant,
}

impl OpenDownstream {
    fn begin(cells: &Arc<ListenerCells>, started: Instant) -> Self {
        cells.connections.downstream_cx_total.one();
        cells.connections.downstream_cx_active.add(1);
        Self {
            cells: Arc::clone(cells),
            started,
        }
    }
}

impl Drop for OpenDownstream {
    fn drop(&mut self) {
        self.cells.connections.downstream_cx_active.add(-1);
        self.cells.connections.downstream_cx_destroy.one();
        self.cells
            .connections
            .downstream_cx_length_ms
            .record(self.started.elapsed());
    }
}
