//! Does anybody notice when the control plane is killed, stays away and comes back with something else?
//!
//! go-control-plane pushes a thousand changing clusters a hundred times a second when it is ended by `kill -9`. The proxy
//! goes on with what it has; the server's return brings other endpoints, routes and listeners, and takes some away. No
//! request may fail, and the new world must serve soon after the first stream is open again. The absence lasts a second
//! here; `REMORA_ABSENCE_SECONDS=60` is the nightly form, on a quiet machine, which holds convergence to one second.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant};
use harness::client;
use harness::peers;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::traffic::{Plan, Protocol, Traffic};
use harness::upstream::Upstream;
use serde_json::{Value, json};

use crate::plane::{self, GoControlPlane, WITHIN, Way};

/// The longest back-off of the bootstrap.
const BACK_OFF: Duration = Duration::from_millis(500);
const UNUSED: u32 = 1000;

struct Scene {
    way: Way,
    upstreams: [Upstream; 3],
    port: Port,
    gone: Port,
    fresh: Port,
}

impl Scene {
    async fn new(way: Way) -> Result<Self> {
        let upstreams = [
            Upstream::start("a1").await?,
            Upstream::start("a2").await?,
            Upstream::start("b1").await?,
        ];
        Ok(Self {
            way,
            upstreams,
            port: Port::reserve()?,
            gone: Port::reserve()?,
            fresh: Port::reserve()?,
        })
    }

    fn listener(&self, name: &str, port: &Port, routes: &str) -> Value {
        let rds = json!({"rds": {"route_config_name": routes, "config_source": self.way.source()}});
        bootstrap::listener(name, port.address(), bootstrap::http_connection_manager(&rds))
    }

    fn cluster(&self, name: &str) -> Value {
        json!({"name": name, "type": "EDS", "connect_timeout": "2s", "eds_cluster_config": {"eds_config": self.way.source()}})
    }

    fn assignment(&self, cluster: &str, upstream: usize) -> Value {
        bootstrap::load_assignment(cluster, &[self.upstreams[upstream].address()])
    }

    /// What is served before: `/` goes to `a`, by its first endpoint.
    fn before(&self) -> Value {
        json!({
            "clusters": [self.cluster("a"), self.cluster("b")],
            "endpoints": [self.assignment("a", 0), self.assignment("b", 0)],
            "listeners": [self.listener("kept", &self.port, "routes"), self.listener("gone", &self.gone, "routes")],
            "routes": [bootstrap::route_everything("routes", "a")],
        })
    }

    /// And after: `/` goes to `b`, both clusters have other endpoints, one listener is gone and one is new.
    fn after(&self) -> Value {
        json!({
            "clusters": [self.cluster("a"), self.cluster("b")],
            "endpoints": [self.assignment("a", 1), self.assignment("b", 2)],
            "listeners": [self.listener("kept", &self.port, "routes"), self.listener("fresh", &self.fresh, "other")],
            "routes": [bootstrap::route_everything("routes", "b"), bootstrap::route_everything("other", "a")],
        })
    }
}

/// How long the control plane is away, and what that allows for convergence.
fn form() -> (Duration, Duration) {
    let nightly = std::env::var("REMORA_ABSENCE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    match nightly {
        Some(seconds) => (Duration::from_secs(seconds), Duration::from_secs(1)),
        // A loaded machine says nothing about speed.
        None => (Duration::from_secs(1), WITHIN),
    }
}

async fn answers(port: &Port, by: &str) -> bool {
    match client::get(port.address(), "/").await {
        Ok(answer) => answer.status() == 200 && answer.head.header("x-upstream") == Some(by),
        Err(_) => false,
    }
}

/// Waits until the new world serves, all of it.
async fn converged(scene: &Scene, process: &ProxyProcess) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let refused = tokio::net::TcpStream::connect(scene.gone.address())
            .await
            .is_err();
        let vanished = !process.admin_text("/clusters").await?.contains("unused-");
        if refused && vanished && answers(&scene.port, "b1").await && answers(&scene.fresh, "a2").await {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "not converged: refused {refused}, vanished {vanished}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `kill -9`, while clusters change and the proxy keeps up.
async fn kill_while_it_pushes(mut go: GoControlPlane, scene: &Scene) -> Result<()> {
    let acks = |events: &[Value]| {
        let ack = |event: &&Value| {
            event["event"] == "ack" && event["type"].as_str().unwrap_or("").ends_with(".Cluster")
        };
        events.iter().filter(ack).count()
    };
    let before = acks(&go.events());
    go.command(&json!({"op": "churn", "count": UNUSED, "per_second": 100, "resources": scene.before()}))
        .await?;
    go.wait(|events| acks(events) > before + 5).await?;
    go.kill()
}

async fn drive(proxy: Proxy, way: Way) -> Result<Option<peers::Missing>> {
    let binary = match plane::binary().await? {
        Ok(binary) => binary,
        Err(missing) => return Ok(Some(missing)),
    };
    let scene = Scene::new(way).await?;
    let mut go = GoControlPlane::start(binary, way, "127.0.0.1:0").await?;
    go.turn_into(&scene.before()).await?;
    let admin = Port::reserve()?;
    let bootstrap = way.bootstrap(admin.address(), go.address).to_string();
    let process = ProxyProcess::start(proxy, &bootstrap, admin, &Options::default()).await?;
    let traffic = [Protocol::Http1, Protocol::Http2]
        .map(|protocol| Traffic::start(&Plan::new(scene.port.address(), protocol)));
    for one in &traffic {
        one.wait(WITHIN, |tally| tally.answered > 10).await?;
    }

    let address = go.address;
    kill_while_it_pushes(go, &scene).await?;

    let (absence, allowed) = form();
    let away = Instant::now();
    let connected = "envoy_control_plane_connected_state";
    process
        .wait_metric_for(connected, "", WITHIN, |state| state == 0.0)
        .await?;
    tokio::time::sleep(absence.saturating_sub(away.elapsed())).await;
    for one in &traffic {
        let before = one.tally().answered;
        one.wait(WITHIN, |tally| tally.answered > before + 20).await?;
        ensure!(!one.tally().by_upstream.contains_key("b1"), "the future is known");
    }

    let mut go = GoControlPlane::start(binary, way, &address.to_string()).await?;
    go.turn_into(&scene.after()).await?;
    let back = Instant::now();
    converged(&scene, &process).await?;
    let took = back.elapsed();
    writeln!(
        std::io::stderr(),
        "{way:?}: converged {took:?} after the return from {absence:?}"
    )?;
    ensure!(
        took < allowed + BACK_OFF,
        "converged only {took:?} after the return"
    );

    for one in traffic {
        let tally = one.stop().await;
        ensure!(
            tally.failures.is_empty(),
            "{} failed beside {}: {:?}",
            tally.failures.len(),
            tally.answered,
            &tally.failures[..tally.failures.len().min(5)]
        );
    }
    ensure!(go.refusals() == 0, "refused: {:#?}", go.events());
    Ok(None)
}

async fn each(test: &str, way: Way) -> Result<()> {
    for proxy in Proxy::under_test(test)? {
        let driven = drive(proxy, way).await;
        if let Some(missing) = driven.with_context(|| proxy.name())? {
            peers::skip(test, &missing)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_its_death_and_return_by_state_of_the_world_ads() -> Result<()> {
    each("absence ADS SotW", Way::Ads(AdsVariant::Sotw)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_its_death_and_return_by_delta_ads() -> Result<()> {
    each("absence ADS delta", Way::Ads(AdsVariant::Delta)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_its_death_and_return_by_separate_state_of_the_world_streams() -> Result<()> {
    each("absence separate SotW", Way::Separate(AdsVariant::Sotw)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_its_death_and_return_by_separate_delta_streams() -> Result<()> {
    each("absence separate delta", Way::Separate(AdsVariant::Delta)).await
}
