//! `failover_test`: three servers of the first priority, one of the second; the control plane tells of their health.

use anyhow::Result;
use harness::control_plane::Resource;
use serde_json::{Value, json};

use crate::caller::Rpc;
use crate::mesh::{self, Mesh, endpoint, group, groups_with};
use crate::service::{Method, TestServer};

/// The service in which the first `ill` servers of the first priority are not healthy.
fn with(primary: &[TestServer], secondary: &TestServer, ill: usize) -> Resource {
    let first: Vec<Value> = primary
        .iter()
        .enumerate()
        .map(|(number, server)| {
            let health = if number < ill { "UNHEALTHY" } else { "HEALTHY" };
            endpoint(server.address(), &json!({"health_status": health}))
        })
        .collect();
    let second = [endpoint(
        secondary.address(),
        &json!({"health_status": "HEALTHY"}),
    )];
    let parts = [group("near", 0, &first), group("far", 1, &second)];
    // Half of the servers can carry it all, as the test there expects it.
    groups_with(
        "default",
        &parts,
        &json!({"policy": {"overprovisioning_factor": 200}}),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_failover() -> Result<()> {
    let primary = TestServer::several("primary", 3).await?;
    let secondary = TestServer::start("secondary").await?;
    let mesh = Mesh::start(vec![
        mesh::service("default", &json!({})),
        with(&primary, &secondary, 0),
        mesh::routes(&[]),
    ])
    .await?;
    let (rpc, caller) = (Rpc::new(Method::UnaryCall), mesh.caller());
    caller.eventually_go_to(&rpc, &primary).await?;
    // Two of three can carry it all. With one of three two thirds stay, and the rest fails over gently.
    // When all are ill, everything goes to the second, and comes back with them.
    for (ill, expected) in [
        (1, primary[1..].iter().collect::<Vec<_>>()),
        (2, primary[2..].iter().chain([&secondary]).collect()),
        (3, vec![&secondary]),
        (0, primary.iter().collect()),
    ] {
        mesh.plane.put([with(&primary, &secondary, ill)]);
        caller.eventually_go_to(&rpc, expected).await?;
    }
    Ok(())
}
