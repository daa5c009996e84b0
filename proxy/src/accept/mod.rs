//! A connection comes in here: bound sockets, the accept loop of a worker, the original destination.
//!
//! Holds: each worker accepts on a socket of its own (`SO_REUSEPORT`), so a connection never changes threads; sockets
//! are not listeners, so an update of a listener touches no socket; a bound socket refuses until its listener is ready;
//! a full descriptor table makes the loop wait, not spin.

pub mod original_destination;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use remora_model::listener::ListenAddress;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::data_path::{Accepted, serve_connection};
use crate::io::Transport;
use crate::worker::{StopSign, Worker, spawn};

/// Connections that the kernel keeps ready; Envoy's default is the system's limit.
const BACKLOG: u32 = 4096;

/// How long a worker waits when it may open no more descriptors.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// A bound socket, on its way to a worker.
#[derive(Debug)]
pub struct BoundSocket {
    socket: Socket,
    backlog: i32,
}

impl BoundSocket {
    /// The address that the system gave; a Unix-domain socket has none.
    pub fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// From now on the kernel takes connections; until then it refuses them.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(&self) -> io::Result<()> {
        self.socket.listen(self.backlog)
    }
}

/// Binds one socket per worker. Unix-domain sockets cannot be shared by address: there is one, for the first worker.
///
/// # Errors
/// The system's, for the address as a whole.
pub fn bind(address: &ListenAddress, workers: usize, backlog: Option<u32>) -> io::Result<Vec<BoundSocket>> {
    let backlog = i32::try_from(backlog.unwrap_or(BACKLOG)).unwrap_or(i32::MAX);
    match address {
        ListenAddress::Pipe(path) => Ok(vec![BoundSocket {
            socket: bind_unix(path)?,
            backlog,
        }]),
        ListenAddress::Socket(wanted) => {
            let mut sockets = Vec::with_capacity(workers);
            let mut address = *wanted;
            for _ in 0..workers {
                let socket = bind_tcp(address)?;
                // Port 0: the other workers share what the first one got.
                address = socket.local_addr()?.as_socket().unwrap_or(address);
                sockets.push(BoundSocket { socket, backlog });
            }
            Ok(sockets)
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_unix(path: &str) -> io::Result<Socket> {
    // A socket that an earlier process left behind; anything else at this path is not ours to remove.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(Path::new(path))?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Accepts connections on one listening socket until told to stop; what waits in the kernel's queue then is still taken.
pub async fn accept_loop(worker: Rc<Worker>, bound: ListenAddress, socket: BoundSocket, stop: Rc<StopSign>) {
    let listening = if socket.local().is_some() {
        TcpListener::from_std(socket.socket.into()).map(Listening::Tcp)
    } else {
        UnixListener::from_std(socket.socket.into()).map(Listening::Unix)
    };
    let listening = match listening {
        Ok(listening) => listening,
        Err(error) => {
            tracing::error!(%error, address = %bound, "cannot accept");
            return;
        }
    };
    loop {
        let outcome = tokio::select! {
            biased;
            outcome = listening.accept(&bound) => outcome,
            () = stop.raised() => return,
        };
        match outcome {
            Ok(accepted) => {
                spawn(serve_connection(Rc::clone(&worker), accepted));
            }
            Err(error) if out_of_descriptors(&error) => {
                tracing::warn!(%error, address = %bound, "no descriptor for a new connection; waiting");
                tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
            }
            // The connection died in the queue.
            Err(error) => tracing::debug!(%error, address = %bound, "accept"),
        }
    }
}

fn out_of_descriptors(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM: nothing that trying again at once could mend.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    async fn accept(&self, bound: &ListenAddress) -> io::Result<Accepted> {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let (transport, peer, local) = match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                (Transport::Tcp(stream), peer, local)
            }
            Self::Unix(listener) => (Transport::Unix(listener.accept().await?.0), nowhere, nowhere),
        };
        Ok(Accepted {
            transport,
            peer,
            local,
            bound: bound.clone(),
        })
    }
}
