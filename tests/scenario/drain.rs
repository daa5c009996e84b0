//! Does a proxy that is told to end lose nothing that is in flight, and does it end?
//!
//! SIGTERM: no new connections, clients are told (`Connection: close`, GOAWAY), what is in flight finishes, the process
//! leaves soon after the last connection and at the drain time at the latest. `/drain_listeners` does the same and stays;
//! `/healthcheck/fail` only says that it is not ready.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use harness::bootstrap;
use harness::client::{Http2Client, RawClient, get};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::{TcpEcho, Upstream, tcp_echo};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::TcpStream;

/// Nothing here takes that long; it only keeps a broken proxy from hanging the test.
const WITHIN: Duration = Duration::from_secs(20);

/// A proxy with an HTTP listener and a TCP listener.
struct Scene {
    http: Port,
    tcp: Port,
    upstream: Upstream,
    _echo: TcpEcho,
    process: ProxyProcess,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn start(drain_time: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (upstream, echo) = (Upstream::start("upstream").await?, tcp_echo("echo").await?);
        let (http, tcp, admin) = (Port::reserve()?, Port::reserve()?, Port::reserve()?);
        let manager = bootstrap::http_connection_manager(&json!({
            "route_config": bootstrap::route_everything("routes", "upstream"),
            "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                "@type": bootstrap::type_url("extensions.access_loggers.file.v3.FileAccessLog"),
                "path": folder.path().join("access").to_string_lossy(),
                "log_format": {"text_format_source": {"inline_string":
                    "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"}},
            }}],
        }));
        let listeners = vec![
            bootstrap::listener("http", http.address(), manager),
            bootstrap::listener("tcp", tcp.address(), bootstrap::tcp_proxy("echo")),
        ];
        let clusters = vec![
            bootstrap::cluster("upstream", &[upstream.address()]),
            bootstrap::cluster("echo", &[echo.address()]),
        ];
        let text = bootstrap::fixed(admin.address(), listeners, clusters).to_string();
        let options = Options {
            concurrency: 2,
            arguments: vec!["--drain-time-s".into(), drain_time.to_string()],
            ..Options::default()
        };
        let process = ProxyProcess::start(Proxy::Remora, &text, admin, &options).await?;
        Ok(Self {
            http,
            tcp,
            upstream,
            _echo: echo,
            process,
            folder,
        })
    }

    /// Waits until a connection to `port` is refused.
    async fn refuses(&self, port: &Port) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            match TcpStream::connect(port.address()).await {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(()),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
            ensure!(Instant::now() < deadline, "new connections are still taken");
        }
    }

    async fn keep_alive_client(&self) -> Result<RawClient> {
        let mut client = RawClient::connect(self.http.address()).await?;
        let answer = client.exchange(&request("/warm", "")).await?;
        ensure!(answer.status() == 200 && answer.head.header("connection").is_none());
        self.upstream.take_received();
        Ok(client)
    }

    /// A tunnel that has said hello.
    async fn tunnel(&self) -> Result<RawClient> {
        let mut tunnel = RawClient::connect(self.tcp.address()).await?;
        let mut greeting = String::new();
        tunnel.stream().read_line(&mut greeting).await?;
        ensure!(greeting == "echo\n", "the tunnel said '{greeting}'");
        Ok(tunnel)
    }
}

fn request(path: &str, behave: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\nx-behave: {behave}\r\n\r\n").into_bytes()
}

/// Waits for the end of a connection, however it is made.
async fn ended(client: &mut RawClient) -> Result<()> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(WITHIN, client.stream().read_to_end(&mut rest)).await;
    // A reset is an end too.
    let _ = read.context("the connection was never closed")?;
    Ok(())
}

async fn echoes(tunnel: &mut RawClient) -> Result<()> {
    tunnel.send(b"are you there?\n").await?;
    let mut answer = String::new();
    tokio::time::timeout(WITHIN, tunnel.stream().read_line(&mut answer)).await??;
    ensure!(answer == "are you there?\n", "the tunnel said '{answer}'");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_http1_has_in_flight_finishes_and_then_the_process_leaves() -> Result<()> {
    let mut scene = Scene::start(60).await?;
    let mut idle = scene.keep_alive_client().await?;
    let mut silent = RawClient::connect(scene.http.address()).await?;
    let mut late = scene.keep_alive_client().await?;
    let mut streaming = scene.keep_alive_client().await?;
    late.send(&request("/late", "delay=1500")).await?;
    streaming
        .send(&request("/streaming", "stall=1500, body=100000"))
        .await?;
    scene.upstream.wait_received(2).await;
    let head = streaming.read_head().await?.context("no head")?;
    ensure!(head.status() == 200, "{}", head.start_line);

    scene.process.terminate()?;
    scene.refuses(&scene.http).await?;
    // A client that sends just now is heard, and told; one that stays silent is let go of.
    let told = Instant::now();
    idle.send(&request("/just-now", "")).await?;
    match idle.read_response("GET").await? {
        Some(answer) => ensure!(
            answer.status() == 200 && answer.head.header("connection") == Some("close"),
            "{:?}",
            answer.head
        ),
        // Slow machine: it was idle for the whole second that it is given.
        None => ensure!(told.elapsed() > Duration::from_millis(500)),
    }
    ended(&mut silent).await?;

    let answer = late
        .read_response("GET")
        .await?
        .context("the late answer is lost")?;
    ensure!(
        answer.status() == 200 && answer.body.complete,
        "{:?}",
        answer.head
    );
    ensure!(
        answer.head.header("connection") == Some("close"),
        "a client whose answer begins now is not told: {:?}",
        answer.head
    );
    let mut body = vec![0; 100_000];
    tokio::time::timeout(WITHIN, streaming.stream().read_exact(&mut body))
        .await?
        .context("the streamed answer was cut")?;
    for client in [&mut late, &mut streaming] {
        ended(client).await?;
    }
    let status = scene.process.wait_exit(Duration::from_secs(5)).await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_clients_hear_goaway_and_their_open_streams_finish() -> Result<()> {
    let mut scene = Scene::start(60).await?;
    let client = Http2Client::connect(scene.http.address()).await?;
    let idle = Http2Client::connect(scene.http.address()).await?;
    let request = |path: &str, behave: &str| {
        http::Request::get(format!("http://test{path}"))
            .header("x-behave", behave)
            .body(())
    };
    for connection in [&client, &idle] {
        let answer = connection
            .exchange(request("/warm", "")?, Bytes::new(), None)
            .await?;
        ensure!(answer.head.status() == 200);
    }
    let late = client.exchange(request("/late", "delay=1500")?, Bytes::new(), None);
    let streaming = client.exchange(
        request("/streaming", "stall=1500, body=200000")?,
        Bytes::new(),
        None,
    );
    let shutdown = async {
        scene.upstream.wait_received(4).await;
        scene.process.terminate()?;
        scene.refuses(&scene.http).await?;
        for connection in [&client, &idle] {
            goes_away(connection).await?;
        }
        anyhow::Ok(())
    };
    let (late, streaming, shutdown) = tokio::join!(late, streaming, shutdown);
    shutdown?;
    for (answer, length) in [(late?, None), (streaming?, Some(200_000))] {
        ensure!(
            answer.head.status() == 200 && answer.reset.is_none(),
            "{:?}: {:?}",
            answer.head,
            answer.reset
        );
        ensure!(length.is_none_or(|length| answer.body.len() == length));
    }
    let status = scene.process.wait_exit(Duration::from_secs(5)).await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Waits until the connection takes no new streams because of a GOAWAY without an error.
async fn goes_away(client: &Http2Client) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let request = http::Request::get("http://test/probe").body(())?;
        let refused = match client.handle().ready().await {
            Err(error) => Some(error),
            Ok(mut ready) => match ready.send_request(request, true) {
                Err(error) => Some(error),
                // It was still in time, so it must be answered.
                Ok((answer, _)) => {
                    tokio::time::timeout(WITHIN, answer).await??;
                    None
                }
            },
        };
        if let Some(error) = refused {
            ensure!(
                error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR),
                "not a GOAWAY: {error}"
            );
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no GOAWAY");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_lives_until_its_client_ends_it() -> Result<()> {
    let mut scene = Scene::start(60).await?;
    let mut tunnel = scene.tunnel().await?;
    scene.process.terminate()?;
    scene.refuses(&scene.tcp).await?;
    echoes(&mut tunnel).await?;
    ensure!(
        scene.process.admin_text("/ready").await?.contains("draining"),
        "/ready does not say why"
    );
    drop(tunnel);
    let status = scene.process.wait_exit(Duration::from_secs(5)).await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_drain_time_the_rest_is_cut_and_written_down() -> Result<()> {
    let mut scene = Scene::start(1).await?;
    let mut tunnel = scene.tunnel().await?;
    let mut hanging = scene.keep_alive_client().await?;
    hanging.send(&request("/hanging", "delay=60000")).await?;
    let http2 = Http2Client::connect(scene.http.address()).await?;
    let stream = http::Request::get("http://test/stream")
        .header("x-behave", "delay=60000")
        .body(())?;
    let stream = tokio::spawn(async move { http2.exchange(stream, Bytes::new(), None).await });
    scene.upstream.wait_received(2).await;

    let begun = Instant::now();
    scene.process.terminate()?;
    let status = scene.process.wait_exit(Duration::from_secs(10)).await?;
    let took = begun.elapsed();
    ensure!(status.success(), "{status}");
    ensure!(
        took >= Duration::from_millis(900) && took < Duration::from_secs(5),
        "it left after {took:?}"
    );
    ended(&mut hanging).await?;
    ended(&mut tunnel).await?;
    // Its failure is its own; that it ends is what counts.
    let _ = tokio::time::timeout(WITHIN, stream).await??;
    let log = std::fs::read_to_string(scene.folder.path().join("access"))?;
    ensure!(
        log.lines()
            .any(|line| line.starts_with("/hanging ") && line.contains("DR") && line.contains("draining")),
        "the request that was cut is not in the access log:\n{log}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drained_listeners_take_nothing_new_and_the_process_stays() -> Result<()> {
    let mut scene = Scene::start(60).await?;
    let mut busy = scene.keep_alive_client().await?;
    busy.send(&request("/busy", "delay=300")).await?;
    scene.upstream.wait_received(1).await;
    let status = get(scene.process.admin(), "/drain_listeners").await?.status();
    ensure!(
        status == 405,
        "a GET must change nothing, but has status {status}"
    );
    let (status, text) = scene.process.admin_post("/drain_listeners").await?;
    ensure!(status == 200 && text.trim() == "OK", "{status}: {text}");
    scene.refuses(&scene.http).await?;
    scene.refuses(&scene.tcp).await?;
    let answer = busy.read_response("GET").await?.context("the answer is lost")?;
    ensure!(answer.status() == 200, "{:?}", answer.head);
    ended(&mut busy).await?;
    ensure!(get(scene.process.admin(), "/ready").await?.status() == 200);
    let (status, _) = scene.process.admin_post("/quitquitquit").await?;
    ensure!(status == 200, "/quitquitquit: {status}");
    let status = scene.process.wait_exit(Duration::from_secs(5)).await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_health_check_is_not_ready_in_words_and_serves_on() -> Result<()> {
    let scene = Scene::start(60).await?;
    let admin = scene.process.admin();
    ensure!(get(admin, "/ready").await?.status() == 200);
    ensure!(scene.process.admin_post("/healthcheck/fail").await?.0 == 200);
    let answer = get(admin, "/ready").await?;
    ensure!(
        answer.status() == 503 && answer.text().contains("health check failed"),
        "{}: {}",
        answer.status(),
        answer.text()
    );
    ensure!(get(scene.http.address(), "/").await?.status() == 200);
    ensure!(scene.process.admin_post("/healthcheck/ok").await?.0 == 200);
    ensure!(get(admin, "/ready").await?.status() == 200);
    Ok(())
}
