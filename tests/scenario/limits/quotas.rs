//! Quotas of ours: windows together, a queue, so many at a time, by descriptor.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::bootstrap::{self, type_url};
use harness::client::{RawClient, RawResponse};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::Upstream;
use serde_json::{Value, json};

use super::{WITHIN, answer};

fn quota(fields: &Value) -> Value {
    let mut value = json!({"stat_prefix": "quota"});
    bootstrap::merge(&mut value, fields);
    json!({"@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": "remora.dev/remora.filters.http.Quota", "value": value})
}

fn route(path: &str, fields: &Value) -> Value {
    json!({"match": {"prefix": path}, "route": {"cluster": "upstream",
        "rate_limits": [{"actions": [{"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}]}]},
        "typed_per_filter_config": {"quota": quota(fields)}})
}

async fn ask(port: &Port, path: &str, headers: &str) -> Result<RawResponse> {
    let mut client = begin(port, path, headers).await?;
    answer(&mut client).await
}

async fn begin(port: &Port, path: &str, headers: &str) -> Result<RawClient> {
    let mut client = RawClient::connect(port.address()).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    client.send(request.as_bytes()).await?;
    Ok(client)
}

/// A proxy with a route for each kind of quota.
async fn start(upstream: &Upstream) -> Result<(Port, ProxyProcess)> {
    let (port, admin) = (Port::reserve()?, Port::reserve()?);
    let windows =
        json!({"windows": [{"limit": 2, "per": "3600s", "kind": "sliding"}, {"limit": 5, "per": "86400s"}]});
    let one =
        json!({"windows": [{"limit": 1, "per": "3600s"}], "by_descriptor": {"max_keys": 10}, "status": 503});
    let queue = json!({"queue": {"interval": "0.3s", "length": 20}});
    let full = json!({"queue": {"interval": "30s", "length": 0}, "stat_prefix": "full"});
    let routes = vec![
        route("/windows", &windows),
        route("/user", &one),
        route("/queue", &queue),
        route("/full", &full),
        route("/busy", &json!({"max_concurrent": 1})),
    ];
    let manager = bootstrap::http_connection_manager(&json!({
        "route_config": {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "quota", "disabled": true, "typed_config": quota(&json!({"max_concurrent": 1000}))},
            {"name": "router", "typed_config": {"@type": type_url("extensions.filters.http.router.v3.Router")}}],
    }));
    let listener = bootstrap::listener("http", port.address(), manager);
    let cluster = bootstrap::cluster("upstream", &[upstream.address()]);
    let text = bootstrap::fixed(admin.address(), vec![listener], vec![cluster]).to_string();
    let process = ProxyProcess::start(Proxy::Remora, &text, admin, &Options::default()).await?;
    Ok((port, process))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_hold_by_route() -> Result<()> {
    let upstream = Upstream::start("upstream").await?;
    let (port, process) = start(&upstream).await?;
    ensure!(ask(&port, "/windows", "").await?.status() == 200);
    ensure!(ask(&port, "/windows", "").await?.status() == 200);
    let refused = ask(&port, "/windows", "").await?;
    ensure!(
        refused.status() == 429 && refused.text() == "local_rate_limited",
        "{:?}",
        refused.head
    );
    ensure!(refused.head.header("retry-after").is_some(), "{:?}", refused.head);

    ensure!(ask(&port, "/user", "x-user: a\r\n").await?.status() == 200);
    ensure!(ask(&port, "/user", "x-user: b\r\n").await?.status() == 200);
    ensure!(ask(&port, "/user", "x-user: a\r\n").await?.status() == 503);

    ensure!(ask(&port, "/full", "").await?.status() == 200);
    ensure!(ask(&port, "/full", "").await?.status() == 429, "nobody may wait");
    process
        .wait_metric("envoy_http_local_rate_limit_enforced", "full", 1.0, WITHIN)
        .await?;
    // One leaves every 0.3 s, whenever they come.
    let started = Instant::now();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(begin(&port, "/queue", "").await?);
    }
    for client in &mut all {
        ensure!(answer(client).await?.status() == 200);
    }
    let took = started.elapsed();
    ensure!(took >= Duration::from_millis(600), "{took:?}");

    let before = upstream.received().len();
    let mut first = begin(&port, "/busy", "x-behave: delay=1000\r\n").await?;
    upstream.wait_received(before + 1).await;
    ensure!(ask(&port, "/busy", "").await?.status() == 429, "one at a time");
    ensure!(answer(&mut first).await?.status() == 200);
    ensure!(
        ask(&port, "/busy", "").await?.status() == 200,
        "its place is free again"
    );
    process
        .wait_metric("envoy_http_local_rate_limit_enforced", "quota", 3.0, WITHIN)
        .await?;
    Ok(())
}
