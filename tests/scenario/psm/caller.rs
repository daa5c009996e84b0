//! The client of the interop tests: tonic's codec over hyper's HTTP/2, with deadlines as a gRPC channel keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use futures_util::stream;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::service::{Method, Shelf, SimpleRequest, SimpleResponse, TestServer};

/// How many calls are under way at once where a test does not say.
const AT_ONCE: usize = 10;
/// How long a test waits for what must come.
pub const WITHIN: Duration = Duration::from_secs(30);

/// What to call.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// Which method.
    pub method: Method,
    /// Its metadata.
    pub metadata: Vec<(&'static str, String)>,
    /// The application's deadline.
    pub deadline: Option<Duration>,
    /// Tells the deadline and does not keep it, so that it is seen who does.
    pub patient: bool,
}

/// What became of one call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which method.
    pub method: Method,
    /// The status.
    pub code: Code,
    /// The server that says it answered, if one does.
    pub hostname: Option<String>,
    /// The initial metadata, or what came with the error.
    pub metadata: MetadataMap,
}

/// What became of several.
#[derive(Clone, Debug, Default)]
pub struct Tally(pub Vec<Answer>);

/// A client with a few connections to one address.
#[derive(Debug)]
pub struct Caller {
    to: SocketAddr,
    authority: String,
    connections: Vec<Shelf<Option<SendRequest<Body>>>>,
    next: AtomicUsize,
}

impl Rpc {
    /// A call without metadata or deadline.
    pub fn new(method: Method) -> Self {
        Self {
            method,
            metadata: Vec::new(),
            deadline: None,
            patient: false,
        }
    }

    /// With one more line of metadata.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.metadata.push((name, value.to_owned()));
        self
    }

    /// With what the server is to do.
    pub fn behaving(self, words: &str) -> Self {
        self.with("rpc-behavior", words)
    }

    /// With a deadline that the client keeps.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Leaves it to others to keep the deadline.
    pub fn patiently(mut self) -> Self {
        self.patient = true;
        self
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        for (name, value) in &self.metadata {
            if let Ok(value) = value.parse() {
                request
                    .metadata_mut()
                    .insert(AsciiMetadataKey::from_static(name), value);
            }
        }
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }
}

impl Tally {
    /// How many there are of the method with this status.
    pub fn count(&self, method: Method, code: Code) -> usize {
        let those = self.0.iter().filter(|it| it.method == method && it.code == code);
        those.count()
    }

    /// The answers by who gave them, of one method or of all.
    pub fn by_host(&self, method: Option<Method>) -> BTreeMap<String, usize> {
        let mut hosts = BTreeMap::new();
        for answer in &self.0 {
            if method.is_none_or(|method| method == answer.method) {
                let host = answer.hostname.clone().unwrap_or_else(|| "nobody".to_owned());
                *hosts.entry(host).or_default() += 1;
            }
        }
        hosts
    }

    /// Fails unless every call was answered with OK.
    pub fn all_ok(&self) -> Result<()> {
        let bad = self.0.iter().find(|answer| answer.code != Code::Ok);
        ensure!(bad.is_none(), "a call failed: {bad:?}");
        Ok(())
    }

    /// Fails unless the share of `code` among the calls of the method is `ratio`, give or take `tolerance`.
    pub fn share(&self, method: Method, code: Code, ratio: f64, tolerance: f64) -> Result<()> {
        let all = self.0.iter().filter(|answer| answer.method == method).count();
        let seen = self.count(method, code);
        let apart = (seen as f64 / all.max(1) as f64 - ratio).abs();
        let other = self.0.iter().find(|it| it.method == method && it.code != code);
        ensure!(
            all > 0 && apart <= tolerance,
            "{method:?}: {seen} of {all} with {code:?}, expected a share of {ratio} ± {tolerance}; another: {other:?}"
        );
        Ok(())
    }
}

impl Caller {
    /// A client for this address with one connection.
    pub fn new(to: SocketAddr) -> Self {
        Self::with_connections(to, 1)
    }

    /// A client with so many connections, which its calls take in turn.
    pub fn with_connections(to: SocketAddr, count: usize) -> Self {
        Self {
            to,
            authority: "psm.test:8080".to_owned(),
            connections: (0..count).map(|_| Shelf::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Calls once.
    pub async fn call(&self, rpc: &Rpc) -> Answer {
        let attempt = async {
            match rpc.deadline {
                Some(deadline) if !rpc.patient => tokio::time::timeout(deadline, self.attempt(rpc))
                    .await
                    .unwrap_or_else(|_| Err(Status::deadline_exceeded("the client's"))),
                _ => self.attempt(rpc).await,
            }
        };
        let (code, metadata) = match attempt.await {
            Ok(metadata) => (Code::Ok, metadata),
            Err(status) => (status.code(), status.metadata().clone()),
        };
        let hostname = metadata
            .get("hostname")
            .and_then(|it| it.to_str().ok())
            .map(str::to_owned);
        Answer {
            method: rpc.method,
            code,
            hostname,
            metadata,
        }
    }

    /// Calls each of these so many times, some at once.
    pub async fn send(&self, rpcs: &[Rpc], count: usize) -> Tally {
        self.send_at_once(rpcs, count, AT_ONCE).await
    }

    /// Calls each of these so many times, so many at once.
    pub async fn send_at_once(&self, rpcs: &[Rpc], count: usize, at_once: usize) -> Tally {
        let calls = (0..count).flat_map(|_| rpcs).map(|rpc| self.call(rpc));
        Tally(stream::iter(calls).buffer_unordered(at_once).collect().await)
    }

    /// Calls until all of a hundred calls are answered with OK by these servers, and each of them by some.
    ///
    /// # Errors
    /// When that does not come to be in time; the message says who answered last.
    pub async fn eventually_go_to<'s>(
        &self,
        rpc: &Rpc,
        servers: impl IntoIterator<Item = &'s TestServer>,
    ) -> Result<()> {
        let wanted: BTreeSet<String> = servers.into_iter().map(|it| it.hostname().to_owned()).collect();
        let deadline = Instant::now() + WITHIN;
        loop {
            let tally = self.send(std::slice::from_ref(rpc), 100).await;
            let hosts = tally.by_host(None);
            if tally.all_ok().is_ok() && hosts.keys().eq(wanted.iter()) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "calls go to {hosts:?}, not to {wanted:?} ({:?})",
                tally.all_ok()
            );
        }
    }

    async fn attempt(&self, rpc: &Rpc) -> Result<MetadataMap, Status> {
        let connection = Connection(self.connection().await?);
        let origin = format!("http://{}", self.authority).parse();
        let origin = origin.map_err(|_| Status::internal("a test names a host"))?;
        let mut client = Grpc::with_origin(connection, origin);
        let path = PathAndQuery::from_static(rpc.method.path());
        match rpc.method {
            Method::EmptyCall => {
                let codec = ProstCodec::<(), ()>::default();
                let response = client.unary(rpc.request(()), path, codec).await?;
                Ok(response.metadata().clone())
            }
            Method::UnaryCall => {
                let codec = ProstCodec::<SimpleRequest, SimpleResponse>::default();
                let response = client.unary(rpc.request(SimpleRequest {}), path, codec).await?;
                let named = response.metadata().get("hostname").map(|it| it.as_bytes());
                if named != Some(response.get_ref().hostname.as_bytes()) {
                    return Err(Status::data_loss("metadata and message name different servers"));
                }
                Ok(response.metadata().clone())
            }
        }
    }

    async fn connection(&self) -> Result<SendRequest<Body>, Status> {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let place = &self.connections[place];
        if let Some(open) = place.with(|it| it.clone()).filter(|open| !open.is_closed()) {
            return Ok(open);
        }
        let unavailable = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
        let stream = TcpStream::connect(self.to)
            .await
            .map_err(|error| unavailable(&error))?;
        let _ = stream.set_nodelay(true);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (send, connection) = handshake.await.map_err(|error| unavailable(&error))?;
        tokio::spawn(connection);
        // Where two calls opened one each, the first to be here is kept and the other one serves its call alone.
        Ok(place.with(|it| match it {
            Some(open) if !open.is_closed() => open.clone(),
            _ => it.insert(send).clone(),
        }))
    }
}

/// hyper's handle as the service that tonic's client wants.
struct Connection(SendRequest<Body>);

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Calls without end, in the background, until it is stopped.
#[derive(Debug)]
pub struct Background {
    stop: Arc<std::sync::atomic::AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Tally>>,
}

impl Background {
    /// A few tasks that make this call one after the other.
    pub fn start(to: SocketAddr, rpc: &Rpc) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let tasks = (0..4).map(|_| {
            let (stop, rpc) = (Arc::clone(&stop), rpc.clone());
            tokio::spawn(async move {
                let (caller, mut tally) = (Caller::new(to), Tally::default());
                while !stop.load(Ordering::Relaxed) {
                    tally.0.push(caller.call(&rpc).await);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                tally
            })
        });
        Self {
            tasks: tasks.collect(),
            stop,
        }
    }

    /// Lets the calls under way finish.
    pub async fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for task in self.tasks {
            all.0.extend(task.await?.0);
        }
        Ok(all)
    }
}
