//! `outlier_detection_test`: of five servers one fails, and is ejected by its success rate until it works again.

use anyhow::Result;
use serde_json::json;

use crate::caller::Rpc;
use crate::mesh::{self, Mesh};
use crate::service::{Method, TestServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_outlier_detection() -> Result<()> {
    let servers = TestServer::several("server", 5).await?;
    // gRPC counts no failures in a row; half of the servers is what Traffic Director lets be ejected where nothing is said.
    let detection = json!({"outlier_detection": {"interval": "2s", "base_ejection_time": "2s",
        "max_ejection_percent": 50, "success_rate_request_volume": 20, "enforcing_consecutive_5xx": 0}});
    let mesh = Mesh::start(vec![
        mesh::service("default", &detection),
        mesh::servers("default", &servers),
        mesh::routes(&[]),
    ])
    .await?;
    let (caller, unharmed) = (mesh.caller(), Rpc::new(Method::UnaryCall));
    caller.eventually_go_to(&unharmed, &servers).await?;

    let failing = Rpc::new(Method::UnaryCall).behaving("hostname=server-0 error-code-2");
    caller.eventually_go_to(&failing, &servers[1..]).await?;
    caller.eventually_go_to(&unharmed, &servers).await
}
