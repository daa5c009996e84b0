//! Does go-control-plane drive the proxy, by its own snapshot cache and server?
//!
//! Under steady HTTP/1.1 and HTTP/2 traffic, weights, clusters, endpoints, routes and a certificate change; no request
//! may fail, nothing may be refused, and a cluster that is wrong must be refused while everything else goes on.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::bootstrap::{self, AdsVariant};
use harness::certificates::{Authority, Leaf};
use harness::client::RawClient;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::traffic::{Plan, Protocol, Traffic};
use harness::upstream::Upstream;
use harness::{peers, tls};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, watch};

const WITHIN: Duration = Duration::from_secs(30);

/// Our program on go-control-plane, running.
struct GoControlPlane {
    child: Child,
    input: ChildStdin,
    events: watch::Receiver<Vec<Value>>,
    address: SocketAddr,
}

impl GoControlPlane {
    async fn start(binary: &Path, ads: bool) -> Result<Self> {
        let mut child = Command::new(binary)
            .arg(format!("-ads={ads}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the control plane")?;
        let input = child.stdin.take().context("standard input is piped")?;
        let output = child.stdout.take().context("standard output is piped")?;
        let (sender, mut events) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sender.send_modify(|all: &mut Vec<Value>| all.push(event));
            }
        });
        events.wait_for(|all| !all.is_empty()).await?;
        let port = events.borrow()[0]["port"]
            .as_u64()
            .context("the first line names the port")?;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?));
        Ok(Self {
            child,
            input,
            events,
            address,
        })
    }

    /// Gives a command and waits until it is carried out.
    async fn command(&mut self, command: &Value) -> Result<()> {
        let before = self.count(|event| event["event"] == "done");
        writeln!(self.input, "{command}")?;
        self.wait(|events| {
            let failed = events.iter().any(|event| event["event"] == "error");
            failed || events.iter().filter(|event| event["event"] == "done").count() > before
        })
        .await?;
        match self.events().iter().find(|event| event["event"] == "error") {
            Some(error) => bail!("go-control-plane: {error}"),
            None => Ok(()),
        }
    }

    async fn wait(&mut self, enough: impl Fn(&[Value]) -> bool) -> Result<()> {
        let waited = tokio::time::timeout(WITHIN, self.events.wait_for(|all| enough(all)))
            .await
            .map(|_| ());
        waited.with_context(|| format!("go-control-plane saw only {:#?}", self.events()))
    }

    fn events(&self) -> Vec<Value> {
        self.events.borrow().clone()
    }

    fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.events.borrow().iter().filter(|event| wanted(event)).count()
    }
}

impl Drop for GoControlPlane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the program into the target folder, beside the tests.
fn build() -> Result<Result<PathBuf, peers::Missing>> {
    let go = match peers::go() {
        Ok(go) => go,
        Err(missing) => return Ok(Err(missing)),
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/go-control-plane");
    let binary = std::env::current_exe()?.with_file_name("remora-go-control-plane");
    let output = Command::new(go)
        .args(["build", "-mod=readonly", "-o"])
        .arg(&binary)
        .arg(".")
        .current_dir(source)
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(Ok(binary));
    }
    let offline = [
        "dial tcp",
        "no such host",
        "i/o timeout",
        "connection refused",
        "module lookup disabled",
    ];
    if offline.iter().any(|sign| words.contains(sign)) {
        return Ok(Err(peers::Missing(format!(
            "Go modules cannot be fetched: {}",
            words.trim()
        ))));
    }
    bail!("go build failed: {words}")
}

/// Which way the resources come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Ads(AdsVariant),
    /// One stream per type.
    Separate(AdsVariant),
}

impl Way {
    fn bootstrap(self, admin: SocketAddr, server: SocketAddr) -> String {
        match self {
            Self::Ads(variant) => bootstrap::ads(admin, server, variant).to_string(),
            Self::Separate(variant) => {
                let mut config = bootstrap::ads(admin, server, variant);
                let api = json!({"resource_api_version": "V3", "api_config_source": {
                    "api_type": if variant == AdsVariant::Delta { "DELTA_GRPC" } else { "GRPC" },
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "control_plane"}}]}});
                config["dynamic_resources"] = json!({"lds_config": api, "cds_config": api});
                config.to_string()
            }
        }
    }

    fn separate(self) -> &'static str {
        match self {
            Self::Ads(_) => "",
            Self::Separate(AdsVariant::Sotw) => "sotw",
            Self::Separate(AdsVariant::Delta) => "delta",
        }
    }
}

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
    static BINARY: OnceCell<Result<PathBuf, peers::Missing>> = OnceCell::const_new();
    let binary = match BINARY.get_or_try_init(|| async { build() }).await? {
        Ok(binary) => binary,
        Err(missing) => return Ok(Some(missing.clone())),
    };
    let scene = Scene::new().await?;
    let mut go = GoControlPlane::start(binary, matches!(way, Way::Ads(_))).await?;
    go.command(&json!({"op": "set", "state": scene.state(way, tls, 100)}))
        .await?;
    let admin = Port::reserve()?;
    let bootstrap = way.bootstrap(admin.address(), go.address);
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
    ensure!(
        go.count(|event| event["event"] == "nack") == 0,
        "refused: {:#?}",
        go.events()
    );

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
