//! Policies that choose before another one does, or without one: hosts that requests name (compared with Envoy), the
//! first endpoint, a few endpoints by chance, and the first known policy of a list.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use harness::bootstrap::{merge, type_url};
use harness::peers;
use harness::process::Proxy;
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, get, route};

const ENDPOINTS: usize = 6;

fn policy(message: &str, fields: Value) -> Value {
    let mut config = json!({"@type": type_url(&format!("extensions.load_balancing_policies.{message}"))});
    merge(&mut config, &fields);
    json!({"typed_extension_config": {"name": "p", "typed_config": config}})
}

fn list(policies: &[Value]) -> Value {
    json!({"policies": policies})
}

fn random() -> Value {
    list(&[policy("random.v3.Random", json!({}))])
}

fn localities(applications: &Applications, unhealthy: usize) -> Value {
    let endpoint = |n| {
        let health = if n == unhealthy { "UNHEALTHY" } else { "HEALTHY" };
        applications.endpoint(n, &json!({"health_status": health}))
    };
    json!([{"lb_endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>()}])
}

/// What requests name in `x-first` and `x-then`, and whether the first endpoint that they name is decided by it.
fn named(applications: &Applications) -> Vec<(Vec<(&'static str, String)>, bool)> {
    let at = |n: usize| applications.address(n).to_string();
    let nobody = "127.0.0.1:1";
    vec![
        (vec![], false),
        (vec![("x-first", at(3))], true),
        (vec![("x-then", at(4))], true),
        (vec![("x-then", at(4)), ("x-first", at(2))], true),
        // Health is not asked.
        (vec![("x-first", at(5))], true),
        (vec![("x-first", nobody.to_owned())], false),
        (vec![("x-first", format!("{nobody},{}", at(1)))], true),
        (vec![("x-first", format!(" {} , {}", at(1), at(2)))], true),
        (vec![("x-first", format!(",,{}", at(1)))], true),
        (vec![("x-first", at(1)), ("x-first", at(2))], true),
        (vec![("x-first", "nonsense".to_owned())], false),
        (vec![("x-first", "nonsense".to_owned()), ("x-then", at(0))], true),
        (vec![("x-first", "127.0.0.1".to_owned())], false),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_requests_name_are_taken_as_by_envoy() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("hosts_that_requests_name_are_taken_as_by_envoy", &missing);
    }
    let applications = Applications::start(ENDPOINTS).await?;
    let sources = json!([{"header": "X-First"}, {"metadata": {"key": "a", "path": [{"key": "b"}]}}, {"header": "x-then"}]);
    let fields = json!({"override_host_sources": sources, "fallback_policy": random()});
    let unknown = policy("override_host.v3.OverrideHost", fields);
    let clusters = [cluster(
        "c",
        &localities(&applications, 5),
        &json!({"load_balancing_policy": list(&[unknown])}),
    )];
    let routes = [route("c", "c", &json!({}))];
    let envoy = Running::start(Proxy::Envoy, &routes, &clusters).await?;
    for proxy in Proxy::under_test("hosts_that_requests_name_are_taken_as_by_envoy")? {
        let tested = Running::start(proxy, &routes, &clusters).await?;
        for (lines, decided) in named(&applications) {
            let requests: Vec<String> = (0..40).map(|_| get("/c", &lines)).collect();
            let mut both = Vec::new();
            for running in [&envoy, &tested] {
                let answers = running.statuses(Ipv4Addr::LOCALHOST, &requests).await?;
                both.push(answers.into_iter().collect::<BTreeSet<_>>());
            }
            let as_envoy = if decided {
                both[0] == both[1] && both[1].len() == 1
            } else {
                both[1].len() > 1
            };
            ensure!(as_envoy, "{lines:?}: {:?}, not {:?}", both[1], both[0]);
        }
    }
    Ok(())
}

/// An attempt that is refused goes on to the next host that the request names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attempt_goes_to_the_next_host_that_is_named() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("each_attempt_goes_to_the_next_host_that_is_named", &missing);
    }
    let applications = Applications::start(ENDPOINTS).await?;
    let closed =
        json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}}});
    let mut localities = localities(&applications, ENDPOINTS);
    if let Some(all) = localities[0]["lb_endpoints"].as_array_mut() {
        all.push(closed);
    }
    let fields = json!({"override_host_sources": [{"header": "x-host"}], "fallback_policy": random()});
    let policies = list(&[policy("override_host.v3.OverrideHost", fields)]);
    let fields = json!({"load_balancing_policy": policies, "circuit_breakers": {"thresholds": [{"max_retries": 1000}]}});
    let clusters = [cluster("c", &localities, &fields)];
    let retry = json!({"retry_policy": {"retry_on": "connect-failure", "num_retries": 3}});
    let routes = [route("c", "c", &retry)];
    let hosts = format!("127.0.0.1:1,{}", applications.address(4));
    let requests: Vec<String> = (0..20).map(|_| get("/c", &[("x-host", hosts.clone())])).collect();
    let envoy = Running::start(Proxy::Envoy, &routes, &clusters).await?;
    // One after the other: Envoy allows three retries at once.
    let expected = envoy.statuses(Ipv4Addr::LOCALHOST, &requests).await?;
    ensure!(
        expected.iter().all(|answer| answer == "200 by e4"),
        "{expected:?}"
    );
    for proxy in Proxy::under_test("each_attempt_goes_to_the_next_host_that_is_named")? {
        let tested = Running::start(proxy, &routes, &clusters).await?;
        let answers = tested.statuses(Ipv4Addr::LOCALHOST, &requests).await?;
        ensure!(answers == expected, "{answers:?}");
    }
    Ok(())
}

/// gRFC A62, A68, A52.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_and_the_few_stay_the_same() -> Result<()> {
    let applications = Applications::start(ENDPOINTS).await?;
    let unknown = json!({"typed_extension_config": {"name": "x", "typed_config": {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "type.googleapis.com/no.such.Policy"}}});
    let first = |shuffle| {
        policy(
            "pick_first.v3.PickFirst",
            json!({"shuffle_address_list": shuffle}),
        )
    };
    let few = policy(
        "random_subsetting.v3.RandomSubsetting",
        json!({"subset_size": 3, "child_policy": list(&[policy("round_robin.v3.RoundRobin", json!({}))])}),
    );
    let with = |name: &str, policies: &[Value]| {
        let fields = json!({"load_balancing_policy": list(policies)});
        cluster(name, &localities(&applications, 0), &fields)
    };
    let clusters = [
        with("first", &[unknown.clone(), first(false), few.clone()]),
        with("shuffled", &[first(true)]),
        with("few", &[few]),
    ];
    let routes: Vec<Value> = ["first", "shuffled", "few"]
        .iter()
        .map(|name| route(name, name, &json!({})))
        .collect();
    for proxy in Proxy::under_test("the_first_and_the_few_stay_the_same")? {
        let tested = Running::start(proxy, &routes, &clusters).await?;
        let mut of = Vec::new();
        for name in ["first", "shuffled", "few"] {
            let requests: Vec<String> = (0..120).map(|_| get(&format!("/{name}"), &[])).collect();
            let answers: BTreeSet<String> = tested.answered_by(&requests).await?.into_iter().collect();
            of.push(answers);
        }
        // The very first is unhealthy; so may be one of the few.
        ensure!(of[0] == BTreeSet::from(["e1".to_owned()]), "first: {of:?}");
        ensure!(of[1].len() == 1, "shuffled: {of:?}");
        ensure!((2..=3).contains(&of[2].len()), "few: {of:?}");
    }
    Ok(())
}
