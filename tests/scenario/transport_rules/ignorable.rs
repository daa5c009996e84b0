//! What of the API beside LDS, CDS, RDS, EDS and SDS does not stop the proxy: RTDS, LRS, ECDS, VHDS, `xdstp://`?

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, merge, type_url};
use harness::client::PATIENCE;
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use harness::scripted::Variant;
use harness::upstream::Upstream;
use serde_json::json;

use crate::scene::{Scene, ads, api, endpoints_of, manager_listener, resource};
use crate::{in_both_variants, in_each_variant};

in_each_variant! {
    w8_what_is_taken_back_stays_where_that_is_wanted => keeps_what_is_taken_back;
    runtime_discovery_and_load_reports_in_the_bootstrap_are_ignored => ignores_runtime_and_load_reports;
}

in_both_variants! {
    a_filter_by_discovery_is_skipped_where_it_is_optional => skips_discovered_filters;
    virtual_hosts_by_discovery_are_left_out => leaves_discovered_hosts_out;
    n1_names_that_look_like_uris_are_names => takes_names_as_they_are;
}

/// RTDS and LRS: nobody is asked, and nothing waits for them.
async fn ignores_runtime_and_load_reports<V: Variant>() -> Result<()> {
    let mut scene = Scene::<V>::start_with(|bootstrap| {
        merge(
            bootstrap,
            &json!({
                "layered_runtime": {"layers": [
                    {"name": "static", "static_layer": {"some.flag": true}},
                    {"name": "dynamic", "rtds_layer": {"name": "runtime", "rtds_config": ads()}},
                    {"name": "admin", "admin_layer": {}}]},
                "cluster_manager": {"load_stats_config": api::<V>("control_plane")},
            }),
        );
    })
    .await?;
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    scene.ads.serve(CLUSTER, "1", &[], &[]).await?;
    scene.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    scene.ads.serve(LISTENER, "1", &[], &[]).await?;
    scene.process.wait_ready(PATIENCE).await?;
    ensure!(scene.plane.dialled().len() == 1, "{:?}", scene.plane.dialled());
    Ok(())
}

/// ECDS: `is_optional` says that who cannot have the filter may go on without.
async fn skips_discovered_filters<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let listener = |optional: bool| {
        let discovered = json!({"name": "discovered", "is_optional": optional, "config_discovery": {
            "config_source": ads(), "type_urls": [type_url("extensions.filters.http.fault.v3.HTTPFault")]}});
        let router = json!({"name": "envoy.filters.http.router", "typed_config": {
            "@type": type_url("extensions.filters.http.router.v3.Router")}});
        let fields = json!({"http_filters": [discovered, router], "route_config": {"name": "direct",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]}});
        manager_listener("ingress", &scene.port, &fields)
    };
    let (needed, optional) = (listener(false), listener(true));
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    scene.ads.serve(CLUSTER, "1", &[], &[]).await?;
    scene.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    scene.ads.send(LISTENER, "1", &[needed])?;
    let refused = scene.ads.expect(LISTENER).await?;
    let words = V::error(&refused).context("a filter that is needed was left out")?;
    ensure!(words.message.contains("config_discovery"), "{}", words.message);
    scene.ads.serve(LISTENER, "2", &[optional], &[]).await?;
    scene.process.wait_ready(PATIENCE).await?;
    scene.answers_with(200).await
}

/// VHDS: hosts that come on demand are not asked for; those that the table has are served.
async fn leaves_discovered_hosts_out<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue]).await?;
    let mut table = bootstrap::route_everything("routes", "blue");
    table["vhds"] = json!({"config_source": ads()});
    scene
        .ads
        .serve(ROUTE, "2", &[resource(ROUTE, &table)], &["routes"])
        .await?;
    // The table is in use: what it routes to moves with its endpoints.
    scene
        .ads
        .serve(ENDPOINT, "2", &[endpoints_of("blue", &green)], &["blue"])
        .await?;
    scene.answers_from("green").await
}

/// W8: by default what is taken back goes (W5); with `--ignore-resource-deletion` it stays, and the answer is an ACK.
async fn keeps_what_is_taken_back<V: Variant>() -> Result<()> {
    let mut scene = Scene::<V>::start_as(|_| (), &["--ignore-resource-deletion"]).await?;
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    for (kind, name) in [(CLUSTER, "blue"), (LISTENER, "ingress")] {
        let nonce = scene.ads.send_with_removals(kind, "2", &[], &[name])?;
        scene.ads.expect_exactly(&V::ack(kind, "2", &nonce, &[])).await?;
    }
    scene.answers_from("blue").await
}

/// N1: `xdstp://` has no meaning here, and does no harm.
async fn takes_names_as_they_are<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let upstream = Upstream::start("one").await?;
    let cluster = "xdstp://authority/envoy.config.cluster.v3.Cluster/one?env=prod&cell=eu";
    let service = "xdstp://authority/envoy.config.endpoint.v3.ClusterLoadAssignment/one";
    let eds = json!({"service_name": service, "eds_config": ads()});
    let body = json!({"name": cluster, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": eds});
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    scene
        .ads
        .serve(CLUSTER, "1", &[resource(CLUSTER, &body)], &[])
        .await?;
    scene.ads.expect_exactly(&V::first(ENDPOINT, &[service])).await?;
    let assignment = endpoints_of(service, &upstream);
    scene.ads.serve(ENDPOINT, "1", &[assignment], &[service]).await?;
    scene.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    let to_it = json!({"route_config": bootstrap::route_everything("inline", cluster)});
    let listener = manager_listener("ingress", &scene.port, &to_it);
    scene.ads.serve(LISTENER, "1", &[listener], &[]).await?;
    scene.answers_from("one").await
}
