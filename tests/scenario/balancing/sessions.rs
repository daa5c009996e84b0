//! Sessions that stay with their endpoint, by cookie and by header: what is told, what is read, compared with Envoy.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::bootstrap::{merge, type_url};
use harness::client::RawResponse;
use harness::peers;
use harness::process::Proxy;
use serde_json::{Value, json};

use super::stage::{Applications, Running, cluster, get, route};

fn state(kind: &str, fields: Value) -> Value {
    let mut config = json!({"@type": type_url(&format!("extensions.http.stateful_session.{kind}"))});
    merge(&mut config, &fields);
    let name = kind.split('.').next().unwrap_or_default();
    json!({"session_state": {"name": format!("envoy.http.stateful_session.{name}"), "typed_config": config}})
}

fn cookie(fields: Value) -> Value {
    let mut cookie = json!({"name": "s"});
    merge(&mut cookie, &fields);
    state("cookie.v3.CookieBasedSessionState", json!({"cookie": cookie}))
}

fn header(fields: &Value) -> Value {
    let mut session = state("header.v3.HeaderBasedSessionState", json!({"name": "X-Session"}));
    merge(&mut session, fields);
    session
}

/// Routes by what they say of sessions.
fn routes() -> Vec<Value> {
    let mut routes = vec![route("chain", "c", &json!({}))];
    let sessions = [
        ("plain", cookie(json!({}))),
        ("timed", cookie(json!({"ttl": "3600s", "path": "/timed"}))),
        ("below", cookie(json!({"path": "/below/deep/"}))),
        ("elsewhere", cookie(json!({"path": "/else"}))),
        (
            "dressed",
            cookie(
                json!({"path": "/", "attributes": [{"name": "SameSite", "value": "Lax"}, {"name": "Secure"}]}),
            ),
        ),
        ("header", header(&json!({}))),
        ("strict", header(&json!({"strict": true}))),
        (
            "missing",
            header(&json!({"strict": true, "status_on_strict_destination_not_found": 404})),
        ),
        ("empty", json!({"strict": true})),
    ];
    let per_route = |fields: Value| {
        let mut config =
            json!({"@type": type_url("extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute")});
        merge(&mut config, &fields);
        json!({"session": config})
    };
    for (name, session) in sessions {
        let mut route = route(name, "c", &json!({}));
        route["typed_per_filter_config"] = per_route(json!({"stateful_session": session}));
        routes.push(route);
    }
    let mut draining = route("draining", "d", &json!({}));
    draining["typed_per_filter_config"] = per_route(json!({"stateful_session": header(&json!({}))}));
    routes.push(draining);
    let mut off = route("off", "c", &json!({}));
    off["typed_per_filter_config"] = per_route(json!({"disabled": true}));
    routes.push(off);
    routes
}

/// What requests bring along: nothing, every endpoint, one that is not there, nonsense; in every form.
fn requests(applications: &Applications) -> Vec<(String, Option<String>)> {
    let mut addresses: Vec<String> = (0..5).map(|n| applications.address(n).to_string()).collect();
    addresses.push("127.0.0.1:1".to_owned());
    let mut values = vec![None];
    for address in &addresses {
        let mut message = message(address);
        values.push(Some(STANDARD.encode(address.as_bytes())));
        values.push(Some(STANDARD.encode(&message)));
        // Over since 1970.
        message.extend([0x10, 0x05]);
        values.push(Some(STANDARD.encode(&message)));
    }
    values.extend(["!!", "", "AAAA"].map(|nonsense| Some(nonsense.to_owned())));
    let paths = [
        "chain",
        "plain",
        "timed",
        "below",
        "elsewhere",
        "dressed",
        "header",
        "strict",
        "missing",
        "empty",
        "off",
        "draining",
    ];
    let requests = paths.iter().flat_map(|path| {
        values.iter().map(move |value| {
            let lines = value.iter().flat_map(|value| {
                [
                    ("cookie", format!("a=b; s=\"{value}\"; c=d")),
                    ("x-session", value.clone()),
                ]
            });
            let lines: Vec<_> = lines.collect();
            (get(&format!("/{path}"), &lines), value.clone())
        })
    });
    requests.collect()
}

/// `address` as a cookie without expiry holds it.
fn message(address: &str) -> Vec<u8> {
    let mut message = vec![0x0a, address.len() as u8];
    message.extend(address.as_bytes());
    message
}

/// A request stays with its endpoint when it is answered there so often in a row: without a session turns are taken.
const REPEATS: usize = 4;

/// Status, whether the wanted endpoint answered, and what is told, with the answering endpoint in place of chance.
fn seen(
    applications: &Applications,
    answer: &RawResponse,
    wanted: Option<&str>,
) -> Result<(u16, bool, String)> {
    let by = answer.head.header("x-upstream").unwrap_or("nobody");
    let number = by
        .strip_prefix('e')
        .and_then(|number| number.parse::<usize>().ok());
    let address = number.map_or("nobody".to_owned(), |number| {
        applications.address(number).to_string()
    });
    let names_it = |encoded: &str| {
        let message = message(&address);
        let begins = STANDARD.encode(&message[..message.len() / 3 * 3]);
        encoded == STANDARD.encode(address.as_bytes()) || encoded.starts_with(&begins)
    };
    let mut told = String::new();
    if let Some(line) = answer.head.header("set-cookie") {
        let (before, rest) = line.split_once('"').context("a quoted value")?;
        let (value, after) = rest.split_once('"').context("a quoted value")?;
        told = format!("{before}{} of {}{after}", names_it(value), value.len());
    }
    if let Some(value) = answer.head.header("x-session") {
        told = format!("{told} header {}", names_it(value));
    }
    Ok((answer.status(), wanted.is_some_and(names_it), told))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_stay_where_envoy_keeps_them() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("sessions_stay_where_envoy_keeps_them", &missing);
    }
    let applications = Applications::start(5).await?;
    let health = ["HEALTHY", "HEALTHY", "UNHEALTHY", "DRAINING", "DEGRADED"];
    let endpoint = |(n, health): (usize, &&str)| applications.endpoint(n, &json!({"health_status": health}));
    let endpoints: Vec<Value> = health.iter().enumerate().map(endpoint).collect();
    // Degraded endpoints are not chosen but for their sessions.
    let fields = json!({"common_lb_config": {"healthy_panic_threshold": {"value": 0}}});
    let localities = json!([{"lb_endpoints": endpoints}]);
    let leaving = json!({"common_lb_config": {"healthy_panic_threshold": {"value": 0},
        "override_host_status": {"statuses": ["HEALTHY", "DRAINING"]}}});
    let mut clusters = vec![
        cluster("c", &localities, &fields),
        cluster("d", &localities, &leaving),
    ];
    for cluster in &mut clusters {
        cluster["load_assignment"]["policy"] = json!({"overprovisioning_factor": 1000});
    }
    let mut own = cookie(json!({"name": "chain"}));
    own["@type"] = type_url("extensions.filters.http.stateful_session.v3.StatefulSession").into();
    let router = json!({"@type": type_url("extensions.filters.http.router.v3.Router")});
    let further = json!({"manager": {"http_filters": [
        {"name": "session", "typed_config": own}, {"name": "router", "typed_config": router}]}});
    let envoy = Running::start_with(Proxy::Envoy, &routes(), &clusters, &further).await?;
    for proxy in Proxy::under_test("sessions_stay_where_envoy_keeps_them")? {
        let tested = Running::start_with(proxy, &routes(), &clusters, &further).await?;
        let mut wrong = String::new();
        for (request, wanted) in requests(&applications) {
            let mut both = Vec::new();
            for running in [&envoy, &tested] {
                let mut all = Vec::new();
                for _ in 0..REPEATS {
                    let answer = running.answer(&request).await?;
                    all.push(seen(&applications, &answer, wanted.as_deref())?);
                }
                let stays = all.iter().all(|seen| seen.1);
                let (status, _, told) = all.remove(0);
                both.push((status, stays, told));
            }
            // Without a session two requests meet by chance.
            let bound = [
                "/plain",
                "/timed",
                "/dressed",
                "/header",
                "/strict",
                "/missing",
                "/draining",
            ];
            if !bound.iter().any(|path| request.contains(path)) {
                both.iter_mut().for_each(|seen| seen.1 = false);
            }
            if both[0] != both[1] {
                wrong.push_str(&format!("\n{request}{both:?}"));
            }
        }
        ensure!(wrong.is_empty(), "{} differs from Envoy:{wrong}", proxy.name());
        goes_on(&envoy, &tested).await?;
    }
    Ok(())
}

/// A session that one of them began goes on at the other.
async fn goes_on(envoy: &Running, tested: &Running) -> Result<()> {
    for (from, to) in [(envoy, tested), (tested, envoy), (tested, tested)] {
        for _ in 0..4 {
            let first = from.answer(&get("/timed", &[])).await?;
            let line = first.head.header("set-cookie").context("no cookie")?;
            let (value, attributes) = line.split_once(';').context("attributes")?;
            ensure!(attributes == " Max-Age=3600; Path=/timed; HttpOnly", "{line}");
            let again = to.answer(&get("/timed", &[("cookie", value.to_owned())])).await?;
            ensure!(
                again.head.header("x-upstream") == first.head.header("x-upstream"),
                "{} made {value}, {} does not follow",
                from.name(),
                to.name()
            );
            ensure!(
                again.head.header("set-cookie").is_none(),
                "{} tells again",
                to.name()
            );
        }
    }
    Ok(())
}
