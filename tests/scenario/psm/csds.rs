//! `url_map/csds_test`: every resource that was taken is to be seen in the client status discovery service.

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::admin::v3::ClientResourceStatus as Status;
use envoy_types::pb::envoy::service::status::v3::ClientStatusRequest;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

use super::caller::Rpc;
use super::service::BOTH;
use super::url_map::UrlMap;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_basic_csds() -> Result<()> {
    let map = UrlMap::start(&[]).await?;
    let rpcs = BOTH.map(Rpc::new);
    map.mesh.caller().send(&rpcs, 50).await.all_ok()?;

    let admin = map.mesh.process.admin();
    let mut client = ClientStatusDiscoveryServiceClient::connect(format!("http://{admin}")).await?;
    let answer = client
        .fetch_client_status(ClientStatusRequest::default())
        .await?
        .into_inner();
    let config = answer.config.first().context("no client")?;
    ensure!(
        config.node.as_ref().is_some_and(|node| node.id == "test"),
        "{:?}",
        config.node
    );
    for (type_url, name) in [
        (LISTENER, "psm.test:8080"),
        (ROUTE, "url-map"),
        (CLUSTER, "default"),
        (ENDPOINT, "default"),
    ] {
        let mut all = config.generic_xds_configs.iter();
        let found = all.find(|it| it.type_url == type_url && it.name == name);
        let found = found.with_context(|| format!("{name} of {type_url} is not there"))?;
        ensure!(
            found.client_status() == Status::Acked && found.xds_config.is_some(),
            "{found:#?}"
        );
        ensure!(
            !found.version_info.is_empty() && found.last_updated.is_some(),
            "{found:#?}"
        );
    }
    Ok(())
}
