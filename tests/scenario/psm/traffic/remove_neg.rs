//! `remove_neg_test`: of two groups of endpoints in one service one is removed, then it returns and the other one goes.

use anyhow::Result;
use harness::control_plane::Resource;
use serde_json::json;

use crate::caller::{Background, Rpc};
use crate::mesh::{self, Mesh, endpoint, group, groups};
use crate::service::{Method, TestServer};

/// The service with these groups; each has a server.
fn with(members: &[&TestServer]) -> Resource {
    let of = |server: &&TestServer| group(server.hostname(), 0, &[endpoint(server.address(), &json!({}))]);
    groups("default", &members.iter().map(of).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_remove_neg() -> Result<()> {
    let (main, alternate) = (
        TestServer::start("main").await?,
        TestServer::start("alternate").await?,
    );
    let mesh = Mesh::start(vec![
        mesh::service("default", &json!({})),
        with(&[&main, &alternate]),
        mesh::routes(&[]),
    ])
    .await?;
    let (rpc, caller) = (Rpc::new(Method::UnaryCall), mesh.caller());
    let background = Background::start(mesh.port.address(), &rpc);
    caller.eventually_go_to(&rpc, [&main, &alternate]).await?;
    mesh.plane.put([with(&[&main])]);
    caller.eventually_go_to(&rpc, [&main]).await?;
    mesh.plane.put([with(&[&main, &alternate])]);
    caller.eventually_go_to(&rpc, [&main, &alternate]).await?;
    mesh.plane.put([with(&[&alternate])]);
    caller.eventually_go_to(&rpc, [&alternate]).await?;
    // Calls that were under way at a server when it was removed have ended there.
    background.stop().await?.all_ok()
}
