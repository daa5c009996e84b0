//! The same policies about the same connections beside Envoy: who gets to the server behind?

use anyhow::{Result, ensure};
use harness::bootstrap::{self, type_url};
use harness::client::timed;
use harness::peers;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::{TcpEcho, tcp_echo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn rules(action: &str, permission: Value, principal: Value) -> Value {
    json!({"rules": {"action": action, "policies": {"p": {"permissions": [permission], "principals": [principal]}}}})
}

fn action(action: &str) -> Value {
    json!({"action": {"name": "a", "typed_config": {
        "@type": type_url("config.rbac.v3.Action"), "name": action, "action": action}}})
}

fn tree(kind: &str, how: Value) -> Value {
    let kind = type_url(&format!("extensions.matching.common_inputs.{kind}"));
    let input = json!({"name": "i", "typed_config": {"@type": kind}});
    json!({"matcher": {
        "matcher_list": {"matchers": [{
            "predicate": {"single_predicate": {"input": input, "value_match": how}},
            "on_match": action("ALLOW")}]},
        "on_no_match": action("DENY")}})
}

/// Policies, and whether each lets a client of this machine through.
fn policies() -> Vec<(&'static str, Value, bool)> {
    let mut all = actions();
    all.extend(names());
    all.extend(trees());
    all
}

fn any() -> Value {
    json!({"any": true})
}

fn actions() -> Vec<(&'static str, Value, bool)> {
    let range = |address: &str, bits: u32| json!({"address_prefix": address, "prefix_len": bits});
    let (here, there) = (range("127.0.0.0", 8), range("10.0.0.0", 8));
    let who = |action: &str, principal: Value| rules(action, any(), principal);
    let what = |action: &str, permission: Value| rules(action, permission, any());
    let ports = json!({"destination_port_range": {"start": 1024, "end": 65536}});
    vec![
        ("nothing", json!({}), true),
        ("nobody", json!({"rules": {}}), false),
        ("everybody", who("ALLOW", any()), true),
        ("denied", who("DENY", any()), false),
        ("log", who("LOG", any()), true),
        ("source", who("ALLOW", json!({"source_ip": here})), true),
        (
            "not there",
            who("ALLOW", json!({"direct_remote_ip": there})),
            false,
        ),
        ("deny there", who("DENY", json!({"remote_ip": there})), true),
        (
            "destination",
            what("ALLOW", json!({"destination_ip": here})),
            true,
        ),
        ("port", what("DENY", json!({"destination_port": 1})), true),
        ("ports", what("ALLOW", ports), true),
    ]
}

fn names() -> Vec<(&'static str, Value, bool)> {
    let what = |permission: Value| rules("ALLOW", permission, any());
    let server_name = |how: Value| what(json!({ "requested_server_name": how }));
    let path = json!({"url_path": {"path": {"prefix": "/"}}});
    let verified = json!({"custom": {"name": "m", "typed_config": {
        "@type": type_url("extensions.rbac.principals.mtls_authenticated.v3.Config"),
        "any_validated_client_certificate": true}}});
    let authenticated = json!({"authenticated": {}});
    vec![
        ("no name", server_name(json!({"exact": ""})), true),
        ("a name", server_name(json!({"prefix": "a"})), false),
        ("a path", what(path), false),
        ("authenticated", rules("ALLOW", any(), authenticated), false),
        ("verified", rules("ALLOW", any(), verified), false),
    ]
}

fn trees() -> Vec<(&'static str, Value, bool)> {
    let source = tree("network.v3.SourceIPInput", json!({"exact": "127.0.0.1"}));
    let port = tree("network.v3.DestinationPortInput", json!({"exact": "1"}));
    let uri = tree("ssl.v3.UriSanInput", json!({"exact": ""}));
    let name = tree("network.v3.ServerNameInput", json!({"exact": "a"}));
    vec![
        ("tree source", source, true),
        ("tree port", port, false),
        ("tree uri", uri, false),
        ("tree name", name, false),
    ]
}

fn listener(policy: &Value, at: &Port) -> Value {
    let mut typed = json!({
        "@type": type_url("extensions.filters.network.rbac.v3.RBAC"), "stat_prefix": "guard"});
    bootstrap::merge(&mut typed, policy);
    let tunnel = bootstrap::tcp_proxy("echo");
    let name = format!("at-{}", at.number());
    let mut listener = bootstrap::listener(&name, at.address(), tunnel.clone());
    listener["filter_chains"][0]["filters"] = json!([{"name": "guard", "typed_config": typed}, tunnel]);
    listener
}

/// Whether a word comes back, by policy. Envoy judges at the first word.
async fn through(kind: Proxy, echo: &TcpEcho) -> Result<Vec<bool>> {
    let (admin, policies) = (Port::reserve()?, policies());
    let ports = policies
        .iter()
        .map(|_| Port::reserve())
        .collect::<Result<Vec<_>>>()?;
    let listeners = policies
        .iter()
        .zip(&ports)
        .map(|((_, policy, _), port)| listener(policy, port));
    let clusters = vec![bootstrap::cluster("echo", &[echo.address()])];
    let text = bootstrap::fixed(admin.address(), listeners.collect(), clusters).to_string();
    let _process = ProxyProcess::start(kind, &text, admin, &Options::default()).await?;
    let mut seen = Vec::new();
    for port in &ports {
        let mut stream = TcpStream::connect(port.address()).await?;
        // Refused clients may find the connection gone here already.
        let _ = stream.write_all(b"word").await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        timed(async {
            let _ = stream.read_to_end(&mut answer).await;
            Ok(())
        })
        .await?;
        seen.push(answer.ends_with(b"word"));
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_judged_as_envoy_judges_them() -> Result<()> {
    let echo = tcp_echo("echo").await?;
    let ours = through(Proxy::Remora, &echo).await?;
    for ((name, _, wanted), seen) in policies().iter().zip(&ours) {
        ensure!(wanted == seen, "'{name}' lets through: {seen}");
    }
    if let Err(missing) = peers::envoy() {
        return peers::skip("policies of connections beside Envoy", &missing);
    }
    let theirs = through(Proxy::Envoy, &echo).await?;
    for (((name, ..), ours), theirs) in policies().iter().zip(&ours).zip(&theirs) {
        ensure!(ours == theirs, "'{name}' in Envoy lets through: {theirs}");
    }
    Ok(())
}
