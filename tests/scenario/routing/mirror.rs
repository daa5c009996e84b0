//! Can a copy of a request harm the request?
//!
//! No: where the copy's cluster is dead, reads nothing, or never answers, the client gets its answer as if there were no
//! copy; each of these is counted, and nothing stays behind.

use anyhow::{Result, ensure};
use harness::client::RawClient;
use harness::process::{Port, Proxy};
use harness::upstream::Upstream;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::scene::{Plan, Scene, WITHIN, to};

/// More than all socket buffers on the way and the proxy's bound hold.
const LARGE: usize = 48 << 20;

fn remora(name: &str) -> Result<Option<Proxy>> {
    Ok(Proxy::under_test(name)?
        .into_iter()
        .find(|proxy| *proxy != Proxy::Envoy))
}

fn plan(main: &Upstream, copy: std::net::SocketAddr, timeout: &str) -> Plan {
    let route = to(
        "main",
        "/",
        json!({"request_mirror_policies": [{"cluster": "copy"}], "timeout": timeout}),
    );
    Plan::new(vec![route], &[("main", main.address()), ("copy", copy)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_mirror_is_not_noticed() -> Result<()> {
    let Some(proxy) = remora("routing: dead mirror")? else {
        return Ok(());
    };
    let (main, closed) = (Upstream::start("main").await?, Port::reserve()?);
    let scene = Scene::start(proxy, &plan(&main, closed.address(), "10s")).await?;
    let answer = scene.get("/dead", "").await?;
    ensure!(answer.status() == 200, "{:?}", answer.head);
    ensure!(scene.logged("/dead").await?.starts_with("200 - via_upstream"));
    scene.counted("envoy_http_rq_mirrored", "", 1.0).await?;
    scene.counted("envoy_http_rq_mirror_failed", "", 1.0).await?;
    ensure!(main.received().len() == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_reads_nothing_is_given_up_and_the_body_arrives() -> Result<()> {
    let Some(proxy) = remora("routing: mirror that reads nothing")? else {
        return Ok(());
    };
    let main = Upstream::start("main").await?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let scene = Scene::start(proxy, &plan(&main, silent.local_addr()?, "0s")).await?;
    let mut client = RawClient::connect(scene.port.address()).await?;
    let head = format!("POST /large HTTP/1.1\r\nhost: test\r\ncontent-length: {LARGE}\r\n\r\n");
    client.send(head.as_bytes()).await?;
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..LARGE >> 20 {
        client.send(&piece).await?;
    }
    let answer = tokio::time::timeout(WITHIN, client.read_response("POST")).await??;
    ensure!(answer.is_some_and(|answer| answer.status() == 200));
    ensure!(main.received()[0].body.len() == LARGE && main.received()[0].complete);
    scene.counted("envoy_http_rq_mirror_overflow", "", 1.0).await?;
    // What was given up is closed, also where nobody reads.
    let (mut copy, _) = silent.accept().await?;
    let mut read = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(more @ 1..) = tokio::time::timeout(WITHIN, copy.read(&mut buffer)).await? {
        read += more;
    }
    ensure!(read < LARGE, "the whole body went to the copy");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_never_answers_ends_with_the_routes_timeout() -> Result<()> {
    let Some(proxy) = remora("routing: mirror that never answers")? else {
        return Ok(());
    };
    let main = Upstream::start("main").await?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let scene = Scene::start(proxy, &plan(&main, silent.local_addr()?, "0.5s")).await?;
    let answer = scene.get("/silent", "").await?;
    ensure!(answer.status() == 200, "{:?}", answer.head);
    scene
        .counted("envoy_cluster_upstream_rq_timeout", "copy", 1.0)
        .await?;
    scene.counted("envoy_http_rq_mirror_failed", "", 1.0).await?;
    scene
        .process
        .wait_metric_for("envoy_cluster_upstream_rq_active", "copy", WITHIN, |active| {
            active == 0.0
        })
        .await
}
