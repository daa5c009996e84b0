//! What if a control plane says exactly what the test says, and when the test says it?
//!
//! A [`ScriptedPlane`] serves every gRPC method over TCP, a Unix socket or TLS, and knows nothing of xDS: it hands each
//! call to the test as it was dialled, with its metadata. A [`Conversation`] is such a call read as xDS: the test takes
//! each request as it came and answers, withholds, repeats, refuses or cuts. Response headers leave with the first
//! message, as Go's servers do it. Several planes stand side by side; dropping one closes its port and connections.
//! For a control plane that behaves by itself, see `control_plane`.

mod conversation;
mod variant;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use conversation::Conversation;
pub use variant::{ADS, Delta, Sotw, Variant, path};

use crate::client::PATIENCE;

/// How much a client may send, and we may have in flight to it, without waiting. Bytes.
const WINDOW: u32 = 1 << 24;

/// The running server.
#[derive(Debug)]
pub struct ScriptedPlane {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    calls: watch::Sender<Calls>,
    /// Connections end when this changes.
    epoch: watch::Sender<u64>,
    /// Nothing is read or written while this is true.
    frozen: watch::Sender<bool>,
}

enum Listener {
    Tcp(TcpListener, Option<TlsAcceptor>),
    Unix(UnixListener),
}

/// What was dialled.
#[derive(Debug, Default)]
struct Calls {
    /// Every path, in order.
    dialled: Vec<String>,
    /// Those that no test took yet.
    waiting: VecDeque<Call>,
    /// How many connections were ever accepted.
    connections: usize,
}

/// One gRPC call, as it was dialled.
#[derive(Debug)]
pub struct Call {
    /// The method, `/package.Service/Method`.
    pub path: String,
    /// The headers of the call: initial metadata, `:authority` as `host`.
    pub metadata: HeaderMap,
    heard: mpsc::UnboundedReceiver<Heard>,
    respond: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
}

/// What the client did on a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// One message, without its gRPC frame.
    Message(Bytes),
    /// It will say nothing more.
    End,
    /// It reset the stream, or its connection is gone.
    Broken(String),
}

impl ScriptedPlane {
    /// Listens on 127.0.0.1 with a port of the system's choice.
    pub async fn tcp() -> Result<Self> {
        Self::tcp_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Listens on an address of the test's choice, for example where another one listened before.
    pub async fn tcp_at(at: SocketAddr) -> Result<Self> {
        Self::tcp_with(at, None).await
    }

    /// Listens with TLS; `config` says whether it demands a client certificate.
    pub async fn tls(config: Arc<ServerConfig>) -> Result<Self> {
        Self::tcp_with((Ipv4Addr::LOCALHOST, 0).into(), Some(config.into())).await
    }

    /// Listens on a Unix socket.
    pub fn unix(socket: &Path) -> Result<Self> {
        let nowhere = (Ipv4Addr::UNSPECIFIED, 0).into();
        Ok(Self::serve(nowhere, Listener::Unix(UnixListener::bind(socket)?)))
    }

    async fn tcp_with(at: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        Ok(Self::serve(address, Listener::Tcp(listener, tls)))
    }

    fn serve(address: SocketAddr, listener: Listener) -> Self {
        let shared = Arc::new(Shared {
            calls: watch::Sender::default(),
            epoch: watch::Sender::default(),
            frozen: watch::Sender::default(),
        });
        let task = tokio::spawn(accept_loop(Arc::clone(&shared), listener));
        Self {
            address,
            shared,
            task: task.abort_handle(),
        }
    }

    /// Where it listens; a Unix socket has a path, and no port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next xDS stream of `service` ([`ADS`] or a type URL) in the variant `V`, also among those that were dialled
    /// before.
    ///
    /// # Errors
    /// When none is dialled in time; the message lists what was.
    pub async fn open<V: Variant>(&self, service: &str) -> Result<Conversation<V>> {
        Ok(Conversation::new(self.call(&path::<V>(service)?).await?))
    }

    /// The next call of the method `path`, also among those that were dialled before.
    ///
    /// # Errors
    /// When none is dialled in time; the message lists what was.
    pub async fn call(&self, path: &str) -> Result<Call> {
        let mut calls = self.shared.calls.subscribe();
        let is_there = |calls: &Calls| calls.waiting.iter().any(|call| call.path == path);
        let waited = tokio::time::timeout(PATIENCE, calls.wait_for(is_there)).await;
        if waited.is_err() {
            bail!(
                "nobody dialled {path} within {PATIENCE:?}, but {:?}",
                self.dialled()
            );
        }
        drop(waited);
        let mut taken = None;
        self.shared.calls.send_if_modified(|calls| {
            let at = calls.waiting.iter().position(|call| call.path == path);
            taken = at.and_then(|at| calls.waiting.remove(at));
            false
        });
        taken.context("another task took the call")
    }

    /// The path of every call so far, in order.
    pub fn dialled(&self) -> Vec<String> {
        self.shared.calls.borrow().dialled.clone()
    }

    /// How many connections were made so far, failed TLS handshakes among them.
    pub fn connections(&self) -> usize {
        self.shared.calls.borrow().connections
    }

    /// Waits until so many connections were made.
    pub async fn wait_connections(&self, least: usize) -> Result<()> {
        let mut calls = self.shared.calls.subscribe();
        let enough = calls.wait_for(|calls| calls.connections >= least);
        tokio::time::timeout(PATIENCE, enough)
            .await
            .with_context(|| format!("fewer than {least} connections"))??;
        Ok(())
    }

    /// Closes every connection without a word, as a crash would; new ones are taken.
    pub fn cut(&self) {
        self.shared.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// From now on every connection is neither read nor written, as behind a firewall that forgot it; new ones too.
    pub fn freeze(&self) {
        self.shared.frozen.send_replace(true);
    }

    /// The end of [`Self::freeze`].
    pub fn thaw(&self) {
        self.shared.frozen.send_replace(false);
    }
}

impl Drop for ScriptedPlane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes connections until the plane is dropped; they end with it.
async fn accept_loop(shared: Arc<Shared>, listener: Listener) {
    let mut connections = JoinSet::new();
    loop {
        let shared = Arc::clone(&shared);
        match &listener {
            Listener::Unix(unix) => {
                let Ok((stream, _)) = unix.accept().await else {
                    return;
                };
                connections.spawn(connection(shared, stream));
            }
            Listener::Tcp(tcp, tls) => {
                let Ok((stream, _)) = tcp.accept().await else {
                    return;
                };
                let _ = stream.set_nodelay(true);
                match tls.clone() {
                    None => connections.spawn(connection(shared, stream)),
                    Some(tls) => connections.spawn(async move {
                        match tls.accept(stream).await {
                            Ok(stream) => connection(shared, stream).await,
                            Err(_) => shared.calls.send_modify(|calls| calls.connections += 1),
                        }
                    }),
                };
            }
        }
    }
}

/// Serves one connection.
async fn connection<S: AsyncRead + AsyncWrite + Unpin>(shared: Arc<Shared>, stream: S) {
    shared.calls.send_modify(|calls| calls.connections += 1);
    let mut epoch = shared.epoch.subscribe();
    let mut frozen = shared.frozen.subscribe();
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buffer_size(u32::MAX as usize);
    let served = async {
        let _ = frozen.wait_for(|frozen| !*frozen).await;
        let Ok(mut connection) = builder.handshake(stream).await else {
            return;
        };
        loop {
            let _ = frozen.wait_for(|frozen| !*frozen).await;
            let accepted = tokio::select! {
                accepted = connection.accept() => accepted,
                _ = frozen.changed() => continue,
            };
            let Some(Ok((request, respond))) = accepted else {
                return;
            };
            let call = Call::new(request, respond);
            shared.calls.send_modify(|calls| {
                calls.dialled.push(call.path.clone());
                calls.waiting.push_back(call);
            });
        }
    };
    tokio::select! {
        () = served => {}
        _ = epoch.changed() => {}
    }
}

impl Call {
    fn new(request: http::Request<RecvStream>, respond: SendResponse<Bytes>) -> Self {
        let (head, body) = request.into_parts();
        let mut metadata = head.headers;
        if let Some(authority) = head.uri.authority().and_then(|it| it.as_str().parse().ok()) {
            metadata.insert(http::header::HOST, authority);
        }
        let (sender, heard) = mpsc::unbounded_channel();
        tokio::spawn(listen(body, sender));
        Self {
            path: head.uri.path().to_owned(),
            metadata,
            heard,
            respond,
            body: None,
        }
    }

    /// What the client does next.
    ///
    /// # Errors
    /// When it does nothing in time.
    pub async fn heard(&mut self) -> Result<Heard> {
        let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
        let heard = heard.with_context(|| format!("nothing on {} within {PATIENCE:?}", self.path))?;
        Ok(heard.unwrap_or_else(|| Heard::Broken("it ended before".to_owned())))
    }

    /// What the client did already, without waiting.
    pub fn heard_already(&mut self) -> Option<Heard> {
        self.heard.try_recv().ok()
    }

    /// The response headers, which otherwise leave with the first message.
    pub fn accept(&mut self) -> Result<&mut SendStream<Bytes>> {
        if self.body.is_none() {
            let head = Response::builder().header("content-type", "application/grpc");
            self.body = Some(self.respond.send_response(head.body(())?, false)?);
        }
        self.body.as_mut().context("it was just put there")
    }

    /// One message, framed as gRPC demands.
    pub fn say(&mut self, message: &[u8]) -> Result<()> {
        let mut framed = Vec::with_capacity(message.len() + 5);
        framed.push(0);
        framed.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
        framed.extend_from_slice(message);
        self.bytes(framed)
    }

    /// Bytes without a frame around them.
    pub fn bytes(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        Ok(self.accept()?.send_data(bytes.into(), false)?)
    }

    /// Ends the call with a gRPC status (14 is UNAVAILABLE, 0 is OK).
    pub fn close(&mut self, code: u32, message: &str) -> Result<()> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.into());
        trailers.insert("grpc-message", message.parse()?);
        if let Some(mut body) = self.body.take() {
            return Ok(body.send_trailers(trailers)?);
        }
        let mut head = Response::builder()
            .header("content-type", "application/grpc")
            .body(())?;
        head.headers_mut().extend(trailers);
        self.respond.send_response(head, true)?;
        Ok(())
    }

    /// Ends the call with an HTTP/2 reset.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.body {
            Some(body) => body.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

/// Takes the client's messages out of their frames.
async fn listen(mut body: RecvStream, to: mpsc::UnboundedSender<Heard>) {
    let mut buffer = BytesMut::new();
    loop {
        match body.data().await {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                buffer.extend_from_slice(&data);
            }
            Some(Err(error)) => {
                let _ = to.send(Heard::Broken(error.to_string()));
                return;
            }
            None => {
                let _ = to.send(Heard::End);
                return;
            }
        }
        while let Some(message) = unframed(&mut buffer) {
            let _ = to.send(Heard::Message(message));
        }
    }
}

/// The first message of `buffer`, once it is complete.
fn unframed(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(buffer.get(1..5)?.try_into().ok()?) as usize;
    (buffer.len() >= 5 + length).then(|| {
        buffer.advance(5);
        buffer.split_to(length).freeze()
    })
}
