//! S1, S3, S4, S6: which streams are opened, who introduces itself on them, and how is everything asked for?

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::config::core::v3::{BuildVersion, Locality, Node};
use envoy_types::pb::envoy::r#type::v3::SemanticVersion;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value as Said};
use harness::bootstrap::{self, merge};
use harness::client::PATIENCE;
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use harness::process::Port;
use harness::scripted::{ScriptedPlane, Variant, path};
use harness::upstream::Upstream;
use serde_json::json;

use crate::in_each_variant;
use crate::scene::{
    Scene, api, eds_cluster, eds_cluster_from, endpoints, rds_listener_from, routes, spawn, wait_answer,
};

in_each_variant! {
    s1_without_ads_each_type_has_its_own_stream_and_method => a_stream_per_type;
    s3_the_first_message_of_each_stream_names_the_node => introduces_itself;
    s4_the_node_is_what_the_bootstrap_says => tells_its_node;
    s6_everything_is_asked_for_by_no_names_at_all => asks_for_everything;
}

/// S1: `api_config_source` dials the method of the type; responses there may leave the type out.
async fn a_stream_per_type<V: Variant>() -> Result<()> {
    let plane = ScriptedPlane::tcp().await?;
    let (blue, port) = (Upstream::start("blue").await?, Port::reserve()?);
    let source = json!({"api_config_source": api::<V>("control_plane"), "resource_api_version": "V3"});
    let mut process = spawn(&mut json!({
        "node": {"id": "test", "cluster": "test"},
        "dynamic_resources": {"lds_config": source, "cds_config": source},
        "static_resources": {"clusters": [bootstrap::http2_cluster("control_plane", &[plane.address()])]},
    }))?;
    let mut clusters = plane.open::<V>(CLUSTER).await?;
    clusters.expect_introduction(&V::first(CLUSTER, &[])).await?;
    let nonce = clusters.new_nonce();
    clusters.say(&V::response(
        "",
        "1",
        &nonce,
        &[eds_cluster_from("blue", &source)],
        &[],
    ))?;
    clusters
        .expect_exactly(&V::ack(CLUSTER, "1", &nonce, &[]))
        .await?;
    let mut assignments = plane.open::<V>(ENDPOINT).await?;
    assignments
        .expect_introduction(&V::first(ENDPOINT, &["blue"]))
        .await?;
    assignments
        .serve(ENDPOINT, "1", &[endpoints(&blue)], &["blue"])
        .await?;
    let mut listeners = plane.open::<V>(LISTENER).await?;
    listeners.expect_introduction(&V::first(LISTENER, &[])).await?;
    let ingress = rds_listener_from("ingress", &port, &source);
    listeners.serve(LISTENER, "1", &[ingress], &[]).await?;
    let mut tables = plane.open::<V>(ROUTE).await?;
    tables.expect_introduction(&V::first(ROUTE, &["routes"])).await?;
    tables
        .serve(ROUTE, "1", &[routes("routes", "blue")], &["routes"])
        .await?;
    process.wait_ready(PATIENCE).await?;
    wait_answer(&port, |answer| answer.text().contains("\"blue\"")).await?;
    let methods = [CLUSTER, ENDPOINT, LISTENER, ROUTE].map(path::<V>);
    let methods = methods.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(plane.dialled() == methods, "{:?}", plane.dialled());
    Ok(())
}

/// S3: with `set_node_on_first_message_only` and without (the protocol wants the node in the first message only), and
/// again on every new stream, the same.
async fn introduces_itself<V: Variant>() -> Result<()> {
    for only_first in [true, false] {
        let set = json!({"set_node_on_first_message_only": only_first});
        let mut scene = Scene::<V>::start_with(|bootstrap| {
            merge(&mut bootstrap["dynamic_resources"]["ads_config"], &set);
        })
        .await?;
        let blue = Upstream::start("blue").await?;
        // `serve` wants a node in the first request and none in any other.
        scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
        scene.ads.serve(CLUSTER, "1", &[eds_cluster("blue")], &[]).await?;
        scene.ads.expect_exactly(&V::first(ENDPOINT, &["blue"])).await?;
        scene
            .ads
            .serve(ENDPOINT, "1", &[endpoints(&blue)], &["blue"])
            .await?;
        scene.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
        scene.reconnect().await?;
        let node = V::take_node(&mut scene.ads.next().await?).context("a new stream without a node")?;
        ensure!(node.id == "test", "{node:?}");
        for _ in 0..2 {
            let mut request = scene.ads.next().await?;
            ensure!(
                V::take_node(&mut request).is_none(),
                "the node again: {request:?}"
            );
        }
    }
    Ok(())
}

/// S4: golden of the node: everything of the bootstrap verbatim, the user agent ours.
async fn tells_its_node<V: Variant>() -> Result<()> {
    let mut scene = Scene::<V>::start_with(|bootstrap| {
        bootstrap["node"] = json!({
            "id": "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local", "cluster": "web.default",
            "locality": {"region": "eu", "zone": "eu-1", "sub_zone": "rack"},
            "metadata": {"LABELS": {"app": "web"}, "PORTS": [80.0, true, null]},
        });
    })
    .await?;
    let node = scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    let value = |kind| Said { kind: Some(kind) };
    let object = |name: &str, value| Struct {
        fields: [(name.to_owned(), value)].into(),
    };
    let ports = [Kind::NumberValue(80.0), Kind::BoolValue(true), Kind::NullValue(0)].map(value);
    let labels = object("app", value(Kind::StringValue("web".to_owned())));
    let mut metadata = object("LABELS", value(Kind::StructValue(labels)));
    let list = ListValue { values: ports.into() };
    metadata
        .fields
        .insert("PORTS".to_owned(), value(Kind::ListValue(list)));
    let part = |text: &str| text.parse::<u32>();
    let version = SemanticVersion {
        major_number: part(env!("CARGO_PKG_VERSION_MAJOR"))?,
        minor_number: part(env!("CARGO_PKG_VERSION_MINOR"))?,
        patch: part(env!("CARGO_PKG_VERSION_PATCH"))?,
    };
    let golden = Node {
        id: "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local".to_owned(),
        cluster: "web.default".to_owned(),
        metadata: Some(metadata),
        locality: Some(Locality {
            region: "eu".to_owned(),
            zone: "eu-1".to_owned(),
            sub_zone: "rack".to_owned(),
        }),
        user_agent_name: "remora".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
            version: Some(version),
            metadata: None,
        })),
        ..Node::default()
    };
    ensure!(node == golden, "expected\n{golden:#?}\nfound\n{node:#?}");
    Ok(())
}

/// S6: never `*`, never names, not after changes and not on the next stream: where an empty list means "nothing" after
/// names were given, there must never have been any.
async fn asks_for_everything<V: Variant>() -> Result<()> {
    let mut scene = Scene::<V>::start().await?;
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue]).await?;
    let both = [eds_cluster("blue"), eds_cluster("green")];
    scene.ads.serve(CLUSTER, "2", &both, &[]).await?;
    scene.ads.expect(ENDPOINT).await?;
    let all = [endpoints(&blue), endpoints(&green)];
    scene.ads.serve(ENDPOINT, "2", &all, &["blue", "green"]).await?;
    let nonce = scene
        .ads
        .send_with_removals(CLUSTER, "3", &both[..1], &["green"])?;
    scene
        .ads
        .expect_exactly(&V::ack(CLUSTER, "3", &nonce, &[]))
        .await?;
    scene.reconnect().await?;
    for type_url in [CLUSTER, LISTENER] {
        let request = scene.ads.expect(type_url).await?;
        ensure!(V::names(&request).is_empty(), "{request:?}");
    }
    scene.answers_from("blue").await
}
