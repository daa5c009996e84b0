//! Subsets of endpoints by metadata: every fallback, for requests with all kinds of labels, compared with Envoy.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::type_url;
use harness::peers;
use harness::process::Proxy;
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, get, route};

/// Enough for a round robin to come round, whatever the subset.
const REQUESTS: usize = 20;

/// What eight endpoints say of themselves; the last one is unhealthy.
fn endpoints(applications: &Applications) -> Value {
    let labels = [
        json!({"stage": "prod", "version": "1.0", "type": "std"}),
        json!({"stage": "prod", "version": "1.0", "type": "big"}),
        json!({"stage": "prod", "version": "1.1", "type": "std"}),
        json!({"stage": "prod", "version": "1.1", "type": "big"}),
        json!({"stage": "prod", "version": "1.2"}),
        json!({"stage": "dev", "version": "1.2", "tags": ["a", "b"], "more": [1, 2]}),
        json!({"stage": "dev", "version": "1.0", "tags": ["b"], "number": 1, "flag": true, "more": {"x": [null]}}),
        json!({"stage": "sick", "version": "9"}),
    ];
    let endpoint = |(number, labels): (usize, &Value)| {
        let health = if number == 7 { "UNHEALTHY" } else { "HEALTHY" };
        let fields = json!({"metadata": {"filter_metadata": {"envoy.lb": labels}}, "health_status": health});
        applications.endpoint(number, &fields)
    };
    let all: Vec<Value> = labels.iter().enumerate().map(endpoint).collect();
    json!([
        {"locality": {"zone": "a"}, "load_balancing_weight": 3, "lb_endpoints": all[..4]},
        {"locality": {"zone": "b"}, "load_balancing_weight": 1, "lb_endpoints": all[4..]}])
}

/// What requests ask for.
fn criteria() -> Vec<Value> {
    vec![
        Value::Null,
        json!({}),
        json!({"stage": "prod"}),
        json!({"stage": "dev"}),
        json!({"stage": "sick"}),
        json!({"stage": "none"}),
        json!({"version": "1.0"}),
        json!({"version": "9.9"}),
        json!({"stage": "prod", "version": "1.1"}),
        json!({"stage": "dev", "version": "1.1"}),
        json!({"version": "1.0", "type": "std"}),
        json!({"version": "1.2", "type": "std"}),
        json!({"other": "1"}),
        json!({"stage": "prod", "other": "1"}),
        json!({"stage": "dev", "version": "1.0", "type": "big"}),
        json!({"tags": "b"}),
        json!({"tags": ["b"]}),
        json!({"tags": "a", "more": 2}),
        json!({"more": {"x": [null]}}),
        json!({"number": 1}),
        json!({"flag": true}),
        json!({"flag": "true"}),
        json!({"version": "9.9", "fallback_list": [{"version": "9.8"}, {"version": "1.2"}, {"version": "1.0"}]}),
        json!({"stage": "dev", "version": "9.9", "fallback_list": [{"version": "1.2"}]}),
        json!({"stage": "dev", "fallback_list": []}),
    ]
}

fn selectors() -> Value {
    json!([
        {"keys": ["stage", "version"]}, {"keys": ["version"]}, {"keys": ["stage"]}, {"keys": ["tags"]},
        {"keys": ["number"]}, {"keys": ["flag"]}, {"keys": ["tags", "more"]}, {"keys": ["more"]}])
}

/// `lb_subset_config`s; those with `allow_redundant_keys` are for the typed policy alone.
fn configs() -> Vec<Value> {
    let own_fallbacks = json!([
        {"keys": ["version", "type"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["version"]},
        {"keys": ["version"], "fallback_policy": "ANY_ENDPOINT"},
        {"keys": ["stage", "version"], "fallback_policy": "DEFAULT_SUBSET"},
        {"keys": ["stage"], "fallback_policy": "NO_FALLBACK"},
        {"keys": ["type", "version", "stage"], "fallback_policy": "KEYS_SUBSET",
            "fallback_keys_subset": ["type", "version"]},
        {"keys": ["tags"]}, {"keys": ["flag"], "fallback_policy": "DEFAULT_SUBSET"}]);
    let default = json!({"stage": "prod", "type": "std"});
    vec![
        json!({"subset_selectors": selectors()}),
        json!({"subset_selectors": selectors(), "fallback_policy": "ANY_ENDPOINT"}),
        json!({"subset_selectors": selectors(), "fallback_policy": "DEFAULT_SUBSET", "default_subset": default}),
        json!({"subset_selectors": selectors(), "fallback_policy": "DEFAULT_SUBSET",
            "default_subset": {"stage": "sick"}, "panic_mode_any": true}),
        json!({"subset_selectors": selectors(), "fallback_policy": "DEFAULT_SUBSET",
            "default_subset": {"tags": "b"}, "list_as_any": true}),
        json!({"subset_selectors": selectors(), "fallback_policy": "DEFAULT_SUBSET",
            "default_subset": {"stage": "none"}, "panic_mode_any": true}),
        json!({"subset_selectors": own_fallbacks, "fallback_policy": "ANY_ENDPOINT",
            "default_subset": {"version": "1.2"}}),
        json!({"subset_selectors": own_fallbacks, "default_subset": default}),
        json!({"subset_selectors": [{"keys": ["version"], "single_host_per_subset": true},
            {"keys": ["stage"], "single_host_per_subset": true}], "fallback_policy": "ANY_ENDPOINT"}),
        json!({"subset_selectors": selectors(), "metadata_fallback_policy": "FALLBACK_LIST"}),
        json!({"subset_selectors": selectors(), "locality_weight_aware": true}),
        json!({"subset_selectors": selectors(), "locality_weight_aware": true, "scale_locality_weight": true,
            "fallback_policy": "ANY_ENDPOINT"}),
        json!({"subset_selectors": selectors(), "allow_redundant_keys": true, "fallback_policy": "ANY_ENDPOINT"}),
    ]
}

/// Every configuration in its old and its typed form, as far as it has both.
fn clusters(applications: &Applications) -> Vec<Value> {
    let mut all = Vec::new();
    for (number, config) in configs().into_iter().enumerate() {
        let (endpoints, localities) = (
            endpoints(applications),
            json!({"locality_weighted_lb_config": {}}),
        );
        if config.get("allow_redundant_keys").is_none() {
            let fields = json!({"lb_subset_config": config, "common_lb_config": localities});
            all.push(cluster(&format!("old-{number}"), &endpoints, &fields));
        }
        let policy = |name: &str, config: Value| json!({"typed_extension_config": {"name": name, "typed_config": config}});
        let inner = json!({"@type": type_url("extensions.load_balancing_policies.round_robin.v3.RoundRobin"),
            "locality_lb_config": localities});
        let mut typed = config;
        typed["@type"] = type_url("extensions.load_balancing_policies.subset.v3.Subset").into();
        typed["subset_lb_policy"] = json!({"policies": [policy("inner", inner)]});
        let fields = json!({"load_balancing_policy": {"policies": [policy("subset", typed)]}});
        all.push(cluster(&format!("typed-{number}"), &endpoints, &fields));
    }
    all
}

fn matching(criteria: &Value) -> Value {
    match criteria {
        Value::Null => json!({}),
        criteria => {
            json!({"metadata_match": {"filter_metadata": {"envoy.lb": criteria, "other": {"stage": "no"}}}})
        }
    }
}

fn routes(clusters: &[Value]) -> Vec<Value> {
    let names: Vec<&str> = clusters
        .iter()
        .filter_map(|cluster| cluster["name"].as_str())
        .collect();
    let mut all = Vec::new();
    for name in &names {
        for (number, criteria) in criteria().iter().enumerate() {
            all.push(route(&format!("{name}-{number}"), name, &matching(criteria)));
        }
    }
    // What an entry says wins over what its route says; an entry that says nothing has the route's.
    for (name, own) in [
        ("over", json!({"version": "1.0"})),
        ("beside", Value::Null),
        ("empty", json!({})),
    ] {
        let mut entry = matching(&own);
        entry["name"] = "typed-0".into();
        entry["weight"] = 1.into();
        let mut action = matching(&json!({"stage": "dev", "version": "1.2"}));
        action["weighted_clusters"] = json!({"clusters": [entry]});
        all.push(json!({"match": {"path": format!("/weighted-{name}")}, "route": action}));
    }
    all
}

/// Status and endpoint of every answer to requests for one path.
async fn takers(proxy: &Running, path: &str) -> Result<BTreeSet<String>> {
    let requests = vec![get(path, &[]); REQUESTS];
    let answers = proxy.statuses(Ipv4Addr::LOCALHOST, &requests);
    let answers = answers.await.with_context(|| path.to_owned())?;
    Ok(answers.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subset_and_every_fallback_is_envoys() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("every_subset_and_every_fallback_is_envoys", &missing);
    }
    let applications = Applications::start(8).await?;
    let clusters = clusters(&applications);
    let routes = routes(&clusters);
    let envoy = Running::start(Proxy::Envoy, &routes, &clusters).await?;
    for proxy in Proxy::under_test("every_subset_and_every_fallback_is_envoys")? {
        let tested = Running::start(proxy, &routes, &clusters).await?;
        let mut wrong = String::new();
        for route in &routes {
            let path = route["match"]["path"].as_str().context("path")?;
            let (expected, found) = (takers(&envoy, path).await?, takers(&tested, path).await?);
            if expected != found {
                let asked = &route["route"]["metadata_match"]["filter_metadata"]["envoy.lb"];
                writeln!(wrong, "{path} {asked}: {expected:?} and not {found:?}")?;
            }
        }
        for cluster in &clusters {
            let name = cluster["name"].as_str().context("name")?;
            let (mut expected, found) = (
                envoy.counts(name, "lb_subsets_").await?,
                tested.counts(name, "lb_subsets_").await?,
            );
            for once_per_thread in ["active", "created"] {
                // Envoy's main thread balances too, and counts its own subsets.
                expected
                    .entry(once_per_thread.into())
                    .and_modify(|count| *count /= 2);
            }
            if expected != found {
                writeln!(wrong, "{name}: {expected:#?} and not {found:#?}")?;
            }
        }
        ensure!(wrong.is_empty(), "{} differs from Envoy:\n{wrong}", proxy.name());
    }
    Ok(())
}
