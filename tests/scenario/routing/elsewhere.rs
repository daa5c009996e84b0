//! What a route takes from elsewhere: its cluster from a header, its answer from a file; and where another try goes.

use anyhow::{Result, ensure};
use harness::peers;
use harness::process::Proxy;
use harness::upstream::{Behaviour, Upstream};
use serde_json::{Value, json};

use super::scene::{Plan, Scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_names_the_cluster_as_with_envoy() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("a_header_names_the_cluster_as_with_envoy", &missing);
    }
    let (a, b) = (Upstream::start("a").await?, Upstream::start("b").await?);
    let by_header = json!({"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}});
    let mut seen = Vec::new();
    for proxy in [
        vec![Proxy::Envoy],
        Proxy::under_test("a_header_names_the_cluster_as_with_envoy")?,
    ]
    .concat()
    {
        let clusters = [("a", a.address()), ("b", b.address())];
        let scene = Scene::start(proxy, &Plan::new(vec![by_header.clone()], &clusters)).await?;
        let mut answers = Vec::new();
        for line in [
            "x-cluster: a\r\n",
            "x-cluster: b\r\n",
            "x-cluster: c\r\n",
            "x-cluster: \r\n",
            "",
        ] {
            let answer = scene.get("/", line).await?;
            let by = answer.head.header("x-upstream").unwrap_or("nobody");
            answers.push(format!("{line:?}: {} by {by}", answer.status()));
        }
        seen.push(answers);
    }
    ensure!(seen[0][1].ends_with("200 by b"), "{seen:?}");
    ensure!(seen.iter().all(|answers| *answers == seen[0]), "{seen:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_read_from_a_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("answer");
    std::fs::write(&file, "from a file")?;
    let direct = json!({"match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"filename": file.to_string_lossy()}}});
    for proxy in Proxy::under_test("an_answer_is_read_from_a_file")? {
        let scene = Scene::start(proxy, &Plan::new(vec![direct.clone()], &[])).await?;
        let answer = scene.get("/", "").await?;
        ensure!(
            answer.status() == 200 && answer.text() == "from a file",
            "{}",
            answer.text()
        );
    }
    Ok(())
}

/// Of two endpoints one always fails: no request fails, as the other attempt goes to the other endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_try_goes_to_another_endpoint() -> Result<()> {
    let failing = Behaviour {
        status: Some(503),
        ..Behaviour::default()
    };
    let bad = Upstream::start_with("bad", failing, None).await?;
    let good = Upstream::start("good").await?;
    let endpoints: Vec<Value> = [&bad, &good]
        .map(|one| json!({"endpoint": {"address": harness::bootstrap::address(one.address())}}))
        .to_vec();
    let both = json!({"lb_policy": "RANDOM", "circuit_breakers": {"thresholds": [{"max_retries": 5}]}, "load_assignment": {
        "cluster_name": "both", "endpoints": [{"lb_endpoints": endpoints}]}});
    let policy = json!({"retry_on": "5xx", "num_retries": 1, "host_selection_retry_max_attempts": 30,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
            "@type": harness::bootstrap::type_url("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")}}]});
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "both", "retry_policy": policy}});
    for proxy in Proxy::under_test("another_try_goes_to_another_endpoint")? {
        let mut plan = Plan::new(vec![route.clone()], &[("both", bad.address())]);
        plan.clusters[0].2 = both.clone();
        let scene = Scene::start(proxy, &plan).await?;
        for _ in 0..40 {
            let answer = scene.get("/", "").await?;
            ensure!(answer.status() == 200, "{}", answer.status());
        }
        ensure!(!bad.take_received().is_empty(), "nothing was tried again");
    }
    Ok(())
}
