//! A7, A8: what is refused for what it means: extensions that nobody knows, and values that are not allowed.

use anyhow::{Context, Result, ensure};
use harness::bootstrap::type_url;
use harness::client::PATIENCE;
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource};
use harness::scripted::Variant;
use harness::upstream::Upstream;
use serde_json::{Value, json};

use crate::in_both_variants;
use crate::scene::{Scene, ads, direct_listener, eds_cluster, manager_listener, resource};

in_both_variants! {
    a7_an_unknown_extension_is_refused_by_its_name_and_type => refuses_unknown_extensions;
    a7_an_optional_unknown_extension_is_skipped => skips_optional_extensions;
    a8_values_that_the_api_forbids_are_refused => refuses_forbidden_values;
}

/// A `TypedStruct` around a type.
fn typed_struct(package: &str, inner: &str) -> Value {
    json!({"@type": format!("type.googleapis.com/{package}.TypedStruct"), "type_url": inner, "value": {}})
}

fn with_filters(scene_port: &harness::process::Port, filters: &[Value]) -> Resource {
    let mut all = filters.to_vec();
    all.push(json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": type_url("extensions.filters.http.router.v3.Router")}}));
    let fields = json!({"http_filters": all, "route_config": {"name": "direct", "virtual_hosts": [
        {"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]}});
    manager_listener("ingress", scene_port, &fields)
}

/// Brings the proxy to its listeners.
async fn to_listeners<V: Variant>(scene: &mut Scene<V>) -> Result<()> {
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    scene.ads.serve(CLUSTER, "1", &[], &[]).await?;
    scene.ads.expect_exactly(&V::first(LISTENER, &[])).await
}

/// A7: told with the words of Envoy; a `TypedStruct` is looked into.
async fn refuses_unknown_extensions<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    to_listeners(&mut scene).await?;
    let unknown = "type.googleapis.com/no.such.Filter";
    let cases = [
        json!({"@type": type_url("config.core.v3.Node"), "id": "no filter"}),
        typed_struct("udpa.type.v1", unknown),
        typed_struct("xds.type.v3", unknown),
    ];
    for (case, inner) in cases
        .iter()
        .zip(["envoy.config.core.v3.Node", "no.such.Filter", "no.such.Filter"])
    {
        let filter = json!({"name": "nope", "typed_config": case});
        let nonce = scene
            .ads
            .send(LISTENER, "1", &[with_filters(&scene.port, &[filter])])?;
        let request = scene.ads.expect(LISTENER).await?;
        let words = V::error(&request).context("not refused")?.message.clone();
        ensure!(
            request == V::nack(LISTENER, "", &nonce, &[], &words),
            "{request:?}"
        );
        let expected = "Didn't find a registered implementation for 'nope' with type URL: ";
        ensure!(
            words.contains("ingress: ") && words.contains(expected) && words.contains(inner),
            "{words}"
        );
    }
    Ok(())
}

/// A7: `is_optional` on the filter, and a `TypedStruct` around what is known.
async fn skips_optional_extensions<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    to_listeners(&mut scene).await?;
    let optional = json!({"name": "nope", "is_optional": true,
        "typed_config": typed_struct("xds.type.v3", "type.googleapis.com/no.such.Filter")});
    let known = json!({"name": "health", "typed_config":
        typed_struct("udpa.type.v1", "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig")});
    let listener = with_filters(&scene.port, &[optional, known]);
    scene.ads.serve(LISTENER, "1", &[listener], &[]).await?;
    scene.process.wait_ready(PATIENCE).await?;
    scene.answers_with(200).await
}

/// The last good version with one thing wrong in it.
fn forbidden(port: &harness::process::Port) -> Vec<(&'static str, Resource)> {
    let cluster = |wrong: Value| {
        let mut cluster = json!({"name": "blue", "type": "EDS", "eds_cluster_config": {"eds_config": ads()}});
        harness::bootstrap::merge(&mut cluster, &wrong);
        (CLUSTER, resource(CLUSTER, &cluster))
    };
    let assignment = |endpoints: Value| {
        let assignment = json!({"cluster_name": "blue", "endpoints": [endpoints]});
        (ENDPOINT, resource(ENDPOINT, &assignment))
    };
    let route = |virtual_host: Value| {
        let table = json!({"name": "routes", "virtual_hosts": [virtual_host]});
        (ROUTE, resource(ROUTE, &table))
    };
    let at = |port: u32| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let one = |routes: Value| json!({"name": "all", "domains": ["*"], "routes": [routes]});
    vec![
        cluster(json!({"connect_timeout": "0s"})),
        cluster(json!({"lb_policy": 99})),
        cluster(json!({"type": 99})),
        assignment(json!({"lb_endpoints": [{"endpoint": {"address": at(70_000)}}]})),
        assignment(json!({"lb_endpoints": [{"endpoint": {"address": at(80)}, "load_balancing_weight": 0}]})),
        assignment(json!({"priority": 129, "lb_endpoints": [{"endpoint": {"address": at(80)}}]})),
        route(json!({"name": "all", "domains": [], "routes": []})),
        route(json!({"name": "", "domains": ["*"], "routes": []})),
        route(one(json!({"match": {}, "route": {"cluster": "blue"}}))),
        route(one(json!({"match": {"prefix": "/"}}))),
        route(one(json!({"match": {"prefix": "/"}, "route": {}}))),
        route(one(
            json!({"match": {"prefix": "/"}, "direct_response": {"status": 99}}),
        )),
        (
            LISTENER,
            manager_listener("ingress", port, &json!({"stat_prefix": ""})),
        ),
        (
            LISTENER,
            manager_listener("ingress", port, &json!({"codec_type": 99})),
        ),
    ]
}

/// A8: the annotations of the API that decide where bytes go; each one refused by the name of its resource, and the
/// good version serves through all of it.
async fn refuses_forbidden_values<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    for (at, (type_url, bad)) in forbidden(&scene.port).into_iter().enumerate() {
        let nonce = scene
            .ads
            .send(type_url, &format!("bad-{at}"), std::slice::from_ref(&bad))?;
        let request = scene.ads.expect(type_url).await?;
        ensure!(V::nonce(&request) == nonce, "{request:?}");
        let words = V::error(&request).with_context(|| format!("case {at} was taken: {bad:?}"))?;
        ensure!(words.message.contains(&bad.name), "{}", words.message);
    }
    scene.answers_from("blue").await?;
    scene.ads.serve(CLUSTER, "2", &[eds_cluster("blue")], &[]).await?;
    let direct = direct_listener("ingress", &scene.port);
    scene.ads.serve(LISTENER, "2", &[direct], &[]).await?;
    Ok(())
}
