//! Does a time limit that runs out say its name?
//!
//! The flag and the details are Envoy's; `%FAILURE_REASON%` says which field or header set the limit, or that nobody did.

use anyhow::{Context, Result, ensure};
use harness::client::RawClient;
use harness::process::Proxy;
use harness::upstream::Upstream;
use serde_json::json;

use crate::scene::{Plan, Scene, to};

/// Path, header lines, and what the log says.
const CASES: &[(&str, &str, &str)] = &[
    (
        "/route",
        "",
        "504 UT response_timeout the response was not complete within 200ms (route.timeout)",
    ),
    (
        "/header",
        "x-envoy-upstream-rq-timeout-ms: 150\r\n",
        "504 UT response_timeout the response was not complete within 150ms \
         (the request's x-envoy-upstream-rq-timeout-ms)",
    ),
    (
        "/per-try",
        "",
        "504 UT upstream_per_try_timeout the attempt was not answered within 200ms (retry_policy.per_try_timeout)",
    ),
    (
        "/header-try",
        "x-envoy-upstream-rq-per-try-timeout-ms: 150\r\n",
        "504 UT upstream_per_try_timeout the attempt was not answered within 150ms \
         (the request's x-envoy-upstream-rq-per-try-timeout-ms)",
    ),
    (
        "/try-idle",
        "",
        "504 UT upstream_per_try_idle_timeout nothing moved in the attempt within 200ms \
         (retry_policy.per_try_idle_timeout)",
    ),
    (
        "/idle",
        "",
        "504 SI stream_idle_timeout nothing moved within 200ms (route.idle_timeout)",
    ),
    (
        "/manager-idle",
        "",
        "504 SI stream_idle_timeout nothing moved within 400ms (stream_idle_timeout)",
    ),
    (
        "/duration",
        "",
        "504 - max_duration_timeout the exchange was not over within 200ms (route.max_stream_duration)",
    ),
    (
        "/grpc",
        "grpc-timeout: 150m\r\n",
        "504 - max_duration_timeout the exchange was not over within 150ms (the request's grpc-timeout)",
    ),
    (
        "/grpc",
        "grpc-timeout: 9S\r\n",
        "504 - max_duration_timeout the exchange was not over within 300ms \
         (route.max_stream_duration.grpc_timeout_header_max)",
    ),
    (
        "/cluster",
        "",
        "504 UMSDR upstream_max_stream_duration_reached the exchange was not over within 200ms \
         (common_http_protocol_options.max_stream_duration of the cluster)",
    ),
];

fn plan(upstream: &Upstream) -> Plan {
    let none = json!({"timeout": "0s", "idle_timeout": "0s"});
    let route = |path: &str, cluster: &str, more: serde_json::Value| {
        let mut all = none.clone();
        harness::bootstrap::merge(&mut all, &more);
        to(cluster, path, all)
    };
    let tries = |more: serde_json::Value| json!({"retry_policy": more});
    let routes = vec![
        route("/route", "a", json!({"timeout": "0.2s"})),
        route("/header-try", "a", json!({})),
        route("/header", "a", json!({})),
        route("/per-try", "a", tries(json!({"per_try_timeout": "0.2s"}))),
        route("/try-idle", "a", tries(json!({"per_try_idle_timeout": "0.2s"}))),
        route("/idle", "a", json!({"idle_timeout": "0.2s"})),
        to("a", "/manager-idle", json!({"timeout": "0s"})),
        route(
            "/duration",
            "a",
            json!({"max_stream_duration": {"max_stream_duration": "0.2s"}}),
        ),
        route(
            "/grpc",
            "a",
            json!({"max_stream_duration": {"grpc_timeout_header_max": "0.3s"}}),
        ),
        route("/cluster", "brief", json!({})),
        to("a", "/", json!({})),
    ];
    let options = harness::bootstrap::http_protocol(&json!({"http_protocol_options": {}}));
    let mut plan = Plan::new(routes, &[("a", upstream.address())]);
    let mut brief = json!({"typed_extension_protocol_options": options});
    brief["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["common_http_protocol_options"] =
        json!({"max_stream_duration": "0.2s"});
    plan.clusters.push(("brief", upstream.address(), brief));
    plan.log = " %FAILURE_REASON%";
    plan.manager = json!({
        "stream_idle_timeout": "0.4s", "request_timeout": "0.3s",
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
        "use_remote_address": true,
    });
    plan
}

fn remora(name: &str) -> Result<Option<Proxy>> {
    Ok(Proxy::under_test(name)?
        .into_iter()
        .find(|proxy| *proxy != Proxy::Envoy))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_limit_names_the_field_that_set_it() -> Result<()> {
    let Some(proxy) = remora("routing: names of time limits")? else {
        return Ok(());
    };
    let upstream = Upstream::start("a").await?;
    let scene = Scene::start(proxy, &plan(&upstream)).await?;
    for (number, (path, lines, expected)) in CASES.iter().enumerate() {
        let path = format!("{path}?{number}");
        scene
            .get(&path, &format!("{lines}x-behave: delay=15000\r\n"))
            .await?;
        let logged = scene.logged(&path).await?;
        ensure!(logged == *expected, "{path}: '{logged}', expected '{expected}'");
    }
    let mut client = RawClient::connect(scene.port.address()).await?;
    client
        .send(b"POST /slow HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nabc")
        .await?;
    let answer = client
        .read_response("POST")
        .await?
        .context("closed without an answer")?;
    ensure!(
        answer.status() == 408 && answer.text() == "request timeout",
        "{:?}",
        answer.head
    );
    let logged = scene.logged("/slow").await?;
    let expected =
        "408 - request_overall_timeout the request was not received within 300ms (request_timeout)";
    ensure!(logged == expected, "{logged}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_by_its_age_and_by_its_requests() -> Result<()> {
    let Some(proxy) = remora("routing: life of connections")? else {
        return Ok(());
    };
    let upstream = Upstream::start("a").await?;
    for (limit, metric) in [
        (
            json!({"max_connection_duration": "0.3s"}),
            "envoy_http_downstream_cx_max_duration_reached",
        ),
        (
            json!({"max_requests_per_connection": 2}),
            "envoy_http_downstream_cx_max_requests_reached",
        ),
        (
            json!({"idle_timeout": "0.3s"}),
            "envoy_http_downstream_cx_idle_timeout",
        ),
    ] {
        let mut plan = plan(&upstream);
        plan.manager["common_http_protocol_options"] = limit;
        let scene = Scene::start(proxy, &plan).await?;
        let mut client = RawClient::connect(scene.port.address()).await?;
        for _ in 0..2 {
            client.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
            if client.read_response("GET").await?.is_none() {
                break;
            }
        }
        ensure!(
            client.read_response("GET").await?.is_none(),
            "{metric}: the connection stays open"
        );
        scene.counted(metric, "", 1.0).await?;
    }
    Ok(())
}
