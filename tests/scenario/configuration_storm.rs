//! Does anybody notice 200 configurations at 20 per second?
//!
//! Routes, clusters, endpoints and the listener's certificate change with every push, under HTTP/1.1, HTTP/2, gRPC-like
//! and TLS traffic and beside 100 long streams that speak all the time. No request may fail, no stream may close, and
//! memory must stay where it was. `REMORA_STORM_RATE` sets the requests per second (2,000).

#[path = "configuration_storm/swaps.rs"]
mod swaps;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use harness::bootstrap::{self, AdsVariant, http_protocol, type_url};
use harness::certificates::{Authority, Leaf};
use harness::client::{Http2Client, timed};
use harness::control_plane::{
    CLUSTER, ControlPlane, ENDPOINT, Kind, LISTENER, ROUTE, ResourceReader, SECRET,
};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::tls;
use harness::traffic::{Plan, Protocol, Traffic};
use harness::upstream::Upstream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

const WITHIN: Duration = Duration::from_secs(30);
const PUSHES: u32 = 200;
const PER_SECOND: u32 = 20;
const STREAMS: u32 = 100;
/// What may be added to the resident memory between the first quarter of the pushes and their end.
const GROWTH_KIB: u64 = 6 * 1024;

struct Scene {
    reader: ResourceReader,
    control_plane: ControlPlane,
    authority: Authority,
    leaves: [Leaf; 2],
    upstreams: [Upstream; 3],
    plain: Port,
    tls: Port,
}

fn ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3"})
}

impl Scene {
    async fn new() -> Result<Self> {
        let authority = Authority::new("storm root")?;
        let leaves = [
            authority.spiffe("spiffe://test.local/one")?,
            authority.spiffe("spiffe://test.local/two")?,
        ];
        let upstreams = [
            Upstream::start("a1").await?,
            Upstream::start("a2").await?,
            Upstream::start("b1").await?,
        ];
        let (plain, tls) = (Port::reserve()?, Port::reserve()?);
        let (reader, control_plane) = (ResourceReader::new()?, ControlPlane::start().await?);
        let scene = Self {
            reader,
            control_plane,
            authority,
            leaves,
            upstreams,
            plain,
            tls,
        };
        let rds = json!({"rds": {"route_config_name": "routes", "config_source": ads()}});
        let manager = bootstrap::http_connection_manager(&rds);
        let plain = bootstrap::listener("plain", scene.plain.address(), manager.clone());
        let mut secure = bootstrap::listener("tls", scene.tls.address(), manager);
        secure["filter_chains"][0]["transport_socket"] = json!({"name": "tls", "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "own", "sds_config": ads()}]}}});
        scene.control_plane.put([
            scene.reader.json(LISTENER, &plain)?,
            scene.reader.json(LISTENER, &secure)?,
        ]);
        scene.push(0)?;
        Ok(scene)
    }

    /// The configuration with the given number: something of everything is different from the one before.
    fn push(&self, number: u32) -> Result<()> {
        let [a1, a2, b1] = &self.upstreams;
        let turned = number % 2 == 1;
        let a = if turned {
            vec![a1.address(), a2.address()]
        } else {
            vec![a2.address()]
        };
        let weight = number * 7 % 101;
        let leaf = &self.leaves[usize::from(turned)];
        let routes = json!({"name": "routes", "virtual_hosts": [
            {"name": "extra", "domains": [format!("extra-{number}.test")], "routes": []},
            {"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/stream"}, "route": {"cluster": "b", "timeout": "0s", "idle_timeout": "0s"}},
                {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
                    {"name": "a", "weight": weight}, {"name": "b", "weight": 101 - weight}]}}}]}]});
        let secret = json!({"name": "own", "tls_certificate": {
            "certificate_chain": {"inline_string": leaf.certificate_pem}, "private_key": {"inline_string": leaf.key_pem}}});
        let extra = format!("extra-{}", number % 10);
        let resources = [
            self.cluster("a", number)?,
            self.cluster("b", 0)?,
            self.cluster(&extra, number)?,
            self.reader.json(ENDPOINT, &bootstrap::load_assignment("a", &a))?,
            self.reader
                .json(ENDPOINT, &bootstrap::load_assignment("b", &[b1.address()]))?,
            self.reader
                .json(ENDPOINT, &bootstrap::load_assignment(&extra, &a))?,
            self.reader.json(ROUTE, &routes)?,
            self.reader.json(SECRET, &secret)?,
        ];
        self.control_plane.push(|world| {
            world.remove(CLUSTER, &format!("extra-{}", (number + 5) % 10));
            resources.into_iter().for_each(|resource| world.put(resource));
        });
        Ok(())
    }

    fn cluster(&self, name: &str, number: u32) -> Result<harness::control_plane::Resource> {
        let protocol = json!({"http2_protocol_options": {}});
        self.reader.json(
            CLUSTER,
            &json!({
                "name": name, "type": "EDS", "eds_cluster_config": {"eds_config": ads()},
                "connect_timeout": format!("{}s", 2 + number % 3), "typed_extension_protocol_options": http_protocol(&protocol),
            }),
        )
    }

    fn traffic(&self) -> Result<Vec<Traffic>> {
        let rate: u32 = std::env::var("REMORA_STORM_RATE")
            .ok()
            .and_then(|rate| rate.parse().ok())
            .unwrap_or(2000);
        let plan = |protocol, share: u32| Plan {
            per_second: rate * share / 20,
            ..Plan::new(self.plain.address(), protocol)
        };
        let secure = Plan {
            tls: Some(tls::client_config(&self.authority, None, &["http/1.1"])?),
            to: self.tls.address(),
            ..plan(Protocol::Http1, 1)
        };
        let grpc = Plan {
            behave: Some("grpc".to_owned()),
            path: "/service/Method".to_owned(),
            ..plan(Protocol::Http2, 4)
        };
        let plans = [plan(Protocol::Http1, 8), plan(Protocol::Http2, 7), grpc, secure];
        Ok(plans.iter().map(Traffic::start).collect())
    }
}

/// A stream that sends a word and waits for its echo, again and again until it is told to finish.
async fn long_stream(
    mut send: SendStream<Bytes>,
    mut body: RecvStream,
    stop: watch::Receiver<bool>,
) -> Result<u32> {
    let mut words = 0;
    while !*stop.borrow() {
        send.send_data(Bytes::from_static(b"word"), false)?;
        let mut got = 0;
        while got < 4 {
            let data = timed(async { Ok(body.data().await.context("the stream ended")??) }).await?;
            body.flow_control().release_capacity(data.len())?;
            got += data.len();
        }
        words += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    send.send_data(Bytes::new(), true)?;
    while let Some(data) = timed(async { Ok(body.data().await) }).await? {
        data?;
    }
    Ok(words)
}

async fn open_streams(to: std::net::SocketAddr, stop: &watch::Sender<bool>) -> Result<JoinSet<Result<u32>>> {
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS / 10 {
        let client = Http2Client::connect(to).await?;
        for _ in 0..10 {
            let request = http::Request::post("http://test.local/stream")
                .header("x-behave", "echo")
                .body(())?;
            let (response, send) = client.handle().ready().await?.send_request(request, false)?;
            let response = timed(async { Ok(response.await?) }).await?;
            ensure!(
                response.status() == 200,
                "a stream was answered by {}",
                response.status()
            );
            streams.spawn(long_stream(send, response.into_body(), stop.subscribe()));
        }
    }
    Ok(streams)
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("a process has VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Starts the proxy and waits until it has everything.
async fn start(proxy: Proxy, scene: &Scene) -> Result<ProxyProcess> {
    let admin = Port::reserve()?;
    let text = bootstrap::ads(admin.address(), scene.control_plane.address(), AdsVariant::Delta).to_string();
    let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
    scene.control_plane.wait_ack(ROUTE).await?;
    scene.control_plane.wait_ack(SECRET).await?;
    Ok(process)
}

async fn storm(proxy: Proxy) -> Result<()> {
    let scene = Scene::new().await?;
    let process = start(proxy, &scene).await?;
    let stop = watch::Sender::new(false);
    let mut streams = open_streams(scene.plain.address(), &stop).await?;
    let (begun, traffic) = (Instant::now(), scene.traffic()?);
    for one in &traffic {
        one.wait(WITHIN, |tally| tally.answered > 10).await?;
    }

    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    let mut early = 0;
    for number in 1..=PUSHES {
        ticks.tick().await;
        scene.push(number)?;
        if number == PUSHES / 4 {
            early = resident_kib(process.pid())?;
        }
    }
    let late = resident_kib(process.pid())?;
    stop.send_replace(true);
    while let Some(ended) = streams.join_next().await {
        let words = ended?.context("a long stream was closed")?;
        ensure!(words > 10, "a long stream said only {words} words");
    }
    let mut answered = 0;
    for one in traffic {
        let tally = one.stop().await;
        answered += tally.answered;
        let some = &tally.failures[..tally.failures.len().min(5)];
        ensure!(
            some.is_empty(),
            "{} failed beside {}: {some:?}",
            tally.failures.len(),
            tally.answered
        );
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rate = answered as f64 / seconds;
    writeln!(
        std::io::stderr(),
        "{}: {answered} requests, {rate:.0} per second, {early} to {late} KiB",
        proxy.name()
    )?;
    let refused = scene
        .control_plane
        .requests()
        .into_iter()
        .find(|seen| seen.kind == Kind::Nack);
    ensure!(refused.is_none(), "refused: {refused:?}");
    ensure!(
        late <= early + GROWTH_KIB,
        "memory grew from {early} to {late} KiB"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_two_hundred_configurations() -> Result<()> {
    for proxy in Proxy::under_test("configuration_storm")? {
        storm(proxy).await.with_context(|| proxy.name())?;
    }
    Ok(())
}
