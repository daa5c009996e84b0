//! Does anybody notice when everything comes, changes and goes?
//!
//! One listener serves all the time. Twice over, snapshot by snapshot: a cluster with its endpoints and a second listener
//! with its routes and its certificate come; all of them change; the second listener and the cluster that was in use
//! before go, and nothing of them stays behind. Each step makes before it breaks, as a control plane must on streams that
//! have no common order. No request may fail while its listener is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant, type_url};
use harness::certificates::{Authority, Leaf};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::traffic::{Plan, Protocol, Tally, Traffic};
use harness::upstream::Upstream;
use harness::{peers, tls};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep};

use crate::plane::{self, GoControlPlane, WITHIN, Way};

const ROUNDS: u32 = 2;

/// What is to be served.
#[derive(Clone, Default)]
struct World {
    /// Clusters by name: their one endpoint, and how often they changed.
    clusters: BTreeMap<String, (SocketAddr, u32)>,
    /// The cluster that the listener `main` sends to.
    main: String,
    /// The second listener, if it is there.
    guest: Option<Guest>,
}

#[derive(Clone)]
struct Guest {
    cluster: String,
    leaf: usize,
    /// How often it changed.
    turn: u32,
}

struct Scene {
    way: Way,
    authority: Authority,
    leaves: [Leaf; 2],
    upstreams: [Upstream; 2],
    main: Port,
    guest: Port,
}

impl Scene {
    async fn new(way: Way) -> Result<Self> {
        let authority = Authority::new("test root")?;
        let leaves = [
            authority.spiffe("spiffe://test.local/one")?,
            authority.spiffe("spiffe://test.local/two")?,
        ];
        let upstreams = [Upstream::start("early").await?, Upstream::start("late").await?];
        Ok(Self {
            way,
            authority,
            leaves,
            upstreams,
            main: Port::reserve()?,
            guest: Port::reserve()?,
        })
    }

    fn resources(&self, world: &World) -> Value {
        let mut snapshot = json!({"routes": [routes("main", &world.main, 0)], "listeners": [self.listener("main", &self.main, 0)]});
        snapshot["clusters"] = world
            .clusters
            .iter()
            .map(|(name, (_, turn))| self.cluster(name, *turn))
            .collect();
        let assignments = world.clusters.iter();
        snapshot["endpoints"] = assignments
            .map(|(name, (endpoint, _))| bootstrap::load_assignment(name, &[*endpoint]))
            .collect();
        if let Some(guest) = &world.guest {
            let mut listener = self.listener("guest", &self.guest, guest.turn);
            listener["filter_chains"][0]["transport_socket"] = self.tls("guest");
            let leaf = &self.leaves[guest.leaf];
            snapshot["secrets"] = json!([{"name": "guest", "tls_certificate": {
                "certificate_chain": {"inline_string": leaf.certificate_pem},
                "private_key": {"inline_string": leaf.key_pem}}}]);
            for (kind, resource) in [
                ("listeners", listener),
                ("routes", routes("guest", &guest.cluster, guest.turn)),
            ] {
                snapshot[kind]
                    .as_array_mut()
                    .into_iter()
                    .for_each(|list| list.push(resource.clone()));
            }
        }
        snapshot
    }

    fn cluster(&self, name: &str, turn: u32) -> Value {
        json!({"name": name, "type": "EDS", "connect_timeout": format!("{}s", 2 + turn),
            "eds_cluster_config": {"eds_config": self.way.source()}})
    }

    fn listener(&self, name: &str, port: &Port, turn: u32) -> Value {
        let manager = bootstrap::http_connection_manager(&json!({
            "server_name": format!("turn-{turn}"),
            "rds": {"route_config_name": name, "config_source": self.way.source()}}));
        bootstrap::listener(name, port.address(), manager)
    }

    fn tls(&self, secret: &str) -> Value {
        json!({"name": "tls", "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {"tls_certificate_sds_secret_configs": [
                {"name": secret, "sds_config": self.way.source()}]}}})
    }

    fn guest_traffic(&self) -> Result<Traffic> {
        Ok(Traffic::start(&Plan {
            tls: Some(tls::client_config(&self.authority, None, &[])?),
            ..Plan::new(self.guest.address(), Protocol::Http1)
        }))
    }

    /// Waits until the second listener shows the certificate with this number, or is gone.
    async fn wait_guest(&self, shows: Option<usize>) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let shown = self.shown().await;
            let wanted = shows.map(|leaf| self.leaves[leaf].der.clone());
            if shown.as_ref().ok() == wanted.as_ref() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the guest does not show {shows:?}: {:?}",
                shown.err()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn shown(&self) -> Result<CertificateDer<'static>> {
        let stream = TcpStream::connect(self.guest.address()).await?;
        let stream = tls::connect(
            tls::client_config(&self.authority, None, &[])?,
            "server.test",
            stream,
        )
        .await?;
        tls::peer_leaf(stream.get_ref().1)
    }
}

fn routes(name: &str, cluster: &str, turn: u32) -> Value {
    let mut routes = bootstrap::route_everything(name, cluster);
    routes["response_headers_to_add"] = json!([{"header": {"key": "x-turn", "value": turn.to_string()}}]);
    routes
}

/// Waits until nothing that the proxy says about itself contains one of the names.
async fn wait_forgotten(process: &ProxyProcess, names: &[&str]) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    for path in [
        "/config_dump?include_eds",
        "/clusters",
        "/stats",
        "/stats/prometheus",
    ] {
        loop {
            let text = process.admin_text(path).await?;
            let left = text
                .lines()
                .find(|line| names.iter().any(|name| line.contains(name)));
            let Some(left) = left else { break };
            ensure!(Instant::now() < deadline, "{path} still says {left}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

fn nobody_failed(what: &str, tally: &Tally) -> Result<()> {
    ensure!(
        tally.failures.is_empty(),
        "{what}: {} failed beside {}: {:?}",
        tally.failures.len(),
        tally.answered,
        &tally.failures[..tally.failures.len().min(5)]
    );
    ensure!(tally.answered > 0, "{what}: no traffic");
    Ok(())
}

/// One whole life of a cluster and of the second listener.
async fn round(
    scene: &Scene,
    go: &mut GoControlPlane,
    world: &mut World,
    number: u32,
    process: &ProxyProcess,
    main: &[Traffic],
) -> Result<()> {
    let [early, late] = [scene.upstreams[0].address(), scene.upstreams[1].address()];
    let (before, fresh) = (world.main.clone(), format!("fresh-{number}"));
    world.clusters.insert(fresh.clone(), (early, 0));
    world.guest = Some(Guest {
        cluster: before.clone(),
        leaf: 0,
        turn: 0,
    });
    go.turn_into(&scene.resources(world)).await?;
    scene.wait_guest(Some(0)).await.context("added")?;
    let guest = scene.guest_traffic()?;
    guest.moves_to(WITHIN, "early").await?;

    // The cluster, its endpoints, both route configurations, the listener and its certificate.
    world.clusters.insert(fresh.clone(), (late, 1));
    world.main.clone_from(&fresh);
    world.guest = Some(Guest {
        cluster: fresh.clone(),
        leaf: 1,
        turn: 1,
    });
    go.turn_into(&scene.resources(world)).await?;
    for traffic in main.iter().chain([&guest]) {
        traffic.moves_to(WITHIN, "late").await?;
    }
    scene.wait_guest(Some(1)).await.context("changed")?;
    nobody_failed("the second listener", &guest.stop().await)?;

    world.clusters.remove(&before);
    world.clusters.insert(fresh.clone(), (early, 1));
    world.guest = None;
    go.turn_into(&scene.resources(world)).await?;
    scene.wait_guest(None).await.context("removed")?;
    for traffic in main {
        traffic.moves_to(WITHIN, "early").await?;
    }
    wait_forgotten(process, &["guest", &before]).await
}

async fn drive(proxy: Proxy, way: Way) -> Result<Option<peers::Missing>> {
    let binary = match plane::binary().await? {
        Ok(binary) => binary,
        Err(missing) => return Ok(Some(missing)),
    };
    let scene = Scene::new(way).await?;
    let mut go = GoControlPlane::start(binary, way, "127.0.0.1:0").await?;
    let mut world = World {
        main: "initial".to_owned(),
        clusters: BTreeMap::from([("initial".to_owned(), (scene.upstreams[0].address(), 0))]),
        guest: None,
    };
    go.turn_into(&scene.resources(&world)).await?;
    let admin = Port::reserve()?;
    let bootstrap = way.bootstrap(admin.address(), go.address).to_string();
    let process = ProxyProcess::start(proxy, &bootstrap, admin, &Options::default()).await?;
    let main = [Protocol::Http1, Protocol::Http2]
        .map(|protocol| Traffic::start(&Plan::new(scene.main.address(), protocol)));
    for number in 0..ROUNDS {
        round(&scene, &mut go, &mut world, number, &process, &main)
            .await
            .with_context(|| format!("round {number}"))?;
    }
    for traffic in main {
        nobody_failed("the first listener", &traffic.stop().await)?;
    }
    ensure!(go.refusals() == 0, "refused: {:#?}", go.events());
    Ok(None)
}

async fn each(test: &str, way: Way) -> Result<()> {
    for proxy in Proxy::under_test(test)? {
        if let Some(missing) = drive(proxy, way).await.with_context(|| proxy.name())? {
            peers::skip(test, &missing)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_changes_and_goes_by_state_of_the_world_ads() -> Result<()> {
    each("everything ADS SotW", Way::Ads(AdsVariant::Sotw)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_changes_and_goes_by_delta_ads() -> Result<()> {
    each("everything ADS delta", Way::Ads(AdsVariant::Delta)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_changes_and_goes_by_separate_state_of_the_world_streams() -> Result<()> {
    each("everything separate SotW", Way::Separate(AdsVariant::Sotw)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_changes_and_goes_by_separate_delta_streams() -> Result<()> {
    each("everything separate delta", Way::Separate(AdsVariant::Delta)).await
}
