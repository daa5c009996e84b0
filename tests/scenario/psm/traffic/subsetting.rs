//! `subsetting_test`: of eight servers each client gets four, not all of them the same ones (gRFC A68). There
//! the control plane hands out the parts; here it says how large one is, and each client finds its own.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use harness::bootstrap::type_url;
use serde_json::json;

use crate::caller::Rpc;
use crate::mesh::{self, Mesh};
use crate::service::{Method, TestServer};

const SUBSET_SIZE: usize = 4;
const BACKENDS: usize = 8;
/// Three there.
const CLIENTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_subsetting_basic() -> Result<()> {
    let servers = TestServer::several("server", BACKENDS).await?;
    let robin = json!({"typed_extension_config": {"name": "robin", "typed_config": {
        "@type": type_url("extensions.load_balancing_policies.round_robin.v3.RoundRobin")}}});
    let subsetting = json!({"typed_extension_config": {"name": "subsetting", "typed_config": {
        "@type": type_url("extensions.load_balancing_policies.random_subsetting.v3.RandomSubsetting"),
        "subset_size": SUBSET_SIZE, "child_policy": {"policies": [robin]}}}});
    let policy = json!({"load_balancing_policy": {"policies": [subsetting]}});
    let mut all = BTreeMap::new();
    // That all get the same four by chance: once in 70 * 70 * 70.
    for _ in 0..CLIENTS {
        let mesh = Mesh::start(vec![
            mesh::service("default", &policy),
            mesh::servers("default", &servers),
            mesh::routes(&[]),
        ])
        .await?;
        let tally = mesh
            .caller()
            .send(&[Rpc::new(Method::UnaryCall)], BACKENDS * 25)
            .await;
        tally.all_ok()?;
        let hosts = tally.by_host(None);
        ensure!(hosts.len() == SUBSET_SIZE, "one client reaches {hosts:?}");
        for (host, count) in hosts {
            *all.entry(host).or_insert(0) += count;
        }
    }
    ensure!(
        all.len() > SUBSET_SIZE,
        "all clients have the same servers: {all:?}"
    );
    Ok(())
}
