//! `round_robin_test`: two servers, a hundred calls, fifty each give or take one.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::caller::Rpc;
use crate::mesh::{self, Mesh};
use crate::service::{Method, TestServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_round_robin() -> Result<()> {
    let servers = TestServer::several("server", 2).await?;
    let mesh = Mesh::start(vec![
        mesh::service("default", &json!({})),
        mesh::servers("default", &servers),
        mesh::routes(&[]),
    ])
    .await?;
    let tally = mesh.caller().send(&[Rpc::new(Method::UnaryCall)], 100).await;
    tally.all_ok()?;
    let hosts = tally.by_host(None);
    ensure!(hosts.len() == 2, "{hosts:?}");
    ensure!(hosts.values().all(|count| count.abs_diff(50) <= 1), "{hosts:?}");
    Ok(())
}
