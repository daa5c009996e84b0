//! `custom_lb_test`: of the policies of a service the first one that is known is taken. There that is one of the test's
//! own; here it is a ring, which shows in that a key keeps its server.

use anyhow::{Result, ensure};
use harness::bootstrap::type_url;
use serde_json::json;

use crate::caller::Rpc;
use crate::mesh::{self, Mesh};
use crate::service::{Method, TestServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_custom_lb_config() -> Result<()> {
    let servers = TestServer::several("server", 3).await?;
    let unknown = json!({"name": "test.ThisLoadBalancerDoesNotExist", "typed_config": {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": "type.googleapis.com/test.ThisLoadBalancerDoesNotExist", "value": {"foo": "bar"}}});
    let ring = json!({"name": "ring", "typed_config": {
        "@type": type_url("extensions.load_balancing_policies.ring_hash.v3.RingHash")}});
    let robin = json!({"name": "robin", "typed_config": {
        "@type": type_url("extensions.load_balancing_policies.round_robin.v3.RoundRobin")}});
    let policies = [unknown, ring, robin].map(|policy| json!({"typed_extension_config": policy}));
    let by_header = json!({"hash_policy": [{"header": {"header_name": "key"}}]});
    let mesh = Mesh::start(vec![
        mesh::service(
            "default",
            &json!({"load_balancing_policy": {"policies": policies}}),
        ),
        mesh::servers("default", &servers),
        mesh::routes(&[mesh::rule(&json!({"prefix": ""}), "default", &by_header)]),
    ])
    .await?;
    let caller = mesh.caller();
    let mut peers = std::collections::BTreeSet::new();
    for key in 0..20 {
        let rpc = Rpc::new(Method::UnaryCall).with("key", &format!("k{key}"));
        let tally = caller.send(&[rpc], 10).await;
        tally.all_ok()?;
        let hosts = tally.by_host(None);
        ensure!(hosts.len() == 1, "one key goes to {hosts:?}");
        peers.extend(hosts.into_keys());
    }
    ensure!(peers.len() == 3, "twenty keys reach only {peers:?}");
    Ok(())
}
