//! The client status discovery service on the admin port, asked by tonic's client.

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::admin::v3::ClientResourceStatus as Status;
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use envoy_types::pb::envoy::service::status::v3::{ClientStatusRequest, ClientStatusResponse};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};
use harness::control_plane::{CLUSTER, SECRET};
use harness::process::Proxy;
use serde_json::json;

use super::Scene;

/// Requests that mean a node with this id.
fn of_node(id: &str) -> ClientStatusRequest {
    let id = StringMatcher {
        match_pattern: Some(MatchPattern::Exact(id.into())),
        ..StringMatcher::default()
    };
    ClientStatusRequest {
        node_matchers: vec![NodeMatcher {
            node_id: Some(id),
            node_metadatas: Vec::new(),
        }],
        ..ClientStatusRequest::default()
    }
}

fn named<'r>(response: &'r ClientStatusResponse, type_url: &str, name: &str) -> Result<&'r GenericXdsConfig> {
    let config = response.config.first().context("no client")?;
    let mut all = config.generic_xds_configs.iter();
    all.find(|config| config.type_url == type_url && config.name == name)
        .with_context(|| format!("no {name} in {config:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_resource_says_its_state_over_grpc() -> Result<()> {
    for proxy in Proxy::under_test("introspection: client status")? {
        // Envoy has no such service: its admin port answers 404.
        if proxy != Proxy::Remora {
            continue;
        }
        let scene = Scene::new().await?;
        let process = scene.start(proxy).await?;
        scene.control_plane.put([
            scene.cluster("late")?,
            scene.reader.json(
                CLUSTER,
                &json!({"name": "safe", "type": "STATIC", "connect_timeout": "-1s"}),
            )?,
        ]);
        scene.control_plane.wait_nack(CLUSTER).await?;
        let mut client =
            ClientStatusDiscoveryServiceClient::connect(format!("http://{}", process.admin())).await?;
        let answer = client
            .fetch_client_status(ClientStatusRequest::default())
            .await?
            .into_inner();
        ensure!(
            answer.config[0]
                .node
                .as_ref()
                .is_some_and(|node| node.id == "test")
        );
        let safe = named(&answer, CLUSTER, "safe")?;
        ensure!(safe.client_status() == Status::Nacked, "{safe:#?}");
        ensure!(safe.version_info == "1" && safe.xds_config.is_some(), "{safe:#?}");
        let error = safe.error_state.as_ref().context("no error_state")?;
        ensure!(
            error.details.contains("connect_timeout") && error.version_info == "2",
            "{error:#?}"
        );
        let fixed = named(&answer, CLUSTER, "control_plane")?;
        ensure!(fixed.is_static_resource, "{fixed:#?}");
        ensure!(named(&answer, CLUSTER, "late")?.client_status() == Status::Acked);
        let eds = harness::control_plane::ENDPOINT;
        let late = named(&answer, eds, "late")?;
        ensure!(
            matches!(late.client_status(), Status::Requested | Status::DoesNotExist)
                && late.xds_config.is_none(),
            "{late:#?}"
        );
        ensure!(named(&answer, eds, "shop")?.client_status() == Status::Acked);
        let own = named(&answer, SECRET, "own")?;
        let shown =
            String::from_utf8_lossy(&own.xds_config.as_ref().context("no secret")?.value).into_owned();
        let inside_of_key = scene.key.lines().nth(1).context("a key has lines")?;
        ensure!(
            shown.contains("[redacted]") && !shown.contains(inside_of_key),
            "{shown}"
        );

        one_answer_for_each_request(&mut client).await?;
        ensure!(
            process.admin_text("/ready").await? == "LIVE\n",
            "HTTP/1 on the same port"
        );
    }
    Ok(())
}

/// Also for a request that means another node: an answer without a client.
async fn one_answer_for_each_request(
    client: &mut ClientStatusDiscoveryServiceClient<tonic::transport::Channel>,
) -> Result<()> {
    let requests = vec![of_node("test"), of_node("another")];
    let stream = client.stream_client_status(tokio_stream::iter(requests)).await?;
    let mut answers = stream.into_inner();
    let first = answers.message().await?.context("no first answer")?;
    let second = answers.message().await?.context("no second answer")?;
    ensure!(first.config.len() == 1 && second.config.is_empty(), "{second:#?}");
    ensure!(answers.message().await?.is_none(), "more answers than requests");
    Ok(())
}
