//! `authz_test`: rules over hosts, ports, a header and the client's identity, that allow or deny.
//!
//! The rules are those of the test there, as the control plane puts them into the filter `rbac` of the server's Remora.

use anyhow::{Result, ensure};
use harness::certificates::Authority;
use serde_json::{Value, json};
use tonic::Code;

use super::{CLIENT, Pair, Policy};
use crate::caller::Rpc;
use crate::mesh::{filter, filter_with};
use crate::service::BOTH;

/// Calls of each method for each expectation.
const RPCS: usize = 5;
/// What the clients ask for.
const HOST: &str = "psm.test:8080";
const STRANGER: &str = "spiffe://psm.test/not/the/client";

fn any_of(name: &str, rules: Vec<Value>) -> Value {
    json!({name: {if name == "or_rules" { "rules" } else { "ids" }: rules}})
}

/// A destination: one of the hosts (all of a port with `*:`), one of the ports, and the header `test`.
fn destination(hosts: &[&str], ports: &[u16], value: &str) -> Value {
    let host = |host: &&str| {
        let matcher = match host.strip_prefix('*') {
            Some(end) => json!({"suffix": end}),
            None => json!({"exact": host}),
        };
        json!({"header": {"name": ":authority", "string_match": matcher}})
    };
    let port = |port: &u16| json!({"destination_port": port});
    let header = json!({"header": {"name": "test", "string_match": {"safe_regex": {"regex": value}}}});
    json!({"and_rules": {"rules": [
        any_of("or_rules", hosts.iter().map(host).collect()),
        any_of("or_rules", ports.iter().map(port).collect()),
        header,
    ]}})
}

fn rule(permissions: Vec<Value>, principals: Vec<Value>) -> Value {
    json!({"permissions": permissions, "principals": principals})
}

fn anybody() -> Vec<Value> {
    vec![json!({"any": true})]
}

fn named(matcher: Value) -> Value {
    json!({"authenticated": {"principal_name": matcher}})
}

/// The rules of the test; `own` is the port of the server.
fn rules(own: u16) -> Value {
    let all = &["*:8080"][..];
    json!({
        "host-wildcard": rule(vec![destination(all, &[own], "host-wildcard")], anybody()),
        "header-regex": rule(vec![destination(all, &[own], "header-regex-a+")], anybody()),
        "host-match": rule(vec![
            destination(&[HOST], &[own], "host-match1"),
            destination(&["a-not-it.com:8080", HOST, "z-not-it.com:1"], &[1, own, 65535], "host-match2"),
        ], anybody()),
        "never-match-host":
            rule(vec![destination(&["not-the-host:8080", "not-the-host"], &[own], "never-match-host")], anybody()),
        "never-match-port": rule(vec![destination(all, &[1], "never-match-port")], anybody()),
        "principal-present": rule(
            vec![destination(all, &[own], "principal-present")],
            vec![named(json!({"safe_regex": {"regex": ".+"}}))],
        ),
        "match-principal": rule(
            vec![destination(all, &[own], "match-principal")],
            vec![named(json!({"exact": STRANGER})), any_of("or_ids", vec![
                named(json!({"exact": STRANGER})), named(json!({"exact": CLIENT}))])],
        ),
        "never-match-principal": rule(
            vec![destination(all, &[own], "never-match-principal")],
            vec![named(json!({"exact": STRANGER}))],
        ),
    })
}

async fn start(action: &str, policy: Policy) -> Result<Pair> {
    let authority = Authority::new("psm")?;
    let chain = |own: u16| {
        let rbac = json!({"rules": {"action": action, "policies": rules(own)}});
        json!({"http_filters": [filter_with("rbac", "rbac.v3.RBAC", &rbac), filter("router", "router.v3.Router")]})
    };
    Pair::start_with(&policy, &authority, &authority, chain).await
}

/// Every call with this value of the header ends with this status.
async fn ends_with(pair: &Pair, expected: &[(Option<&str>, Code)]) -> Result<()> {
    let caller = pair.client.caller();
    for (value, code) in expected {
        let rpcs = BOTH.map(|method| match value {
            Some(value) => Rpc::new(method).with("test", value),
            None => Rpc::new(method),
        });
        let tally = caller.send(&rpcs, RPCS).await;
        let other = tally.0.iter().find(|answer| answer.code != *code);
        ensure!(other.is_none(), "{value:?} should end with {code:?}: {other:?}");
    }
    Ok(())
}

const DENIED: Code = Code::PermissionDenied;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_plaintext_allow() -> Result<()> {
    let pair = start("ALLOW", Policy::new([false; 4])).await?;
    let expected = [
        (Some("host-wildcard"), Code::Ok),
        (Some("no-such-rule"), DENIED),
        (None, DENIED),
        (Some("header-regex-a"), Code::Ok),
        (Some("header-regex-aa"), Code::Ok),
        (Some("header-regex-"), DENIED),
        (Some("header-regex-ab"), DENIED),
        (Some("aheader-regex-a"), DENIED),
        (Some("host-match1"), Code::Ok),
        (Some("host-match2"), Code::Ok),
        (Some("never-match-host"), DENIED),
        (Some("never-match-port"), DENIED),
        (Some("principal-present"), DENIED),
    ];
    ends_with(&pair, &expected).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_tls_allow() -> Result<()> {
    let pair = start("ALLOW", Policy::new([true, false, true, false])).await?;
    let expected = [
        (Some("host-wildcard"), Code::Ok),
        (None, DENIED),
        (Some("principal-present"), DENIED),
    ];
    ends_with(&pair, &expected).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_mtls_allow() -> Result<()> {
    let pair = start("ALLOW", Policy::new([true; 4])).await?;
    let expected = [
        (Some("host-wildcard"), Code::Ok),
        (None, DENIED),
        (Some("principal-present"), Code::Ok),
        (Some("match-principal"), Code::Ok),
        (Some("never-match-principal"), DENIED),
    ];
    ends_with(&pair, &expected).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_plaintext_deny() -> Result<()> {
    let pair = start("DENY", Policy::new([false; 4])).await?;
    ends_with(&pair, &[(Some("host-wildcard"), DENIED), (None, Code::Ok)]).await?;
    // What was denied never came to the application.
    let calls = pair.application.seen().calls;
    ensure!(calls.len() == RPCS * BOTH.len(), "{} calls", calls.len());
    Ok(())
}
