//! Zone-aware routing: how much stays in our zone and where the rest goes, compared with Envoy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{merge, type_url};
use harness::peers;
use harness::process::Proxy;
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, get, route};

const REQUESTS: usize = 800;
/// How far the shares of two proxies may be apart: more than four standard deviations of their difference.
const APART: f64 = 0.11;

/// Localities `a`, `b`, ... of the applications 0, 1, ...: each list is the weights of one locality.
fn zones(applications: &Applications, sizes: &[(&str, &[u32])]) -> Value {
    let mut number = 0;
    let mut zone = |(name, weights): &(&str, &[u32])| {
        let endpoints: Vec<Value> = weights
            .iter()
            .map(|weight| {
                number += 1;
                // A weight of 0 stands for an endpoint that is not healthy.
                let health = if *weight == 0 { "UNHEALTHY" } else { "HEALTHY" };
                let fields = json!({"load_balancing_weight": (*weight).max(1), "health_status": health,
                    "metadata": {"filter_metadata": {"envoy.lb": {"v": "1"}}}});
                applications.endpoint(number - 1, &fields)
            })
            .collect();
        json!({"locality": {"zone": name}, "load_balancing_weight": 1, "lb_endpoints": endpoints})
    };
    sizes.iter().map(&mut zone).collect()
}

fn typed(policy: &str, zone_aware: Value, further: Value) -> Value {
    let mut config = json!({
        "@type": type_url(&format!("extensions.load_balancing_policies.{policy}")),
        "locality_lb_config": {"zone_aware_lb_config": zone_aware}});
    merge(&mut config, &further);
    json!({"load_balancing_policy": {"policies": [{"typed_extension_config": {"name": "p", "typed_config": config}}]}})
}

/// Zones and further fields of a cluster.
type Case = (&'static str, Vec<(&'static str, &'static [u32])>, Value);

fn old(zone_aware: Value) -> Value {
    json!({"common_lb_config": {"zone_aware_lb_config": zone_aware}})
}

/// One endpoint in our zone, which is less than its share.
fn short() -> Vec<(&'static str, &'static [u32])> {
    vec![("a", &[1]), ("b", &[1; 4]), ("c", &[1; 3])]
}

fn of_zones() -> Vec<Case> {
    let none: fn() -> Value = || json!({});
    let few: Vec<(&str, &[u32])> = vec![("a", &[1, 1]), ("b", &[1]), ("c", &[1])];
    vec![
        (
            "even",
            vec![("a", &[1; 4]), ("b", &[1; 2]), ("c", &[1; 2])],
            none(),
        ),
        ("short", short(), none()),
        ("elsewhere", vec![("b", &[1; 4]), ("c", &[1; 4])], none()),
        (
            "beyond",
            vec![("a", &[1; 2]), ("b", &[1; 2]), ("d", &[1; 4])],
            old(json!({})),
        ),
        ("few", few.clone(), none()),
        ("few-allowed", few, old(json!({"min_cluster_size": 4}))),
        ("one-zone", vec![("b", &[1; 8])], none()),
    ]
}

fn of_settings() -> Vec<Case> {
    let robin = |zone_aware: Value| typed("round_robin.v3.RoundRobin", zone_aware, json!({}));
    let none: fn() -> Value = || json!({});
    vec![
        ("off", short(), old(json!({"routing_enabled": {"value": 0}}))),
        ("half", short(), robin(json!({"routing_enabled": {"value": 50}}))),
        (
            "direct",
            short(),
            robin(json!({"force_locality_direct_routing": true})),
        ),
        ("forced", short(), robin(json!({"force_local_zone": {}}))),
        (
            "not-forced",
            short(),
            robin(json!({"force_local_zone": {"min_size": 2}})),
        ),
        (
            "weighted",
            vec![("a", &[6]), ("b", &[1; 4]), ("c", &[1; 3])],
            robin(json!({"locality_basis": "HEALTHY_HOSTS_WEIGHT"})),
        ),
        (
            "sick-zone",
            vec![("a", &[0; 2]), ("b", &[1; 3]), ("c", &[1; 3])],
            none(),
        ),
        (
            "panic",
            vec![("a", &[1, 1]), ("b", &[0; 3]), ("c", &[0; 3])],
            none(),
        ),
        (
            "panic-fails",
            vec![("a", &[1, 1]), ("b", &[0; 3]), ("c", &[0; 3])],
            old(json!({"fail_traffic_on_panic": true})),
        ),
        (
            "least",
            short(),
            typed("least_request.v3.LeastRequest", json!({}), json!({})),
        ),
        ("random", short(), json!({"lb_policy": "RANDOM"})),
        ("ring", short(), json!({"lb_policy": "RING_HASH"})),
        (
            "weights-instead",
            short(),
            json!({"common_lb_config": {"locality_weighted_lb_config": {}}}),
        ),
        (
            "subset",
            short(),
            json!({"lb_subset_config": {"subset_selectors": [{"keys": ["v"]}]}}),
        ),
    ]
}

fn cases() -> Vec<Case> {
    of_zones().into_iter().chain(of_settings()).collect()
}

/// The share of every answer.
pub(super) async fn shares(proxy: &Running, path: &str) -> Result<BTreeMap<String, f64>> {
    let requests = vec![get(path, &[]); REQUESTS];
    let answers = proxy.statuses(std::net::Ipv4Addr::LOCALHOST, &requests).await;
    let mut shares = BTreeMap::new();
    for answer in answers.with_context(|| path.to_owned())? {
        *shares.entry(answer).or_default() += 1.0 / REQUESTS as f64;
    }
    Ok(shares)
}

/// The names of what was counted.
async fn counted(proxy: &Running, cluster: &str) -> Result<Vec<String>> {
    let counts = proxy.counts(cluster, "lb_zone_").await?;
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    Ok(counts.map(|(name, _)| name).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_much_stays_in_our_zone_as_with_envoy() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("as_much_stays_in_our_zone_as_with_envoy", &missing);
    }
    let applications = Applications::start(8).await?;
    let here = zones(&applications, &[("a", &[1, 1]), ("b", &[1]), ("c", &[1])]);
    let mut clusters = vec![cluster("here", &here, &json!({}))];
    let mut routes = Vec::new();
    for (name, sizes, fields) in cases() {
        clusters.push(cluster(name, &zones(&applications, &sizes), &fields));
        let labels = json!({"metadata_match": {"filter_metadata": {"envoy.lb": {"v": "1"}}}});
        routes.push(route(name, name, &labels));
    }
    let node = json!({"node": {"id": "n", "cluster": "here", "locality": {"zone": "a"}},
        "cluster_manager": {"local_cluster_name": "here"}});
    let envoy = Running::start_with(Proxy::Envoy, &routes, &clusters, &node).await?;
    for proxy in Proxy::under_test("as_much_stays_in_our_zone_as_with_envoy")? {
        let tested = Running::start_with(proxy, &routes, &clusters, &node).await?;
        let mut wrong = String::new();
        for (name, ..) in cases() {
            let path = format!("/{name}");
            let (expected, found) = (shares(&envoy, &path).await?, shares(&tested, &path).await?);
            let answers = expected.keys().chain(found.keys());
            let apart = |answer: &String| {
                let share = |of: &BTreeMap<String, f64>| of.get(answer).copied().unwrap_or(0.0);
                let never = (share(&expected) == 0.0) != (share(&found) == 0.0);
                never || (share(&expected) - share(&found)).abs() > APART
            };
            if answers.into_iter().any(apart) {
                writeln!(wrong, "{name}: {expected:.3?} and not {found:.3?}")?;
            }
            let (expected, found) = (counted(&envoy, name).await?, counted(&tested, name).await?);
            // In panic Envoy counts this when endpoints change, and here zones are not asked.
            let panic = name.starts_with("panic");
            let unknown = |count: &str| count == "number_differs" || panic && count == "cluster_too_small";
            if expected.iter().filter(|count| !unknown(count)).ne(&found) {
                writeln!(wrong, "{name}: counts {expected:?} and not {found:?}")?;
            }
        }
        ensure!(wrong.is_empty(), "{} differs from Envoy:\n{wrong}", proxy.name());
    }
    Ok(())
}
