//! `change_backend_service_test`: the routes name another service; all calls move, and none fails.

use anyhow::Result;
use serde_json::json;

use crate::caller::{Background, Rpc};
use crate::mesh::{self, rule};
use crate::service::Method;
use crate::url_map::{ALTERNATIVE, UrlMap};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_change_backend_service() -> Result<()> {
    let map = UrlMap::start(&[]).await?;
    let rpc = Rpc::new(Method::UnaryCall);
    let background = Background::start(map.mesh.port.address(), &rpc);
    map.mesh.caller().eventually_go_to(&rpc, [&map.default]).await?;

    let all = rule(&json!({"prefix": ""}), ALTERNATIVE, &json!({}));
    map.mesh.plane.put([mesh::routes(&[all])]);
    map.mesh
        .caller()
        .eventually_go_to(&rpc, [&map.alternative])
        .await?;
    background.stop().await?.all_ok()
}
