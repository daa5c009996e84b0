//! Make before break in any order of arrival: routes that come before what they name, while requests are made.

use anyhow::{Result, ensure};
use harness::client::PATIENCE;
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource};
use harness::scripted::Variant;
use harness::upstream::Upstream;
use serde_json::json;

use crate::in_both_variants;
use crate::scene::{
    Scene, ads, eds_cluster, eds_cluster_from, endpoints, manager_listener, rds_listener, routes,
};

in_both_variants! {
    routes_wait_for_a_cluster_that_warms => waits_for_endpoints;
    inline_routes_wait_for_a_cluster_that_warms => listener_waits_for_endpoints;
    routes_do_not_wait_for_ever => waits_no_longer_than_the_cluster;
    a_newer_version_of_the_routes_replaces_the_one_that_waits => is_superseded;
    routes_that_come_before_the_clusters_of_a_new_stream_wait_for_them => waits_for_clusters;
}

/// Blue serves; green is announced and asked for, and its endpoints do not come.
async fn green_warms<V: Variant>(scene: &mut Scene<V>, blue: &Upstream, green: Resource) -> Result<()> {
    let nonces = scene.serve(&[blue]).await?;
    let clusters = [eds_cluster("blue"), green];
    scene.ads.serve(CLUSTER, "2", &clusters, &[]).await?;
    let change = V::change(
        ENDPOINT,
        ("1", &nonces[ENDPOINT]),
        &["blue", "green"],
        (&["green"], &[]),
    );
    scene.ads.expect_exactly(&change).await
}

/// The routes are acknowledged at once, and used when the endpoints are there.
async fn waits_for_endpoints<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    green_warms(&mut scene, &blue, eds_cluster("green")).await?;
    let traffic = scene.traffic();
    traffic.moves_to(PATIENCE, "blue").await?;
    scene
        .ads
        .serve(ROUTE, "2", &[routes("routes", "green")], &["routes"])
        .await?;
    traffic.moves_to(PATIENCE, "blue").await?;
    scene
        .ads
        .send(ENDPOINT, "2", &[endpoints(&blue), endpoints(&green)])?;
    traffic.moves_to(PATIENCE, "green").await?;
    traffic.stop_unharmed().await
}

/// The same for routes that stand in their listener.
async fn listener_waits_for_endpoints<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    green_warms(&mut scene, &blue, eds_cluster("green")).await?;
    let traffic = scene.traffic();
    traffic.moves_to(PATIENCE, "blue").await?;
    let inline = json!({"route_config": {"name": "inline", "virtual_hosts": [{"name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "green"}}]}]}});
    let listener = manager_listener("ingress", &scene.port, &inline);
    scene.ads.serve(LISTENER, "2", &[listener], &[]).await?;
    let warming = "envoy_listener_manager_total_listeners_warming";
    scene.process.wait_metric(warming, "", 1.0, PATIENCE).await?;
    traffic.moves_to(PATIENCE, "blue").await?;
    scene
        .ads
        .send(ENDPOINT, "2", &[endpoints(&blue), endpoints(&green)])?;
    traffic.moves_to(PATIENCE, "green").await?;
    traffic.stop_unharmed().await
}

/// A cluster whose endpoints do not come in time goes on without them, and so do the routes.
async fn waits_no_longer_than_the_cluster<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    let mut source = ads();
    source["initial_fetch_timeout"] = json!("2s");
    green_warms(&mut scene, &blue, eds_cluster_from("green", &source)).await?;
    scene
        .ads
        .serve(ROUTE, "2", &[routes("routes", "green")], &["routes"])
        .await?;
    scene.answers_with(503).await?;
    let warming = scene
        .process
        .metric("envoy_cluster_manager_warming_clusters", "")
        .await?;
    ensure!(warming == Some(0.0), "in use while {warming:?} clusters warm");
    Ok(())
}

/// What waits is given up for a version that has nothing to wait for.
async fn is_superseded<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    green_warms(&mut scene, &blue, eds_cluster("green")).await?;
    let traffic = scene.traffic();
    scene
        .ads
        .serve(ROUTE, "2", &[routes("routes", "green")], &["routes"])
        .await?;
    scene
        .ads
        .serve(ROUTE, "3", &[routes("routes", "blue")], &["routes"])
        .await?;
    scene
        .ads
        .send(ENDPOINT, "2", &[endpoints(&blue), endpoints(&green)])?;
    let warming = "envoy_cluster_manager_warming_clusters";
    scene
        .process
        .wait_metric_for(warming, "", PATIENCE, |count| count == 0.0)
        .await?;
    traffic.moves_to(PATIENCE, "blue").await?;
    let tally = traffic.tally();
    ensure!(
        !tally.by_upstream.contains_key("green"),
        "a version that was replaced is in use"
    );
    traffic.stop_unharmed().await
}

/// The server restarts with another world, and answers for routes and listeners first.
async fn waits_for_clusters<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue]).await?;
    let traffic = scene.traffic();
    traffic.moves_to(PATIENCE, "blue").await?;
    scene.reconnect().await?;
    scene
        .ads
        .send(LISTENER, "2", &[rds_listener("ingress", &scene.port)])?;
    scene.ads.send(ROUTE, "2", &[routes("routes", "green")])?;
    scene
        .ads
        .send(CLUSTER, "2", &[eds_cluster("blue"), eds_cluster("green")])?;
    let warming = "envoy_cluster_manager_warming_clusters";
    scene.process.wait_metric(warming, "", 1.0, PATIENCE).await?;
    traffic.moves_to(PATIENCE, "blue").await?;
    scene
        .ads
        .send(ENDPOINT, "2", &[endpoints(&blue), endpoints(&green)])?;
    traffic.moves_to(PATIENCE, "green").await?;
    traffic.stop_unharmed().await
}
