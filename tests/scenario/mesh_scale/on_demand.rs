//! Are endpoints subscribed to only for the clusters that traffic uses, and does no first request fail for it?

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use harness::bootstrap::{self, AdsVariant, type_url};
use harness::client;
use harness::control_plane::{CLUSTER, ControlPlane, ENDPOINT, LISTENER, Resource, ResourceReader};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::Upstream;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(30);
const CLUSTERS: usize = 200;

struct Scene {
    reader: ResourceReader,
    control_plane: ControlPlane,
    upstream: Upstream,
    port: Port,
    tunnel: Port,
    log: tempfile::NamedTempFile,
    process: ProxyProcess,
}

impl Scene {
    /// 200 clusters, a route to each, and a tunnel to the first; endpoints only of those that `has_endpoints`.
    async fn start(
        arguments: &[&str],
        connect_timeout: &str,
        has_endpoints: fn(usize) -> bool,
    ) -> Result<Self> {
        let reader = ResourceReader::new()?;
        let control_plane = ControlPlane::start().await?;
        let upstream = Upstream::start("app").await?;
        let log = tempfile::NamedTempFile::new()?;
        let (port, tunnel, admin) = (Port::reserve()?, Port::reserve()?, Port::reserve()?);
        let mut world = Vec::new();
        for number in 0..CLUSTERS {
            let name = format!("s{number}");
            let cluster = json!({"name": name, "type": "EDS", "connect_timeout": connect_timeout,
                "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}}});
            world.push(reader.json(CLUSTER, &cluster)?);
            if has_endpoints(number) {
                world.push(endpoints(&reader, &name, &upstream)?);
            }
        }
        let listener = bootstrap::listener(
            "web",
            port.address(),
            manager(log.path().to_str().context("a path")?),
        );
        world.push(reader.json(LISTENER, &listener)?);
        let listener = bootstrap::listener("tunnel", tunnel.address(), bootstrap::tcp_proxy("s0"));
        world.push(reader.json(LISTENER, &listener)?);
        control_plane.put(world);
        let text = bootstrap::ads(admin.address(), control_plane.address(), AdsVariant::Delta);
        let options = Options {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            concurrency: 2,
            ..Options::default()
        };
        let process = ProxyProcess::start(Proxy::Remora, &text.to_string(), admin, &options).await?;
        Ok(Self {
            reader,
            control_plane,
            upstream,
            port,
            tunnel,
            log,
            process,
        })
    }

    async fn get(&self, cluster: usize) -> Result<u16> {
        let answer = client::get(self.port.address(), &format!("/s{cluster}/")).await?;
        Ok(answer.status())
    }

    /// The EDS names that the control plane is asked for now.
    fn subscribed(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for request in self.control_plane.requests() {
            if request.type_url == ENDPOINT {
                names.extend(request.names);
                for name in request.unsubscribed {
                    names.remove(&name);
                }
            }
        }
        names
    }

    async fn wait_subscribed(&self, wanted: &[&str]) -> Result<()> {
        let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
        let deadline = Instant::now() + WITHIN;
        while self.subscribed() != wanted {
            ensure!(Instant::now() < deadline, "asked for {:?}", self.subscribed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn endpoints(reader: &ResourceReader, name: &str, upstream: &Upstream) -> Result<Resource> {
    reader.json(ENDPOINT, &bootstrap::load_assignment(name, &[upstream.address()]))
}

fn manager(log: &str) -> Value {
    let routes: Vec<Value> = (0..CLUSTERS)
        .map(|number| json!({"match": {"prefix": format!("/s{number}/")}, "route": {"cluster": format!("s{number}")}}))
        .collect();
    bootstrap::http_connection_manager(&json!({
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": type_url("extensions.access_loggers.file.v3.FileAccessLog"), "path": log,
            "log_format": {"text_format_source": {"inline_string": "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\n"}}}}],
        "route_config": {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_clusters_in_use_are_subscribed_to_and_no_request_fails() -> Result<()> {
    let scene = Scene::start(&["--on-demand-endpoints", "2"], "20s", |_| true).await?;
    ensure!(scene.subscribed().is_empty(), "{:?}", scene.subscribed());
    // Many first requests to each, at once, on both workers.
    let first = (0..60).map(|number| scene.get([3, 70, 150][number % 3]));
    let statuses = try_join_all(first).await?;
    ensure!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    scene.wait_subscribed(&["s150", "s3", "s70"]).await?;
    let awake = scene
        .process
        .metric("remora_on_demand_awake_clusters", "")
        .await?;
    ensure!(awake == Some(3.0), "{awake:?}");

    // One stays in use, the others become idle; then they are used again.
    let deadline = Instant::now() + WITHIN;
    while scene.subscribed() != BTreeSet::from(["s70".to_owned()]) {
        ensure!(scene.get(70).await? == 200);
        ensure!(Instant::now() < deadline, "asked for {:?}", scene.subscribed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for cluster in [3, 70, 150, 199] {
        ensure!(scene.get(cluster).await? == 200, "s{cluster}");
    }
    // A new version of a cluster in use keeps its endpoints, of one that sleeps asks for none.
    let changed = |name: &str| {
        scene.reader.json(
            CLUSTER,
            &json!({"name": name, "type": "EDS", "connect_timeout": "19s",
            "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}}}),
        )
    };
    scene.control_plane.forget_requests();
    scene.control_plane.put([changed("s70")?, changed("s5")?]);
    scene.control_plane.wait_ack(CLUSTER).await?;
    ensure!(scene.get(70).await? == 200 && !scene.subscribed().contains("s5"));
    // Everything idle: nothing is subscribed to. Bytes through a tunnel are a use too.
    scene
        .control_plane
        .wait_for(WITHIN, |request| {
            request.type_url == ENDPOINT && request.unsubscribed.contains(&"s70".to_owned())
        })
        .await?;
    let answer = client::get(scene.tunnel.address(), "/").await?;
    ensure!(answer.status() == 200, "{:?}", answer.head);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_request_waits_for_endpoints_that_come_late() -> Result<()> {
    let scene = Scene::start(&["--on-demand-endpoints", "1"], "25s", |number| number != 7).await?;
    let late = async {
        scene.wait_subscribed(&["s7"]).await?;
        // Longer than the idle time, which is what is tested: who waits uses.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        scene
            .control_plane
            .put([endpoints(&scene.reader, "s7", &scene.upstream)?]);
        anyhow::Ok(())
    };
    let (status, late) = tokio::join!(scene.get(7), late);
    late?;
    ensure!(status? == 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_never_come_are_a_503_with_its_own_cause() -> Result<()> {
    let scene = Scene::start(&["--on-demand-endpoints", "60"], "0.5s", |number| number != 9).await?;
    ensure!(scene.get(9).await? == 503);
    ensure!(scene.get(10).await? == 200);
    let deadline = Instant::now() + WITHIN;
    loop {
        let log = std::fs::read_to_string(scene.log.path())?;
        if log.contains("/s10/ 200") {
            ensure!(
                log.contains("/s9/ 503 no_healthy_upstream{endpoints_not_received}"),
                "{log}"
            );
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_flag_everything_is_subscribed_to() -> Result<()> {
    let scene = Scene::start(&[], "5s", |_| true).await?;
    ensure!(scene.subscribed().len() == CLUSTERS, "{:?}", scene.subscribed());
    ensure!(scene.get(3).await? == 200);
    Ok(())
}
