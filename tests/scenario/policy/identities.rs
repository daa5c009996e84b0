//! The same policies about the same certificates beside Envoy: who is let in?

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, type_url};
use harness::certificates::{Authority, Leaf, LeafRequest};
use harness::client::RawClient;
use harness::peers;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::tls;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// What Envoy lets in and we do not: a client without a certificate counts as authenticated there.
const STRICTER: [(&str, &str); 2] = [("authenticated", "nobody"), ("any name", "nobody")];

fn policies() -> Vec<(&'static str, Value)> {
    let named = |how: Value| json!({"authenticated": {"principal_name": how}});
    let mutual = |config: Value| {
        let mut typed = json!({"@type": type_url("extensions.rbac.principals.mtls_authenticated.v3.Config")});
        bootstrap::merge(&mut typed, &config);
        json!({"custom": {"name": "mtls", "typed_config": typed}})
    };
    let san = |kind: &str, how: Value| mutual(json!({"san_matcher": {"san_type": kind, "matcher": how}}));
    let principals = vec![
        ("authenticated", json!({"authenticated": {}})),
        ("any name", named(json!({"safe_regex": {"regex": ".*"}}))),
        ("some name", named(json!({"safe_regex": {"regex": ".+"}}))),
        ("uri", named(json!({"exact": "spiffe://mesh.test/ns/a/sa/web"}))),
        ("uri prefix", named(json!({"prefix": "spiffe://mesh.test/ns/a/"}))),
        ("uri suffix", named(json!({"suffix": "/sa/web"}))),
        ("dns", named(json!({"exact": "db.test"}))),
        ("second dns", named(json!({"exact": "replica.db.test"}))),
        ("subject", named(json!({"contains": "rcgen"}))),
        (
            "not named",
            json!({"not_id": named(json!({"prefix": "spiffe://"}))}),
        ),
        (
            "verified",
            mutual(json!({"any_validated_client_certificate": true})),
        ),
        (
            "verified uri",
            san("URI", json!({"prefix": "spiffe://mesh.test/ns/b/"})),
        ),
        ("verified dns", san("DNS", json!({"suffix": ".db.test"}))),
        ("verified other kind", san("DNS", json!({"prefix": "spiffe://"}))),
        ("server name", json!({"not_id": {"any": true}})),
    ];
    let rules = |principal: &Value, permission: &Value| json!({"rules": {"policies": {"p": {"permissions": [permission], "principals": [principal]}}}});
    let mut all: Vec<(&str, Value)> = principals[..14]
        .iter()
        .map(|(name, principal)| (*name, rules(principal, &json!({"any": true}))))
        .collect();
    let sni = json!({"requested_server_name": {"exact": "server.test"}});
    all.push(("server name", rules(&json!({"any": true}), &sni)));
    all.extend(trees());
    all
}

fn trees() -> Vec<(&'static str, Value)> {
    let tree = |input: &str, how: Value| {
        let input = json!({"name": "i", "typed_config": {
            "@type": type_url(&format!("extensions.matching.common_inputs.{input}"))}});
        let action = |name: &str, action: &str| {
            json!({"action": {"name": "a", "typed_config": {
                "@type": type_url("config.rbac.v3.Action"), "name": name, "action": action}}})
        };
        json!({"matcher": {
            "matcher_list": {"matchers": [{
                "predicate": {"single_predicate": {"input": input, "value_match": how}},
                "on_match": action("in", "ALLOW")}]},
            "on_no_match": action("out", "DENY")}})
    };
    vec![
        (
            "tree uri",
            tree(
                "ssl.v3.UriSanInput",
                json!({"exact": "spiffe://mesh.test/ns/a/sa/web"}),
            ),
        ),
        (
            "tree uri prefix",
            tree("ssl.v3.UriSanInput", json!({"prefix": "spiffe://mesh.test/"})),
        ),
        (
            "tree dns",
            tree("ssl.v3.DnsSanInput", json!({"exact": "db.test,replica.db.test"})),
        ),
        (
            "tree one dns",
            tree("ssl.v3.DnsSanInput", json!({"exact": "db.test"})),
        ),
        (
            "tree subject",
            tree("ssl.v3.SubjectInput", json!({"contains": "rcgen"})),
        ),
        (
            "tree server name",
            tree("network.v3.ServerNameInput", json!({"exact": "server.test"})),
        ),
    ]
}

/// Clients by name; nobody shows no certificate.
fn clients(authority: &Authority) -> Result<Vec<(&'static str, Option<Leaf>)>> {
    let dns = LeafRequest {
        dns_names: vec!["db.test".into(), "replica.db.test".into()],
        ..LeafRequest::default()
    };
    Ok(vec![
        ("web", Some(authority.spiffe("spiffe://mesh.test/ns/a/sa/web")?)),
        ("other", Some(authority.spiffe("spiffe://mesh.test/ns/b/sa/web")?)),
        ("db", Some(authority.leaf(&dns)?)),
        ("nameless", Some(authority.leaf(&LeafRequest::default())?)),
        ("nobody", None),
    ])
}

fn listener(at: &Port, authority: &Authority, server: &Leaf) -> Value {
    let mut routes = Vec::new();
    for (name, policy) in policies() {
        let mut typed = json!({"@type": type_url("extensions.filters.http.rbac.v3.RBACPerRoute")});
        typed["rbac"] = policy;
        routes.push(json!({
            "match": {"path": format!("/{}", name.replace(' ', "-"))},
            "direct_response": {"status": 200, "body": {"inline_string": name}},
            "typed_per_filter_config": {"policy": typed}}));
    }
    let manager = bootstrap::http_connection_manager(&json!({
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "policy", "typed_config": {"@type": type_url("extensions.filters.http.rbac.v3.RBAC")}},
            {"name": "router", "typed_config": {"@type": type_url("extensions.filters.http.router.v3.Router")}}]}));
    let mut listener = bootstrap::listener("ingress", at.address(), manager);
    listener["listener_filters"] = json!([{"name": "tls", "typed_config": {
        "@type": type_url("extensions.filters.listener.tls_inspector.v3.TlsInspector")}}]);
    listener["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": false,
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": {"inline_string": server.certificate_pem},
                    "private_key": {"inline_string": server.key_pem}}],
                "validation_context": {"trusted_ca": {"inline_string": authority.pem()}}}}});
    listener
}

/// Statuses by policy and client.
async fn asked(
    kind: Proxy,
    authority: &Authority,
    clients: &[(&'static str, Option<Leaf>)],
) -> Result<Vec<(&'static str, &'static str, u16)>> {
    let server = authority.spiffe("spiffe://mesh.test/ns/a/sa/server")?;
    let (port, admin) = (Port::reserve()?, Port::reserve()?);
    let text = bootstrap::fixed(admin.address(), vec![listener(&port, authority, &server)], vec![]);
    let _process = ProxyProcess::start(kind, &text.to_string(), admin, &Options::default()).await?;
    let mut seen = Vec::new();
    for (name, leaf) in clients {
        let config = tls::client_config(authority, leaf.as_ref(), &[])?;
        let stream = TcpStream::connect(port.address()).await?;
        let mut client = RawClient::over(tls::connect(config, "server.test", stream).await?);
        for (policy, _) in policies() {
            let path = policy.replace(' ', "-");
            let request = format!("GET /{path} HTTP/1.1\r\nhost: a.test\r\n\r\n");
            let answer = client.exchange(request.as_bytes()).await;
            let answer = answer.with_context(|| format!("{policy} for {name} in {}", kind.name()))?;
            seen.push((policy, *name, answer.status()));
        }
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_certificates_are_judged_as_envoy_judges_them() -> Result<()> {
    let authority = Authority::new("mesh root")?;
    let clients = clients(&authority)?;
    let ours = asked(Proxy::Remora, &authority, &clients).await?;
    let status = |policy: &str, client: &str| {
        let found = ours.iter().find(|(p, c, _)| (*p, *c) == (policy, client));
        found.map_or(0, |(.., status)| *status)
    };
    ensure!(status("uri", "web") == 200 && status("uri", "other") == 403);
    ensure!(status("dns", "db") == 200 && status("verified", "nobody") == 403);
    for (policy, client) in STRICTER {
        ensure!(status(policy, client) == 403, "{policy} lets {client} in");
    }
    if let Err(missing) = peers::envoy() {
        return peers::skip("policies by certificate beside Envoy", &missing);
    }
    let theirs = asked(Proxy::Envoy, &authority, &clients).await?;
    for (one, other) in theirs.iter().zip(&ours) {
        if STRICTER.contains(&(one.0, one.1)) {
            ensure!(one.2 == 200, "Envoy says {one:?} now: no difference any more");
        } else {
            ensure!(one == other, "Envoy: {one:?}, tested: {other:?}");
        }
    }
    Ok(())
}
