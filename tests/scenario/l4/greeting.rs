//! A server that speaks first passes a port whose protocol is detected, without configuration and without a wait.

use anyhow::{Context as _, Result, ensure};
use harness::bootstrap;
use harness::client::RawClient;
use harness::process::Port;
use harness::upstream::Upstream;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::servers::{Server, converse, openings};
use crate::stage::{detecting, remora, timely};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greetings_pass_a_port_whose_protocol_is_detected() -> Result<()> {
    let mut servers = Vec::new();
    let (mut ports, mut listeners, mut clusters) = (Vec::new(), Vec::new(), Vec::new());
    for opening in openings() {
        let (server, port) = (Server::start(opening).await?, Port::reserve()?);
        let name = server.opening.name;
        clusters.push(bootstrap::cluster(name, &[server.address]));
        listeners.push(detecting(name, port.address(), name, name));
        servers.push(server);
        ports.push(port);
    }
    let proxy = remora(listeners, clusters).await?;
    for (server, port) in servers.iter().zip(&ports) {
        for _ in 0..3 {
            converse(port.address(), &server.opening).await?;
        }
        ensure!(server.accepted() == 3, "{} connections", server.accepted());
    }
    // Every one of them was a tunnel; nobody waited for a timeout, and none is left open.
    let stats = proxy.admin_text("/stats?filter=tcp").await?;
    ensure!(stats.contains("tcp.tcp.downstream_cx_total: 9"), "{stats}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_port_still_tells_http_apart() -> Result<()> {
    let (upstream, port) = (Upstream::start("application").await?, Port::reserve()?);
    let listeners = vec![detecting("port", port.address(), "application", "application")];
    let clusters = vec![bootstrap::cluster("application", &[upstream.address()])];
    let _proxy = remora(listeners, clusters).await?;
    for _ in 0..4 {
        let mut client = RawClient::connect(port.address()).await?;
        let answer = client.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
        // Only a connection manager says so.
        ensure!(
            answer.head.header("server") == Some("detected"),
            "{:?}",
            answer.head
        );
    }
    // Bytes that are no HTTP travel by the tunnel, in which nobody adds a header.
    let mut opaque = RawClient::connect(port.address()).await?;
    opaque.send(b"\x00not HTTP\r\n\r\n").await?;
    let answer = opaque.read_response("GET").await?.context("an answer")?;
    ensure!(
        answer.head.header("server") != Some("detected"),
        "{:?}",
        answer.head
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_candidates_differ_the_timeout_decides() -> Result<()> {
    let [opening, ..] = openings();
    let server = Server::start(opening).await?;
    let [goes_on, closes] = [Port::reserve()?, Port::reserve()?];
    let mut listeners = Vec::new();
    for (port, goes_on) in [(&goes_on, true), (&closes, false)] {
        let mut listener = detecting(&format!("{goes_on}"), port.address(), "http", "server");
        listener["listener_filters_timeout"] = json!("0.3s");
        listener["continue_on_listener_filters_timeout"] = json!(goes_on);
        listeners.push(listener);
    }
    let clusters = vec![
        bootstrap::cluster("http", &[closes.address()]),
        bootstrap::cluster("server", &[server.address]),
    ];
    let proxy = remora(listeners, clusters).await?;
    let mut silent = TcpStream::connect(closes.address()).await?;
    let mut rest = Vec::new();
    timely(async { Ok(silent.read_to_end(&mut rest).await?) }).await?;
    ensure!(
        rest.is_empty() && server.accepted() == 0,
        "closed without a word to anybody"
    );
    converse(goes_on.address(), &server.opening).await?;
    let stats = proxy.admin_text("/stats?filter=pre_cx_timeout").await?;
    let timed_out = stats.lines().filter(|line| line.ends_with(": 1")).count();
    ensure!(timed_out == 1, "{stats}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_speaks_late_is_heard_though_there_is_no_server() -> Result<()> {
    let (nobody, port) = (Port::reserve()?, Port::reserve()?);
    let listeners = vec![detecting("port", port.address(), "nobody", "nobody")];
    let clusters = vec![bootstrap::cluster("nobody", &[nobody.address()])];
    let proxy = remora(listeners, clusters).await?;
    // HTTP gets its answer, not a closed connection, although connecting had failed before the client spoke.
    let mut client = RawClient::connect(port.address()).await?;
    timely(async {
        loop {
            let stats = proxy
                .admin_text("/stats?filter=nobody.upstream_cx_connect_fail")
                .await?;
            if stats.contains(": 1") {
                return Ok(());
            }
        }
    })
    .await?;
    let answer = client.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
    ensure!(answer.status() == 503, "{:?}", answer.head);
    // Who says nothing learns soon that there is nobody.
    let mut silent = TcpStream::connect(port.address()).await?;
    let mut rest = Vec::new();
    timely(async { Ok(silent.read_to_end(&mut rest).await.unwrap_or_default()) }).await?;
    ensure!(rest.is_empty());
    silent.shutdown().await.ok();
    Ok(())
}
