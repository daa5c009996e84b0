//! Envoy's metric names with the right values after a known amount of traffic, and the other pages.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::client::RawClient;
use harness::process::Proxy;

use super::{Scene, page};

/// Three requests answered by 200 and one by 404, on one connection.
async fn traffic(scene: &Scene) -> Result<()> {
    let mut client = RawClient::connect(scene.port.address()).await?;
    for status in [200, 200, 404, 200] {
        let request =
            format!("GET /{status} HTTP/1.1\r\nhost: shop.test\r\nx-behave: status={status}\r\n\r\n");
        let answer = client.exchange(request.as_bytes()).await?;
        ensure!(answer.status() == status, "{:?}", answer.head);
    }
    Ok(())
}

/// Name, labels and value after that traffic.
const EXPECTED: [(&str, &str, f64); 13] = [
    (
        "envoy_http_downstream_rq_total",
        "envoy_http_conn_manager_prefix=\"ingress\"",
        4.0,
    ),
    (
        "envoy_http_downstream_rq_xx",
        "envoy_response_code_class=\"2\",envoy_http_conn_manager_prefix=\"ingress\"",
        3.0,
    ),
    (
        "envoy_http_downstream_rq_xx",
        "envoy_response_code_class=\"4\",envoy_http_conn_manager_prefix=\"ingress\"",
        1.0,
    ),
    ("envoy_http_downstream_cx_total", "ingress", 1.0),
    (
        "envoy_cluster_upstream_rq_total",
        "envoy_cluster_name=\"shop\"",
        4.0,
    ),
    (
        "envoy_cluster_upstream_rq_completed",
        "envoy_cluster_name=\"shop\"",
        4.0,
    ),
    (
        "envoy_cluster_upstream_cx_total",
        "envoy_cluster_name=\"shop\"",
        1.0,
    ),
    (
        "envoy_cluster_upstream_rq_time_count",
        "envoy_cluster_name=\"shop\"",
        4.0,
    ),
    (
        "envoy_cluster_membership_total",
        "envoy_cluster_name=\"shop\"",
        1.0,
    ),
    ("envoy_listener_manager_lds_update_success", "", 1.0),
    ("envoy_cluster_manager_cds_update_rejected", "", 0.0),
    ("envoy_control_plane_connected_state", "", 1.0),
    ("envoy_server_live", "", 1.0),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_has_envoys_names_and_the_right_values() -> Result<()> {
    for proxy in Proxy::under_test("introspection: metrics")? {
        let scene = Scene::new().await?;
        let process = scene.start(proxy).await?;
        traffic(&scene).await?;
        for (name, labels, value) in EXPECTED {
            process
                .wait_metric(name, labels, value, Duration::from_secs(10))
                .await
                .with_context(|| proxy.name())?;
            let now = process.metric(name, labels).await?;
            ensure!(
                now == Some(value),
                "{}: {name}{{{labels}}} is {now:?}",
                proxy.name()
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_pages_say_what_they_are_for() -> Result<()> {
    for proxy in Proxy::under_test("introspection: pages")? {
        let scene = Scene::new().await?;
        let process = scene.start(proxy).await?;
        traffic(&scene).await?;
        let clusters = process.admin_text("/clusters").await?;
        let endpoint = format!("shop::{}::rq_total::4", scene.upstream.address());
        ensure!(clusters.contains(&endpoint), "{}: {clusters}", proxy.name());
        let info = page(&process, "/server_info").await?;
        ensure!(
            info["state"] == "LIVE" && info["node"]["id"] == "test",
            "{}: {info:#}",
            proxy.name()
        );
        let certs = page(&process, "/certs").await?;
        ensure!(
            certs["certificates"]
                .as_array()
                .is_some_and(|found| !found.is_empty()),
            "{certs:#}"
        );
        let (status, levels) = process.admin_post("/logging?level=debug").await?;
        ensure!(status == 200 && levels.contains("debug"), "{status}: {levels}");
    }
    Ok(())
}
