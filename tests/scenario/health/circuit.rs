//! The circuit breaker of a cluster, all the way round: open, half open, closed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::client::RawResponse;
use harness::process::Proxy;
use harness::upstream::Upstream;
use serde_json::json;

use super::stage::{Stage, WITHIN};

async fn answer(stage: &Stage, behave: &str) -> Result<RawResponse> {
    let mut client = stage.begin(behave).await?;
    client.read_response("GET").await?.context("no answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_fails_is_left_alone_until_probes_pass() -> Result<()> {
    for proxy in Proxy::under_test("circuit breaker")? {
        if proxy == Proxy::Envoy {
            continue;
        }
        let upstream = Upstream::start("e").await?;
        let settings = json!({"failures": 3, "open_for": "4s", "probes": 2});
        let over = json!({"metadata": {"filter_metadata": {"remora.circuit_breaker": settings}}});
        let stage = Stage::start(proxy, &[upstream.address()], &over).await?;
        for behave in ["status=500", "status=404", "status=503", "drop", "status=500"] {
            answer(&stage, behave).await?;
        }
        stage.wait_stat("remora_circuit_breaker.state", 1).await?;
        let before = upstream.received().len();
        let refused = answer(&stage, "").await?;
        ensure!(refused.status() == 503, "{:?}", refused.head);
        ensure!(refused.text() == "circuit breaker open", "{}", refused.text());
        ensure!(upstream.received().len() == before, "it was asked");
        stage.wait_stat("remora_circuit_breaker.rejected", 1).await?;
        let deadline = Instant::now() + WITHIN;
        while answer(&stage, "").await?.status() != 200 {
            ensure!(Instant::now() < deadline, "never half open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stage.wait_stat("remora_circuit_breaker.state", 2).await?;
        ensure!(answer(&stage, "").await?.status() == 200);
        stage.wait_stat("remora_circuit_breaker.state", 0).await?;
        for name in ["opened", "half_opened", "closed"] {
            stage
                .wait_stat(&format!("remora_circuit_breaker.{name}"), 1)
                .await?;
        }
    }
    Ok(())
}
