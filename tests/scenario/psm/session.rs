//! Sessions by cookie: `app_net_ssa_test`, `gamma/affinity_test` and `gamma/affinity_session_drain_test`.
//!
//! What the control plane has a client do is the same in all of them: the filter `stateful_session`, in the chain or by
//! route.

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{merge, type_url};
use serde_json::{Value, json};

use crate::caller::{Answer, Rpc};
use crate::mesh::{self, Mesh, endpoint, filter, filter_with, group, groups};
use crate::service::{Method, TestServer};

const REPLICAS: usize = 3;

fn session() -> Value {
    json!({"session_state": {"name": "envoy.http.stateful_session.cookie", "typed_config": {
        "@type": type_url("extensions.http.stateful_session.cookie.v3.CookieBasedSessionState"),
        "cookie": {"name": "psm_session", "ttl": "50s", "path": "/"}}}})
}

/// A filter chain whose filter for sessions says this.
fn chain(fields: &Value) -> Value {
    json!({"http_filters": [
        filter_with("stateful_session", "stateful_session.v3.StatefulSession", fields),
        filter("router", "router.v3.Router"),
    ]})
}

/// A session as a route says it.
fn by_route() -> Value {
    let mut route = mesh::rule(&json!({"prefix": ""}), "default", &json!({}));
    route["typed_per_filter_config"] = json!({"envoy.filters.http.stateful_session": {
        "@type": type_url("extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute"),
        "stateful_session": session()}});
    route
}

/// The service, whose draining endpoints still serve their sessions.
fn service() -> harness::control_plane::Resource {
    let statuses = json!({"statuses": ["UNKNOWN", "HEALTHY", "DRAINING"]});
    mesh::service(
        "default",
        &json!({"common_lb_config": {"override_host_status": statuses}}),
    )
}

async fn start(servers: &[TestServer], chain: &Value, rules: &[Value]) -> Result<Mesh> {
    let resources = vec![service(), mesh::servers("default", servers), mesh::routes(rules)];
    Mesh::start_with(resources, chain, &json!({})).await
}

fn unary() -> Rpc {
    Rpc::new(Method::UnaryCall)
}

/// A cookie, and the server that it stands for.
async fn cookie(mesh: &Mesh) -> Result<(String, String)> {
    let Answer {
        hostname,
        metadata,
        code,
        ..
    } = mesh.caller().call(&unary()).await;
    let said = metadata.get("set-cookie").and_then(|it| it.to_str().ok());
    let said = said.with_context(|| format!("no cookie in {metadata:?} ({code:?})"))?;
    let pair = said.split(';').next().unwrap_or_default();
    ensure!(pair.starts_with("psm_session="), "{said}");
    Ok((pair.to_owned(), hostname.context("nobody answered")?))
}

fn named<'s>(servers: &'s [TestServer], name: &str) -> Result<&'s TestServer> {
    servers
        .iter()
        .find(|it| it.hostname() == name)
        .context("another server answered")
}

/// Calls without a cookie go everywhere, and calls with one to its server.
async fn sticks(servers: &[TestServer], mesh: &Mesh) -> Result<()> {
    let caller = mesh.caller();
    caller.eventually_go_to(&unary(), servers).await?;
    let (cookie, chosen) = cookie(mesh).await?;
    let rpc = unary().with("cookie", &cookie);
    let tally = caller.send(&[rpc], 100).await;
    tally.all_ok()?;
    let hosts = tally.by_host(None);
    ensure!(
        hosts.len() == 1 && hosts.contains_key(&chosen),
        "{hosts:?}, not {chosen}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_session_affinity_policy() -> Result<()> {
    let servers = TestServer::several("server", REPLICAS).await?;
    let mesh = start(&servers, &chain(&json!({})), &[by_route()]).await?;
    sticks(&servers, &mesh).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_session_affinity_filter() -> Result<()> {
    let servers = TestServer::several("server", REPLICAS).await?;
    let mesh = start(&servers, &chain(&session()), &[]).await?;
    sticks(&servers, &mesh).await
}

/// The policy is attached to a route: calls of other routes have no session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_session_affinity_policy_with_route_target() -> Result<()> {
    let servers = TestServer::several("server", REPLICAS).await?;
    let mut of_unary = by_route();
    merge(&mut of_unary, &json!({"match": mesh::on(Method::UnaryCall)}));
    let mesh = start(&servers, &chain(&json!({})), &[of_unary]).await?;
    sticks(&servers, &mesh).await?;
    let (cookie, _) = cookie(&mesh).await?;
    let rpc = Rpc::new(Method::EmptyCall).with("cookie", &cookie);
    mesh.caller().eventually_go_to(&rpc, &servers).await
}

/// The policy is attached to a service: to each route that leads to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_session_affinity_policy_with_service_target() -> Result<()> {
    let servers = TestServer::several("server", REPLICAS).await?;
    let rules = [Method::UnaryCall, Method::EmptyCall].map(|method| {
        let mut rule = by_route();
        merge(&mut rule, &json!({"match": mesh::on(method)}));
        rule
    });
    let mesh = start(&servers, &chain(&json!({})), &rules).await?;
    sticks(&servers, &mesh).await?;
    let (cookie, chosen) = cookie(&mesh).await?;
    let rpc = Rpc::new(Method::EmptyCall).with("cookie", &cookie);
    mesh.caller()
        .eventually_go_to(&rpc, [named(&servers, &chosen)?])
        .await
}

/// The chosen server is draining: its sessions stay, new calls go elsewhere; when it is gone so are its sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_session_drain() -> Result<()> {
    let servers = TestServer::several("server", 4).await?;
    let mesh = start(&servers, &chain(&session()), &[]).await?;
    let caller = mesh.caller();
    caller.eventually_go_to(&unary(), &servers).await?;
    let (cookie_of_it, chosen) = cookie(&mesh).await?;
    let of_session = unary().with("cookie", &cookie_of_it);
    let draining = named(&servers, &chosen)?;
    caller.eventually_go_to(&of_session, [draining]).await?;

    let others: Vec<&TestServer> = servers.iter().filter(|it| it.hostname() != chosen).collect();
    let mut endpoints: Vec<Value> = others
        .iter()
        .map(|server| endpoint(server.address(), &json!({})))
        .collect();
    let gone = groups("default", &[group("a", 0, &endpoints)]);
    endpoints.push(endpoint(
        draining.address(),
        &json!({"health_status": "DRAINING"}),
    ));
    mesh.plane.put([groups("default", &[group("a", 0, &endpoints)])]);
    caller.eventually_go_to(&unary(), others.iter().copied()).await?;
    let tally = caller.send(std::slice::from_ref(&of_session), 100).await;
    tally.all_ok()?;
    let hosts = tally.by_host(None);
    ensure!(
        hosts.len() == 1 && hosts.contains_key(&chosen),
        "the session went to {hosts:?}"
    );

    mesh.plane.put([gone]);
    caller
        .eventually_go_to(&of_session, others.iter().copied())
        .await?;
    let (cookie_of_other, other) = cookie(&mesh).await?;
    ensure!(other != chosen, "who is gone was chosen");
    let of_other = unary().with("cookie", &cookie_of_other);
    caller
        .eventually_go_to(&of_other, [named(&servers, &other)?])
        .await
}
