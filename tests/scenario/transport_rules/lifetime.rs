//! W1 to W10: when does what the control plane said begin to serve, what serves meanwhile, and when is it gone?

mod expiry;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::bootstrap;
use harness::client::{Http2Client, PATIENCE, RawClient};
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource};
use harness::process::Port;
use harness::scripted::{Delta, Variant};
use harness::upstream::Upstream;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::scene::{Scene, ads, eds_cluster, endpoints, endpoints_of, resource, routes};
use crate::{in_both_variants, is_runnable};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";

in_both_variants! {
    w1_a_route_to_an_unknown_cluster_answers_503_until_it_comes => routes_come_first;
    w2_the_old_version_serves_while_the_new_one_warms => the_old_cluster_serves;
    w3_a_changed_cluster_waits_for_no_new_assignment => takes_the_assignment_that_it_has;
    w4_the_old_listener_serves_while_the_new_one_waits_for_its_routes => the_old_listener_serves;
    w4_a_connection_outlives_a_change_of_another_chain => outlives_another_chain;
    w5_what_is_left_out_is_gone_where_all_is_said_and_only_there => goes_where_all_is_said;
    w7_a_listener_goes_live_without_routes_that_do_not_come_in_time => goes_live_without_routes;
    w10_a_removed_listener_drains_its_connections => drains_a_removed_listener;
}

/// A cluster whose endpoints stand under a name of their own.
fn renamed(cluster: &str, service: &str) -> Resource {
    let value = json!({"name": cluster, "type": "EDS", "connect_timeout": "1s",
        "eds_cluster_config": {"service_name": service, "eds_config": ads()}});
    resource(CLUSTER, &value)
}

/// Waits until nobody listens there any more.
async fn refuses(port: &Port) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(port.address()).await.is_ok() {
        ensure!(Instant::now() < deadline, "{} still listens", port.address());
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// W1: routes before their cluster, the cluster before its endpoints.
async fn routes_come_first<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, late) = (Upstream::start("blue").await?, Upstream::start("late").await?);
    let nonces = scene.serve(&[&blue]).await?;
    scene.answers_from("blue").await?;
    scene
        .ads
        .serve(ROUTE, "2", &[routes("routes", "late")], &["routes"])
        .await?;
    scene.answers_with(503).await?;
    scene
        .ads
        .serve(CLUSTER, "2", &[eds_cluster("blue"), eds_cluster("late")], &[])
        .await?;
    let names = ["blue", "late"];
    let change = V::change(ENDPOINT, ("1", &nonces[ENDPOINT]), &names, (&["late"], &[]));
    scene.ads.expect_exactly(&change).await?;
    scene.answers_with(503).await?;
    scene
        .ads
        .serve(ENDPOINT, "2", &[endpoints(&blue), endpoints(&late)], &names)
        .await?;
    scene.answers_from("late").await
}

/// W2: the cluster that comes asks for other endpoints; what it asked for before is given up when it is active.
async fn the_old_cluster_serves<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    let nonces = scene.serve(&[&blue]).await?;
    let traffic = scene.traffic();
    traffic.moves_to(PATIENCE, "blue").await?;
    scene
        .ads
        .serve(CLUSTER, "2", &[renamed("blue", "other")], &[])
        .await?;
    let names = ["blue", "other"];
    let change = V::change(ENDPOINT, ("1", &nonces[ENDPOINT]), &names, (&["other"], &[]));
    scene.ads.expect_exactly(&change).await?;
    let warming = "envoy_cluster_manager_warming_clusters";
    scene.process.wait_metric(warming, "", 1.0, PATIENCE).await?;
    traffic.moves_to(PATIENCE, "blue").await?;
    let both = [endpoints(&blue), endpoints_of("other", &green)];
    let nonce = scene.ads.send(ENDPOINT, "2", &both)?;
    traffic.moves_to(PATIENCE, "green").await?;
    let warm = |count| count == 0.0;
    scene.process.wait_metric_for(warming, "", PATIENCE, warm).await?;
    // The answer, and that the old name is given up: in one message or in two.
    let mut request = scene.ads.expect(ENDPOINT).await?;
    if request == V::ack(ENDPOINT, "2", &nonce, &names) {
        request = scene.ads.expect(ENDPOINT).await?;
    }
    let given_up = V::change(ENDPOINT, ("2", &nonce), &["other"], (&[], &["blue"]));
    ensure!(request == given_up, "{request:#?}");
    traffic.stop_unharmed().await
}

/// W3: Envoy waits for an assignment that a delta server has no reason to send.
async fn takes_the_assignment_that_it_has<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    let traffic = scene.traffic();
    traffic.moves_to(PATIENCE, "blue").await?;
    let changed = json!({"name": "blue", "type": "EDS", "connect_timeout": "7s",
        "eds_cluster_config": {"eds_config": ads()}, "circuit_breakers": {"thresholds": [{"max_connections": 77}]}});
    scene
        .ads
        .serve(CLUSTER, "2", &[resource(CLUSTER, &changed)], &[])
        .await?;
    let deadline = Instant::now() + PATIENCE;
    let limit = "blue::default_priority::max_connections::77";
    while !scene.process.admin_text("/clusters").await?.contains(limit) {
        ensure!(Instant::now() < deadline, "the new version is not active");
        sleep(Duration::from_millis(10)).await;
    }
    let warming = scene
        .process
        .metric("envoy_cluster_manager_warming_clusters", "")
        .await?;
    ensure!(warming == Some(0.0), "{warming:?} clusters warm");
    traffic.moves_to(PATIENCE, "blue").await?;
    // What is said after this was said after anything about endpoints.
    scene
        .ads
        .serve(ROUTE, "2", &[routes("routes", "blue")], &["routes"])
        .await?;
    let asked = scene.ads.unasked(ENDPOINT)?;
    ensure!(asked.is_empty(), "what is known is asked for: {asked:#?}");
    traffic.stop_unharmed().await
}

fn listener_with_routes(port: &Port, routes: &str, timeout: &str) -> Value {
    let mut source = ads();
    source["initial_fetch_timeout"] = json!(timeout);
    let rds = json!({"rds": {"route_config_name": routes, "config_source": source}});
    bootstrap::listener(
        "ingress",
        port.address(),
        bootstrap::http_connection_manager(&rds),
    )
}

/// W4, warming.
async fn the_old_listener_serves<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    let nonces = scene.serve(&[&blue, &green]).await?;
    let traffic = scene.traffic();
    traffic.moves_to(PATIENCE, "blue").await?;
    let changed = resource(LISTENER, &listener_with_routes(&scene.port, "fresh", "0s"));
    scene.ads.serve(LISTENER, "2", &[changed], &[]).await?;
    let names = ["fresh", "routes"];
    let change = V::change(ROUTE, ("1", &nonces[ROUTE]), &names, (&["fresh"], &[]));
    scene.ads.expect_exactly(&change).await?;
    let warming = "envoy_listener_manager_total_listeners_warming";
    scene.process.wait_metric(warming, "", 1.0, PATIENCE).await?;
    traffic.moves_to(PATIENCE, "blue").await?;
    scene
        .ads
        .send(ROUTE, "2", &[routes("fresh", "green"), routes("routes", "blue")])?;
    traffic.moves_to(PATIENCE, "green").await?;
    traffic.stop_unharmed().await
}

/// W4, connections: two chains, told apart by the address that was dialled.
async fn outlives_another_chain<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    let chains = |port: &Port, own: &str, other: &str| {
        let manager = |server: &str| {
            bootstrap::http_connection_manager(&json!({
                "server_name": server, "rds": {"route_config_name": "routes", "config_source": ads()}}))
        };
        let mut listener = bootstrap::listener("ingress", port.address(), manager(own));
        let matched = json!({"prefix_ranges": [{"address_prefix": "10.9.8.7", "prefix_len": 32}]});
        let chain = json!({"name": "other", "filter_chain_match": matched, "filters": [manager(other)]});
        if let Some(all) = listener["filter_chains"].as_array_mut() {
            all.push(chain);
        }
        resource(LISTENER, &listener)
    };
    scene.serve(&[&blue]).await?;
    let listener = chains(&scene.port, "own", "other");
    scene.ads.serve(LISTENER, "2", &[listener], &[]).await?;
    // The first version may close until the second is in use.
    let mut client = connection_of(&scene, "2").await?;
    let listener = chains(&scene.port, "own", "changed");
    scene.ads.serve(LISTENER, "3", &[listener], &[]).await?;
    in_use(&scene, "3").await?;
    for _ in 0..3 {
        let answer = client.exchange(GET).await.context("another chain changed")?;
        ensure!(
            answer.status() == 200 && answer.head.header("connection").is_none(),
            "{answer:?}"
        );
    }
    // A change of what is done with its requests is in force with the next one.
    let listener = chains(&scene.port, "changed", "changed");
    scene.ads.serve(LISTENER, "4", &[listener], &[]).await?;
    in_use(&scene, "4").await?;
    let answer = client.exchange(GET).await.context("its own chain changed")?;
    ensure!(
        answer.head.header("server") == Some("changed") && answer.head.header("connection").is_none(),
        "{answer:?}"
    );
    // A chain that is gone drains.
    let value = listener_with_chain_for(&scene.port, "10.9.8.7");
    let listener = resource(LISTENER, &value);
    scene.ads.serve(LISTENER, "5", &[listener], &[]).await?;
    in_use(&scene, "5").await?;
    let answer = client.exchange(GET).await.context("its own chain is gone")?;
    let last = answer.head.header("connection") == Some("close");
    ensure!(answer.status() == 200 && last, "{answer:?}");
    Ok(())
}

/// Only a chain for connections to another address.
fn listener_with_chain_for(port: &Port, address: &str) -> Value {
    let mut listener = listener_with_routes(port, "routes", "0s");
    listener["filter_chains"][0]["filter_chain_match"] =
        json!({"prefix_ranges": [{"address_prefix": address, "prefix_len": 32}]});
    listener
}

/// Waits until this version of the listener `ingress` is in use.
async fn in_use<V: Variant>(scene: &Scene<V>, version: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = scene
            .process
            .admin_text("/config_dump?resource=dynamic_listeners")
            .await?;
        let dump: Value = serde_json::from_str(&text)?;
        let listener = &dump["configs"][0];
        if listener["active_state"]["version_info"] == version && listener["warming_state"].is_null() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "version {version} is not in use: {text}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// A connection that was made under this version of the listener, and was used.
async fn connection_of<V: Variant>(scene: &Scene<V>, version: &str) -> Result<RawClient> {
    in_use(scene, version).await?;
    let mut client = RawClient::connect(scene.port.address()).await?;
    let answer = client.exchange(GET).await?;
    ensure!(answer.status() == 200, "{answer:?}");
    Ok(client)
}

/// W5: endpoints and routes that are left out stay; clusters and listeners go.
async fn goes_where_all_is_said<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue, &green]).await?;
    let endpoint = scene
        .ads
        .serve(ENDPOINT, "2", &[endpoints(&green)], &["blue", "green"])
        .await?;
    scene.ads.serve(ROUTE, "2", &[], &["routes"]).await?;
    scene.answers_from("blue").await?;
    let nonce = scene
        .ads
        .send_with_removals(CLUSTER, "2", &[eds_cluster("green")], &["blue"])?;
    scene
        .ads
        .expect_exactly(&V::ack(CLUSTER, "2", &nonce, &[]))
        .await?;
    let change = V::change(ENDPOINT, ("2", &endpoint), &["green"], (&[], &["blue"]));
    scene.ads.expect_exactly(&change).await?;
    scene.answers_with(503).await?;
    let nonce = scene.ads.send_with_removals(LISTENER, "2", &[], &["ingress"])?;
    scene
        .ads
        .expect_exactly(&V::ack(LISTENER, "2", &nonce, &[]))
        .await?;
    refuses(&scene.port).await
}

/// W7: nothing in time is 404, and what comes late takes effect.
async fn goes_live_without_routes<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    scene.ads.serve(CLUSTER, "1", &[eds_cluster("blue")], &[]).await?;
    scene.ads.expect_exactly(&V::first(ENDPOINT, &["blue"])).await?;
    scene
        .ads
        .serve(ENDPOINT, "1", &[endpoints(&blue)], &["blue"])
        .await?;
    scene.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    let listener = resource(LISTENER, &listener_with_routes(&scene.port, "routes", "2s"));
    scene.ads.serve(LISTENER, "1", &[listener], &[]).await?;
    scene.ads.expect_exactly(&V::first(ROUTE, &["routes"])).await?;
    scene.answers_with(404).await?;
    scene.process.wait_ready(PATIENCE).await?;
    let stats = scene
        .process
        .admin_text("/stats?filter=init_fetch_timeout")
        .await?;
    let counted = "http.ingress.rds.routes.init_fetch_timeout: 1";
    ensure!(stats.contains(counted), "{stats}");
    scene
        .ads
        .serve(ROUTE, "1", &[routes("routes", "blue")], &["routes"])
        .await?;
    scene.answers_from("blue").await
}

/// W10: HTTP/1 hears it with its next answer, HTTP/2 by GOAWAY; what is under way ends well.
async fn drains_a_removed_listener<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    scene.answers_from("blue").await?;
    let mut idle = RawClient::connect(scene.port.address()).await?;
    ensure!(idle.exchange(GET).await?.status() == 200);
    let streams = Http2Client::connect(scene.port.address()).await?;
    let request = || http::Request::builder().uri("http://test/");
    let first = streams
        .exchange(request().body(())?, bytes::Bytes::new(), None)
        .await?;
    ensure!(first.head.status() == 200, "{first:?}");
    let received = blue.received().len();
    let slow = request().header("x-behave", "delay=1500").body(())?;
    let under_way = streams.exchange(slow, bytes::Bytes::new(), None);
    let removal = async {
        blue.wait_received(received + 1).await;
        let nonce = scene.ads.send_with_removals(LISTENER, "2", &[], &["ingress"])?;
        scene
            .ads
            .expect_exactly(&V::ack(LISTENER, "2", &nonce, &[]))
            .await?;
        refuses(&scene.port).await
    };
    let (under_way, removed) = tokio::join!(under_way, removal);
    removed?;
    ensure!(
        under_way?.head.status() == 200,
        "what was under way did not end well"
    );
    let answer = idle.exchange(GET).await?;
    let last = answer.head.header("connection") == Some("close");
    ensure!(answer.status() == 200 && last, "{answer:?}");
    let deadline = Instant::now() + PATIENCE;
    while streams.handle().ready().await.is_ok() {
        ensure!(Instant::now() < deadline, "no GOAWAY");
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// W6: what the server takes away while somebody refers to it stays, and is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w6_removed_endpoints_and_routes_stay_while_they_are_referred_to() -> Result<()> {
    if !is_runnable("w6 delta")? {
        return Ok(());
    }
    let mut scene = Scene::<Delta>::start().await?;
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    let traffic = scene.traffic();
    traffic.moves_to(PATIENCE, "blue").await?;
    for (type_url, removed) in [
        (ENDPOINT, ["blue", "nobody"]),
        (ROUTE, ["routes", "nobody"]),
        (CLUSTER, ["nobody", "no one"]),
    ] {
        let nonce = scene.ads.send_with_removals(type_url, "2", &[], &removed)?;
        scene
            .ads
            .expect_exactly(&Delta::ack(type_url, "2", &nonce, &[]))
            .await?;
        traffic.moves_to(PATIENCE, "blue").await?;
    }
    // Also for a new version of the cluster.
    scene
        .ads
        .serve(
            CLUSTER,
            "3",
            &[resource(
                CLUSTER,
                &json!({"name": "blue", "type": "EDS", "connect_timeout": "3s",
            "eds_cluster_config": {"eds_config": ads()}}),
            )],
            &[],
        )
        .await?;
    traffic.moves_to(PATIENCE, "blue").await?;
    traffic.stop_unharmed().await
}

/// W7: in delta the server can say that something does not exist; nobody waits for it then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w7_what_delta_says_does_not_exist_is_not_waited_for() -> Result<()> {
    if !is_runnable("w7 delta")? {
        return Ok(());
    }
    let mut scene = Scene::<Delta>::start().await?;
    scene.ads.expect_introduction(&Delta::first(CLUSTER, &[])).await?;
    scene.ads.serve(CLUSTER, "1", &[], &[]).await?;
    scene.ads.expect_exactly(&Delta::first(LISTENER, &[])).await?;
    let listener = resource(LISTENER, &listener_with_routes(&scene.port, "routes", "0s"));
    scene.ads.serve(LISTENER, "1", &[listener], &[]).await?;
    scene
        .ads
        .expect_exactly(&Delta::first(ROUTE, &["routes"]))
        .await?;
    ensure!(
        TcpStream::connect(scene.port.address()).await.is_err(),
        "live without its routes"
    );
    let nonce = scene.ads.send_with_removals(ROUTE, "1", &[], &["routes"])?;
    scene
        .ads
        .expect_exactly(&Delta::ack(ROUTE, "1", &nonce, &[]))
        .await?;
    scene.answers_with(404).await?;
    scene.process.wait_ready(PATIENCE).await
}
