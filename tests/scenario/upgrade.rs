//! Does a WebSocket pass?
//!
//! The test plays both ends by hand: what the client says before the upstream has agreed waits, afterwards bytes go both
//! ways for as long as they like, and the end of one side reaches the other. An upgrade that is not enabled is refused,
//! one that the upstream declines is an ordinary exchange. Over HTTP/2 it is an extended CONNECT (RFC 8441).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use harness::bootstrap;
use harness::client::{RawClient, timed};
use harness::http1::{self, Head};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How long something is watched that must not happen.
const WATCHED: Duration = Duration::from_millis(300);

const ASK: &[u8] = b"GET /socket HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A proxy before an upstream that the test plays.
struct Scene {
    port: Port,
    upstream: TcpListener,
    _process: ProxyProcess,
}

impl Scene {
    async fn start(proxy: Proxy, over: &Value) -> Result<Self> {
        let upstream = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        let mut routes = bootstrap::route_everything("routes", "upstream");
        // A tunnel outlives this by far.
        routes["virtual_hosts"][0]["routes"][0]["route"]["timeout"] = json!("1s");
        let mut fields = json!({"route_config": routes, "http2_protocol_options": {"allow_connect": true}});
        bootstrap::merge(&mut fields, over);
        let manager = bootstrap::http_connection_manager(&fields);
        let listener = bootstrap::listener("http", port.address(), manager);
        let cluster = bootstrap::cluster("upstream", &[upstream.local_addr()?]);
        let text = bootstrap::fixed(admin.address(), vec![listener], vec![cluster]).to_string();
        let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
        Ok(Self {
            port,
            upstream,
            _process: process,
        })
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The upstream's end of the next connection, with the head that came over it.
    async fn asked(&self) -> Result<(BufReader<TcpStream>, Head)> {
        let (stream, _) = timed(async { Ok(self.upstream.accept().await?) }).await?;
        let mut stream = BufReader::new(stream);
        let head = timed(http1::read_head(&mut stream)).await?.context("no head")?;
        Ok((stream, head))
    }
}

fn enabled() -> Value {
    json!({"upgrade_configs": [{"upgrade_type": "websocket"}]})
}

async fn reads(stream: &mut BufReader<TcpStream>, expected: &[u8]) -> Result<()> {
    let mut read = vec![0; expected.len()];
    timed(async { Ok(stream.read_exact(&mut read).await?) }).await?;
    ensure!(read == expected, "read {:?}", String::from_utf8_lossy(&read));
    Ok(())
}

async fn reads_end(stream: &mut BufReader<TcpStream>) -> Result<()> {
    let mut rest = Vec::new();
    timed(async { Ok(stream.read_to_end(&mut rest).await?) }).await?;
    ensure!(rest.is_empty(), "{rest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_both_ways_once_the_upstream_agreed_and_not_before() -> Result<()> {
    for proxy in Proxy::under_test("upgrade: websocket")? {
        let scene = Scene::start(proxy, &enabled()).await?;
        let mut client = RawClient::connect(scene.address()).await?;
        client.send(&[ASK, b"early"].concat()).await?;
        let (mut upstream, head) = scene.asked().await?;
        ensure!(head.word(0) == "GET" && head.word(1) == "/socket", "{head:?}");
        let upgrade = head.header("upgrade").unwrap_or("");
        let connection = head.header("connection").unwrap_or("");
        ensure!(
            upgrade == "websocket" && connection.eq_ignore_ascii_case("upgrade"),
            "{head:?}"
        );
        ensure!(
            head.header("sec-websocket-key").is_some() && head.header("content-length").is_none(),
            "{head:?}"
        );
        if proxy == Proxy::Remora {
            let mut byte = [0];
            let early = tokio::time::timeout(WATCHED, upstream.read(&mut byte)).await;
            ensure!(early.is_err(), "bytes before the 101: {early:?}");
        }

        upstream.write_all(&[AGREE, b"welcome"].concat()).await?;
        let agreed = client.read_head().await?.context("no 101")?;
        ensure!(
            agreed.status() == 101 && agreed.header("upgrade") == Some("websocket"),
            "{agreed:?}"
        );
        ensure!(
            agreed.header("content-length").is_none() && agreed.header("transfer-encoding").is_none(),
            "{agreed:?}"
        );
        reads(client.stream(), b"welcome").await?;
        reads(&mut upstream, b"early").await?;

        // Longer than the route's timeout, without a byte.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let large: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let (up, down) = (large.clone(), large.clone());
        let upwards = async {
            client.send(&up).await?;
            reads(client.stream(), &down).await
        };
        let downwards = async {
            reads(&mut upstream, &up).await?;
            Ok(upstream.write_all(&down).await?)
        };
        tokio::try_join!(upwards, downwards)?;

        upstream.write_all(b"farewell").await?;
        upstream.shutdown().await?;
        reads(client.stream(), b"farewell").await?;
        reads_end(client.stream()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_client_reaches_the_upstream() -> Result<()> {
    for proxy in Proxy::under_test("upgrade: end")? {
        let scene = Scene::start(proxy, &enabled()).await?;
        let mut client = RawClient::connect(scene.address()).await?;
        client.send(ASK).await?;
        let (mut upstream, _) = scene.asked().await?;
        upstream.write_all(AGREE).await?;
        ensure!(client.read_head().await?.context("no 101")?.status() == 101);
        client.send(b"last").await?;
        drop(client);
        reads(&mut upstream, b"last").await?;
        reads_end(&mut upstream).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_is_not_enabled_is_refused_here() -> Result<()> {
    for proxy in Proxy::under_test("upgrade: refused")? {
        let scene = Scene::start(proxy, &json!({})).await?;
        let mut client = RawClient::connect(scene.address()).await?;
        let answer = client.exchange(ASK).await?;
        ensure!(answer.status() == 403, "{:?}", answer.head);
        ensure!(answer.head.header("upgrade").is_none(), "{:?}", answer.head);
        let reached = tokio::time::timeout(WATCHED, scene.upstream.accept()).await;
        ensure!(reached.is_err(), "the upstream was asked");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_the_upstream_declines_is_an_ordinary_exchange() -> Result<()> {
    for status in ["200 OK", "426 Upgrade Required"] {
        let scene = Scene::start(Proxy::Remora, &enabled()).await?;
        let mut client = RawClient::connect(scene.address()).await?;
        client.send(ASK).await?;
        let (mut upstream, _) = scene.asked().await?;
        let declined = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno");
        upstream.write_all(declined.as_bytes()).await?;
        let answer = client
            .read_response("GET")
            .await?
            .context("closed without an answer")?;
        ensure!(
            status.starts_with(&answer.status().to_string()) && answer.text() == "no",
            "{:?}: {}",
            answer.head,
            answer.text()
        );
        // The client's connection still speaks HTTP, whichever connection the next request takes upwards.
        client.send(b"GET /next HTTP/1.1\r\nhost: test\r\n\r\n").await?;
        let served = async {
            let on_the_same = async { http1::read_head(&mut upstream).await?.context("closed") };
            let (mut stream, head) = tokio::select! {
                Ok(head) = on_the_same => (None, head),
                asked = scene.asked() => { let (stream, head) = asked?; (Some(stream), head) }
            };
            let stream = stream.as_mut().unwrap_or(&mut upstream);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            Ok(head)
        };
        let head = timed(served).await?;
        ensure!(head.word(1) == "/next", "{head:?}");
        let answer = client
            .read_response("GET")
            .await?
            .context("closed without an answer")?;
        ensure!(answer.status() == 204, "after {status}: {:?}", answer.head);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extended_connect_becomes_an_upgrade_of_the_upstream() -> Result<()> {
    for proxy in Proxy::under_test("upgrade: extended CONNECT")? {
        let scene = Scene::start(proxy, &enabled()).await?;
        let stream = TcpStream::connect(scene.address()).await?;
        let (mut send, mut connection) = timed(async { Ok(h2::client::handshake(stream).await?) }).await?;
        // The server's settings must have come first.
        let settled = async {
            std::future::poll_fn(|cx| {
                let _ = std::pin::Pin::new(&mut connection).poll(cx);
                if send.is_extended_connect_protocol_enabled() {
                    return std::task::Poll::Ready(());
                }
                std::task::Poll::Pending
            })
            .await;
            Ok(())
        };
        timed(settled).await.context("extended CONNECT is not offered")?;
        tokio::spawn(connection);
        let mut request = http::Request::builder()
            .method(http::Method::CONNECT)
            .uri("http://test/socket")
            .header("sec-websocket-version", "13")
            .body(())?;
        request
            .extensions_mut()
            .insert(h2::ext::Protocol::from_static("websocket"));
        let (answer, mut up) = send.send_request(request, false)?;
        let (mut upstream, head) = scene.asked().await?;
        ensure!(head.word(0) == "GET" && head.word(1) == "/socket", "{head:?}");
        ensure!(
            head.header("upgrade") == Some("websocket") && head.header("host") == Some("test"),
            "{head:?}"
        );
        upstream.write_all(&[AGREE, b"welcome"].concat()).await?;
        let answer = timed(async { Ok(answer.await?) }).await?;
        ensure!(answer.status() == 200, "{answer:?}");
        let mut down = answer.into_body();
        up.send_data(Bytes::from_static(b"hello"), false)?;
        reads(&mut upstream, b"hello").await?;
        let mut read = Vec::new();
        while read.len() < b"welcome".len() {
            let data = timed(async { Ok(down.data().await.context("ended")??) }).await?;
            down.flow_control().release_capacity(data.len())?;
            read.extend_from_slice(&data);
        }
        ensure!(read == b"welcome", "{read:?}");
        upstream.shutdown().await?;
        drop(upstream);
        let end = timed(async { Ok(down.data().await) }).await?;
        ensure!(
            end.as_ref()
                .is_none_or(|end| end.as_ref().is_ok_and(Bytes::is_empty) || end.is_err()),
            "{end:?}"
        );
    }
    Ok(())
}
