//! W9: how long does a resource live that says how long it lives?

use std::time::Duration;

use anyhow::Result;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource as Living,
};
use envoy_types::pb::google::protobuf::Any;
use harness::control_plane::{CLUSTER, Resource};
use harness::scripted::{Delta, Sotw, Variant};
use harness::upstream::Upstream;
use prost::Message;
use tokio::time::{Instant, sleep_until};

use crate::in_both_variants;
use crate::scene::{Scene, eds_cluster};

const LIFE: Duration = Duration::from_secs(4);

in_both_variants! {
    w9_a_resource_that_nobody_confirms_expires => expires;
}

/// How the variants write a resource with a time to live; without a body it is a heartbeat.
trait Mortal: Variant {
    fn mortal(version: &str, nonce: &str, resource: Living) -> Self::Response;
}

impl Mortal for Delta {
    fn mortal(version: &str, nonce: &str, resource: Living) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse {
            system_version_info: version.to_owned(),
            resources: vec![resource],
            type_url: CLUSTER.to_owned(),
            nonce: nonce.to_owned(),
            ..DeltaDiscoveryResponse::default()
        }
    }
}

impl Mortal for Sotw {
    fn mortal(version: &str, nonce: &str, resource: Living) -> DiscoveryResponse {
        let wrapped = Any {
            type_url: "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned(),
            value: resource.encode_to_vec(),
        };
        DiscoveryResponse {
            version_info: version.to_owned(),
            resources: vec![wrapped],
            type_url: CLUSTER.to_owned(),
            nonce: nonce.to_owned(),
            ..DiscoveryResponse::default()
        }
    }
}

/// Says that a cluster lives from now on for [`LIFE`], and takes the ACK.
async fn live<V: Mortal>(scene: &mut Scene<V>, cluster: &str, body: Option<Resource>) -> Result<()> {
    let nonce = scene.ads.new_nonce();
    let living = Living {
        name: cluster.to_owned(),
        version: "2".to_owned(),
        resource: body.map(|resource| resource.body),
        ttl: Some(envoy_types::pb::google::protobuf::Duration {
            seconds: LIFE.as_secs().cast_signed(),
            nanos: 0,
        }),
        ..Living::default()
    };
    scene.ads.say(&V::mortal("2", &nonce, living))?;
    scene.ads.expect_exactly(&V::ack(CLUSTER, "2", &nonce, &[])).await
}

/// A heartbeat in the middle of its life gives it a whole one; then it goes.
async fn expires<V: Mortal>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    let begun = Instant::now();
    live(&mut scene, "blue", Some(eds_cluster("blue"))).await?;
    sleep_until(begun + LIFE / 2).await;
    live(&mut scene, "blue", None).await?;
    // Past its first life, and well before the end of its second.
    sleep_until(begun + LIFE + LIFE / 10).await;
    scene.answers_from("blue").await?;
    scene.answers_with(503).await
}
