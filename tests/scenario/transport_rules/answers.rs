//! A1 to A6, A9 to A11: how is every response answered, and what becomes of what was wrong in it?

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::service::discovery::v3::{Resource as Wrapper, ResourceError, ResourceName};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status;
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource};
use harness::scripted::{Conversation, Delta, Sotw, Variant};
use harness::upstream::Upstream;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::json;

use crate::scene::{
    Scene, bad_cluster, direct_listener, eds_cluster, eds_cluster_from, endpoints, endpoints_of,
    manager_listener, resource, routes,
};
use crate::{in_both_variants, is_runnable};

const WITHIN: Duration = Duration::from_secs(20);

in_both_variants! {
    a1_each_response_is_answered_once_with_its_nonce => answers_each_once;
    a2_the_newest_nonce_is_echoed_also_by_changes => echoes_the_newest_nonce;
    a3_the_good_resources_of_a_refused_response_apply => the_good_apply;
    a3_a_bad_update_leaves_the_last_good_version => the_last_good_version_stays;
    a4_a_name_that_stands_twice_refuses_the_whole_response => refuses_duplicates;
    a5_what_cannot_be_read_is_named_and_the_rest_applies => names_what_cannot_be_read;
    a6_an_unknown_field_is_no_reason_to_refuse => takes_unknown_fields;
    a9_a_refusal_never_wedges_the_type => goes_on_after_a_refusal;
    a10_a_response_is_acknowledged_before_its_clusters_are_warm => acknowledges_before_warm;
}

/// The NACK of a response: which names and what was accepted before, and its words.
fn refusal<V: Variant>(request: &V::Request, version: &str, nonce: &str, names: &[&str]) -> Result<String> {
    let error = V::error(request).context("not a refusal")?.message.clone();
    let type_url = V::type_url(request).to_owned();
    ensure!(
        *request == V::nack(&type_url, version, nonce, names, &error),
        "{request:#?}"
    );
    Ok(error)
}

/// A1: for every type in turn, accepted, refused, refused again, accepted: one request each, and the version is the
/// last accepted one.
async fn answers_each_once<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    let no_match = json!({"name": "routes", "virtual_hosts": [
        {"name": "all", "domains": ["*"], "routes": [{"route": {"cluster": "blue"}}]}]});
    let no_address = json!({"cluster_name": "blue", "endpoints": [{"lb_endpoints": [{"endpoint": {}}]}]});
    let no_routes = manager_listener("ingress", &scene.port, &json!({}));
    let direct = direct_listener("ingress", &scene.port);
    let cases: [(&str, Resource, Resource, &[&str]); 4] = [
        (
            ROUTE,
            resource(ROUTE, &no_match),
            routes("routes", "blue"),
            &["routes"],
        ),
        (
            ENDPOINT,
            resource(ENDPOINT, &no_address),
            endpoints(&blue),
            &["blue"],
        ),
        (LISTENER, no_routes, direct, &[]),
        (CLUSTER, bad_cluster("blue"), eds_cluster("blue"), &[]),
    ];
    for (type_url, bad, good, names) in cases {
        for bad_version in ["2", "3"] {
            let nonce = scene
                .ads
                .send(type_url, bad_version, std::slice::from_ref(&bad))?;
            let words = refusal::<V>(&scene.ads.expect(type_url).await?, "1", &nonce, names)?;
            ensure!(words.contains(&bad.name), "{words}");
        }
        let good = [good];
        scene.ads.serve(type_url, "4", &good, names).await?;
        scene.ads.serve(type_url, "5", &good, names).await?;
        ensure!(
            scene.ads.unasked(type_url)?.is_empty(),
            "answered twice: {type_url}"
        );
    }
    Ok(())
}

/// A2: a change of interest races with a push of the same type; no request carries an older nonce than one before it,
/// and the last word carries the newest. A new stream starts without a nonce.
async fn echoes_the_newest_nonce<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    let nonces = scene.serve(&[&blue]).await?;
    scene
        .ads
        .send(CLUSTER, "2", &[eds_cluster("blue"), eds_cluster("green")])?;
    let second = scene.ads.send(ENDPOINT, "2", &[endpoints(&blue)])?;
    let third = scene.ads.send(ENDPOINT, "3", &[endpoints(&blue)])?;
    let known = [nonces[ENDPOINT].clone(), second, third.clone()];
    let mut at = 0;
    let mut asked = false;
    while !(asked && at == 2) {
        let request = scene.ads.expect(ENDPOINT).await?;
        asked |= V::names(&request).iter().any(|name| name == "green");
        if !V::nonce(&request).is_empty() {
            let position = known.iter().position(|nonce| nonce == V::nonce(&request));
            let position = position.with_context(|| format!("whose nonce? {request:?}"))?;
            ensure!(position >= at, "{request:?} after {}", known[at]);
            at = position;
        }
    }
    let all = [endpoints(&blue), endpoints(&green)];
    scene.ads.serve(ENDPOINT, "4", &all, &["blue", "green"]).await?;
    scene.reconnect().await?;
    for type_url in [CLUSTER, ENDPOINT, LISTENER, ROUTE] {
        let request = scene.ads.expect(type_url).await?;
        ensure!(V::nonce(&request).is_empty(), "{request:?}");
    }
    Ok(())
}

/// A3: {good, bad}: the good one is asked for on; the NACK names the bad one only.
async fn the_good_apply<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let good = Upstream::start("good").await?;
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    let nonce = scene.ads.send(
        CLUSTER,
        "1",
        &[eds_cluster("good"), bad_cluster("bad"), bad_cluster("worse")],
    )?;
    let words = refusal::<V>(&scene.ads.expect(CLUSTER).await?, "", &nonce, &[])?;
    ensure!(
        words.contains("bad: ") && words.contains("worse: ") && !words.contains("good"),
        "{words}"
    );
    scene.ads.expect_exactly(&V::first(ENDPOINT, &["good"])).await?;
    scene
        .ads
        .serve(ENDPOINT, "1", &[endpoints(&good)], &["good"])
        .await?;
    Ok(())
}

/// A3: what was good before a bad update serves on, and what is new beside it applies; for clusters and listeners.
async fn the_last_good_version_stays<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue]).await?;
    let nonce = scene
        .ads
        .send(CLUSTER, "2", &[bad_cluster("blue"), eds_cluster("green")])?;
    let words = refusal::<V>(&scene.ads.expect(CLUSTER).await?, "1", &nonce, &[])?;
    ensure!(words.contains("blue: ") && !words.contains("green"), "{words}");
    scene.ads.expect(ENDPOINT).await?;
    let all = [endpoints(&blue), endpoints(&green)];
    scene.ads.serve(ENDPOINT, "2", &all, &["blue", "green"]).await?;
    ensure!(scene.answers_now().await? == 200);
    let no_routes = manager_listener("ingress", &scene.port, &json!({}));
    let nonce = scene.ads.send(LISTENER, "2", &[no_routes])?;
    refusal::<V>(&scene.ads.expect(LISTENER).await?, "1", &nonce, &[])?;
    ensure!(scene.answers_now().await? == 200);
    scene
        .ads
        .serve(ROUTE, "2", &[routes("routes", "green")], &["routes"])
        .await?;
    scene.answers_from("green").await
}

/// A4: nothing of a response in which a name stands twice is taken, not even what stands once.
async fn refuses_duplicates<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    let twice = [eds_cluster("twice"), eds_cluster("once"), eds_cluster("twice")];
    let nonce = scene.ads.send(CLUSTER, "1", &twice)?;
    let words = refusal::<V>(&scene.ads.expect(CLUSTER).await?, "", &nonce, &[])?;
    ensure!(words.contains("twice: ") && !words.contains("once: "), "{words}");
    scene.ads.serve(CLUSTER, "2", &[eds_cluster("good")], &[]).await?;
    scene.ads.expect_exactly(&V::first(ENDPOINT, &["good"])).await
}

/// A5: bytes that are no cluster, and a listener among clusters. In state of the world the first has no name, so that
/// nothing can be said to be absent: what was there stays.
async fn names_what_cannot_be_read<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue]).await?;
    let mut garbage = eds_cluster("garbage");
    garbage.body.value = b"\x0a\xff\xff".to_vec();
    let listener = direct_listener("stray", &scene.port);
    let nonce = scene
        .ads
        .send(CLUSTER, "2", &[garbage, listener, eds_cluster("green")])?;
    let words = refusal::<V>(&scene.ads.expect(CLUSTER).await?, "1", &nonce, &[])?;
    ensure!(
        (words.contains("#0") || words.contains("garbage"))
            && (words.contains("#1") || words.contains("stray")),
        "{words}"
    );
    ensure!(words.contains(LISTENER) && words.contains(CLUSTER), "{words}");
    scene.ads.expect(ENDPOINT).await?;
    let all = [endpoints(&blue), endpoints(&green)];
    scene.ads.serve(ENDPOINT, "2", &all, &["blue", "green"]).await?;
    scene.answers_from("blue").await
}

/// A5: state of the world may wrap its resources in `envoy.service.discovery.v3.Resource`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_wrapped_resources_are_unwrapped_in_state_of_the_world() -> Result<()> {
    if !is_runnable("a5 wrapped")? {
        return Ok(());
    }
    let mut scene = Scene::<Sotw>::start().await?;
    let blue = Upstream::start("blue").await?;
    let wrapped = |resource: Resource| {
        let wrapper = Wrapper {
            name: resource.name.clone(),
            version: "of its own".to_owned(),
            resource: Some(resource.body),
            ..Wrapper::default()
        };
        let body = Any {
            type_url: "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned(),
            value: wrapper.encode_to_vec(),
        };
        Resource {
            name: resource.name,
            body,
        }
    };
    scene.ads.expect_introduction(&Sotw::first(CLUSTER, &[])).await?;
    let clusters = [wrapped(eds_cluster("blue"))];
    scene.ads.serve(CLUSTER, "1", &clusters, &[]).await?;
    scene
        .ads
        .expect_exactly(&Sotw::first(ENDPOINT, &["blue"]))
        .await?;
    let assignments = [wrapped(endpoints(&blue))];
    scene.ads.serve(ENDPOINT, "1", &assignments, &["blue"]).await?;
    scene.ads.expect_exactly(&Sotw::first(LISTENER, &[])).await
}

/// A6: a field that no version of the API has.
async fn takes_unknown_fields<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let mut newer = eds_cluster("newer");
    encode_key(536_870_911, WireType::Varint, &mut newer.body.value);
    encode_varint(1, &mut newer.body.value);
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    scene.ads.serve(CLUSTER, "1", &[newer], &[]).await?;
    scene.ads.expect_exactly(&V::first(ENDPOINT, &["newer"])).await
}

/// A9, regression of another proxy's bug: after a rejected cluster, CDS goes on, nothing is left warming, and the next
/// stream asks for clusters.
async fn goes_on_after_a_refusal<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue]).await?;
    let nonce = scene
        .ads
        .send(CLUSTER, "2", &[bad_cluster("blue"), bad_cluster("bad")])?;
    refusal::<V>(&scene.ads.expect(CLUSTER).await?, "1", &nonce, &[])?;
    let both = [eds_cluster("blue"), eds_cluster("green")];
    scene.ads.serve(CLUSTER, "3", &both, &[]).await?;
    scene.ads.expect(ENDPOINT).await?;
    let all = [endpoints(&blue), endpoints(&green)];
    scene.ads.serve(ENDPOINT, "3", &all, &["blue", "green"]).await?;
    scene
        .ads
        .serve(ROUTE, "3", &[routes("routes", "green")], &["routes"])
        .await?;
    scene.answers_from("green").await?;
    let name = "envoy_cluster_manager_warming_clusters";
    ensure!(
        scene.process.metric(name, "").await? == Some(0.0),
        "something is left warming"
    );
    scene.reconnect().await?;
    scene.ads.expect(CLUSTER).await?;
    let both = [eds_cluster("blue"), bad_cluster("green")];
    let nonce = scene.ads.send(CLUSTER, "4", &both)?;
    refusal::<V>(&scene.ads.expect(CLUSTER).await?, "3", &nonce, &[])?;
    scene.answers_from("green").await
}

/// A10: the ACK does not wait for endpoints; that the cluster is warming can be seen elsewhere.
async fn acknowledges_before_warm<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue]).await?;
    let both = [eds_cluster("blue"), eds_cluster("green")];
    scene.ads.serve(CLUSTER, "2", &both, &[]).await?;
    let name = "envoy_cluster_manager_warming_clusters";
    scene.process.wait_metric(name, "", 1.0, WITHIN).await?;
    scene.ads.serve(CLUSTER, "3", &both, &[]).await?;
    scene.ads.expect(ENDPOINT).await?;
    let all = [endpoints(&blue), endpoints(&green)];
    scene.ads.serve(ENDPOINT, "2", &all, &["blue", "green"]).await?;
    scene
        .ads
        .serve(ROUTE, "2", &[routes("routes", "green")], &["routes"])
        .await?;
    scene.answers_from("green").await?;
    ensure!(
        scene.process.metric(name, "").await? == Some(0.0),
        "still warming"
    );
    Ok(())
}

/// A response that says of resources why they are not in it.
trait WithErrors: Variant {
    fn add_errors(response: &mut Self::Response, errors: Vec<ResourceError>);
}

impl WithErrors for Sotw {
    fn add_errors(response: &mut Self::Response, errors: Vec<ResourceError>) {
        response.resource_errors = errors;
    }
}

impl WithErrors for Delta {
    fn add_errors(response: &mut Self::Response, errors: Vec<ResourceError>) {
        response.resource_errors = errors;
    }
}

fn says_why<V: WithErrors>(
    ads: &mut Conversation<V>,
    version: &str,
    name: &str,
    code: i32,
) -> Result<String> {
    let nonce = ads.new_nonce();
    let mut response = V::response(ENDPOINT, version, &nonce, &[], &[]);
    let error = ResourceError {
        resource_name: Some(ResourceName {
            name: name.to_owned(),
            ..ResourceName::default()
        }),
        error_detail: Some(Status {
            code,
            message: "because".to_owned(),
            details: Vec::new(),
        }),
    };
    V::add_errors(&mut response, vec![error]);
    ads.say(&response)?;
    Ok(nonce)
}

/// A11: NOT_FOUND ends the waiting for a cluster that would wait for ever; the resource may come later all the same.
/// A passing error takes nothing away.
async fn takes_errors_in<V: WithErrors>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    let for_ever = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    let clusters = [eds_cluster_from("blue", &for_ever)];
    scene.ads.serve(CLUSTER, "1", &clusters, &[]).await?;
    scene.ads.expect_exactly(&V::first(ENDPOINT, &["blue"])).await?;
    let nonce = says_why(&mut scene.ads, "1", "blue", 5)?;
    scene
        .ads
        .expect_exactly(&V::ack(ENDPOINT, "1", &nonce, &["blue"]))
        .await?;
    scene.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    let to_blue = json!({"route_config": harness::bootstrap::route_everything("inline", "blue")});
    let listener = manager_listener("ingress", &scene.port, &to_blue);
    scene.ads.serve(LISTENER, "1", &[listener], &[]).await?;
    scene.answers_with(503).await?;
    scene
        .ads
        .serve(ENDPOINT, "2", &[endpoints_of("blue", &blue)], &["blue"])
        .await?;
    scene.answers_from("blue").await?;
    let nonce = says_why(&mut scene.ads, "3", "blue", 14)?;
    scene
        .ads
        .expect_exactly(&V::ack(ENDPOINT, "3", &nonce, &["blue"]))
        .await?;
    ensure!(scene.answers_now().await? == 200);
    Ok(())
}

in_both_variants! {
    a11_errors_about_resources_are_taken_in => takes_errors_in;
}
