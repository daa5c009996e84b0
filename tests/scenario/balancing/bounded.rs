//! Bounded loads: who takes the requests that their key's endpoint has no room for?

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::client::{RawClient, timed};
use harness::peers;
use harness::process::Proxy;
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, get, route, same};

const ENDPOINTS: usize = 5;
/// Requests of one key that are in flight at last.
const REQUESTS: usize = 14;
/// Each has a cluster of its own, so that the requests of one do not count for the others.
const KEYS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_a_full_endpoint_are_passed_on_as_envoy_does() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("keys_of_a_full_endpoint_are_passed_on", &missing);
    }
    let applications = Applications::start(ENDPOINTS).await?;
    let endpoints: Vec<Value> = (0..ENDPOINTS)
        .map(|n| applications.endpoint(n, &json!({"load_balancing_weight": n / 2 + 1})))
        .collect();
    let localities = json!([{"lb_endpoints": endpoints}]);
    let common = json!({"consistent_hashing_lb_config": {"hash_balance_factor": 120}});
    let fields = |policy: &str| json!({"lb_policy": policy, "common_lb_config": common});
    let header = json!({"hash_policy": [{"header": {"header_name": "x-key"}}]});
    let mut names = Vec::new();
    for key in 0..KEYS {
        names.push((format!("ring-{key}"), fields("RING_HASH")));
        names.push((format!("maglev-{key}"), fields("MAGLEV")));
    }
    let clusters: Vec<Value> = names
        .iter()
        .map(|(name, fields)| cluster(name, &localities, fields))
        .collect();
    let routes: Vec<Value> = names.iter().map(|(name, _)| route(name, name, &header)).collect();
    let envoy = Running::start(Proxy::Envoy, &routes, &clusters).await?;
    for proxy in Proxy::under_test("keys_of_a_full_endpoint_are_passed_on")? {
        let tested = Running::start(proxy, &routes, &clusters).await?;
        for (name, _) in &names {
            let expected = fill(&envoy, &applications, name).await?;
            let answers = fill(&tested, &applications, name).await?;
            ensure!(
                expected.iter().any(|by| *by != expected[0]),
                "{name}: nothing was passed on: {expected:?}"
            );
            same(name, &expected, &answers)?;
        }
    }
    Ok(())
}

/// Who gets the first, second, ... of requests with one key that all stay in flight.
async fn fill(proxy: &Running, applications: &Applications, name: &str) -> Result<Vec<String>> {
    let wait = Duration::from_secs(600).as_millis();
    let lines = [
        ("x-key", format!("key of {name}")),
        ("x-behave", format!("delay={wait}")),
    ];
    let request = get(&format!("/{name}"), &lines);
    let (mut clients, mut takers) = (Vec::new(), Vec::new());
    for _ in 0..REQUESTS {
        let before = applications.counts();
        let mut client = RawClient::connect(proxy.address()).await?;
        client.send(request.as_bytes()).await?;
        clients.push(client);
        takers.push(timed(async { Ok(applications.next_taker(&before).await) }).await?);
    }
    Ok(takers)
}
