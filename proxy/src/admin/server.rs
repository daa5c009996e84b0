//! The socket of the admin port, and its connections.
//!
//! Holds: at most [`MAX_CONNECTIONS`] at a time (more wait in the kernel), a head within [`HEAD_TIMEOUT`], and no
//! connection for longer than [`MAX_AGE`]: it is asked to end, and closed if it does not.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use remora_model::listener::ListenAddress;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{AdminContext, grpc, router};
use crate::io::{Socket, Transport};

/// Connections served at a time.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// How long a request's head, or the wait for the next one, may take.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a connection may live; one that was asked to end has [`GRACE`] more.
pub(super) const MAX_AGE: Duration = Duration::from_secs(900);
/// Streams of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 16;
const GRACE: Duration = Duration::from_secs(30);

/// Why the admin port does not serve.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be bound.
    #[error("admin.address: cannot bind {address}: {error}")]
    Bind {
        /// Where.
        address: String,
        /// The system's words.
        error: io::Error,
    },
    /// The file of `--admin-address-path` cannot be written.
    #[error("--admin-address-path: cannot write {path}: {error}", path = path.display())]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A bound admin port.
#[derive(Debug)]
pub struct AdminServer {
    socket: Listening,
    address: ListenAddress,
}

impl AdminServer {
    /// Binds. A Unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: &ListenAddress) -> Result<Self, AdminError> {
        let failed = |error| AdminError::Bind {
            address: address.to_string(),
            error,
        };
        match address {
            ListenAddress::Socket(socket) => {
                let listener = TcpListener::bind(socket).await.map_err(failed)?;
                let bound: SocketAddr = listener.local_addr().map_err(failed)?;
                Ok(Self {
                    socket: Listening::Tcp(listener),
                    address: ListenAddress::Socket(bound),
                })
            }
            ListenAddress::Pipe(path) => {
                let listener = match UnixListener::bind(&**path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_dead(path) => {
                        std::fs::remove_file(&**path).map_err(failed)?;
                        UnixListener::bind(&**path)
                    }
                    bound => bound,
                };
                let listener = listener.map_err(failed)?;
                Ok(Self {
                    socket: Listening::Unix(listener),
                    address: address.clone(),
                })
            }
        }
    }

    /// Where it is bound, with the port that the system gave.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Writes the bound address into a file (`--admin-address-path`).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_address(&self, path: &Path) -> Result<(), AdminError> {
        std::fs::write(path, self.address.to_string()).map_err(|error| AdminError::AddressFile {
            path: path.to_owned(),
            error,
        })
    }

    /// Serves for ever; to be spawned on a runtime for `!Send` futures, and dropped to end.
    pub async fn serve(self, context: AdminContext) {
        let context = Rc::new(context);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let accepted = match &self.socket {
                Listening::Tcp(listener) => listener.accept().await.map(|(stream, _)| Transport::Tcp(stream)),
                Listening::Unix(listener) => {
                    listener.accept().await.map(|(stream, _)| Transport::Unix(stream))
                }
            };
            match accepted {
                Ok(transport) => {
                    let context = Rc::clone(&context);
                    connections.spawn_local(async move {
                        serve_connection(Socket::new(transport), context).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin port cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Whether nobody answers at this path.
fn is_dead(path: &str) -> bool {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
    }
}

async fn serve_connection(mut socket: Socket, context: Rc<AdminContext>) {
    let is_http2 = match tokio::time::timeout(HEAD_TIMEOUT, begins_as_http2(&mut socket)).await {
        Ok(Ok(is_http2)) => is_http2,
        // Closed, broken or silent.
        Ok(Err(_)) | Err(_) => return,
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let context = Rc::clone(&context);
        async move {
            Ok::<_, Infallible>(if grpc::is_grpc(&request) {
                grpc::answer(context, request)
            } else {
                router::answer(&context, &request).await
            })
        }
    });
    if is_http2 {
        let mut builder = http2::Builder::new(OnThisThread);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(HEAD_TIMEOUT);
        let connection = builder.serve_connection(TokioIo::new(socket), service);
        limited(connection, |connection| connection.graceful_shutdown()).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(64 << 10);
        let connection = builder.serve_connection(TokioIo::new(socket), service);
        limited(connection, |connection| connection.graceful_shutdown()).await;
    }
}

/// Serves a connection until it ends, or until it is too old.
async fn limited<C: Future<Output = hyper::Result<()>>>(connection: C, end: impl FnOnce(Pin<&mut C>)) {
    let mut connection = std::pin::pin!(connection);
    let ended = match tokio::time::timeout(MAX_AGE, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            end(connection.as_mut());
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection ended");
    }
}

/// Whether the client begins with HTTP/2's preface (RFC 9113 section 3.4); what was read is read again.
async fn begins_as_http2(socket: &mut Socket) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut seen = BytesMut::with_capacity(PREFACE.len());
    while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
        let mut rest = (&mut *socket).take((PREFACE.len() - seen.len()) as u64);
        if rest.read_buf(&mut seen).await? == 0 {
            break;
        }
    }
    let is_http2 = seen == PREFACE;
    socket.replay(seen.freeze());
    Ok(is_http2)
}

/// Runs the streams of a connection where the connection runs.
#[derive(Debug, Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}
