//! Clusters of every kind, and what they say of their connections, beside Envoy: names, original destinations, pipes,
//! addresses bound to, keepalive, how long and for how many requests a connection lives, limits of retries.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{address, merge, type_url};
use harness::peers;
use harness::process::Proxy;
use harness::upstream::{Behaviour, Upstream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::stage::{Applications, Running, cluster, get, route};

/// A server that tells each client from where it came, and how many connections it has.
struct Teller {
    at: SocketAddr,
    open: watch::Receiver<usize>,
    task: AbortHandle,
}

impl Teller {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let at = listener.local_addr()?;
        let (count, open) = watch::channel(0);
        let accepting = async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    count.send_modify(|open| *open += 1);
                    tell(stream, &format!("peer {}", peer.ip())).await;
                    count.send_modify(|open| *open -= 1);
                });
            }
        };
        let task = tokio::spawn(accepting).abort_handle();
        Ok(Self { at, open, task })
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers every request with this name, until the client leaves.
async fn tell<S: AsyncRead + AsyncWrite + Unpin>(stream: S, name: &str) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while matches!(stream.read_line(&mut line).await, Ok(length) if length > 0) {
        if line == "\r\n" {
            let answer = format!("HTTP/1.1 200 OK\r\nx-upstream: {name}\r\ncontent-length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        line.clear();
    }
}

/// `four` and `six` on one port of both families.
async fn both_families() -> Result<[Upstream; 2]> {
    let start = |name: &'static str, at: SocketAddr| async move {
        let behaviour = Behaviour {
            body: Some(0),
            ..Behaviour::default()
        };
        Upstream::listen(name, at, behaviour, None).await
    };
    for _ in 0..50 {
        let six = start("six", (Ipv6Addr::LOCALHOST, 0).into()).await?;
        if let Ok(four) = start("four", (Ipv4Addr::LOCALHOST, six.address().port()).into()).await {
            return Ok([four, six]);
        }
    }
    anyhow::bail!("no port is free in both families")
}

fn endpoints(addresses: &[Value]) -> Value {
    let each = addresses
        .iter()
        .map(|address| json!({"endpoint": {"address": address}}));
    json!([{"lb_endpoints": each.collect::<Vec<_>>()}])
}

fn named(port: u16) -> Value {
    endpoints(&[json!({"socket_address": {"address": "localhost", "port_value": port}})])
}

/// HTTP options of a cluster.
fn http(common: &Value) -> Value {
    json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": type_url("extensions.upstreams.http.v3.HttpProtocolOptions"),
        "common_http_protocol_options": common, "explicit_http_config": {"http_protocol_options": {}}}}})
}

/// The clusters of names.
fn names(port: u16) -> Vec<Value> {
    let dns = |name: &str, fields: Value| {
        let mut all = json!({"type": "STRICT_DNS", "dns_refresh_rate": "5s", "dns_jitter": "1s",
            "respect_dns_ttl": true});
        merge(&mut all, &fields);
        cluster(name, &named(port), &all)
    };
    let family = |family: &str| json!({"dns_lookup_family": family});
    let mut typed = cluster("typed-dns", &named(port), &json!({}));
    if let Some(typed) = typed.as_object_mut() {
        typed.remove("type");
    }
    merge(
        &mut typed,
        &json!({"cluster_type": {"name": "envoy.cluster.dns", "typed_config": {
            "@type": type_url("extensions.clusters.dns.v3.DnsCluster"), "dns_lookup_family": "V4_ONLY",
            "respect_dns_ttl": true, "dns_refresh_rate": "5s", "dns_jitter": "1s"}}}),
    );
    vec![
        dns("strict-4", family("V4_ONLY")),
        dns("strict-6", family("V6_ONLY")),
        dns("strict-auto", family("AUTO")),
        dns("strict-preferred", family("V4_PREFERRED")),
        dns("strict-all", family("ALL")),
        dns(
            "logical-4",
            json!({"type": "LOGICAL_DNS", "dns_lookup_family": "V4_ONLY"}),
        ),
        dns(
            "logical-6",
            json!({"type": "LOGICAL_DNS", "dns_lookup_family": "V6_ONLY"}),
        ),
        typed,
    ]
}

const NAMES: [&str; 8] = [
    "strict-4",
    "strict-6",
    "strict-auto",
    "strict-preferred",
    "strict-all",
    "logical-4",
    "logical-6",
    "typed-dns",
];

/// The clusters of original destinations.
fn destinations(port: u16) -> Vec<Value> {
    let kind = |name: &str, config: Value| {
        json!({"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s",
            "original_dst_lb_config": config})
    };
    vec![
        kind("by-header", json!({"use_http_header": true})),
        kind(
            "by-own-header",
            json!({"use_http_header": true, "http_header_name": "x-to"}),
        ),
        kind(
            "by-header-and-port",
            json!({"use_http_header": true, "upstream_port_override": port}),
        ),
    ]
}

/// Clusters that say something of their connections to the teller.
fn connections(teller: SocketAddr) -> Vec<Value> {
    let to = |name: &str, fields: Value| cluster(name, &endpoints(&[address(teller)]), &fields);
    let bind =
        |from: &str| json!({"upstream_bind_config": {"source_address": {"address": from, "port_value": 0}}});
    vec![
        to("bound", bind("127.0.0.6")),
        to("unbound", json!({})),
        to(
            "kept-alive",
            json!({"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 30, "keepalive_interval": 10,
                "keepalive_probes": 3}}}),
        ),
        to("idle", http(&json!({"idle_timeout": "0.2s"}))),
        to("old", http(&json!({"max_connection_duration": "0.3s"}))),
        to("stat", json!({"alt_stat_name": "another-name"})),
    ]
}

/// Clusters whose limits allow no retry, and one that does.
fn retries(of: &Applications) -> Vec<Value> {
    let part = || json!([{"lb_endpoints": [of.endpoint(0, &json!({}))]}]);
    let limits = |limits: Value| json!({"circuit_breakers": {"thresholds": [limits]}});
    let budget = |percent: f64, least: u32| json!({"retry_budget": {"budget_percent": {"value": percent}, "min_retry_concurrency": least}});
    vec![
        cluster("no-retries", &part(), &limits(json!({"max_retries": 0}))),
        cluster("one-retry", &part(), &limits(json!({"max_retries": 1}))),
        cluster("no-budget", &part(), &limits(budget(0.0, 0))),
        cluster("some-budget", &part(), &limits(budget(50.0, 2))),
    ]
}

const RETRIES: [&str; 4] = ["no-retries", "one-retry", "no-budget", "some-budget"];

struct World {
    applications: Applications,
    families: [Upstream; 2],
    teller: Teller,
    folder: tempfile::TempDir,
    _pipe: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listener = UnixListener::bind(pipe(folder.path()))?;
        let _pipe = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move { tell(stream, "pipe").await });
            }
        });
        Ok(Self {
            applications: Applications::start(2).await?,
            families: both_families().await?,
            teller: Teller::start().await?,
            folder,
            _pipe,
        })
    }

    async fn start(&self, proxy: Proxy) -> Result<Running> {
        let port = self.applications.address(1).port();
        let by_pipe = endpoints(&[json!({"pipe": {"path": pipe(self.folder.path()).to_string_lossy()}})]);
        let named = json!([{"lb_endpoints": [self.applications.endpoint(0, &json!({}))]}]);
        let clusters = [
            names(self.families[0].address().port()),
            destinations(port),
            connections(self.teller.at),
            retries(&self.applications),
            vec![
                cluster("pipe", &by_pipe, &json!({})),
                cluster("named", &named, &json!({})),
                cluster("brief", &named, &http(&json!({"max_requests_per_connection": 2}))),
            ],
        ]
        .concat();
        let policy = json!({"retry_policy": {"retry_on": "5xx", "num_retries": 1,
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}});
        let routes: Vec<Value> = clusters
            .iter()
            .filter_map(|cluster| cluster["name"].as_str())
            .map(|name| match name {
                "named" => route(
                    name,
                    name,
                    &json!({"auto_host_rewrite": true, "append_x_forwarded_host": true}),
                ),
                _ if RETRIES.contains(&name) => route(name, name, &policy),
                _ => route(name, name, &json!({})),
            })
            .collect();
        Running::start(proxy, &routes, &clusters).await
    }
}

fn pipe(folder: &Path) -> std::path::PathBuf {
    folder.join("socket")
}

/// Status and answering server of a request.
async fn seen(proxy: &Running, path: &str, lines: &[(&str, String)]) -> Result<String> {
    let answers = proxy
        .statuses(Ipv4Addr::LOCALHOST, &[get(&format!("/{path}"), lines)])
        .await?;
    answers.into_iter().next().context("an answer")
}

/// What one proxy does, as lines.
async fn observed(world: &World, proxy: &Running) -> Result<String> {
    let mut text = String::new();
    for name in NAMES {
        let mut by = Vec::new();
        for _ in 0..6 {
            by.push(seen(proxy, name, &[]).await?);
        }
        by.sort();
        by.dedup();
        writeln!(text, "{name}: {by:?}")?;
    }
    let (first, second) = (world.applications.address(0), world.applications.address(1));
    let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    for (name, header, to) in [
        ("by-header", "x-envoy-original-dst-host", first),
        ("by-header", "x-envoy-original-dst-host", second),
        ("by-header", "x-to", first),
        ("by-own-header", "x-to", first),
        ("by-header-and-port", "x-envoy-original-dst-host", elsewhere),
    ] {
        let is = match seen(proxy, name, &[(header, to.to_string())]).await {
            Ok(is) => is,
            Err(error) => error.to_string(),
        };
        writeln!(text, "{name} with {header}: {is}")?;
    }
    for name in ["pipe", "bound", "unbound", "stat"] {
        writeln!(text, "{name}: {}", seen(proxy, name, &[]).await?)?;
    }
    let stats = proxy.counts("another-name", "upstream_rq_total").await?;
    writeln!(text, "under another name: {stats:?}")?;
    for name in RETRIES {
        let before = world.applications.counts()[0];
        let is = seen(proxy, name, &[("x-behave", "status=503".to_owned())]).await?;
        writeln!(
            text,
            "{name}: {is} after {} attempts",
            world.applications.counts()[0] - before
        )?;
    }
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_of_every_kind_do_as_envoys() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("clusters_of_every_kind_do_as_envoys", &missing);
    }
    let world = World::new().await?;
    let envoy = world.start(Proxy::Envoy).await?;
    let expected = observed(&world, &envoy).await?;
    ensure!(expected.contains("strict-6: [\"200 by six\"]"), "{expected}");
    ensure!(expected.contains("bound: 200 by peer 127.0.0.6"), "{expected}");
    for proxy in Proxy::under_test("clusters_of_every_kind_do_as_envoys")? {
        let tested = world.start(proxy).await?;
        let found = observed(&world, &tested).await?;
        ensure!(
            found == expected,
            "Envoy:\n{expected}\n{}:\n{found}",
            proxy.name()
        );
    }
    Ok(())
}

/// The application is addressed by the name of its endpoint, and told the name that was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_addressed_by_its_name() -> Result<()> {
    let world = World::new().await?;
    for proxy in Proxy::under_test("an_endpoint_is_addressed_by_its_name")? {
        let tested = world.start(proxy).await?;
        seen(&tested, "named", &[]).await?;
        let received = world.applications.take(0);
        let last = received.last().context("a request")?;
        ensure!(last.authority == "host-0.test", "{last:?}");
        ensure!(last.header("x-forwarded-host") == Some("h"), "{last:?}");
    }
    Ok(())
}

/// A connection that is idle, or old, ends; one that has had its requests is not used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_connections_end_when_their_cluster_says() -> Result<()> {
    for proxy in Proxy::under_test("upstream_connections_end_when_their_cluster_says")? {
        let world = World::new().await?;
        let tested = world.start(proxy).await?;
        for name in ["idle", "old"] {
            ensure!(seen(&tested, name, &[]).await? == "200 by peer 127.0.0.1");
            let mut open = world.teller.open.clone();
            let ended = tokio::time::timeout(Duration::from_secs(20), open.wait_for(|open| *open == 0)).await;
            ensure!(ended.is_ok(), "{}: the {name} connection stays", proxy.name());
        }
        let requests = vec![get("/brief", &[]); 4];
        tested.statuses(Ipv4Addr::LOCALHOST, &requests).await?;
        let connections: Vec<u64> = world
            .applications
            .take(0)
            .iter()
            .map(|it| it.connection)
            .collect();
        ensure!(
            connections.len() == 4 && connections[0] == connections[1] && connections[2] == connections[3],
            "{connections:?}"
        );
        ensure!(
            connections[1] != connections[2],
            "{}: {connections:?}",
            proxy.name()
        );
    }
    Ok(())
}

/// The kernel's timer of the proxy's socket to the teller: `02` is that of keepalive.
fn timer(teller: SocketAddr) -> Result<Option<String>> {
    let remote = format!(":{:04X}", teller.port());
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let mut rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = rows.find(|row| row.len() > 5 && row[2].ends_with(&remote) && row[3] == "01");
    Ok(found.and_then(|row| row[5].split(':').next().map(str::to_owned)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_keeps_an_upstream_connection_alive() -> Result<()> {
    for proxy in Proxy::under_test("the_kernel_keeps_an_upstream_connection_alive")? {
        for (name, expected) in [("unbound", "00"), ("kept-alive", "02")] {
            let world = World::new().await?;
            let tested = world.start(proxy).await?;
            ensure!(seen(&tested, name, &[]).await? == "200 by peer 127.0.0.1");
            let deadline = Instant::now() + Duration::from_secs(20);
            while timer(world.teller.at)?.as_deref() != Some(expected) {
                let is = timer(world.teller.at)?;
                ensure!(
                    Instant::now() < deadline,
                    "{} {name}: {is:?}, not {expected}",
                    proxy.name()
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}
