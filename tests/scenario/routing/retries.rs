//! Do proxies in a row retry once altogether, at the place of the failure?

use anyhow::{Result, ensure};
use harness::client::RawResponse;
use harness::process::Proxy;
use harness::upstream::Upstream;
use serde_json::json;

use crate::scene::{Plan, Scene, to};

const MARK: &str = "x-remora-no-retry";

fn retrying(at: &Upstream) -> Plan {
    let policy = json!({"retry_on": "5xx", "num_retries": 2, "retry_back_off": {"base_interval": "0.001s"}});
    let routes = vec![
        to("a", "/plain", json!({})),
        to("a", "/", json!({"retry_policy": policy})),
    ];
    Plan::new(routes, &[("a", at.address())])
}

fn marked(answer: &RawResponse) -> bool {
    answer.head.header(MARK).is_some()
}

fn remora(name: &str) -> Result<Option<Proxy>> {
    Ok(Proxy::under_test(name)?
        .into_iter()
        .find(|proxy| *proxy != Proxy::Envoy))
}

/// How often the upstream was asked since the last call.
async fn asked(upstream: &Upstream, before: &mut usize) -> usize {
    let all = upstream.received().len();
    let asked = all - *before;
    *before = all;
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_proxy_next_to_the_failure_retries() -> Result<()> {
    let Some(proxy) = remora("routing: retries in a row")? else {
        return Ok(());
    };
    let upstream = Upstream::start("a").await?;
    let inner = Scene::start(proxy, &retrying(&upstream)).await?;
    let mut plan = retrying(&upstream);
    plan.clusters[0].1 = inner.port.address();
    let outer = Scene::start(proxy, &plan).await?;
    let mut before = 0;
    let failing = "x-behave: status=503\r\n";

    let answer = outer.get("/", failing).await?;
    ensure!(
        answer.status() == 503 && !marked(&answer),
        "the mark is the proxies' own"
    );
    ensure!(
        asked(&upstream, &mut before).await == 3,
        "the inner proxy alone retries"
    );
    outer
        .counted("envoy_cluster_upstream_rq_retry_withheld", "", 1.0)
        .await?;

    // An inner proxy without a policy does not retry, so the outer one does.
    outer.get("/plain", failing).await?;
    ensure!(asked(&upstream, &mut before).await == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_hear_that_retries_were_in_vain_and_nobody_else_does() -> Result<()> {
    let Some(proxy) = remora("routing: marks of retries")? else {
        return Ok(());
    };
    let upstream = Upstream::start("a").await?;
    let scene = Scene::start(proxy, &retrying(&upstream)).await?;
    let router = "x-envoy-expected-rq-timeout-ms: 900\r\n";
    let mut before = 0;
    for (path, lines, status, times) in [
        ("/", "x-behave: status=503\r\n", 503, 3),
        ("/", "x-behave: status=200\r\n", 200, 1),
        // Somebody behind has retried: nobody does again, whoever asks.
        ("/", "x-behave: status=503,header=x-remora-no-retry:1\r\n", 503, 1),
        (
            "/plain",
            "x-behave: status=503,header=x-remora-no-retry:1\r\n",
            503,
            1,
        ),
        (
            "/",
            "x-behave: header=grpc-retry-pushback-ms:-1,status=503\r\n",
            503,
            1,
        ),
    ] {
        for by_router in [false, true] {
            let lines = format!("{lines}{}", if by_router { router } else { "" });
            let answer = scene.get(path, &lines).await?;
            let in_vain = times == 3 || lines.contains(MARK);
            ensure!(answer.status() == status, "{lines}: {}", answer.status());
            ensure!(marked(&answer) == (by_router && in_vain), "{path} {lines}");
            ensure!(asked(&upstream, &mut before).await == times, "{path} {lines}");
        }
    }
    let answer = scene.get("/", &format!("x-behave: drop\r\n{router}")).await?;
    ensure!(
        answer.status() == 503 && marked(&answer),
        "our own answers say it too"
    );
    Ok(())
}
