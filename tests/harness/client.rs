//! How does a test speak to the proxy?
//!
//! [`RawClient`] writes bytes and reads the answer as it came, over TCP or TLS: for what a library would refuse to
//! send or would tidy up. [`Http2Client`] is the `h2` crate with streams, trailers and resets in sight.
//! [`hyper_http1`] and [`hyper_http2`] give hyper's connections, the independent peer for plain traffic.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::http1::{self, Body, Head};

/// How long a test waits for an answer before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A response as it was read from the wire.
#[derive(Clone, Debug, Default)]
pub struct RawResponse {
    /// 1xx heads that came first.
    pub informational: Vec<Head>,
    /// The final head.
    pub head: Head,
    /// Its body.
    pub body: Body,
}

impl RawResponse {
    /// The final status.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }
}

/// An HTTP/1 connection for hand-written bytes.
#[derive(Debug)]
pub struct RawClient<S = TcpStream> {
    stream: BufReader<S>,
}

impl RawClient<TcpStream> {
    /// Connects over TCP.
    pub async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to)
            .await
            .with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    /// Uses a connection that exists.
    pub fn over(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Writes `bytes` and flushes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads one head; `None` when the peer closed instead.
    pub async fn read_head(&mut self) -> Result<Option<Head>> {
        timed(http1::read_head(&mut self.stream)).await
    }

    /// Reads the answer to a request with `method`; `None` when the peer closed instead. A 101 ends the reading
    /// after its head, and the connection is then a tunnel.
    pub async fn read_response(&mut self, method: &str) -> Result<Option<RawResponse>> {
        let mut response = RawResponse::default();
        loop {
            let Some(head) = self.read_head().await? else {
                return Ok(None);
            };
            if head.status() == 101 || !(100..200).contains(&head.status()) {
                response.head = head;
                break;
            }
            response.informational.push(head);
        }
        let framing = response.head.response_framing(method);
        response.body = timed(async { Ok(http1::read_body(&mut self.stream, framing).await) }).await?;
        Ok(Some(response))
    }

    /// Sends one request and reads its answer; the method is taken from the bytes.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<RawResponse> {
        self.send(request).await?;
        let method =
            String::from_utf8_lossy(request.split(|byte| *byte == b' ').next().unwrap_or(b"")).into_owned();
        self.read_response(&method)
            .await?
            .context("the peer closed without an answer")
    }

    /// The connection below, with what was already read from it.
    pub fn stream(&mut self) -> &mut BufReader<S> {
        &mut self.stream
    }
}

/// A `GET` on a new connection.
pub async fn get(to: SocketAddr, path: &str) -> Result<RawResponse> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n");
    RawClient::connect(to).await?.exchange(request.as_bytes()).await
}

/// An HTTP/2 connection on the `h2` crate.
#[derive(Clone, Debug)]
pub struct Http2Client {
    send: SendRequest<Bytes>,
}

/// What came back on one HTTP/2 stream.
#[derive(Debug)]
pub struct Http2Response {
    /// Status and headers.
    pub head: Response<()>,
    /// The data.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
    /// Set when the stream was reset before its end.
    pub reset: Option<Reason>,
}

impl Http2Client {
    /// Connects over TCP with prior knowledge.
    pub async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to)
            .await
            .with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        Self::over(stream).await
    }

    /// Uses a connection that exists. It is driven by a task of its own and closed with the last clone.
    pub async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Result<Self> {
        let (send, connection) = timed(async { Ok(h2::client::handshake(stream).await?) }).await?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { send })
    }

    /// The handle below, for tests that drive streams themselves.
    pub fn handle(&self) -> SendRequest<Bytes> {
        self.send.clone()
    }

    /// Sends a request with its body and trailers, and reads everything that comes back.
    ///
    /// # Errors
    /// When the connection fails or the stream is reset before the response head.
    pub async fn exchange(
        &self,
        request: Request<()>,
        body: Bytes,
        trailers: Option<HeaderMap>,
    ) -> Result<Http2Response> {
        let mut send = self.send.clone().ready().await?;
        let ends_with_head = body.is_empty() && trailers.is_none();
        let (response, mut stream) = send.send_request(request, ends_with_head)?;
        if !ends_with_head {
            stream.send_data(body, trailers.is_none())?;
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers)?;
        }
        let (head, body) = timed(async { Ok(response.await?) }).await?.into_parts();
        timed(collect(Response::from_parts(head, ()), body)).await
    }
}

async fn collect(head: Response<()>, mut stream: RecvStream) -> Result<Http2Response> {
    let mut response = Http2Response {
        head,
        body: Vec::new(),
        trailers: None,
        reset: None,
    };
    while let Some(data) = stream.data().await {
        match data {
            Ok(data) => {
                stream.flow_control().release_capacity(data.len())?;
                response.body.extend_from_slice(&data);
            }
            Err(error) => {
                response.reset = Some(error.reason().unwrap_or(Reason::INTERNAL_ERROR));
                return Ok(response);
            }
        }
    }
    response.trailers = stream.trailers().await?;
    Ok(response)
}

/// hyper's HTTP/1 connection to `to`.
pub async fn hyper_http1(to: SocketAddr) -> Result<hyper::client::conn::http1::SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(send)
}

/// hyper's HTTP/2 connection to `to`, with prior knowledge.
pub async fn hyper_http2(to: SocketAddr) -> Result<hyper::client::conn::http2::SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(send)
}

/// Fails when `work` takes longer than [`PATIENCE`].
pub async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .with_context(|| format!("no answer within {PATIENCE:?}"))?
}
