//! How much does each endpoint get? By every policy, weight, priority and state of health, compared with Envoy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use harness::bootstrap::{merge, type_url};
use harness::peers;
use harness::process::Proxy;
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, route};
use super::zones::shares;

/// How far a share may be from Envoy's. With 1,200 requests by chance the standard deviation of both together is two points
/// at most.
const APART: f64 = 0.08;

#[derive(Clone)]
struct Case {
    name: &'static str,
    localities: Value,
    fields: Value,
}

fn policy(message: &str, fields: &Value) -> Value {
    let mut config = json!({"@type": type_url(&format!("extensions.load_balancing_policies.{message}"))});
    merge(&mut config, fields);
    let policy = json!({"typed_extension_config": {"name": message, "typed_config": config}});
    json!({"load_balancing_policy": {"policies": [policy]}})
}

/// A locality: zone, weight, priority, and of each endpoint its application, weight and health.
type Part<'p> = (&'p str, u32, u32, &'p [(usize, u32, &'p str)]);

/// Applications in localities.
fn localities(of: &Applications, parts: &[Part<'_>]) -> Value {
    let part = |(zone, weight, priority, endpoints): &Part<'_>| {
        let endpoint = |(number, weight, health): &(usize, u32, &str)| {
            of.endpoint(
                *number,
                &json!({"load_balancing_weight": weight, "health_status": health}),
            )
        };
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        json!({"locality": {"zone": zone}, "load_balancing_weight": weight, "priority": priority,
            "lb_endpoints": endpoints})
    };
    parts.iter().map(part).collect()
}

fn case(name: &'static str, localities: Value, fields: Value) -> Case {
    Case {
        name,
        localities,
        fields,
    }
}

/// One locality with weights 1, 2 and 5.
fn of_policies(of: &Applications) -> Vec<Case> {
    let endpoints = [(0, 1, "HEALTHY"), (1, 2, "UNKNOWN"), (2, 5, "HEALTHY")];
    let weighted = || localities(of, &[("a", 1, 0, &endpoints)]);
    let old = |policy: &str| json!({"lb_policy": policy});
    let least = json!({"choice_count": 3});
    vec![
        case("round", weighted(), old("ROUND_ROBIN")),
        case("least", weighted(), old("LEAST_REQUEST")),
        case("random", weighted(), old("RANDOM")),
        case(
            "typed-round",
            weighted(),
            policy("round_robin.v3.RoundRobin", &json!({})),
        ),
        case(
            "typed-least",
            weighted(),
            policy("least_request.v3.LeastRequest", &least),
        ),
        case("typed-random", weighted(), policy("random.v3.Random", &json!({}))),
    ]
}

/// Two zones with weights 3 and 1, and the worse half of the second one.
fn of_zones(of: &Applications) -> Vec<Case> {
    let first = [(0, 1, "HEALTHY"), (1, 1, "HEALTHY")];
    let second = [
        (2, 1, "HEALTHY"),
        (3, 1, "UNHEALTHY"),
        (4, 1, "TIMEOUT"),
        (5, 1, "DRAINING"),
    ];
    let zones = || localities(of, &[("a", 3, 0, &first), ("b", 1, 0, &second)]);
    let weights = json!({"common_lb_config": {"locality_weighted_lb_config": {}}});
    let robin = policy("round_robin.v3.RoundRobin", &json!({}));
    let inside = json!({"endpoint_picking_policy": robin["load_balancing_policy"]});
    let mut typed = policy("wrr_locality.v3.WrrLocality", &inside);
    // Envoy 1.40 takes only one policy inside of this one; gRPC and we take any (A52). It means the old form.
    typed["envoy"] = weights.clone();
    vec![
        case("weighted-zones", zones(), weights),
        case("zones-without-weights", zones(), json!({})),
        case("typed-weighted-zones", zones(), typed),
    ]
}

/// Of three endpoints of the first priority two are worse.
fn of_health(of: &Applications) -> Vec<Case> {
    let second = [(3, 1, "HEALTHY"), (4, 1, "HEALTHY")];
    let priorities = |worse| {
        let first = [(0, 1, "HEALTHY"), (1, 1, worse), (2, 1, worse)];
        localities(of, &[("a", 1, 0, &first), ("b", 1, 1, &second)])
    };
    let sick = || {
        localities(
            of,
            &[(
                "a",
                1,
                0,
                &[(0, 1, "HEALTHY"), (1, 1, "UNHEALTHY"), (2, 1, "UNHEALTHY")],
            )],
        )
    };
    let panic = |percent: u32| json!({"common_lb_config": {"healthy_panic_threshold": {"value": percent}}});
    let generous = json!({"factor": 200});
    vec![
        case("gentle-failover", priorities("UNHEALTHY"), json!({})),
        case("generous", priorities("UNHEALTHY"), generous),
        case("degraded", priorities("DEGRADED"), json!({})),
        case("panic", sick(), panic(50)),
        case("no-panic", sick(), panic(20)),
        case("never-panic", sick(), panic(0)),
    ]
}

impl Case {
    /// Its cluster; an overprovisioning factor stands with the endpoints.
    fn cluster(&self, proxy: Proxy) -> Value {
        let mut fields = self.fields.clone();
        let of_envoy = fields.as_object_mut().and_then(|fields| fields.remove("envoy"));
        if let Some(of_envoy) = of_envoy.filter(|_| proxy == Proxy::Envoy) {
            fields = of_envoy;
        }
        let factor = fields.as_object_mut().and_then(|fields| fields.remove("factor"));
        let mut cluster = cluster(self.name, &self.localities, &fields);
        if let Some(factor) = factor {
            cluster["load_assignment"]["policy"] = json!({"overprovisioning_factor": factor});
        }
        cluster
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_endpoint_gets_its_share_as_with_envoy() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("each_endpoint_gets_its_share_as_with_envoy", &missing);
    }
    let applications = Applications::start(6).await?;
    let cases = [
        of_policies(&applications),
        of_zones(&applications),
        of_health(&applications),
    ]
    .concat();
    let clusters = |proxy| cases.iter().map(|case| case.cluster(proxy)).collect::<Vec<_>>();
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    let routes: Vec<Value> = names.iter().map(|name| route(name, name, &json!({}))).collect();
    let envoy = Running::start(Proxy::Envoy, &routes, &clusters(Proxy::Envoy)).await?;
    for proxy in Proxy::under_test("each_endpoint_gets_its_share_as_with_envoy")? {
        let tested = Running::start(proxy, &routes, &clusters(proxy)).await?;
        let mut wrong = String::new();
        for name in &names {
            let path = format!("/{name}");
            let (expected, found) = (shares(&envoy, &path).await?, shares(&tested, &path).await?);
            let share = |of: &BTreeMap<String, f64>, by: &String| of.get(by).copied().unwrap_or(0.0);
            let mut all = expected.keys().chain(found.keys());
            let apart = |by: &String| {
                let never = expected.contains_key(by) != found.contains_key(by);
                never || (share(&expected, by) - share(&found, by)).abs() > APART
            };
            if all.any(apart) {
                writeln!(wrong, "{name}: {expected:.3?} and not {found:.3?}")?;
            }
        }
        ensure!(wrong.is_empty(), "{} differs from Envoy:\n{wrong}", proxy.name());
    }
    Ok(())
}
