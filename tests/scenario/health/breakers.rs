//! Circuit breakers beside Envoy: by priority, by endpoint, for tunnels, exact with several workers.

use anyhow::{Context, Result, ensure};
use harness::bootstrap::tcp_proxy;
use harness::client::RawClient;
use harness::process::Proxy;
use harness::upstream::Upstream;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::stage::{Stage, with_envoy};

fn thresholds(thresholds: &Value) -> Value {
    json!({"circuit_breakers": {"thresholds": [thresholds]}})
}

async fn status(client: &mut RawClient) -> Result<u16> {
    let answer = client.read_response("GET").await?;
    Ok(answer.context("closed without an answer")?.status())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_priority_has_limits_of_its_own() -> Result<()> {
    for proxy in with_envoy("breakers: priorities")? {
        let limits = thresholds(&json!({"priority": "HIGH", "max_requests": 1, "track_remaining": true}));
        for (priority, second) in [("HIGH", 503), ("DEFAULT", 200)] {
            let upstream = Upstream::start("e").await?;
            let route = json!({"priority": priority});
            let stage = Stage::start_with(proxy, &[upstream.address()], &limits, &route, 1).await?;
            let mut first = stage.begin("delay=1500").await?;
            upstream.wait_received(1).await;
            let open = u64::from(priority == "HIGH");
            stage.wait_stat("circuit_breakers.high.rq_open", open).await?;
            stage
                .wait_stat("circuit_breakers.high.remaining_rq", 1 - open)
                .await?;
            stage.wait_stat("circuit_breakers.default.rq_open", 0).await?;
            let answer = stage.get().await?;
            ensure!(
                answer.status() == second,
                "{proxy:?} {priority}: {}",
                answer.status()
            );
            let overloaded = answer.head.header("x-envoy-overloaded").is_some();
            ensure!(overloaded == (second == 503), "{proxy:?} {priority}");
            ensure!(status(&mut first).await? == 200);
            stage.wait_stat("upstream_rq_active_overflow", open).await?;
            stage.wait_stat("circuit_breakers.high.remaining_rq", 1).await?;
        }
    }
    Ok(())
}

/// A request that waits for its connection is none of those in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_does_not_count_as_in_flight() -> Result<()> {
    for proxy in with_envoy("breakers: waiting")? {
        let upstream = Upstream::start("e").await?;
        let limits = thresholds(&json!({"max_requests": 1, "max_connections": 1}));
        let stage = Stage::start(proxy, &[upstream.address()], &limits).await?;
        let mut first = stage.begin("delay=1000").await?;
        upstream.wait_received(1).await;
        let mut second = stage.begin("").await?;
        stage.wait_stat("upstream_rq_pending_active", 1).await?;
        stage.wait_stat("circuit_breakers.default.cx_open", 1).await?;
        ensure!(status(&mut first).await? == 200);
        ensure!(status(&mut second).await? == 200, "{proxy:?}");
        stage.wait_stat("upstream_cx_overflow", 1).await?;
        stage.wait_stat("upstream_rq_active_overflow", 0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_has_a_limit_of_its_own() -> Result<()> {
    for proxy in with_envoy("breakers: by endpoint")? {
        let upstream = Upstream::start("e").await?;
        let limits = json!({"circuit_breakers": {"per_host_thresholds": [{"max_connections": 1}]}});
        let stage = Stage::start(proxy, &[upstream.address()], &limits).await?;
        let mut first = stage.begin("delay=1000").await?;
        upstream.wait_received(1).await;
        let mut second = stage.begin("").await?;
        stage.wait_stat("upstream_cx_overflow", 1).await?;
        stage.wait_stat("circuit_breakers.default.cx_open", 0).await?;
        ensure!(status(&mut first).await? == 200 && status(&mut second).await? == 200);
        let connections: Vec<u64> = upstream.received().iter().map(|seen| seen.connection).collect();
        ensure!(
            connections == [0, 0],
            "{proxy:?}: over connections {connections:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_beyond_max_connections_is_closed() -> Result<()> {
    for proxy in with_envoy("breakers: tunnels")? {
        let upstream = Upstream::start("e").await?;
        let limits = thresholds(&json!({"max_connections": 1}));
        let stage = Stage::before(proxy, &[upstream.address()], &limits, tcp_proxy("watched"), 1).await?;
        let mut first = stage.begin("").await?;
        ensure!(status(&mut first).await? == 200);
        let mut second = stage.connect().await?;
        let mut rest = Vec::new();
        // Closed or reset: either way nothing comes.
        let _ = second.stream().read_to_end(&mut rest).await;
        ensure!(rest.is_empty(), "{proxy:?}: {rest:?}");
        stage.wait_stat("upstream_cx_overflow", 1).await?;
        drop(first);
        stage.wait_stat("upstream_cx_active", 0).await?;
        let mut third = stage.begin("").await?;
        ensure!(
            status(&mut third).await? == 200,
            "{proxy:?}: the place is free again"
        );
    }
    Ok(())
}

/// Envoy's limits are exact, too, but for short races between its workers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_for_all_workers_together() -> Result<()> {
    for proxy in Proxy::under_test("breakers: workers")? {
        if proxy == Proxy::Envoy {
            continue;
        }
        let upstream = Upstream::start("e").await?;
        let limits = thresholds(&json!({"max_requests": 7}));
        let route = json!({"timeout": "60s"});
        let stage = Stage::start_with(proxy, &[upstream.address()], &limits, &route, 4).await?;
        let mut clients = Vec::new();
        for _ in 0..40 {
            clients.push(stage.begin("delay=2500").await?);
        }
        let mut counts = [0, 0];
        for client in &mut clients {
            counts[usize::from(status(client).await? == 200)] += 1;
        }
        ensure!(counts == [33, 7], "refused and answered: {counts:?}");
        ensure!(upstream.received().len() == 7);
    }
    Ok(())
}
