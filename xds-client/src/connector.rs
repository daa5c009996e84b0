//! How is a control plane reached? By a function of the caller's that opens a byte stream to a target.
//!
//! Control planes hide behind bootstrap clusters: TCP, Unix sockets, TLS. This crate knows the first two, the caller
//! the third; TLS must negotiate `h2` by ALPN.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host name or address, and a port.
    Tcp {
        /// Resolved at every attempt.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
    /// A cluster of the bootstrap, by name; for a caller's connector only.
    Cluster(Arc<str>),
}

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// An open connection.
pub type Connection = Box<dyn Io>;

type Connecting = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

/// Opens connections. Cheap to clone.
#[derive(Clone)]
pub struct Connector(Arc<dyn Fn(Target) -> Connecting + Send + Sync>);

impl Connector {
    /// A connector of the caller's. It is dropped in the middle when the connect timeout passes.
    pub fn new<F, C, S>(connect: F) -> Self
    where
        F: Fn(Target) -> C + Send + Sync + 'static,
        C: Future<Output = io::Result<S>> + Send + 'static,
        S: Io + 'static,
    {
        Self(Arc::new(move |target| {
            let connecting = connect(target);
            Box::pin(async move { Ok(Box::new(connecting.await?) as Connection) })
        }))
    }

    /// TCP and Unix sockets without TLS.
    #[must_use]
    pub fn plain() -> Self {
        Self(Arc::new(|target| Box::pin(connect_plain(target))))
    }

    pub(crate) fn connect(
        &self,
        target: Target,
    ) -> impl Future<Output = io::Result<Connection>> + Send + use<> {
        (self.0)(target)
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Connector")
    }
}

async fn connect_plain(target: Target) -> io::Result<Connection> {
    match target {
        Target::Tcp { host, port } => {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Target::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Target::Cluster(name) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("expected an address or a Unix socket, found cluster '{name}'"),
        )),
    }
}

/// The connector for one target as tonic wants it.
#[derive(Debug)]
pub(crate) struct ConnectTo {
    pub(crate) connector: Connector,
    pub(crate) target: Target,
}

impl tower_service::Service<http::Uri> for ConnectTo {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Connection>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let connecting = self.connector.connect(self.target.clone());
        Box::pin(async move { Ok(TokioIo::new(connecting.await?)) })
    }
}
