//! F1 to F7: what happens while the control plane is away, and what is said when it is back?

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value as Text};
use harness::bootstrap;
use harness::client::PATIENCE;
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource};
use harness::process::{Port, ProxyProcess};
use harness::scripted::{ADS, Conversation, Delta, ScriptedPlane, Sotw, Variant};
use harness::traffic::{Plan, Protocol, Traffic};
use harness::upstream::Upstream;
use prost::Message;
use serde_json::{Value, json};

use crate::scene::{Scene, ads, api, bad_cluster, eds_cluster, resource, spawn, wait_answer};
use crate::{in_both_variants, in_each_variant, is_runnable};

in_both_variants! {
    f1_what_is_there_serves_while_the_control_plane_is_away => serves_alone;
    f4_names_that_vanished_meanwhile_are_deleted => deletes_what_vanished;
    f7_a_response_may_be_large => takes_large_responses;
}

in_each_variant! {
    f1_static_listeners_serve_without_any_control_plane => starts_alone;
    f2_attempts_back_off_until_a_response => backs_off;
    f5_a_server_that_fails_gives_way_to_the_next => cycles;
}

/// A back-off for every server of the ADS source.
fn back_off(bootstrap: &mut Value, base: &str, max: &str) {
    let services = bootstrap["dynamic_resources"]["ads_config"]["grpc_services"].as_array_mut();
    for service in services.into_iter().flatten() {
        service["envoy_grpc"]["retry_policy"] =
            json!({"retry_back_off": {"base_interval": base, "max_interval": max}});
    }
}

/// F1: the server dies under load, and another one comes where it was.
async fn serves_alone<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    let traffic = Traffic::start(&Plan::new(scene.port.address(), Protocol::Http1));
    traffic.wait(PATIENCE, |tally| tally.answered > 10).await?;
    let Scene {
        plane, ads, process, ..
    } = scene;
    let address = plane.address();
    drop((ads, plane));
    let connected = "envoy_control_plane_connected_state";
    let is_away = |state| state == 0.0;
    process.wait_metric_for(connected, "", PATIENCE, is_away).await?;
    let before = traffic.tally().answered;
    traffic
        .wait(PATIENCE, |tally| tally.answered > before + 50)
        .await?;
    let plane = ScriptedPlane::tcp_at(address).await?;
    plane.open::<V>(ADS).await?.next().await?;
    let tally = traffic.stop().await;
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
    Ok(())
}

/// F1: nobody listens where the control plane is to be; then somebody does.
async fn starts_alone<V: Variant>() -> Result<()> {
    let (server, port) = (Port::reserve()?, Port::reserve()?);
    let direct = json!({"route_config": {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 204}}]}]}});
    let manager = bootstrap::http_connection_manager(&direct);
    let mut bootstrap = json!({
        "node": {"id": "test", "cluster": "test"},
        "dynamic_resources": {"ads_config": api::<V>("control_plane"), "lds_config": ads(), "cds_config": ads()},
        "static_resources": {
            "clusters": [bootstrap::http2_cluster("control_plane", &[server.address()])],
            "listeners": [bootstrap::listener("fixed", port.address(), manager)]},
    });
    back_off(&mut bootstrap, "0.1s", "0.2s");
    let mut process = spawn(&mut bootstrap)?;
    wait_answer(&port, |answer| answer.status() == 204).await?;
    let ready = harness::client::get(process.admin(), "/ready").await?;
    ensure!(ready.status() == 503, "ready without clusters and listeners");
    let address = server.address();
    drop(server);
    let plane = ScriptedPlane::tcp_at(address).await?;
    let mut ads = plane.open::<V>(ADS).await?;
    ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    ads.serve(CLUSTER, "1", &[], &[]).await?;
    ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    ads.serve(LISTENER, "1", &[], &[]).await?;
    process.wait_ready(PATIENCE).await
}

/// The waits that the log told, newest last.
fn waits(process: &ProxyProcess) -> Result<Vec<Duration>> {
    let log = process.log();
    let words = log
        .lines()
        .filter_map(|line| line.split_once(" retry_in=").map(|(_, rest)| rest));
    words
        .map(|rest| {
            let word = rest.split_whitespace().next().unwrap_or("");
            let number = |unit: &str| word.strip_suffix(unit).and_then(|text| text.parse::<f64>().ok());
            let seconds = number("ms").map(|ms| ms / 1e3).or_else(|| number("s"));
            Ok(Duration::from_secs_f64(
                seconds.with_context(|| format!("no time: {word}"))?,
            ))
        })
        .collect()
}

/// F2: each wait is between half of and the whole interval, which doubles up to its bound; a response ends that.
async fn backs_off<V: Variant>() -> Result<()> {
    let (base, max) = (Duration::from_millis(100), Duration::from_millis(400));
    let scene = Scene::<V>::start_with(|bootstrap| back_off(bootstrap, "0.1s", "0.4s")).await?;
    let Scene {
        plane,
        mut ads,
        process,
        ..
    } = scene;
    for attempt in 0..5 {
        let begun = Instant::now();
        ads.close(14, "not now")?;
        ads = plane.open::<V>(ADS).await?;
        let (gap, interval) = (begun.elapsed(), (base * 2_u32.pow(attempt)).min(max));
        ensure!(gap >= interval / 2, "attempt {attempt} came after {gap:?}");
        let told = waits(&process)?;
        let last = *told.last().context("no wait was told")?;
        ensure!(told.len() == attempt as usize + 1, "told {told:?}");
        ensure!(
            last >= interval / 2 && last <= interval,
            "wait {attempt} is {last:?}"
        );
    }
    ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    ads.serve(CLUSTER, "1", &[], &[]).await?;
    let failures = failures(&process).await?;
    ads.close(0, "")?;
    let mut ads = plane.open::<V>(ADS).await?;
    let told = waits(&process)?;
    ensure!(
        told.last().is_some_and(|wait| *wait <= base),
        "not from the beginning: {told:?}"
    );
    ads.next().await?;
    ensure!(
        failures == 5.0 && self::failures(&process).await? == 5.0,
        "a stream that answered did not fail"
    );
    Ok(())
}

async fn failures(process: &ProxyProcess) -> Result<f64> {
    let failures = process
        .metric("envoy_cluster_manager_cds_update_failure", "")
        .await?;
    failures.context("no count of failures")
}

/// F3: per type, in the order of first use: the version that was accepted last, no nonce, all names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_new_stream_says_what_was_accepted_last() -> Result<()> {
    if !is_runnable("f3 state of the world")? {
        return Ok(());
    }
    let mut scene = Scene::<Sotw>::start().await?;
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue, &green]).await?;
    scene.ads.serve(ENDPOINT, "6", &[], &["blue", "green"]).await?;
    scene.ads.send(
        CLUSTER,
        "2",
        &[eds_cluster("blue"), eds_cluster("green"), bad_cluster("bad")],
    )?;
    ensure!(Sotw::error(&scene.ads.expect(CLUSTER).await?).is_some());
    scene.plane.cut();
    let mut ads = scene.plane.open::<Sotw>(ADS).await?;
    ads.expect_introduction(&Sotw::ack(CLUSTER, "1", "", &[])).await?;
    for (type_url, version, names) in [
        (ENDPOINT, "6", &["blue", "green"][..]),
        (LISTENER, "1", &[]),
        (ROUTE, "1", &["routes"]),
    ] {
        let wanted = Sotw::ack(type_url, version, "", names);
        let request = ads.next().await?;
        ensure!(request == wanted, "expected {wanted:#?}\nfound {request:#?}");
    }
    scene.answers_from("blue").await
}

/// F4: all names and what is held of them, in the first message of a type on a stream and never again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_a_new_stream_says_what_is_held() -> Result<()> {
    if !is_runnable("f4 delta")? {
        return Ok(());
    }
    let mut scene = Scene::<Delta>::start().await?;
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue, &green]).await?;
    // Of one name nothing is held, and a refused version is not held.
    scene
        .ads
        .serve(CLUSTER, "2", &[eds_cluster("nobody")], &[])
        .await?;
    let change = Delta::change(ENDPOINT, ("", ""), &[], (&["nobody"], &[]));
    scene.ads.expect_exactly(&change).await?;
    scene.ads.send(CLUSTER, "3", &[bad_cluster("blue")])?;
    ensure!(Delta::error(&scene.ads.expect(CLUSTER).await?).is_some());
    scene.plane.cut();
    let mut ads = scene.plane.open::<Delta>(ADS).await?;
    let again = |type_url: &str, names: &[&str], held: &[(&str, &str)]| {
        let mut request = Delta::first(type_url, names);
        let pair = |(name, version): &(&str, &str)| ((*name).to_owned(), (*version).to_owned());
        request.initial_resource_versions = held.iter().map(pair).collect::<HashMap<_, _>>();
        request
    };
    let clusters = [("blue", "1"), ("green", "1"), ("nobody", "2")];
    ads.expect_introduction(&again(CLUSTER, &[], &clusters)).await?;
    for wanted in [
        again(
            ENDPOINT,
            &["blue", "green", "nobody"],
            &[("blue", "1"), ("green", "1")],
        ),
        again(LISTENER, &[], &[("ingress", "1")]),
        again(ROUTE, &["routes"], &[("routes", "1")]),
    ] {
        let request = ads.next().await?;
        ensure!(request == wanted, "expected {wanted:#?}\nfound {request:#?}");
    }
    let nonce = ads.send_with_removals(CLUSTER, "4", &[], &["nobody"])?;
    ads.expect_exactly(&Delta::ack(CLUSTER, "4", &nonce, &[])).await?;
    let change = Delta::change(ENDPOINT, ("", ""), &[], (&[], &["nobody"]));
    ads.expect_exactly(&change).await?;
    scene.answers_from("blue").await
}

/// F4: the new stream does not know what the old one told.
async fn deletes_what_vanished<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue, &green]).await?;
    scene.plane.cut();
    let mut ads = scene.plane.open::<V>(ADS).await?;
    let nonce = ads.send_with_removals(CLUSTER, "2", &[eds_cluster("blue")], &["green"])?;
    while V::nonce(&ads.expect(CLUSTER).await?) != nonce {}
    let deadline = Instant::now() + PATIENCE;
    while scene.process.admin_text("/clusters").await?.contains("green::") {
        ensure!(Instant::now() < deadline, "a cluster that vanished is kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.answers_from("blue").await?;
    let nonce = ads.send_with_removals(LISTENER, "2", &[], &["ingress"])?;
    while V::nonce(&ads.expect(LISTENER).await?) != nonce {}
    while tokio::net::TcpStream::connect(scene.port.address()).await.is_ok() {
        ensure!(Instant::now() < deadline, "a listener that vanished is kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// F5: a dead port, a server that refuses, and one that answers.
async fn cycles<V: Variant>() -> Result<()> {
    let dead = Port::reserve()?;
    let (first, second) = (ScriptedPlane::tcp().await?, ScriptedPlane::tcp().await?);
    let mut source = api::<V>("dead");
    let servers = [
        ("dead", dead.address()),
        ("first", first.address()),
        ("second", second.address()),
    ];
    source["grpc_services"] = servers
        .iter()
        .map(|(name, _)| json!({"envoy_grpc": {"cluster_name": name}}))
        .collect();
    let clusters: Vec<Value> = servers
        .iter()
        .map(|(name, address)| bootstrap::http2_cluster(name, &[*address]))
        .collect();
    let mut bootstrap = json!({
        "node": {"id": "test", "cluster": "test"},
        "dynamic_resources": {"ads_config": source, "lds_config": ads(), "cds_config": ads()},
        "static_resources": {"clusters": clusters},
    });
    back_off(&mut bootstrap, "0.1s", "0.2s");
    let mut process = spawn(&mut bootstrap)?;
    for plane in [&first, &second, &first] {
        plane.open::<V>(ADS).await?.close(14, "not here")?;
    }
    let mut ads: Conversation<V> = second.open(ADS).await?;
    ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    ads.serve(CLUSTER, "1", &[], &[]).await?;
    ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    ads.serve(LISTENER, "1", &[], &[]).await?;
    process.wait_ready(PATIENCE).await?;
    ensure!(first.dialled().len() == 2 && second.dialled().len() == 2);
    Ok(())
}

/// A cluster that carries so many bytes of metadata.
fn heavy(name: &str, bytes: usize) -> Result<Resource> {
    let plain = resource(
        CLUSTER,
        &json!({"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": name}}),
    );
    let mut cluster = Cluster::decode(plain.body.value.as_slice())?;
    let weight = Text {
        kind: Some(Kind::StringValue("x".repeat(bytes))),
    };
    let fields = HashMap::from([("weight".to_owned(), weight)]);
    let filter_metadata = HashMap::from([("test".to_owned(), Struct { fields })]);
    cluster.metadata = Some(Metadata {
        filter_metadata,
        ..Metadata::default()
    });
    Ok(Resource::new(name, &cluster))
}

/// F7: 20 MB, and then 40 MB.
async fn takes_large_responses<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    for (version, bytes) in [("1", 1 << 20), ("2", 2 << 20)] {
        let clusters = (0..20).map(|number| heavy(&format!("heavy-{number}"), bytes));
        let clusters = clusters.collect::<Result<Vec<_>>>()?;
        scene.ads.serve(CLUSTER, version, &clusters, &[]).await?;
        let active = "envoy_cluster_manager_active_clusters";
        scene.process.wait_metric(active, "", 21.0, PATIENCE).await?;
    }
    Ok(())
}
