//! Rings and Maglev tables: 10,000 keys through Envoy and through the proxy under test.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{merge, type_url};
use harness::peers;
use harness::process::Proxy;
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, get, route, same};

const KEYS: usize = 10_000;
/// Keys for what varies only one part of an algorithm that the 10,000 went through.
const FEW: usize = 1_000;
const WEIGHTS: [u32; 7] = [1, 2, 3, 1, 7, 2, 1];

#[derive(Clone)]
struct Case {
    name: &'static str,
    keys: usize,
    localities: Value,
    fields: Value,
}

fn weighted(applications: &Applications) -> Value {
    let endpoints: Vec<Value> = (0..WEIGHTS.len())
        .map(|n| applications.endpoint(n, &json!({"load_balancing_weight": WEIGHTS[n]})))
        .collect();
    json!([{"lb_endpoints": endpoints}])
}

fn equal(applications: &Applications) -> Value {
    let endpoints: Vec<Value> = (0..WEIGHTS.len())
        .map(|n| applications.endpoint(n, &json!({})))
        .collect();
    json!([{"lb_endpoints": endpoints}])
}

/// Every second endpoint says what is hashed for it.
fn keyed(applications: &Applications) -> Value {
    let endpoints: Vec<Value> = (0..WEIGHTS.len())
        .map(|n| {
            let mut fields = json!({"load_balancing_weight": WEIGHTS[n]});
            if n % 2 == 0 {
                let key = json!({"metadata": {"filter_metadata": {"envoy.lb": {"hash_key": format!("key of {n}")}}}});
                merge(&mut fields, &key);
            }
            applications.endpoint(n, &fields)
        })
        .collect();
    json!([{"lb_endpoints": endpoints}])
}

/// Two localities with weights 3 and 1; one endpoint is unhealthy.
fn local(applications: &Applications) -> Value {
    let fields = |n: usize| {
        let health = if n == 1 { "UNHEALTHY" } else { "HEALTHY" };
        json!({"load_balancing_weight": WEIGHTS[n], "health_status": health})
    };
    let part = |numbers: std::ops::Range<usize>, zone: &str, weight: u32| {
        let endpoints: Vec<Value> = numbers.map(|n| applications.endpoint(n, &fields(n))).collect();
        json!({"locality": {"zone": zone}, "load_balancing_weight": weight, "lb_endpoints": endpoints})
    };
    json!([part(0..3, "a", 3), part(3..7, "b", 1)])
}

/// One of three endpoints of the first priority is healthy, so it takes 46 %; the rest goes to the second.
fn prioritised(applications: &Applications) -> Value {
    let part = |numbers: std::ops::Range<usize>, priority: u32| {
        let endpoints: Vec<Value> = numbers
            .map(|n| {
                let health = if n == 0 || n > 2 { "HEALTHY" } else { "UNHEALTHY" };
                applications.endpoint(n, &json!({"health_status": health}))
            })
            .collect();
        json!({"priority": priority, "lb_endpoints": endpoints})
    };
    json!([part(0..3, 0), part(3..7, 1)])
}

fn typed(name: &str, message: &str, fields: &Value) -> Value {
    let mut config = json!({"@type": type_url(&format!("extensions.load_balancing_policies.{message}"))});
    merge(&mut config, fields);
    json!({"load_balancing_policy": {"policies": [{"typed_extension_config": {"name": name, "typed_config": config}}]}})
}

fn case(name: &'static str, keys: usize, localities: Value, fields: Value) -> Case {
    Case {
        name,
        keys,
        localities,
        fields,
    }
}

fn by_hostname(mut fields: Value) -> Value {
    let common = json!({"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}});
    // Envoy allows it only where endpoints have host names.
    merge(
        &mut fields,
        &json!({"type": "STRICT_DNS", "common_lb_config": common}),
    );
    fields
}

fn by_locality(mut fields: Value) -> Value {
    merge(
        &mut fields,
        &json!({"common_lb_config": {"locality_weighted_lb_config": {}}}),
    );
    fields
}

fn rings(of: &Applications) -> Vec<Case> {
    let ring = |config: Value| json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": config});
    let sizes = |least: u32, most: u32| json!({"minimum_ring_size": least, "maximum_ring_size": most});
    let murmur = json!({"hash_function": "MURMUR_HASH_2"});
    let hostnames = json!({"use_hostname_for_hashing": true});
    let typed = typed(
        "ring",
        "ring_hash.v3.RingHash",
        &json!({"minimum_ring_size": 300, "consistent_hashing_lb_config": hostnames}),
    );
    vec![
        case("ring", KEYS, weighted(of), ring(json!({}))),
        case("ring-murmur", KEYS, weighted(of), ring(murmur)),
        case("ring-equal", FEW, equal(of), ring(json!({}))),
        case("ring-sizes", FEW, weighted(of), ring(sizes(20, 50))),
        case("ring-cut", FEW, weighted(of), ring(sizes(3, 9))),
        case(
            "ring-large",
            FEW,
            weighted(of),
            ring(json!({"minimum_ring_size": 50_000})),
        ),
        case("ring-keys", FEW, keyed(of), ring(json!({}))),
        case("ring-hostnames", FEW, weighted(of), by_hostname(ring(json!({})))),
        case("ring-localities", FEW, local(of), by_locality(ring(json!({})))),
        case("ring-priorities", FEW, prioritised(of), ring(json!({}))),
        case("ring-typed", FEW, weighted(of), typed),
    ]
}

fn tables(of: &Applications) -> Vec<Case> {
    let maglev = |config: Value| json!({"lb_policy": "MAGLEV", "maglev_lb_config": config});
    let typed = typed("maglev", "maglev.v3.Maglev", &json!({"table_size": 1009}));
    vec![
        case("maglev", KEYS, weighted(of), maglev(json!({}))),
        case("maglev-equal", FEW, equal(of), maglev(json!({}))),
        case(
            "maglev-size",
            FEW,
            weighted(of),
            maglev(json!({"table_size": 251})),
        ),
        case("maglev-keys", FEW, keyed(of), maglev(json!({}))),
        case("maglev-hostnames", FEW, keyed(of), by_hostname(maglev(json!({})))),
        case(
            "maglev-localities",
            FEW,
            local(of),
            by_locality(maglev(json!({}))),
        ),
        case("maglev-priorities", FEW, prioritised(of), maglev(json!({}))),
        case("maglev-typed", FEW, weighted(of), typed),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_goes_where_envoy_sends_it() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("every_key_goes_where_envoy_sends_it", &missing);
    }
    let applications = Applications::start(WEIGHTS.len()).await?;
    let cases = [rings(&applications), tables(&applications)].concat();
    let header = json!({"hash_policy": [{"header": {"header_name": "x-key"}}]});
    let routes: Vec<Value> = cases
        .iter()
        .map(|case| route(case.name, case.name, &header))
        .collect();
    let clusters: Vec<Value> = cases
        .iter()
        .map(|case| cluster(case.name, &case.localities, &case.fields))
        .collect();
    let envoy = Running::start(Proxy::Envoy, &routes, &clusters).await?;
    let mut expected = Vec::new();
    for case in &cases {
        let answers = envoy.answered_by(&requests(case)).await?;
        let chosen: BTreeSet<&String> = answers.iter().collect();
        ensure!(
            chosen.len() >= 3,
            "{}: keys must spread, only {chosen:?}",
            case.name
        );
        expected.push(answers);
    }
    for proxy in Proxy::under_test("every_key_goes_where_envoy_sends_it")? {
        let tested = Running::start(proxy, &routes, &clusters).await?;
        let mut wrong = String::new();
        for (case, expected) in cases.iter().zip(&expected) {
            let answers = tested
                .answered_by(&requests(case))
                .await
                .with_context(|| case.name)?;
            if let Err(error) = same(case.name, expected, &answers) {
                wrong.push_str(&format!("\n  {error}"));
            }
        }
        ensure!(wrong.is_empty(), "{} differs from Envoy:{wrong}", proxy.name());
    }
    Ok(())
}

fn requests(case: &Case) -> Vec<String> {
    (0..case.keys)
        .map(|number| get(&format!("/{}", case.name), &[("x-key", format!("user-{number}"))]))
        .collect()
}
