//! Endpoints by what they report of their load (beside Envoy), and by how quickly they answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::bootstrap::type_url;
use harness::peers;
use harness::process::Proxy;
use harness::upstream::{Behaviour, Upstream};
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, get, route};

const WITHIN: Duration = Duration::from_secs(20);
const ROUND: usize = 160;

/// What endpoints say: weights of 200, 600 and 800, in a head as text, in a head as JSON, and in trailers.
async fn reporting() -> Result<Applications> {
    let says = |report: &str| Behaviour {
        body: Some(0),
        headers: vec![("endpoint-load-metrics".to_owned(), report.to_owned())],
        ..Behaviour::default()
    };
    let behaviours = [
        says("TEXT cpu_utilization=0.5,rps_fractional=100"),
        says(r#"JSON {"cpuUtilization":0.9,"applicationUtilization":0.5,"rpsFractional":300}"#),
        Behaviour {
            trailer: true,
            load_in_trailer: Some("TEXT cpu_utilization=0.5,rps_fractional=400"),
            body: Some(0),
            ..Behaviour::default()
        },
    ];
    let mut all = Vec::new();
    for (number, behaviour) in behaviours.into_iter().enumerate() {
        all.push(Upstream::start_with(&format!("e{number}"), behaviour, None).await?);
    }
    Ok(Applications::of(all))
}

fn tally(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for name in answers {
        *counts.entry(name.as_str()).or_default() += 1;
    }
    counts
}

/// Sends rounds of requests until one is spread by the reported weights.
async fn settles(running: &Running) -> Result<()> {
    let ideal = BTreeMap::from([("e0", ROUND / 8), ("e1", ROUND * 3 / 8), ("e2", ROUND / 2)]);
    let requests: Vec<String> = (0..ROUND).map(|_| get("/c", &[])).collect();
    let until = Instant::now() + WITHIN;
    loop {
        let answers = running.answered_by(&requests).await?;
        let counts = tally(&answers);
        let near = |name: &str| {
            let count = counts.get(name).copied().unwrap_or(0);
            count.abs_diff(ideal[name]) <= 8
        };
        if ideal.keys().all(|name| near(name)) {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "{}: {counts:?}, not {ideal:?}",
            running.name()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_follow_what_endpoints_report() -> Result<()> {
    let applications = reporting().await?;
    let endpoints: Vec<Value> = (0..3).map(|n| applications.endpoint(n, &json!({}))).collect();
    let policy = json!({"typed_extension_config": {"name": "p", "typed_config": {
        "@type": type_url("extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin"),
        "blackout_period": "0s", "weight_update_period": "0.1s"}}});
    let fields = json!({
        "load_balancing_policy": {"policies": [policy]}, "http_protocol_options": {"enable_trailers": true}});
    let clusters = [cluster("c", &json!([{"lb_endpoints": endpoints}]), &fields)];
    let routes = [route("c", "c", &json!({}))];
    if peers::envoy().is_ok() {
        settles(&Running::start(Proxy::Envoy, &routes, &clusters).await?).await?;
    }
    for proxy in Proxy::under_test("shares_follow_what_endpoints_report")? {
        settles(&Running::start(proxy, &routes, &clusters).await?).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_endpoint_gets_little() -> Result<()> {
    let mut all = Vec::new();
    for number in 0..3 {
        let behaviour = Behaviour {
            body: Some(0),
            delay: (number == 2).then_some(Duration::from_millis(150)),
            ..Behaviour::default()
        };
        all.push(Upstream::start_with(&format!("e{number}"), behaviour, None).await?);
    }
    let applications = Applications::of(all);
    let endpoints: Vec<Value> = (0..3).map(|n| applications.endpoint(n, &json!({}))).collect();
    let policy = json!({"typed_extension_config": {"name": "p", "typed_config": {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": "type.googleapis.com/envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma",
        "value": {"decay_time": "60s"}}}});
    let fields = json!({"load_balancing_policy": {"policies": [policy]}});
    let clusters = [cluster("c", &json!([{"lb_endpoints": endpoints}]), &fields)];
    let routes = [route("c", "c", &json!({}))];
    for proxy in Proxy::under_test("a_slow_endpoint_gets_little")? {
        let running = Running::start(proxy, &routes, &clusters).await?;
        let requests: Vec<String> = (0..600).map(|_| get("/c", &[])).collect();
        let answers = running.answered_by(&requests).await?;
        let counts = tally(&answers);
        let of = |name: &str| counts.get(name).copied().unwrap_or(0);
        ensure!(
            of("e2") > 0 && of("e2") * 4 < of("e0").min(of("e1")),
            "{counts:?}"
        );
    }
    Ok(())
}
