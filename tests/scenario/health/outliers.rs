//! Outlier detection beside Envoy, and where Remora differs: what all have in common, and who refuses connections.

use anyhow::{Result, ensure};
use harness::process::{Port, Proxy};
use harness::upstream::Upstream;
use serde_json::{Value, json};

use super::stage::{Stage, answering, with_envoy};

fn detection(fields: &Value) -> Value {
    let mut detection = json!({"consecutive_5xx": 3, "interval": "0.2s", "base_ejection_time": "1s",
        "max_ejection_percent": 50});
    harness::bootstrap::merge(&mut detection, fields);
    json!({"outlier_detection": detection})
}

async fn applications(statuses: &[u16]) -> Result<Vec<Upstream>> {
    let mut all = Vec::new();
    for (number, status) in statuses.iter().enumerate() {
        all.push(answering(&format!("e{number}"), *status).await?);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_that_fails_is_ejected_and_returns_as_with_envoy() -> Result<()> {
    for proxy in with_envoy("outliers: one fails")? {
        let upstreams = applications(&[503, 200, 200]).await?;
        let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
        let stage = Stage::start(proxy, &addresses, &detection(&json!({}))).await?;
        while upstreams[0].received().len() < 3 {
            stage.get().await?;
        }
        stage.wait_flags(addresses[0], "/failed_outlier_check").await?;
        let expected = [
            "ejections_active: 1",
            "ejections_consecutive_5xx: 1",
            "ejections_detected_consecutive_5xx: 1",
            "ejections_enforced_consecutive_5xx: 1",
            "ejections_enforced_total: 1",
            "ejections_total: 1",
        ];
        let stats = stage.stats("outlier_detection").await?;
        ensure!(stats == expected, "{proxy:?}: {stats:?}");
        ensure!(stage.flags(addresses[1]).await? == "healthy");
        stage.wait_flags(addresses[0], "healthy").await?;
        upstreams[0].take_received();
        while upstreams[0].received().is_empty() {
            stage.get().await?;
        }
        let stats = stage.stats("outlier_detection").await?;
        ensure!(stats == expected[1..], "{proxy:?}: {stats:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_reaches_an_ejected_endpoint() -> Result<()> {
    for proxy in with_envoy("outliers: none reaches it")? {
        let upstreams = applications(&[500, 200, 200]).await?;
        let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
        let long = detection(&json!({"base_ejection_time": "300s"}));
        let stage = Stage::start(proxy, &addresses, &long).await?;
        while upstreams[0].received().len() < 3 {
            stage.get().await?;
        }
        stage.wait_flags(addresses[0], "/failed_outlier_check").await?;
        // The worker may take a turn to see the new world.
        stage.statuses(3).await?;
        let statuses = stage.statuses(30).await?;
        ensure!(
            statuses.iter().all(|status| *status == 200),
            "{proxy:?}: {statuses:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_have_in_common_ejects_none() -> Result<()> {
    for proxy in Proxy::under_test("outliers: all fail")? {
        if proxy == Proxy::Envoy {
            continue;
        }
        let upstreams = applications(&[503, 503, 503]).await?;
        let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
        let stage = Stage::start(
            proxy,
            &addresses,
            &detection(&json!({"max_ejection_percent": 100})),
        )
        .await?;
        stage.statuses(60).await?;
        stage
            .process
            .wait_metric(
                "envoy_cluster_outlier_detection_ejections_withheld_common",
                "watched",
                6.0,
                super::stage::WITHIN,
            )
            .await?;
        for address in addresses {
            ensure!(stage.flags(address).await? == "healthy");
        }
        let stats = stage.stats("outlier_detection").await?;
        ensure!(!stats.iter().any(|line| line.contains("enforced")), "{stats:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_without_an_answer_are_counted_apart_as_with_envoy() -> Result<()> {
    for proxy in with_envoy("outliers: local origin")? {
        let upstreams = applications(&[200, 200]).await?;
        let closed = Port::reserve()?;
        let addresses = [upstreams[0].address(), closed.address(), upstreams[1].address()];
        let split = detection(
            &json!({"split_external_local_origin_errors": true, "base_ejection_time": "300s",
            "consecutive_local_origin_failure": 1}),
        );
        let stage = Stage::start(proxy, &addresses, &split).await?;
        let line = "ejections_enforced_consecutive_local_origin_failure: 1";
        while !stage
            .stats("outlier_detection")
            .await?
            .iter()
            .any(|one| one == line)
        {
            stage.get().await?;
        }
        let flags = stage.flags(addresses[1]).await?;
        ensure!(flags.starts_with("/failed_outlier_check"), "{proxy:?}: {flags}");
    }
    Ok(())
}

/// Envoy asks every second time in vain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_connections_is_left_out_for_a_while() -> Result<()> {
    for proxy in Proxy::under_test("quarantine")? {
        if proxy == Proxy::Envoy {
            continue;
        }
        let upstreams = applications(&[200]).await?;
        let closed = Port::reserve()?;
        let addresses = [upstreams[0].address(), closed.address()];
        let stage = Stage::start(proxy, &addresses, &json!({})).await?;
        let statuses = stage.statuses(60).await?;
        let refused = statuses.iter().filter(|status| **status == 503).count();
        ensure!((1..15).contains(&refused), "{refused} of 60 failed");
        stage
            .process
            .wait_metric(
                "envoy_cluster_upstream_host_quarantined",
                "watched",
                1.0,
                super::stage::WITHIN,
            )
            .await?;
        // Time passes, and it is tried again.
        stage.wait_flags(addresses[1], "healthy").await?;
        while stage.get().await?.status() == 200 {}
        stage.wait_flags(addresses[1], "/quarantined").await?;
    }
    Ok(())
}
