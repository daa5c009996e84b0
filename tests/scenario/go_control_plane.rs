//! Does go-control-plane drive the proxy, by its own snapshot cache and server?
//!
//! Under steady HTTP/1.1 and HTTP/2 traffic, weights, clusters, endpoints, routes and a certificate change; no request
//! may fail, nothing may be refused, and a cluster that is wrong must be refused while everything else goes on.

#[path = "go_control_plane/absence.rs"]
mod absence;
#[path = "go_control_plane/everything.rs"]
mod everything;
#[path = "go_control_plane/plane.rs"]
mod plane;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::AdsVariant;
use harness::certificates::{Authority, Leaf};
use harness::client::RawClient;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::traffic::{Plan, Protocol, Traffic};
use harness::upstream::Upstream;
use harness::{peers, tls};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use plane::{GoControlPlane, WITHIN, Way};

struct Scene {
    authority: Authority,
    leaves: [Leaf; 2],
    upstreams: [Upstream; 3],
    port: Port,
}

impl Scene {
    async fn new() -> Result<Self> {
        let authority = Authority::new("test root")?;
        let leaves = [
            authority.spiffe("spiffe://test.local/one")?,
            authority.spiffe("spiffe://test.local/two")?,
        ];
        let upstreams = [
            Upstream::start("a1").await?,
            Upstream::start("a2").await?,
            Upstream::start("b1").await?,
        ];
        Ok(Self {
            authority,
            leaves,
            upstreams,
            port: Port::reserve()?,
        })
    }

    fn state(&self, way: Way, tls: bool, weight_a: u32) -> Value {
        let port = |index: usize| self.upstreams[index].address().port();
        let pair = |leaf: &Leaf| json!({"chain": leaf.certificate_pem, "key": leaf.key_pem});
        json!({
            "port": self.port.number(), "tls": tls, "a": [port(0), port(1)], "b": [port(2)], "weight_a": weight_a,
            "certificates": self.leaves.iter().map(pair).collect::<Vec<_>>(), "separate": way.separate(),
        })
    }
}

async fn drive(proxy: Proxy, way: Way, tls: bool) -> Result<Option<peers::Missing>> {
    let binary = match plane::binary().await? {
        Ok(binary) => binary,
        Err(missing) => return Ok(Some(missing)),
    };
    let scene = Scene::new().await?;
    let mut go = GoControlPlane::start(binary, way, "127.0.0.1:0").await?;
    go.command(&json!({"op": "set", "state": scene.state(way, tls, 100)}))
        .await?;
    let admin = Port::reserve()?;
    let bootstrap = way.bootstrap(admin.address(), go.address).to_string();
    let process = ProxyProcess::start(proxy, &bootstrap, admin, &Options::default()).await?;

    let config = tls
        .then(|| tls::client_config(&scene.authority, None, &[]))
        .transpose()?;
    let plan = |protocol| Plan {
        tls: config.clone(),
        ..Plan::new(scene.port.address(), protocol)
    };
    let (http1, http2) = (
        Traffic::start(&plan(Protocol::Http1)),
        Traffic::start(&plan(Protocol::Http2)),
    );
    http1.wait(WITHIN, |tally| tally.by_upstream.len() == 2).await?;

    go.command(&json!({"op": "set", "state": scene.state(way, tls, 0)}))
        .await?;
    http1
        .wait(WITHIN, |tally| tally.by_upstream.contains_key("b1"))
        .await?;
    http2
        .wait(WITHIN, |tally| tally.by_upstream.contains_key("b1"))
        .await?;
    let state = scene.state(way, tls, 50);
    go.command(&json!({"op": "storm", "count": 60, "per_second": 20, "state": state}))
        .await?;
    ensure!(go.refusals() == 0, "refused: {:#?}", go.events());

    check_refusal(&scene, &mut go, way, tls).await?;
    if tls {
        check_rotation(&scene, &mut go, way).await?;
    }
    for tally in [http1.stop().await, http2.stop().await] {
        ensure!(
            tally.failures.is_empty(),
            "{way:?}: {:?} failed beside {}",
            tally.failures,
            tally.answered
        );
    }
    drop(process);
    Ok(None)
}

/// A cluster that is wrong is refused by its name.
async fn check_refusal(scene: &Scene, go: &mut GoControlPlane, way: Way, tls: bool) -> Result<()> {
    let mut broken = scene.state(way, tls, 50);
    broken["broken"] = json!(true);
    go.command(&json!({"op": "set", "state": broken})).await?;
    go.wait(|events| events.iter().any(|event| event["event"] == "nack"))
        .await?;
    let refusal = go
        .events()
        .into_iter()
        .find(|event| event["event"] == "nack")
        .context("just seen")?;
    ensure!(
        refusal["error"].as_str().unwrap_or("").contains("broken"),
        "the refusal names no cluster: {refusal}"
    );
    go.command(&json!({"op": "set", "state": scene.state(way, tls, 50)}))
        .await
}

/// A new secret is shown to new connections.
async fn check_rotation(scene: &Scene, go: &mut GoControlPlane, way: Way) -> Result<()> {
    let mut state = scene.state(way, true, 50);
    state["secret_serial"] = json!(1);
    go.command(&json!({"op": "set", "state": state})).await?;
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let stream = TcpStream::connect(scene.port.address()).await?;
        let config = tls::client_config(&scene.authority, None, &[])?;
        let stream = tls::connect(Arc::clone(&config), "server.test", stream).await?;
        let shown = tls::peer_leaf(stream.get_ref().1)?;
        let answer = RawClient::over(stream)
            .exchange(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await?;
        ensure!(answer.status() == 200, "{}", answer.head.start_line);
        if shown == scene.leaves[1].der {
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "the new certificate is not shown"
        );
    }
}

async fn each(test: &str, way: Way, tls: bool) -> Result<()> {
    for proxy in Proxy::under_test(test)? {
        if let Some(missing) = drive(proxy, way, tls).await.with_context(|| proxy.name())? {
            peers::skip(test, &missing)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_control_plane_drives_it_by_state_of_the_world_ads() -> Result<()> {
    each("go_control_plane ADS SotW", Way::Ads(AdsVariant::Sotw), false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_control_plane_drives_it_by_delta_ads() -> Result<()> {
    each("go_control_plane ADS delta", Way::Ads(AdsVariant::Delta), false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_control_plane_rotates_a_certificate_by_delta_ads() -> Result<()> {
    each("go_control_plane SDS", Way::Ads(AdsVariant::Delta), true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_control_plane_drives_it_by_one_stream_per_type() -> Result<()> {
    each(
        "go_control_plane separate SotW",
        Way::Separate(AdsVariant::Sotw),
        false,
    )
    .await?;
    each(
        "go_control_plane separate delta",
        Way::Separate(AdsVariant::Delta),
        false,
    )
    .await
}
