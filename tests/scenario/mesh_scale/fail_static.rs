//! Does a sidecar start from its state directory when the control plane is away, and give it up when it is back?

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant, type_url};
use harness::certificates::{Authority, Leaf, LeafRequest};
use harness::client::{self, RawClient};
use harness::control_plane::{
    CLUSTER, ControlPlane, ENDPOINT, LISTENER, ROUTE, Resource, ResourceReader, SECRET,
};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::tls;
use harness::traffic::{Plan, Protocol, Traffic};
use harness::upstream::Upstream;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

const WITHIN: Duration = Duration::from_secs(30);
const SERVING: &str = "serving_from_snapshot";

/// A pod that can be started again and again: one bootstrap, one state directory.
struct Pod {
    reader: ResourceReader,
    text: String,
    admin: SocketAddr,
    control: SocketAddr,
    state: tempfile::TempDir,
    port: Port,
    second: Port,
    blue: Upstream,
    green: Upstream,
}

fn ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3"})
}

impl Pod {
    /// A pod whose control plane is to be at the address of `control`.
    async fn new(variant: AdsVariant, control: SocketAddr) -> Result<Self> {
        let admin = Port::reserve()?;
        let mut text = bootstrap::ads(admin.address(), control, variant);
        let agent = bootstrap::http2_cluster("agent", &[control]);
        text["static_resources"]["clusters"]
            .as_array_mut()
            .context("a list")?
            .push(agent);
        Ok(Self {
            reader: ResourceReader::new()?,
            text: text.to_string(),
            admin: admin.address(),
            control,
            state: tempfile::tempdir()?,
            port: Port::reserve()?,
            second: Port::reserve()?,
            blue: Upstream::start("blue").await?,
            green: Upstream::start("green").await?,
        })
    }

    fn spawn(&self, further: &[&str]) -> Result<ProxyProcess> {
        let mut arguments = vec![
            "--state-dir".to_owned(),
            self.state.path().join("kept").display().to_string(),
        ];
        arguments.extend(further.iter().map(ToString::to_string));
        let options = Options {
            log_level: "info".to_owned(),
            arguments,
            ..Options::default()
        };
        ProxyProcess::spawn(Proxy::Remora, &self.text, Port::again(self.admin)?, &options)
    }

    /// Starts it and waits until it is ready.
    async fn start(&self) -> Result<ProxyProcess> {
        let mut process = self.spawn(&[])?;
        process.wait_ready(WITHIN).await?;
        Ok(process)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.state.path().join("kept").join(name)
    }

    fn listener(&self, name: &str, at: &Port) -> Result<Resource> {
        let rds = json!({"rds": {"route_config_name": "routes", "config_source": ads()}});
        let manager = bootstrap::http_connection_manager(&rds);
        self.reader
            .json(LISTENER, &bootstrap::listener(name, at.address(), manager))
    }

    fn routes(&self, to: &str) -> Result<Resource> {
        self.reader
            .json(ROUTE, &bootstrap::route_everything("routes", to))
    }

    fn service(&self, name: &str, upstream: &Upstream) -> Result<[Resource; 2]> {
        let cluster = json!({"name": name, "type": "EDS", "connect_timeout": "1s",
            "eds_cluster_config": {"eds_config": ads()}});
        let endpoints = bootstrap::load_assignment(name, &[upstream.address()]);
        Ok([
            self.reader.json(CLUSTER, &cluster)?,
            self.reader.json(ENDPOINT, &endpoints)?,
        ])
    }

    /// Two listeners, two clusters, everything to `blue`.
    fn before(&self) -> Result<Vec<Resource>> {
        let mut world = vec![
            self.listener("first", &self.port)?,
            self.listener("second", &self.second)?,
        ];
        world.push(self.routes("blue")?);
        world.extend(self.service("blue", &self.blue)?);
        world.extend(self.service("old", &self.blue)?);
        Ok(world)
    }

    /// One listener, one cluster, everything to `green`.
    fn after(&self) -> Result<Vec<Resource>> {
        let mut world = vec![self.listener("first", &self.port)?, self.routes("green")?];
        world.extend(self.service("green", &self.green)?);
        Ok(world)
    }

    /// Lets a control plane tell it `world`, and ends it with `SIGKILL` when that was written.
    async fn learn(&self, world: Vec<Resource>) -> Result<()> {
        let control_plane = self.control_plane().await?;
        control_plane.put(world);
        let process = self.start().await?;
        process
            .wait_metric("remora_state_dir_writes", "", 1.0, WITHIN)
            .await?;
        process.kill()
    }

    /// The control plane (again), once the one before let go of its port.
    async fn control_plane(&self) -> Result<ControlPlane> {
        eventually(|| ControlPlane::listen(self.control)).await
    }

    async fn answers(&self, from: &str) -> Result<()> {
        let answer = client::get(self.port.address(), "/").await?;
        ensure!(answer.status() == 200, "{:?}", answer.head);
        let by = answer.head.header("x-upstream").unwrap_or_default();
        ensure!(by == from, "answered by {by}, not {from}");
        Ok(())
    }
}

/// An address where nobody listens now.
async fn nobody() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}

/// Tries until it works.
async fn eventually<T, E: Into<anyhow::Error>, F: Future<Output = Result<T, E>>>(
    attempt: impl Fn() -> F,
) -> Result<T> {
    let deadline = Instant::now() + WITHIN;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn gauge(process: &ProxyProcess) -> Result<Option<f64>> {
    process.metric("remora_serving_from_snapshot", "").await
}

/// Waits until nothing comes from the snapshot any more.
async fn given_up(process: &ProxyProcess) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while gauge(process).await? != Some(0.0) {
        ensure!(
            Instant::now() < deadline,
            "still {}",
            process.admin_text("/ready").await?
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Whoever asks is told that it serves from the snapshot.
async fn says_so(process: &ProxyProcess) -> Result<()> {
    let ready = process.admin_text("/ready").await?;
    ensure!(
        ready.starts_with("LIVE\n") && ready.contains(SERVING) && ready.contains("saved"),
        "{ready}"
    );
    ensure!(gauge(process).await? == Some(1.0));
    let saved = process
        .metric("remora_snapshot_saved_timestamp_seconds", "")
        .await?;
    ensure!(saved.is_some_and(|saved| saved > 1e9), "{saved:?}");
    process.wait_log(&["WARN", SERVING, "age"], WITHIN).await?;
    Ok(())
}

async fn survives(variant: AdsVariant) -> Result<()> {
    let pod = Pod::new(variant, nobody().await?).await?;
    pod.learn(pod.before()?).await?;

    let begun = Instant::now();
    let process = pod.start().await?;
    let took = begun.elapsed();
    writeln!(std::io::stderr(), "ready without a control plane after {took:?}")?;
    ensure!(took < Duration::from_secs(10), "ready after {took:?}");
    pod.answers("blue").await?;
    says_so(&process).await?;

    let traffic = Traffic::start(&Plan::new(pod.port.address(), Protocol::Http1));
    traffic
        .wait(WITHIN, |tally| tally.by_upstream.contains_key("blue"))
        .await?;
    let control_plane = pod.control_plane().await?;
    // The routes are there before the endpoints that they lead to.
    let (endpoints, rest): (Vec<_>, Vec<_>) = pod
        .after()?
        .into_iter()
        .partition(|resource| resource.body.type_url == ENDPOINT);
    control_plane.put(rest);
    control_plane
        .wait_for(WITHIN, |request| {
            request.type_url == ENDPOINT && request.names.contains(&"green".to_owned())
        })
        .await?;
    let before = traffic.tally().answered;
    traffic.wait(WITHIN, |tally| tally.answered > before + 50).await?;
    control_plane.put(endpoints);
    traffic
        .wait(WITHIN, |tally| tally.by_upstream.contains_key("green"))
        .await?;
    given_up(&process).await?;
    ensure!(process.admin_text("/ready").await? == "LIVE\n");
    let clusters = process.admin_text("/clusters").await?;
    ensure!(
        clusters.contains("green::") && !clusters.contains("old::") && !clusters.contains("blue::"),
        "{clusters}"
    );
    ensure!(
        TcpStream::connect(pod.second.address()).await.is_err(),
        "the second listener is gone"
    );
    let tally = traffic.stop().await;
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures);

    // What it has now is what the next start has.
    process
        .wait_metric("remora_state_dir_writes", "", 1.0, WITHIN)
        .await?;
    process.kill()?;
    drop(control_plane);
    let _process = pod.start().await?;
    pod.answers("green").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_control_plane_serves_what_was_kept_until_it_is_back_delta() -> Result<()> {
    survives(AdsVariant::Delta).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_control_plane_serves_what_was_kept_until_it_is_back_sotw() -> Result<()> {
    survives(AdsVariant::Sotw).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_says_nothing_is_not_waited_for() -> Result<()> {
    let pod = Pod::new(AdsVariant::Delta, nobody().await?).await?;
    pod.learn(pod.before()?).await?;
    let silent = eventually(|| TcpListener::bind(pod.control)).await?;
    let _process = pod.start().await?;
    pod.answers("blue").await?;
    drop(silent);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_answers_is_served_from() -> Result<()> {
    let pod = Pod::new(AdsVariant::Delta, nobody().await?).await?;
    pod.learn(pod.before()?).await?;
    let control_plane = pod.control_plane().await?;
    control_plane.put(pod.after()?);
    let mut process = pod.spawn(&["--state-wait-ms", "30000"])?;
    process.wait_ready(WITHIN).await?;
    pod.answers("green").await?;
    ensure!(process.admin_text("/ready").await? == "LIVE\n");
    ensure!(gauge(&process).await? == Some(0.0));
    ensure!(!process.log().contains(SERVING), "{}", process.log());
    Ok(())
}

/// A change after the first write is appended, and is there after a kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_kept_too() -> Result<()> {
    let pod = Pod::new(AdsVariant::Delta, nobody().await?).await?;
    let control_plane = pod.control_plane().await?;
    control_plane.put(pod.before()?);
    let process = pod.start().await?;
    process
        .wait_metric("remora_state_dir_writes", "", 1.0, WITHIN)
        .await?;
    let whole = std::fs::read(pod.file("resources"))?;
    let mut change = vec![pod.routes("green")?];
    change.extend(pod.service("green", &pod.green)?);
    control_plane.push(|world| {
        change.into_iter().for_each(|resource| world.put(resource));
        world.remove(CLUSTER, "old");
    });
    eventually(|| pod.answers("green")).await.context("the change")?;
    // In order: nothing is lost that was there when the process was told to end.
    process.terminate()?;
    let mut process = process;
    process.wait_exit(WITHIN).await?;
    drop((process, control_plane));
    ensure!(std::fs::read(pod.file("resources"))? == whole, "only appended to");
    let process = pod.start().await?;
    pod.answers("green").await?;
    ensure!(!process.admin_text("/clusters").await?.contains("old::"));
    Ok(())
}

type Damage = fn(&Path) -> Result<()>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_no_use_are_refused_and_the_start_goes_on_without_them() -> Result<()> {
    let pod = Pod::new(AdsVariant::Delta, nobody().await?).await?;
    pod.learn(pod.before()?).await?;
    let good = std::fs::read(pod.file("resources"))?;
    let damages: [(&str, Damage); 4] = [
        ("corrupt", |path| {
            let mut bytes = std::fs::read(path)?;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Ok(std::fs::write(path, bytes)?)
        }),
        ("truncated", |path| {
            let bytes = std::fs::read(path)?;
            Ok(std::fs::write(path, &bytes[..bytes.len() - 5])?)
        }),
        ("newer format", |path| {
            let mut bytes = std::fs::read(path)?;
            // Behind eight bytes of magic.
            bytes[8] = 200;
            Ok(std::fs::write(path, bytes)?)
        }),
        ("something else", |path| Ok(std::fs::write(path, "{}")?)),
    ];
    for (words, damage) in damages {
        std::fs::write(pod.file("resources"), &good)?;
        damage(&pod.file("resources"))?;
        let mut process = pod.spawn(&[])?;
        process
            .wait_log(&["WARN", "the snapshot is refused", words], WITHIN)
            .await?;
        let ready = client::get(process.admin(), "/ready").await?;
        ensure!(ready.status() == 503, "{words}: {}", ready.text());
        if words == "corrupt" {
            let control_plane = pod.control_plane().await?;
            control_plane.put(pod.before()?);
            process.wait_ready(WITHIN).await?;
            pod.answers("blue").await?;
        }
        process.kill()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_another_bootstrap_are_refused() -> Result<()> {
    let mut pod = Pod::new(AdsVariant::Delta, nobody().await?).await?;
    pod.learn(pod.before()?).await?;
    let before = pod.text.clone();
    for (from, to, words) in [
        ("\"id\":\"test\"", "\"id\":\"other\"", "node 'other'"),
        ("\"cluster\":\"test\"", "\"cluster\":\"other\"", "another one"),
    ] {
        pod.text = before.replace(from, to);
        ensure!(pod.text != before);
        let process = pod.spawn(&[])?;
        process
            .wait_log(&["the snapshot is refused", words], WITHIN)
            .await?;
        process.kill()?;
    }
    Ok(())
}

/// Whether any file of the folder has a piece of the key, as text or as the number that it is.
fn holds_key(folder: &Path, leaf: &Leaf) -> Result<bool> {
    let line = leaf.key_pem.lines().nth(2).context("a key has three lines")?;
    let der = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes())?;
    // RFC 5915: version 1, then 32 bytes of private key.
    let head = [2, 1, 1, 4, 32];
    let der = der.secret_der();
    let at = der.windows(head.len()).position(|window| window == head);
    let number = &der[at.context("an EC key")? + head.len()..][..32];
    for entry in std::fs::read_dir(folder)? {
        let bytes = std::fs::read(entry?.path())?;
        for piece in [line.as_bytes(), number] {
            if bytes.windows(piece.len()).any(|window| window == piece) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A listener whose certificate comes from the agent, and whom it trusts from the control plane.
fn tls_listener(pod: &Pod) -> Value {
    let agent_source = json!({"api_config_source": {"api_type": "GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "agent"}}]},
        "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    let mut listener = bootstrap::listener(
        "tls",
        pod.port.address(),
        bootstrap::http_connection_manager(
            &json!({"rds": {"route_config_name": "routes", "config_source": ads()}}),
        ),
    );
    listener["filter_chains"][0]["transport_socket"] = json!({"name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [{"name": "own", "sds_config": agent_source}],
                "validation_context_sds_secret_config": {"name": "trust", "sds_config": ads()}}}});
    listener
}

/// The certificate comes by SDS from an agent that is still there; whom to trust is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_keys_are_not_kept_and_what_needs_them_waits_for_sds() -> Result<()> {
    let agent = ControlPlane::start().await?;
    let mut pod = Pod::new(AdsVariant::Delta, nobody().await?).await?;
    let port = pod.control.port().to_string();
    // The second cluster of the bootstrap is the agent's.
    let (head, tail) = pod.text.rsplit_once(&port).context("the agent's port")?;
    pod.text = format!("{head}{}{tail}", agent.address().port());
    let authority = Authority::new("test root")?;
    let leaf = authority.leaf(&LeafRequest {
        dns_names: vec!["server.test".to_owned()],
        ..LeafRequest::default()
    })?;
    let own = json!({"name": "own", "tls_certificate": {
        "certificate_chain": {"inline_string": leaf.certificate_pem},
        "private_key": {"inline_string": leaf.key_pem}}});
    let trust =
        json!({"name": "trust", "validation_context": {"trusted_ca": {"inline_string": authority.pem()}}});
    let listener = tls_listener(&pod);
    let mut world = pod.before()?;
    world.remove(0);
    world.push(pod.reader.json(LISTENER, &listener)?);
    world.push(pod.reader.json(SECRET, &trust)?);
    agent.put([pod.reader.json(SECRET, &own)?]);
    pod.learn(world).await?;
    let folder = pod.state.path().join("kept");
    ensure!(!holds_key(&folder, &leaf)?, "the key is on the disk");
    let whole = std::fs::read(pod.file("resources"))?;
    let root = authority.pem().trim().as_bytes();
    ensure!(
        whole.windows(root.len()).any(|window| window == root),
        "whom to trust is kept"
    );

    // Without the agent's answer the listener warms, and says for what; with it, it serves.
    agent.push(|world| world.remove(SECRET, "own"));
    let mut process = pod.spawn(&[])?;
    process.wait_log(&[SERVING, "age"], WITHIN).await?;
    let ready = client::get(process.admin(), "/ready").await?;
    ensure!(
        ready.status() == 503 && ready.text().contains("'own', which listener 'tls' needs"),
        "{}",
        ready.text()
    );
    agent.put([pod.reader.json(SECRET, &own)?]);
    process.wait_ready(WITHIN).await?;
    let config = tls::client_config(&authority, Some(&leaf), &["http/1.1"])?;
    let stream = TcpStream::connect(pod.port.address()).await?;
    let stream = tls::connect(config, "server.test", stream).await?;
    let answer = RawClient::over(stream)
        .exchange(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        .await?;
    ensure!(answer.status() == 200, "{:?}", answer.head);
    Ok(())
}

/// A listener with its key inline is left out, and the proxy is not ready without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_with_its_key_inside_is_not_kept() -> Result<()> {
    let pod = Pod::new(AdsVariant::Sotw, nobody().await?).await?;
    let authority = Authority::new("test root")?;
    let leaf = authority.spiffe("spiffe://test/server")?;
    let identity = bootstrap::Identity {
        certificate: &leaf.certificate_pem,
        key: &leaf.key_pem,
        roots: authority.pem(),
        peer: "spiffe://test/client",
    };
    let manager = bootstrap::http_connection_manager(
        &json!({"route_config": bootstrap::route_everything("r", "blue")}),
    );
    let mut inline = bootstrap::listener("inline", pod.second.address(), manager);
    inline["filter_chains"][0]["transport_socket"] = identity.downstream(&["http/1.1"]);
    let mut world = pod.before()?;
    world.remove(1);
    world.push(pod.reader.json(LISTENER, &inline)?);
    pod.learn(world.clone()).await?;
    ensure!(!holds_key(&pod.state.path().join("kept"), &leaf)?);
    let mut process = pod.spawn(&[])?;
    process
        .wait_log(&["the snapshot lacks resources"], WITHIN)
        .await?;
    pod.answers("blue").await?;
    let ready = client::get(process.admin(), "/ready").await?;
    ensure!(
        ready.status() == 503 && ready.text().contains("listeners (LDS)"),
        "{}",
        ready.text()
    );
    let control_plane = pod.control_plane().await?;
    control_plane.put(world);
    process.wait_ready(WITHIN).await?;
    given_up(&process).await
}
