//! Opening one connection to one endpoint: bind, connect, keepalive, TLS.
//!
//! Holds: one deadline (`connect_timeout`) covers TCP and TLS; every failure names what failed in a sentence.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use remora_model::cluster::{ClusterConfig, TcpKeepalive, TransportSocket};
use remora_model::endpoint::{Endpoint, EndpointAddress, EndpointSpec};
use remora_model::identity::ClientTls;
use remora_model::proxy_protocol::{self, Announced, UpstreamHeader};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::failure::{CONNECTION_REFUSED, ConnectFailure};
use crate::io::{Io, Socket, Transport};
use crate::observe::ClusterCells;
use crate::tls::{self, ClientContext, Secured, Session, TlsFailure};
use crate::worker::World;

/// How long an address has until the next one is tried beside it, as in Envoy (RFC 8305 section 8: 250 ms).
const NEXT_ADDRESS: Duration = Duration::from_millis(300);

/// A connection that is ready for use.
#[derive(Debug)]
pub struct Connected {
    /// The stream.
    pub io: Io,
    /// Our address, where there is one.
    pub local: Option<SocketAddr>,
    /// What TLS told us of the endpoint.
    pub tls: Option<Rc<Session>>,
}

/// What is asked of a new connection beyond the cluster's configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// SNI for this request (`auto_sni`); else that of the TLS context.
    pub server_name: Option<&'a str>,
    /// ALPN to offer where the TLS context names none, in order of preference.
    pub alpn: &'a [Box<[u8]>],
    /// Offer these even where the TLS context names others.
    pub alpn_wins: bool,
    /// What a PROXY header is to say; `None`: that the connection is our own.
    pub announced: Option<&'a Announced>,
}

/// Connects to `endpoint`.
///
/// # Errors
/// A [`ConnectFailure`] that says which step failed.
pub async fn connect(
    world: Rc<World>,
    cells: &ClusterCells,
    config: &ClusterConfig,
    endpoint: &Endpoint,
    socket: &TransportSocket,
    wish: Wish<'_>,
) -> Result<Connected, ConnectFailure> {
    let limit = config.connect_timeout;
    let steps = async {
        let (transport, local) = open(config, &endpoint.spec).await?;
        let mut socket_io = Socket::new(transport);
        if let Some(header) = socket.header() {
            announce(&mut socket_io, header, wish.announced).await?;
        }
        match socket.tls() {
            None => Ok(Connected {
                io: Io::Plain(socket_io),
                local,
                tls: None,
            }),
            Some(context) => {
                let Secured { io, session } = secure(context, &world, endpoint, wish, socket_io)
                    .await
                    .map_err(|failure| {
                        cells.tls.count_failure(&failure);
                        ConnectFailure::Tls(failure.transport_failure_reason())
                    })?;
                cells.tls.count_handshake(&session);
                Ok(Connected {
                    io,
                    local,
                    tls: Some(Rc::new(session)),
                })
            }
        }
    };
    match tokio::time::timeout(limit, steps).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ConnectFailure::TimedOut(limit)),
    }
}

/// The PROXY header, before anything else.
async fn announce(
    socket: &mut Socket,
    header: &UpstreamHeader,
    said: Option<&Announced>,
) -> Result<(), ConnectFailure> {
    let bytes = proxy_protocol::write(header, said);
    socket
        .write_all(&bytes)
        .await
        .map_err(|error| ConnectFailure::Refused(words_of(&error)))
}

/// The handshake.
async fn secure(
    context: &ClientTls,
    world: &World,
    endpoint: &Endpoint,
    wish: Wish<'_>,
    socket: Socket,
) -> Result<Secured, TlsFailure> {
    let derived = ClientContext::of(context, world)?;
    let address = match endpoint.spec.address {
        EndpointAddress::Socket(address) => address.ip(),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let target = tls::Target {
        server_name: tls::server_name(
            context,
            wish.server_name,
            endpoint.spec.details().hostname.as_deref(),
        ),
        address,
        alpn: ((wish.alpn_wins || context.settings.alpn.is_empty()) && !wish.alpn.is_empty())
            .then_some(wish.alpn),
    };
    derived.connect(target, socket, None).await
}

/// Opens the transport underneath.
async fn open(
    config: &ClusterConfig,
    spec: &EndpointSpec,
) -> Result<(Transport, Option<SocketAddr>), ConnectFailure> {
    let refused = |error: io::Error| ConnectFailure::Refused(words_of(&error));
    match &spec.address {
        EndpointAddress::Socket(address) => {
            let others = &spec.details().others;
            let stream = if others.is_empty() {
                open_tcp(config, *address).await
            } else {
                Box::pin(open_one(config, *address, others)).await
            };
            let stream = stream.map_err(refused)?;
            let local = stream.local_addr().ok();
            Ok((Transport::Tcp(stream), local))
        }
        EndpointAddress::Pipe(path) => {
            let stream = UnixStream::connect(path.as_ref()).await.map_err(refused)?;
            Ok((Transport::Unix(stream), None))
        }
        EndpointAddress::Host(..) => Err(ConnectFailure::Address("host name not resolved")),
    }
}

/// Opens whichever address answers first: the next one is tried when the last one failed, or did not answer in time
/// (RFC 8305 section 5). What loses is closed.
async fn open_one(
    config: &ClusterConfig,
    address: SocketAddr,
    others: &[SocketAddr],
) -> io::Result<TcpStream> {
    let order = config.connection.as_ref().map(|options| options.order);
    let mut waiting = order.unwrap_or_default().arrange(address, others).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        attempts.extend(waiting.next().map(|address| open_tcp(config, address)));
        let more = waiting.len() > 0;
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if more => {}
        }
    }
}

async fn open_tcp(config: &ClusterConfig, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = config
        .bind
        .as_ref()
        .and_then(|bind| bind.for_family(address.ip()))
    {
        if source.port() != 0 {
            socket.set_reuseaddr(true)?;
        }
        socket.bind(source)?;
    }
    if let Some(keepalive) = config.connection.as_ref().and_then(|options| options.keepalive) {
        set_keepalive(&socket, &keepalive)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn set_keepalive(socket: &TcpSocket, wanted: &TcpKeepalive) -> io::Result<()> {
    let mut settings = socket2::TcpKeepalive::new();
    if let Some(time) = wanted.time {
        settings = settings.with_time(time.max(Duration::from_secs(1)));
    }
    if let Some(interval) = wanted.interval {
        settings = settings.with_interval(interval.max(Duration::from_secs(1)));
    }
    if let Some(probes) = wanted.probes {
        settings = settings.with_retries(probes);
    }
    socket2::SockRef::from(socket).set_tcp_keepalive(&settings)
}

/// An IO error in Envoy's words.
fn words_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => CONNECTION_REFUSED.into(),
        io::ErrorKind::ConnectionReset => "delayed connect error: Connection reset by peer".into(),
        io::ErrorKind::HostUnreachable => "immediate connect error: No route to host".into(),
        io::ErrorKind::NetworkUnreachable => "immediate connect error: Network is unreachable".into(),
        _ => format!("immediate connect error: {error}"),
    }
}
