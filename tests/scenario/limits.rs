//! Does every limit answer in Envoy's words when it is reached?
//!
//! Circuit breakers (503, `UO`, `x-envoy-overloaded`), connections that cannot be made (503, `UF`) and route timeouts
//! (504, `UT`); each with its flag and details in the access log and its count in the cluster's metrics. Who waits for a
//! connection gets it, whatever becomes of those who waited before.

#[path = "limits/connections.rs"]
mod connections;
#[path = "limits/quotas.rs"]
mod quotas;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bootstrap;
use harness::client::{RawClient, RawResponse, get};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::Upstream;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

const WITHIN: Duration = Duration::from_secs(20);

/// A proxy before one cluster.
struct Scene {
    port: Port,
    process: ProxyProcess,
    folder: tempfile::TempDir,
}

impl Scene {
    /// `over` is merged over the cluster, `route` over the route's action.
    async fn start(proxy: Proxy, endpoint: SocketAddr, over: &Value, route: &Value) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        let mut routes = bootstrap::route_everything("routes", "limited");
        bootstrap::merge(&mut routes["virtual_hosts"][0]["routes"][0]["route"], route);
        let manager = bootstrap::http_connection_manager(&json!({
            "route_config": routes,
            "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                "@type": bootstrap::type_url("extensions.access_loggers.file.v3.FileAccessLog"),
                "path": folder.path().join("access").to_string_lossy(),
                "log_format": {"text_format_source": {"inline_string":
                    "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"}},
            }}],
        }));
        let mut cluster = bootstrap::cluster("limited", &[endpoint]);
        bootstrap::merge(&mut cluster, over);
        let listener = bootstrap::listener("http", port.address(), manager);
        let text = bootstrap::fixed(admin.address(), vec![listener], vec![cluster]).to_string();
        let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
        Ok(Self {
            port,
            process,
            folder,
        })
    }

    /// A request that is under way.
    async fn begin(&self, path: &str, behave: &str) -> Result<RawClient> {
        let mut client = RawClient::connect(self.port.address()).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nx-behave: {behave}\r\n\r\n");
        client.send(request.as_bytes()).await?;
        Ok(client)
    }

    async fn counted(&self, name: &str, least: f64) -> Result<()> {
        self.process
            .wait_metric(&format!("envoy_cluster_{name}"), "limited", least, WITHIN)
            .await
    }

    /// Waits for the access log's line for `path`, and compares it.
    async fn logged(&self, path: &str, expected: &str) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("access")).unwrap_or_default();
            let found = log
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{path} ")));
            if let Some(found) = found {
                ensure!(found == expected, "logged '{found}', expected '{expected}'");
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{path} is not in the access log:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn breaker(threshold: &Value) -> Value {
    json!({"circuit_breakers": {"thresholds": [threshold]}})
}

fn is_overload(answer: &RawResponse) -> Result<()> {
    ensure!(
        answer.status() == 503 && answer.head.header("x-envoy-overloaded") == Some("true"),
        "{:?}",
        answer.head
    );
    ensure!(
        answer.text() == "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        "{}",
        answer.text()
    );
    Ok(())
}

async fn answer(client: &mut RawClient) -> Result<RawResponse> {
    client
        .read_response("GET")
        .await?
        .context("closed without an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_beyond_max_requests_is_refused() -> Result<()> {
    for proxy in Proxy::under_test("limits: max_requests")? {
        let upstream = Upstream::start("upstream").await?;
        let limit = breaker(&json!({"max_requests": 1}));
        let scene = Scene::start(proxy, upstream.address(), &limit, &json!({})).await?;
        let mut first = scene.begin("/first", "delay=1000").await?;
        upstream.wait_received(1).await;
        is_overload(&get(scene.port.address(), "/second").await?)?;
        ensure!(answer(&mut first).await?.status() == 200);
        scene
            .logged(
                "/second",
                "503 UO upstream_reset_before_response_started{overflow}",
            )
            .await?;
        ensure!(upstream.received().len() == 1);
        // The limit is free again.
        ensure!(get(scene.port.address(), "/third").await?.status() == 200);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_neither_a_connection_nor_room_to_wait_is_refused() -> Result<()> {
    for proxy in Proxy::under_test("limits: max_connections")? {
        let upstream = Upstream::start("upstream").await?;
        let limit = breaker(&json!({"max_connections": 1, "max_pending_requests": 1}));
        let scene = Scene::start(proxy, upstream.address(), &limit, &json!({})).await?;
        let mut first = scene.begin("/first", "delay=1000").await?;
        upstream.wait_received(1).await;
        let mut waiting = scene.begin("/waiting", "").await?;
        scene.counted("upstream_rq_pending_active", 1.0).await?;
        is_overload(&get(scene.port.address(), "/refused").await?)?;
        for client in [&mut first, &mut waiting] {
            let answer = answer(client).await?;
            ensure!(answer.status() == 200, "{:?}", answer.head);
        }
        scene
            .logged(
                "/refused",
                "503 UO upstream_reset_before_response_started{overflow}",
            )
            .await?;
        scene.counted("upstream_rq_pending_overflow", 1.0).await?;
        scene.counted("upstream_cx_overflow", 1.0).await?;
        let connections: Vec<u64> = upstream.received().iter().map(|seen| seen.connection).collect();
        ensure!(connections == [0, 0], "over connections {connections:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_gets_the_next_connection_though_another_gave_up() -> Result<()> {
    for proxy in Proxy::under_test("limits: waiting")? {
        let upstream = Upstream::start("upstream").await?;
        let limit = breaker(&json!({"max_connections": 1}));
        let scene = Scene::start(proxy, upstream.address(), &limit, &json!({"timeout": "10s"})).await?;
        // Its connection is of no use afterwards, so that a new one must be opened for who waits.
        let mut first = scene.begin("/first", "delay=1000, close").await?;
        upstream.wait_received(1).await;
        let gives_up = scene.begin("/gives-up", "").await?;
        scene.counted("upstream_rq_pending_active", 1.0).await?;
        let mut waits = scene.begin("/waits", "").await?;
        scene.counted("upstream_rq_pending_active", 2.0).await?;
        drop(gives_up);
        ensure!(answer(&mut first).await?.status() == 200);
        let answer = answer(&mut waits).await?;
        ensure!(answer.status() == 200, "{:?}: {}", answer.head, answer.text());
    }
    Ok(())
}

/// An address of this machine that takes no connection: nothing listens there while the socket lives.
fn closed_port() -> Result<Port> {
    Port::reserve()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_told_apart() -> Result<()> {
    for proxy in Proxy::under_test("limits: refused")? {
        let closed = closed_port()?;
        let scene = Scene::start(proxy, closed.address(), &json!({}), &json!({})).await?;
        let answer = get(scene.port.address(), "/refused").await?;
        ensure!(answer.status() == 503, "{:?}", answer.head);
        let reason = "reset reason: remote connection failure";
        ensure!(answer.text().contains(reason), "{}", answer.text());
        let details = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}";
        scene.logged("/refused", &format!("503 UF {details}")).await?;
        scene.counted("upstream_cx_connect_fail", 1.0).await?;
    }
    Ok(())
}

/// Waiting requests behind a connect that fails are answered as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_behind_a_connect_that_fails_is_answered() -> Result<()> {
    for proxy in Proxy::under_test("limits: failing connect")? {
        let hole = black_hole()?;
        let over = json!({"connect_timeout": "0.5s",
            "circuit_breakers": {"thresholds": [{"max_connections": 1}]}});
        let scene = Scene::start(proxy, hole.address, &over, &json!({"timeout": "10s"})).await?;
        let mut first = scene.begin("/first", "").await?;
        scene.counted("upstream_cx_active", 1.0).await?;
        let mut second = scene.begin("/second", "").await?;
        for client in [&mut first, &mut second] {
            let answer = answer(client).await?;
            ensure!(answer.status() == 503, "{:?}: {}", answer.head, answer.text());
        }
    }
    Ok(())
}

/// An address whose handshakes are never completed: its queue is full.
struct BlackHole {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _queued: Vec<std::net::TcpStream>,
}

fn black_hole() -> Result<BlackHole> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(0)?;
    let address = listener.local_addr()?;
    // The kernel takes a few more than it was told; whoever comes after them waits for an answer to his SYN.
    let mut queued = Vec::new();
    loop {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(stream) => queued.push(stream),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => break,
            Err(error) => return Err(error.into()),
        }
        ensure!(queued.len() < 100, "the queue is never full");
    }
    Ok(BlackHole {
        address,
        _listener: listener,
        _queued: queued,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_that_takes_too_long_is_told_apart() -> Result<()> {
    for proxy in Proxy::under_test("limits: connect timeout")? {
        let hole = black_hole()?;
        let over = json!({"connect_timeout": "0.3s"});
        let scene = Scene::start(proxy, hole.address, &over, &json!({})).await?;
        let answer = get(scene.port.address(), "/too-long").await?;
        ensure!(answer.status() == 503, "{:?}", answer.head);
        ensure!(
            answer.text().contains("reset reason: connection timeout"),
            "{}",
            answer.text()
        );
        scene
            .logged(
                "/too-long",
                "503 UF upstream_reset_before_response_started{connection_timeout}",
            )
            .await?;
        scene.counted("upstream_cx_connect_timeout", 1.0).await?;
        scene.counted("upstream_cx_connect_fail", 1.0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_takes_too_long_is_a_gateway_timeout() -> Result<()> {
    for proxy in Proxy::under_test("limits: route timeout")? {
        let upstream = Upstream::start("upstream").await?;
        let scene = Scene::start(proxy, upstream.address(), &json!({}), &json!({"timeout": "0.3s"})).await?;
        let mut client = scene.begin("/slow", "delay=60000").await?;
        let slow = answer(&mut client).await?;
        ensure!(slow.status() == 504, "{:?}", slow.head);
        ensure!(slow.text() == "upstream request timeout", "{}", slow.text());
        scene.logged("/slow", "504 UT response_timeout").await?;
        scene.counted("upstream_rq_timeout", 1.0).await?;
        // The client's connection is of further use.
        client.send(b"GET /next HTTP/1.1\r\nhost: test\r\n\r\n").await?;
        ensure!(answer(&mut client).await?.status() == 200);
    }
    Ok(())
}
