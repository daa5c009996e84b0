//! Clusters that stand for others, compared with Envoy; and a member that the control plane adds and takes away while
//! traffic runs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::bootstrap::{self, AdsVariant, merge, type_url};
use harness::control_plane::{CLUSTER, ControlPlane, LISTENER, Resource, ResourceReader};
use harness::peers;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::traffic::{Plan, Protocol, Traffic};
use harness::upstream::Upstream;
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, get, route};

const WITHIN: Duration = Duration::from_secs(20);
const REQUESTS: usize = 600;

fn aggregate(name: &str, members: &[&str], fields: &Value) -> Value {
    let mut cluster = json!({
        "name": name, "connect_timeout": "10s", "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": {
            "@type": type_url("extensions.clusters.aggregate.v3.ClusterConfig"), "clusters": members}},
    });
    merge(&mut cluster, fields);
    cluster
}

/// Members over `e0` to `e5`, and aggregates of them by what they show.
fn clusters(applications: &Applications) -> Vec<Value> {
    let of = |name: &str, parts: &[(usize, &str, u32)], fields: Value| {
        let localities: Vec<Value> = parts
            .iter()
            .map(|(number, health, priority)| {
                let endpoint = applications.endpoint(*number, &json!({"health_status": health}));
                json!({"priority": priority, "lb_endpoints": [endpoint]})
            })
            .collect();
        cluster(name, &json!(localities), &fields)
    };
    let no_requests = json!({"circuit_breakers": {"thresholds": [{"max_requests": 0}]}});
    let ring = json!({"lb_policy": "RING_HASH"});
    vec![
        of("good", &[(0, "HEALTHY", 0), (1, "HEALTHY", 0)], json!({})),
        of("half", &[(0, "HEALTHY", 0), (1, "UNHEALTHY", 0)], json!({})),
        of("sick", &[(2, "UNHEALTHY", 0)], json!({})),
        of("weak", &[(2, "DEGRADED", 0)], json!({})),
        of("levels", &[(2, "UNHEALTHY", 0), (3, "HEALTHY", 2)], json!({})),
        of("other", &[(4, "HEALTHY", 0)], json!({})),
        of("full", &[(5, "HEALTHY", 0)], no_requests),
        of(
            "hashed",
            &[(3, "HEALTHY", 0), (4, "HEALTHY", 0), (5, "HEALTHY", 0)],
            ring,
        ),
        of("none", &[], json!({})),
        aggregate("first", &["good", "other"], &json!({})),
        aggregate("next", &["sick", "other"], &json!({})),
        aggregate("share", &["half", "other"], &json!({})),
        aggregate("degraded", &["weak", "sick"], &json!({})),
        aggregate("before-degraded", &["weak", "other"], &json!({})),
        aggregate("inner", &["levels", "other"], &json!({})),
        aggregate("gaps", &["nobody", "none", "other"], &json!({})),
        aggregate("nothing", &["nobody", "none"], &json!({})),
        aggregate("panic", &["sick", "sick"], &json!({})),
        aggregate("own-limits", &["full", "other"], &json!({})),
        aggregate("own-policy", &["sick", "hashed"], &json!({})),
        aggregate("itself", &["itself", "other"], &json!({})),
    ]
}

const ROUTES: [&str; 12] = [
    "first",
    "next",
    "share",
    "degraded",
    "before-degraded",
    "inner",
    "gaps",
    "nothing",
    "panic",
    "own-limits",
    "own-policy",
    "itself",
];

/// How often each answer came.
fn tally(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.as_str()).or_default() += 1;
    }
    counts
}

/// The same answers, each about as often.
fn alike(one: &BTreeMap<&str, usize>, other: &BTreeMap<&str, usize>) -> bool {
    one.keys().eq(other.keys())
        && one
            .values()
            .zip(other.values())
            .all(|(a, b)| a.abs_diff(*b) < REQUESTS / 8)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregates_choose_as_in_envoy() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("aggregates_choose_as_in_envoy", &missing);
    }
    let applications = Applications::start(6).await?;
    let hash = json!({"hash_policy": [{"header": {"header_name": "x-key"}}]});
    let routes: Vec<Value> = ROUTES.iter().map(|name| route(name, name, &hash)).collect();
    let clusters = clusters(&applications);
    let envoy = Running::start(Proxy::Envoy, &routes, &clusters).await?;
    for proxy in Proxy::under_test("aggregates_choose_as_in_envoy")? {
        let tested = Running::start(proxy, &routes, &clusters).await?;
        let mut wrong = String::new();
        for name in ROUTES {
            let requests: Vec<String> = (0..REQUESTS)
                .map(|n| get(&format!("/{name}"), &[("x-key", format!("k{n}"))]))
                .collect();
            let source = std::net::Ipv4Addr::LOCALHOST;
            let both = [
                envoy.statuses(source, &requests).await?,
                tested.statuses(source, &requests).await?,
            ];
            let same = match name {
                // Every key goes where the member's ring says.
                "own-policy" => both[0] == both[1],
                _ => alike(&tally(&both[0]), &tally(&both[1])),
            };
            if !same {
                wrong.push_str(&format!(
                    "\n/{name}: {:?}, not {:?}",
                    tally(&both[1]),
                    tally(&both[0])
                ));
            }
        }
        ensure!(wrong.is_empty(), "{} differs from Envoy:{wrong}", proxy.name());
        for running in [&envoy, &tested] {
            let connections = async |name| -> Result<u64> {
                let counts = running.counts(name, "upstream_cx_total").await?;
                Ok(counts.values().sum())
            };
            let (member, whole) = (connections("good").await?, connections("first").await?);
            ensure!(member > 0 && whole == 0, "{}: {member}, {whole}", running.name());
        }
    }
    Ok(())
}

fn member(reader: &ResourceReader, upstream: &Upstream) -> Result<Resource> {
    let name = upstream.name();
    let assignment = bootstrap::load_assignment(name, &[upstream.address()]);
    reader.json(
        CLUSTER,
        &json!({"name": name, "type": "STATIC", "connect_timeout": "10s", "load_assignment": assignment}),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_comes_and_goes_while_traffic_runs() -> Result<()> {
    for proxy in Proxy::under_test("a_member_comes_and_goes_while_traffic_runs")? {
        let (reader, control_plane) = (ResourceReader::new()?, ControlPlane::start().await?);
        let (late, early) = (Upstream::start("late").await?, Upstream::start("early").await?);
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        let manager = bootstrap::http_connection_manager(
            &json!({"route_config": bootstrap::route_everything("routes", "both")}),
        );
        control_plane.put([
            reader.json(CLUSTER, &aggregate("both", &["late", "early"], &json!({})))?,
            member(&reader, &early)?,
            reader.json(LISTENER, &bootstrap::listener("in", port.address(), manager))?,
        ]);
        let text = bootstrap::ads(admin.address(), control_plane.address(), AdsVariant::Delta).to_string();
        let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
        control_plane.wait_ack(LISTENER).await?;
        let traffic = Traffic::start(&Plan::new(port.address(), Protocol::Http1));
        let moves = async |name: &'static str| {
            let before = traffic.tally().by_upstream.get(name).copied().unwrap_or(0);
            let arrived = |tally: &harness::traffic::Tally| {
                tally.by_upstream.get(name).copied().unwrap_or(0) > before + 10
            };
            traffic.wait(WITHIN, arrived).await
        };
        moves("early").await?;
        control_plane.put([member(&reader, &late)?]);
        moves("late").await?;
        control_plane.push(|world| world.remove(CLUSTER, "late"));
        moves("early").await?;
        let tally = traffic.stop().await;
        ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
        drop((process, late, early));
    }
    Ok(())
}
