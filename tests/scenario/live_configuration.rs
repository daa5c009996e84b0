//! Does the proxy follow its control plane while it works?
//!
//! Over delta and state-of-the-world ADS: resources arrive, weights move, a bad resource is refused by its name while
//! its last good version serves and the good ones of the same push apply, a cluster goes away, the stream breaks and
//! comes back. Steady traffic runs through all of it without one failed request.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant, type_url};
use harness::control_plane::{
    CLUSTER, ControlPlane, ENDPOINT, Kind, LISTENER, ROUTE, Recorded, Resource, ResourceReader,
};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::traffic::{Plan, Protocol, Traffic};
use harness::upstream::Upstream;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);

struct Scene {
    reader: ResourceReader,
    control_plane: ControlPlane,
    blue: Upstream,
    green: Upstream,
    port: Port,
    process: ProxyProcess,
}

fn ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3"})
}

impl Scene {
    async fn start(proxy: Proxy, variant: AdsVariant) -> Result<Self> {
        let reader = ResourceReader::new()?;
        let control_plane = ControlPlane::start().await?;
        let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        let mut first = vec![listener(&reader, &port)?, routes(&reader, "blue")?];
        for upstream in [&blue, &green] {
            first.push(cluster(&reader, upstream.name())?);
            first.push(reader.json(
                ENDPOINT,
                &bootstrap::load_assignment(upstream.name(), &[upstream.address()]),
            )?);
        }
        control_plane.put(first);
        let text = bootstrap::ads(admin.address(), control_plane.address(), variant).to_string();
        let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
        control_plane.wait_ack(ROUTE).await?;
        Ok(Self {
            reader,
            control_plane,
            blue,
            green,
            port,
            process,
        })
    }
}

fn cluster(reader: &ResourceReader, name: &str) -> Result<Resource> {
    reader.json(
        CLUSTER,
        &json!({"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": ads()}}),
    )
}

fn routes(reader: &ResourceReader, to: &str) -> Result<Resource> {
    reader.json(ROUTE, &bootstrap::route_everything("routes", to))
}

fn listener(reader: &ResourceReader, port: &Port) -> Result<Resource> {
    let rds = json!({"rds": {"route_config_name": "routes", "config_source": ads()}});
    let manager = bootstrap::http_connection_manager(&rds);
    reader.json(LISTENER, &bootstrap::listener("ingress", port.address(), manager))
}

/// A connection manager whose filter nobody knows.
fn bad_listener(scene: &Scene) -> Result<Resource> {
    let manager = json!({"name": "no.such.filter", "typed_config": {
        "@type": type_url("config.core.v3.Node"), "id": "not a filter"}});
    scene.reader.json(
        LISTENER,
        &bootstrap::listener("ingress", scene.port.address(), manager),
    )
}

async fn follows(proxy: Proxy, variant: AdsVariant) -> Result<()> {
    let scene = Scene::start(proxy, variant).await?;
    let http1 = Traffic::start(&Plan::new(scene.port.address(), Protocol::Http1));
    let http2 = Traffic::start(&Plan::new(scene.port.address(), Protocol::Http2));
    http1
        .wait(WITHIN, |tally| tally.by_upstream.contains_key("blue"))
        .await?;

    scene.control_plane.put([routes(&scene.reader, "green")?]);
    http1
        .wait(WITHIN, |tally| tally.by_upstream.contains_key("green"))
        .await
        .context("the route moved")?;
    http2
        .wait(WITHIN, |tally| tally.by_upstream.contains_key("green"))
        .await?;
    refuses_only_what_is_bad(&scene, &http1).await?;
    scene.control_plane.push(|world| {
        world.remove(CLUSTER, "green");
        world.remove(ENDPOINT, "green");
    });
    comes_back(&scene, variant).await?;
    let before = http1.tally().answered;
    http1
        .wait(WITHIN, |tally| tally.answered > before + 50)
        .await
        .context("after the reconnect")?;
    for tally in [http1.stop().await, http2.stop().await] {
        ensure!(
            tally.failures.is_empty(),
            "{:?} failed beside {}",
            tally.failures,
            tally.answered
        );
    }
    drop((scene.process, scene.blue, scene.green));
    Ok(())
}

/// One push with one bad resource: refused by name, the last good version serves, the good part of the push applies.
async fn refuses_only_what_is_bad(scene: &Scene, traffic: &Traffic) -> Result<()> {
    let control_plane = &scene.control_plane;
    control_plane.forget_requests();
    control_plane.put([bad_listener(scene)?, routes(&scene.reader, "blue")?]);
    let refusal = control_plane.wait_nack(LISTENER).await?;
    ensure!(
        refusal.error.contains("ingress"),
        "the refusal names no listener: {}",
        refusal.error
    );
    let blue = traffic.tally().by_upstream["blue"];
    traffic
        .wait(WITHIN, |tally| tally.by_upstream["blue"] > blue + 50)
        .await
        .context("the good part applied")?;
    control_plane.put([listener(&scene.reader, &scene.port)?]);
    Ok(())
}

/// A broken stream is opened again, and says what is held.
async fn comes_back(scene: &Scene, variant: AdsVariant) -> Result<()> {
    let control_plane = &scene.control_plane;
    control_plane.forget_requests();
    control_plane.close_streams();
    let subscribes = |seen: &Recorded| seen.kind == Kind::Subscribe && seen.type_url == CLUSTER;
    let again = control_plane.wait_for(WITHIN, subscribes).await?;
    ensure!(
        again.node.is_some(),
        "the first request of a new stream names no node: {again:?}"
    );
    if variant == AdsVariant::Delta {
        ensure!(
            again.initial_versions.contains_key("blue"),
            "what it holds is not told: {again:?}"
        );
    }
    control_plane
        .wait_for(WITHIN, |seen| seen.type_url == ROUTE)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_a_delta_stream() -> Result<()> {
    for proxy in Proxy::under_test("live_configuration delta")? {
        follows(proxy, AdsVariant::Delta)
            .await
            .with_context(|| proxy.name())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_a_state_of_the_world_stream() -> Result<()> {
    for proxy in Proxy::under_test("live_configuration SotW")? {
        follows(proxy, AdsVariant::Sotw)
            .await
            .with_context(|| proxy.name())?;
    }
    Ok(())
}
