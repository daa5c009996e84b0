//! The server of the interop tests: `grpc.testing.TestService` by tonic's codec, over hyper's HTTP/2.
//!
//! Its answers name it in the initial metadata `hostname`. The request metadata `rpc-behavior` bends them, by the words
//! of gRPC's interop servers, several of them with commas between: `sleep-N` (here milliseconds), `keep-open`,
//! `error-code-N`, `succeed-on-retry-attempt-N` (by `x-envoy-attempt-count`, which a proxy sends), and before a word
//! `hostname=NAME ` where only that server is meant. It keeps no deadline itself: who answers late is the proxy's matter.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

/// More streams than any test opens.
const STREAMS: u32 = 10_000;

/// The two methods of the service that the tests call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// `EmptyCall`: nothing to say and nothing to hear.
    EmptyCall,
    /// `UnaryCall`: the answer names the server in its message too.
    UnaryCall,
}

/// Both, as most tests call them.
pub const BOTH: [Method; 2] = [Method::EmptyCall, Method::UnaryCall];

/// What is asked with `UnaryCall`; the tests leave it empty.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SimpleRequest {}

/// What is answered to `UnaryCall`: the one field of it that is used.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SimpleResponse {
    /// The server's name.
    #[prost(string, tag = "6")]
    pub hostname: String,
}

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Which method.
    pub method: Method,
    /// Its metadata.
    pub metadata: MetadataMap,
    /// When.
    pub at: Instant,
}

/// What the server saw so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every call, in order.
    pub calls: Vec<Heard>,
    /// The calls under way, by method.
    pub active: BTreeMap<Method, usize>,
    /// The most calls of a method that were ever under way.
    pub peak: BTreeMap<Method, usize>,
    /// The connections over which HTTP/2 was spoken.
    pub connections: usize,
    /// The client certificates that were shown, DER.
    pub certificates: Vec<Vec<u8>>,
}

/// A running server. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct TestServer {
    hostname: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    hostname: String,
    seen: watch::Sender<Seen>,
}

impl Method {
    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::EmptyCall => "/grpc.testing.TestService/EmptyCall",
            Self::UnaryCall => "/grpc.testing.TestService/UnaryCall",
        }
    }
}

impl TestServer {
    /// Starts on 127.0.0.1 without TLS.
    pub async fn start(hostname: &str) -> Result<Self> {
        Self::listen(hostname, (Ipv4Addr::LOCALHOST, 0).into(), None).await
    }

    /// Starts several, named `NAME-0`, `NAME-1` and so on.
    pub async fn several(name: &str, count: usize) -> Result<Vec<Self>> {
        let mut servers = Vec::new();
        for number in 0..count {
            servers.push(Self::start(&format!("{name}-{number}")).await?);
        }
        Ok(servers)
    }

    /// Starts on an address, with TLS if `tls` is there.
    pub async fn listen(hostname: &str, at: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            hostname: hostname.to_owned(),
            seen: watch::Sender::default(),
        });
        let accepted = accept(listener, Arc::clone(&shared), tls.map(TlsAcceptor::from));
        Ok(Self {
            hostname: hostname.to_owned(),
            address,
            shared,
            task: tokio::spawn(accepted).abort_handle(),
        })
    }

    /// Its name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// How many calls of the method are under way.
    pub fn active(&self, method: Method) -> usize {
        self.shared
            .seen
            .borrow()
            .active
            .get(&method)
            .copied()
            .unwrap_or(0)
    }

    /// Waits until `enough` holds of what it saw.
    ///
    /// # Errors
    /// When it does not within `within`.
    pub async fn wait(&self, within: Duration, enough: impl Fn(&Seen) -> bool) -> Result<()> {
        let mut seen = self.shared.seen.subscribe();
        let waited = tokio::time::timeout(within, seen.wait_for(enough)).await;
        if waited.is_err() {
            let seen = self.seen();
            anyhow::bail!(
                "not within {within:?}: active {:?}, {} calls",
                seen.active,
                seen.calls.len()
            );
        }
        Ok(())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        connections.spawn(connection(stream, Arc::clone(&shared), tls.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let Some(tls) = tls else {
        return serve(stream, shared).await;
    };
    // Who does not get through the handshake is counted by the proxy.
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = shown.first().map(|leaf| leaf.to_vec());
    shared.seen.send_modify(|seen| seen.certificates.extend(leaf));
    serve(stream, shared).await;
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, shared: Arc<Shared>) {
    shared.seen.send_modify(|seen| seen.connections += 1);
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(STREAMS);
    // How a connection ends is the client's matter; a test sees it from there.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    shared: Arc<Shared>,
    request: http::Request<Incoming>,
) -> Result<http::Response<tonic::body::Body>, Infallible> {
    Ok(match request.uri().path() {
        "/grpc.testing.TestService/EmptyCall" => {
            let handler = Handler::new(Method::EmptyCall, shared, |_| ());
            Grpc::new(ProstCodec::<(), ()>::default())
                .unary(handler, request)
                .await
        }
        "/grpc.testing.TestService/UnaryCall" => {
            let handler = Handler::new(Method::UnaryCall, shared, |hostname| SimpleResponse {
                hostname: hostname.to_owned(),
            });
            let codec = ProstCodec::<SimpleResponse, SimpleRequest>::default();
            Grpc::new(codec).unary(handler, request).await
        }
        other => Status::unimplemented(other.to_owned()).into_http(),
    })
}

/// One method on one server.
struct Handler<A> {
    method: Method,
    shared: Arc<Shared>,
    message: fn(&str) -> A,
}

impl<A> Handler<A> {
    fn new(method: Method, shared: Arc<Shared>, message: fn(&str) -> A) -> Self {
        Self {
            method,
            shared,
            message,
        }
    }
}

impl<Q, A: Send + 'static> UnaryService<Q> for Handler<A> {
    type Response = A;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (method, shared, message) = (self.method, Arc::clone(&self.shared), self.message);
        let metadata = request.metadata().clone();
        Box::pin(async move {
            let _under_way = UnderWay::begin(&shared, method, &metadata);
            let behaved = behave(&shared.hostname, &metadata).await;
            let mut said = MetadataMap::new();
            if let Ok(name) = shared.hostname.parse() {
                said.insert("hostname", name);
            }
            match behaved {
                Ok(()) => {
                    let mut response = Response::new(message(&shared.hostname));
                    *response.metadata_mut() = said;
                    Ok(response)
                }
                Err(code) => Err(Status::with_metadata(code, "as it was told", said)),
            }
        })
    }
}

/// A call that counts as under way until it is dropped, answered or not.
struct UnderWay {
    shared: Arc<Shared>,
    method: Method,
}

impl UnderWay {
    fn begin(shared: &Arc<Shared>, method: Method, metadata: &MetadataMap) -> Self {
        shared.seen.send_modify(|seen| {
            seen.calls.push(Heard {
                method,
                metadata: metadata.clone(),
                at: Instant::now(),
            });
            let active = seen.active.entry(method).or_default();
            *active += 1;
            let peak = seen.peak.entry(method).or_default();
            *peak = (*peak).max(*active);
        });
        Self {
            shared: Arc::clone(shared),
            method,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.seen.send_modify(|seen| {
            *seen.active.entry(self.method).or_default() -= 1;
        });
    }
}

/// Does what `rpc-behavior` says; an error is the status to answer with.
async fn behave(hostname: &str, metadata: &MetadataMap) -> Result<(), Code> {
    let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
    let attempt: i32 = text("x-envoy-attempt-count")
        .and_then(|it| it.parse().ok())
        .unwrap_or(1);
    for word in text("rpc-behavior").unwrap_or_default().split(',').map(str::trim) {
        let word = match word
            .strip_prefix("hostname=")
            .and_then(|rest| rest.split_once(' '))
        {
            Some((name, word)) if name == hostname => word,
            Some(_) => continue,
            None => word,
        };
        let number = |start: &str| word.strip_prefix(start).and_then(|it| it.parse::<i32>().ok());
        if word == "keep-open" {
            std::future::pending::<()>().await;
        } else if let Some(milliseconds) = number("sleep-") {
            tokio::time::sleep(Duration::from_millis(milliseconds.unsigned_abs().into())).await;
        } else if let Some(least) = number("succeed-on-retry-attempt-") {
            if attempt > least {
                return Ok(());
            }
        } else if let Some(code) = number("error-code-") {
            return Err(Code::from(code));
        }
    }
    Ok(())
}

/// A value that many tasks change.
#[derive(Debug, Default)]
pub struct Shelf<T>(Mutex<T>);

impl<T> Shelf<T> {
    /// Does something with the value.
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
