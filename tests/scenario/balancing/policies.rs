//! Hash policies of routes: every form and how several combine, compared with Envoy on one ring.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::type_url;
use harness::peers;
use harness::process::Proxy;
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, get, route, same};

const REQUESTS: usize = 300;

/// One route: its policies, the query and the header lines of request `n`.
struct Case {
    name: &'static str,
    policies: Value,
    query: fn(usize) -> String,
    lines: fn(usize) -> Vec<(&'static str, String)>,
}

fn no_query(_: usize) -> String {
    String::new()
}

fn no_lines(_: usize) -> Vec<(&'static str, String)> {
    Vec::new()
}

fn key(n: usize) -> Vec<(&'static str, String)> {
    vec![("x-key", format!("k{n}"))]
}

fn header() -> Value {
    json!({"header": {"header_name": "x-key"}})
}

/// Only the first digit behind each `k` counts.
fn rewritten() -> Value {
    let rewrite = json!({"pattern": {"regex": "k(\\d)\\d*"}, "substitution": "<\\1>"});
    json!({"header": {"header_name": "x-key", "regex_rewrite": rewrite}})
}

fn other() -> Value {
    json!({"header": {"header_name": "X-Other"}})
}

fn query() -> Value {
    json!({"query_parameter": {"name": "q"}})
}

fn source() -> Value {
    json!({"connection_properties": {"source_ip": true}})
}

fn case(
    name: &'static str,
    policies: Value,
    query: fn(usize) -> String,
    lines: fn(usize) -> Vec<(&'static str, String)>,
) -> Case {
    Case {
        name,
        policies,
        query,
        lines,
    }
}

fn alone() -> Vec<Case> {
    let cookie = || json!({"cookie": {"name": "session"}});
    vec![
        case("header", json!([header()]), no_query, key),
        case("header-twice", json!([header()]), no_query, |n| {
            vec![
                ("x-key", format!("b{n}")),
                ("x-key", format!("a{n}")),
                ("x-key", "c".to_owned()),
            ]
        }),
        case("header-list", json!([header()]), no_query, |n| {
            vec![("x-key", format!("b{n}, a{n}"))]
        }),
        case("header-rewritten", json!([rewritten()]), no_query, key),
        case("header-rewritten-twice", json!([rewritten()]), no_query, |n| {
            vec![
                ("x-key", format!("k{n}")),
                ("x-key", format!("other {n} of k{}", n / 7)),
            ]
        }),
        case(
            "query",
            json!([query()]),
            |n| format!("?p=1&q=v{n}&q=w"),
            no_lines,
        ),
        case(
            "query-escaped",
            json!([query()]),
            |n| format!("?q=a%20{n}%2B"),
            no_lines,
        ),
        case(
            "query-bare",
            json!([query(), header()]),
            |_| "?q&r=1".to_owned(),
            key,
        ),
        case("cookie", json!([cookie()]), no_query, |n| {
            vec![("cookie", format!("a=b; session=v{n}; c=d"))]
        }),
        case("cookie-quoted", json!([cookie()]), no_query, |n| {
            vec![
                ("cookie", format!("session=\"v{n}\"")),
                ("cookie", "session=late".to_owned()),
            ]
        }),
        case("cookie-alike", json!([cookie()]), no_query, |n| {
            vec![("cookie", format!("xsession=no; session-b=no;session=v{n}"))]
        }),
    ]
}

fn combined() -> Vec<Case> {
    let last = |mut policy: Value| {
        policy["terminal"] = true.into();
        policy
    };
    vec![
        case(
            "two",
            json!([header(), query()]),
            |n| format!("?q={}", n % 7),
            key,
        ),
        case(
            "three",
            json!([header(), query(), other()]),
            |n| format!("?q={n}"),
            |n| vec![("x-key", "fixed".to_owned()), ("x-other", format!("{}", n / 3))],
        ),
        case("one-of-two", json!([other(), header()]), no_query, key),
        case(
            "terminal",
            json!([last(header()), query()]),
            |n| format!("?q={n}"),
            |n| vec![("x-key", format!("{}", n % 5))],
        ),
        case(
            "terminal-absent",
            json!([last(other()), query()]),
            |n| format!("?q={n}"),
            key,
        ),
        case(
            "terminal-second",
            json!([query(), last(other()), header()]),
            |n| format!("?q={n}"),
            key,
        ),
        case("forwarded", json!([source()]), no_query, |n| {
            vec![("x-forwarded-for", format!("1.2.3.4, 10.{}.0.{}", n % 9, n % 251))]
        }),
        case("forwarded-v6", json!([source()]), no_query, |n| {
            vec![("x-forwarded-for", format!("2001:DB8:0:0::{n:x}"))]
        }),
        case("source-and-header", json!([source(), header()]), no_query, key),
    ]
}

/// Clusters with policies of their own, which hold whatever their routes say.
fn of_clusters() -> Vec<Case> {
    let lines = |n| vec![("x-key", format!("k{n}")), ("x-other", format!("{}", n % 11))];
    ["ring-policy", "ring-options", "ring-both"]
        .map(|name| case(name, json!([header()]), |n| format!("?q={}", n / 2), lines))
        .into()
}

fn own_rings(applications: &Applications) -> [Value; 3] {
    let own = |name: &str, policy: Option<Value>, options: Option<Value>| {
        let mut ring = ring(applications);
        ring["name"] = name.into();
        if let Some(policy) = policy {
            let config = json!({"@type": type_url("extensions.load_balancing_policies.ring_hash.v3.RingHash"),
                "consistent_hashing_lb_config": {"hash_policy": [policy]}});
            let typed = json!({"typed_extension_config": {"name": "ring", "typed_config": config}});
            ring["load_balancing_policy"] = json!({"policies": [typed]});
        }
        if let Some(policy) = options {
            let kind = "extensions.upstreams.http.v3.HttpProtocolOptions";
            ring["typed_extension_protocol_options"] = json!({format!("envoy.{kind}"): {"@type": type_url(kind),
                "explicit_http_config": {"http_protocol_options": {}}, "hash_policy": [policy]}});
        }
        ring
    };
    [
        own("ring-policy", Some(query()), None),
        own("ring-options", None, Some(query())),
        own("ring-both", Some(query()), Some(other())),
    ]
}

fn requests(case: &Case) -> Vec<String> {
    (0..REQUESTS)
        .map(|n| get(&format!("/{}{}", case.name, (case.query)(n)), &(case.lines)(n)))
        .collect()
}

fn ring(applications: &Applications) -> Value {
    let endpoints: Vec<Value> = (0..5).map(|n| applications.endpoint(n, &json!({}))).collect();
    let localities = json!([{"lb_endpoints": endpoints}]);
    cluster("ring", &localities, &json!({"lb_policy": "RING_HASH"}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_a_hash_policy_is_envoys() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("every_form_of_a_hash_policy_is_envoys", &missing);
    }
    let applications = Applications::start(5).await?;
    let mut clusters = vec![ring(&applications)];
    clusters.extend(own_rings(&applications));
    let cases: Vec<Case> = alone()
        .into_iter()
        .chain(combined())
        .chain(of_clusters())
        .collect();
    let mut routes: Vec<Value> = cases
        .iter()
        .map(|case| {
            let own = case.name.starts_with("ring-").then_some(case.name);
            route(
                case.name,
                own.unwrap_or("ring"),
                &json!({"hash_policy": case.policies}),
            )
        })
        .collect();
    routes.push(route("source", "ring", &json!({"hash_policy": [source()]})));
    let envoy = Running::start(Proxy::Envoy, &routes, &clusters).await?;
    for proxy in Proxy::under_test("every_form_of_a_hash_policy_is_envoys")? {
        let tested = Running::start(proxy, &routes, &clusters).await?;
        let mut wrong = String::new();
        for case in &cases {
            let requests = requests(case);
            let expected = envoy.answered_by(&requests).await.with_context(|| case.name)?;
            let answers = tested.answered_by(&requests).await.with_context(|| case.name)?;
            if let Err(error) = same(case.name, &expected, &answers) {
                wrong.push_str(&format!("\n  {error}"));
            }
        }
        let (expected, answers) = (by_source(&envoy).await?, by_source(&tested).await?);
        if let Err(error) = same("source", &expected, &answers) {
            wrong.push_str(&format!("\n  {error}"));
        }
        ensure!(wrong.is_empty(), "{} differs from Envoy:{wrong}", proxy.name());
    }
    Ok(())
}

/// Who answers clients with the addresses 127.0.0.2 to 127.0.0.41.
async fn by_source(proxy: &Running) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for last in 2..=41 {
        let source = Ipv4Addr::new(127, 0, 0, last);
        let request = [get("/source", &[])];
        names.extend(proxy.one_connection(source, &request).await?);
    }
    Ok(names)
}

/// The cookie that one proxy makes names, for the other one too, the endpoint that it was made for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_made_by_either_proxy_sticks_to_its_endpoint_at_both() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("a_cookie_made_by_either_proxy_sticks", &missing);
    }
    let applications = Applications::start(5).await?;
    let clusters = [ring(&applications)];
    let cookie = json!({"hash_policy": [{"cookie": {"name": "session", "ttl": "60s", "path": "/p"}}]});
    let routes = [route("sticky", "ring", &cookie)];
    let envoy = Running::start(Proxy::Envoy, &routes, &clusters).await?;
    for proxy in Proxy::under_test("a_cookie_made_by_either_proxy_sticks")? {
        let tested = Running::start(proxy, &routes, &clusters).await?;
        for maker in [&envoy, &tested] {
            for _ in 0..20 {
                let first = maker.answer(&get("/sticky", &[])).await?;
                let line = first
                    .head
                    .header("set-cookie")
                    .with_context(|| format!("{} sets no cookie", maker.name()))?;
                let (value, attributes) = line.split_once(';').context("attributes")?;
                ensure!(
                    attributes == " Max-Age=60; Path=/p; HttpOnly",
                    "{}: {line}",
                    maker.name()
                );
                let again = get("/sticky", &[("cookie", value.to_owned())]);
                for reader in [&envoy, &tested] {
                    let then = reader.answer(&again).await?;
                    ensure!(
                        then.head.header("x-upstream") == first.head.header("x-upstream"),
                        "{} made {value}, and {} sends it elsewhere",
                        maker.name(),
                        reader.name()
                    );
                    ensure!(
                        then.head.header("set-cookie").is_none(),
                        "{} sets it again",
                        reader.name()
                    );
                }
            }
        }
    }
    Ok(())
}
