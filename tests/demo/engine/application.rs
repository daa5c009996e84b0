//! What runs in the server pod? One version of a sample application, which knows nothing of sidecars.
//!
//! On one port it takes HTTP/1.1 and gRPC (HTTP/2 with prior knowledge), on the other lines of text over TCP. Every
//! answer repeats what was asked and says which version answers; over HTTP also who called, as the sidecar told it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The response header that names the version.
pub(crate) const VERSION: &str = "x-version";
/// The response header that names the caller's identity.
pub(crate) const CALLER: &str = "x-caller";

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A running version: its name and the ports that it got.
#[derive(Debug)]
pub(crate) struct Application {
    /// HTTP/1.1 and gRPC.
    pub(crate) http: u16,
    /// TCP.
    pub(crate) tcp: u16,
}

impl Application {
    /// Listens at `at`, on the given ports (0: the system's choice). It runs until its runtime ends.
    pub(crate) async fn start(version: &'static str, at: IpAddr, http: u16, tcp: u16) -> Result<Self> {
        let http = TcpListener::bind(SocketAddr::new(at, http)).await?;
        let tcp = TcpListener::bind(SocketAddr::new(at, tcp)).await?;
        let application = Application {
            http: http.local_addr()?.port(),
            tcp: tcp.local_addr()?.port(),
        };
        tokio::spawn(accept(http, move |stream| serve_http(version, stream)));
        tokio::spawn(accept(tcp, move |stream| serve_tcp(version, stream)));
        Ok(application)
    }
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        // A connection that breaks is for the caller to notice.
        tokio::spawn(serve(stream));
    }
}

async fn serve_http(version: &'static str, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut start = [0; 3];
    let length = stream.peek(&mut start).await?;
    let service = service_fn(move |request| answer(version, request));
    // Every HTTP/2 connection starts with "PRI * HTTP/2.0" (RFC 9113 section 3.4).
    if &start[..length] == b"PRI" {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await?;
    } else {
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await?;
    }
    Ok(())
}

async fn answer(version: &str, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let caller = caller(request.headers());
    let is_grpc = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let mut response = Response::new(if is_grpc {
        messages_back(request.into_body())
    } else {
        greeting(version, request).await
    });
    let headers = response.headers_mut();
    let media = if is_grpc { "application/grpc" } else { "text/plain" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    let text =
        |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unreadable"));
    headers.insert(VERSION, text(version));
    headers.insert(CALLER, text(&caller));
    Ok(response)
}

/// The identity of the caller in `x-forwarded-client-cert`: the last element is of the sidecar before us.
fn caller(headers: &HeaderMap) -> String {
    let value = headers
        .get("x-forwarded-client-cert")
        .and_then(|value| value.to_str().ok());
    let last = value.unwrap_or_default().rsplit(',').next().unwrap_or_default();
    let uri = last.split(';').find_map(|pair| pair.strip_prefix("URI="));
    uri.unwrap_or("nobody").trim_matches('"').to_owned()
}

async fn greeting(version: &str, request: Request<Incoming>) -> Body {
    let path = request.uri().path().to_owned();
    let asked = request.into_body().collect().await.map(|body| body.to_bytes());
    let asked = String::from_utf8_lossy(&asked.unwrap_or_default()).into_owned();
    let text = format!("{version} at {path} heard: {asked}\n");
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Every message of the call comes back as it arrives, whether there is one or no end of them; then the status.
fn messages_back(body: Incoming) -> Body {
    let messages = BodyStream::new(body)
        .try_filter_map(|frame| async move { Ok(frame.into_data().ok().map(Frame::data)) });
    let status = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let end = stream::once(async move { Ok(Frame::trailers(status)) });
    StreamBody::new(messages.chain(end)).boxed_unsync()
}

async fn serve_tcp(version: &str, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        stream
            .write_all(format!("{version} heard: {line}").as_bytes())
            .await?;
        line.clear();
    }
    Ok(stream.shutdown().await?)
}
