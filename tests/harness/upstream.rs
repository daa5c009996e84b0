//! What applications stand behind the proxy?
//!
//! An [`Upstream`] takes HTTP/1.1 and HTTP/2 (prior knowledge, or over TLS) on one port and answers every request
//! with a JSON report of who answered and what it received. It keeps every request it got, so a test can compare what
//! reached the application even where the answer says nothing. How it answers is set for all requests when it starts
//! and by the request header `x-behave` for one (see [`Behaviour`]), so that tables of requests stay data.
//! [`tcp_echo`] is the application that speaks no HTTP.

mod behaviour;
mod http1_server;
mod http2_server;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use behaviour::Behaviour;

use crate::http1::{Fields, fields_json};

/// A request as the application got it.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// The upstream's name.
    pub upstream: String,
    /// Which of its connections, from 0.
    pub connection: u64,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub version: String,
    /// The method.
    pub method: String,
    /// The request target; for HTTP/2 `:path`.
    pub target: String,
    /// `:authority` of HTTP/2, `host` of HTTP/1.
    pub authority: String,
    /// Header lines as they came, without pseudo-headers.
    pub headers: Fields,
    /// `none`, `length` or `chunked`; for HTTP/2 `stream`.
    pub framing: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// Trailer lines.
    pub trailers: Fields,
    /// False when the body ended early.
    pub complete: bool,
}

/// A running application. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What the connections of one upstream share.
#[derive(Debug)]
struct Shared {
    name: String,
    behaviour: Behaviour,
    received: Mutex<Vec<Received>>,
    arrived: Notify,
}

impl Received {
    /// The first value of header `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The report that is sent back.
    pub fn report(&self) -> Value {
        let body = if self.body.len() <= 256 {
            String::from_utf8_lossy(&self.body).into_owned()
        } else {
            String::new()
        };
        json!({
            "upstream": self.upstream, "connection": self.connection, "version": self.version, "method": self.method,
            "target": self.target, "authority": self.authority, "headers": fields_json(&self.headers),
            "framing": self.framing, "body_length": self.body.len(), "body": body,
            "trailers": fields_json(&self.trailers), "complete": self.complete,
        })
    }
}

impl Upstream {
    /// Starts on 127.0.0.1 with a port of the system's choice.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, Behaviour::default(), None).await
    }

    /// Starts with a behaviour for all requests, and with TLS if `tls` is there.
    pub async fn start_with(
        name: &str,
        behaviour: Behaviour,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self> {
        Self::listen(name, (Ipv4Addr::LOCALHOST, 0).into(), behaviour, tls).await
    }

    /// Starts on an address of the test's choice.
    pub async fn listen(
        name: &str,
        at: SocketAddr,
        behaviour: Behaviour,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            behaviour,
            received: Mutex::default(),
            arrived: Notify::new(),
        });
        let task =
            tokio::spawn(accept(listener, Arc::clone(&shared), tls.map(TlsAcceptor::from))).abort_handle();
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared
            .received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The requests since the last call.
    pub fn take_received(&self) -> Vec<Received> {
        std::mem::take(
            &mut *self
                .shared
                .received
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Waits until it has received at least `count` requests.
    pub async fn wait_received(&self, count: usize) {
        loop {
            let arrived = self.shared.arrived.notified();
            if self.received().len() >= count {
                return;
            }
            arrived.await;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn record(&self, received: Received) {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(received);
        self.arrived.notify_waiters();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            match tls {
                None => serve(stream, shared, number).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, shared, number).await;
                    }
                }
            }
        });
        number += 1;
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>, number: u64)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = BufReader::new(stream);
    let is_http2 = matches!(stream.fill_buf().await, Ok(start) if start.starts_with(b"PRI"));
    // How a connection ends is the client's matter; a test sees it from there.
    let _ = if is_http2 {
        http2_server::serve(stream, shared, number).await
    } else {
        http1_server::serve(stream, &shared, number).await
    };
}

/// A TCP server that says `NAME\n` and then echoes until its peer has finished, and only then closes.
#[derive(Debug)]
pub struct TcpEcho {
    address: SocketAddr,
    task: AbortHandle,
}

/// Starts a [`TcpEcho`].
pub async fn tcp_echo(name: &str) -> Result<TcpEcho> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let greeting = format!("{name}\n");
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(echo(stream, greeting.clone()));
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(TcpEcho {
        address,
        task: task.abort_handle(),
    })
}

impl TcpEcho {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(mut stream: TcpStream, greeting: String) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(greeting.as_bytes()).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Http2Client, RawClient};

    #[tokio::test]
    async fn one_port_reports_over_both_protocols() {
        let upstream = Upstream::start("one").await.unwrap();
        let mut client = RawClient::connect(upstream.address()).await.unwrap();
        let answer = client
            .exchange(b"GET /a HTTP/1.1\r\nhost: x\r\nx-Case: 1\r\n\r\n")
            .await
            .unwrap();
        let report: Value = serde_json::from_slice(&answer.body.bytes).unwrap();
        assert_eq!(
            (report["upstream"].as_str(), report["version"].as_str()),
            (Some("one"), Some("HTTP/1.1"))
        );
        assert_eq!(report["headers"][1], json!(["x-Case", "1"]));

        let client = Http2Client::connect(upstream.address()).await.unwrap();
        let request = http::Request::builder()
            .uri("http://h/b")
            .header("x-behave", "trailer")
            .body(())
            .unwrap();
        let answer = client
            .exchange(request, bytes::Bytes::from_static(b"hello"), None)
            .await
            .unwrap();
        let report: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (report["target"].as_str(), report["body"].as_str()),
            (Some("/b"), Some("hello"))
        );
        assert_eq!(answer.trailers.unwrap()["x-trailer"], "yes");
        assert_eq!(upstream.received().len(), 2);
    }

    #[tokio::test]
    async fn a_request_can_ask_for_how_it_is_answered() {
        let upstream = Upstream::start("one").await.unwrap();
        let mut client = RawClient::connect(upstream.address()).await.unwrap();
        let request =
            b"GET / HTTP/1.1\r\nhost: x\r\nx-behave: status=418, chunked, trailer, hints, body=10\r\n\r\n";
        let answer = client.exchange(request).await.unwrap();
        assert_eq!(
            (
                answer.status(),
                answer.informational.len(),
                answer.body.bytes.len()
            ),
            (418, 1, 10)
        );
        assert_eq!(answer.body.trailers, [("x-trailer".to_owned(), "yes".to_owned())]);
    }
}
