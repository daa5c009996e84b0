//! What does a large mesh cost a proxy: to load, to hold, to follow and to tell of?
//!
//! Remora and Envoy get the same resources from the same control plane in this process, one after the other, over delta
//! and over state-of-the-world ADS. Counted is the CPU time of the proxy's process alone (the scheduler's accounting),
//! so the figures stand a busy machine; compare ratios of one run. A change counts from its push until the proxy is at
//! rest again, averaged over many. The bounds are those that we hold ourselves to.

mod report;
mod world;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::bootstrap::{self, AdsVariant};
use harness::client::RawClient;
use harness::control_plane::{CLUSTER, ControlPlane, ENDPOINT, Kind, ROUTE, Resource};
use harness::peers;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::report::{Figures, Run};
use self::world::Mesh;
pub(crate) use self::world::Size;
use crate::accounting;

/// Changes before the counted ones: buffers grow once.
const WARM_UP: usize = 3;

/// A proxy answers a change within this time, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a change leaves to be done after its acknowledgement is done within this time.
const AFTERMATH: Duration = Duration::from_millis(500);

/// What a proxy does without being asked is measured for this long, and taken off what it does when asked.
const IDLE: Duration = Duration::from_secs(11);

/// Memory is at rest when it changed by less than one percent during this time.
const REST: Duration = Duration::from_secs(3);

/// Compares the proxies in a large mesh.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Services: each is a cluster and a virtual host.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=65_536))]
    services: u32,
    /// Endpoints of each.
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// Changes of each sort over which the cost is averaged.
    #[arg(long, default_value_t = 30)]
    changes: usize,
    /// The wire variants.
    #[arg(long, value_delimiter = ',', default_values_t = [Variant::Delta, Variant::Sotw])]
    variants: Vec<Variant>,
    /// Who runs.
    #[arg(long, value_delimiter = ',', default_values_t = [Side::Envoy, Side::Remora])]
    proxies: Vec<Side>,
    /// Ends with an error when a bound is missed.
    #[arg(long)]
    check: bool,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A wire variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Variant {
    Delta,
    Sotw,
}

/// A proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    Envoy,
    Remora,
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Delta => "delta",
            Self::Sotw => "sotw",
        })
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Envoy => "envoy",
            Self::Remora => "remora",
        })
    }
}

/// A proxy that holds the mesh, and everything around it.
pub(crate) struct Scene {
    mesh: Mesh,
    control_plane: ControlPlane,
    process: ProxyProcess,
    services: usize,
    _backend: Upstream,
    _port: Port,
}

/// Measures and prints the table.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut out = std::io::stdout();
    let mut runs = Vec::new();
    for variant in &arguments.variants {
        for side in &arguments.proxies {
            let proxy = match side {
                Side::Envoy => Proxy::Envoy,
                Side::Remora => Proxy::Remora,
            };
            if let Err(missing) = proxy.binary() {
                peers::skip(&format!("load mesh {side}"), &missing)?;
                continue;
            }
            let figures = once(proxy, *variant, arguments)
                .await
                .with_context(|| format!("{side}, {variant}"))?;
            writeln!(std::io::stderr(), "{side}, {variant}: {figures:?}")?;
            runs.push(Run {
                side: *side,
                variant: *variant,
                figures,
            });
        }
    }
    let report = report::Report::new(&runs, &arguments.variants);
    writeln!(
        out,
        "{} clusters of {} endpoints, {} virtual hosts\n{}",
        arguments.services,
        arguments.endpoints,
        arguments.services,
        report.markdown()
    )?;
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.json())?)?;
    }
    let missed = report.missed();
    ensure!(
        !arguments.check || missed.is_empty(),
        "missed: {}",
        missed.join(", ")
    );
    Ok(())
}

async fn once(proxy: Proxy, variant: Variant, arguments: &Arguments) -> Result<Figures> {
    let started = Instant::now();
    let size = Size {
        services: arguments.services as usize,
        endpoints: arguments.endpoints,
    };
    let ads = match variant {
        Variant::Delta => AdsVariant::Delta,
        Variant::Sotw => AdsVariant::Sotw,
    };
    let scene = Scene::start(proxy, ads, size, Vec::new()).await?;
    let ready = started.elapsed();
    let pid = scene.process.pid();
    let rest = at_rest(pid).await?;
    let idle = idle_cores(pid).await?;
    let endpoints = |change: usize| scene.endpoint_change(change);
    let routes = |change: usize| {
        scene
            .mesh
            .routes(Some((scene.service(change), 16 + change as i64)))
    };
    let clusters = |change: usize| scene.mesh.cluster(scene.service(change), 2 + change as i64);
    let changes = arguments.changes;
    let endpoint_change = scene.cost(ENDPOINT, changes, idle, endpoints).await?;
    let route_change = scene.cost(ROUTE, changes, idle, routes).await?;
    let cluster_change = scene.cost(CLUSTER, changes, idle, clusters).await?;
    let mut scrape_bytes = 0;
    scrape(scene.process.admin()).await?;
    let before = accounting::read(&[pid])?;
    for _ in 0..3 {
        scrape_bytes = scrape(scene.process.admin()).await?;
    }
    let after = accounting::read(&[pid])?;
    let last = at_rest(pid).await?;
    Ok(Figures {
        ready_seconds: ready.as_secs_f64(),
        load_cpu_seconds: rest.cpu_ns as f64 / 1e9,
        idle_cores: idle,
        rest_mib: mib(rest.resident_kib),
        end_mib: mib(last.resident_kib),
        peak_mib: mib(last.peak_kib),
        endpoint_change_ms: endpoint_change,
        route_change_ms: route_change,
        cluster_change_ms: cluster_change,
        scrape_kib: scrape_bytes as f64 / 1024.0,
        scrape_cpu_ms: (after.cpu_ns - before.cpu_ns) as f64 / 3e6,
    })
}

impl Scene {
    /// Starts the proxy before a control plane that has everything, and waits for the last service to answer.
    pub(crate) async fn start(
        proxy: Proxy,
        ads: AdsVariant,
        size: Size,
        wrapper: Vec<String>,
    ) -> Result<Self> {
        let backend = Upstream::start("last").await?;
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        let mesh = Mesh::new(size, port.address(), backend.address());
        let control_plane = ControlPlane::start().await?;
        control_plane.send_only_changes();
        control_plane.put(mesh.resources()?);
        let mut bootstrap = bootstrap::ads(admin.address(), control_plane.address(), ads);
        if proxy == Proxy::Envoy {
            // What it does every five seconds for all its statistics is not the cost of a change.
            bootstrap["stats_flush_interval"] = "299s".into();
        }
        let text = bootstrap.to_string();
        let options = Options {
            ready_within: PATIENCE,
            wrapper,
            ..Options::default()
        };
        let process = ProxyProcess::start(proxy, &text, admin, &options).await?;
        answers(port.address(), &mesh.last_authority()).await?;
        Ok(Self {
            mesh,
            control_plane,
            process,
            services: size.services,
            _backend: backend,
            _port: port,
        })
    }

    /// CPU milliseconds per change of one resource, beside what goes on when nothing does.
    async fn cost(
        &self,
        type_url: &str,
        changes: usize,
        idle_cores: f64,
        change: impl Fn(usize) -> Resource,
    ) -> Result<f64> {
        for number in 0..WARM_UP {
            self.push(type_url, change(number)).await?;
        }
        tokio::time::sleep(AFTERMATH).await;
        let pid = self.process.pid();
        let started = Instant::now();
        let before = accounting::read(&[pid])?;
        for number in WARM_UP..WARM_UP + changes {
            self.push(type_url, change(number)).await?;
        }
        tokio::time::sleep(AFTERMATH).await;
        let after = accounting::read(&[pid])?;
        let spent =
            (after.cpu_ns - before.cpu_ns) as f64 / 1e9 - idle_cores * started.elapsed().as_secs_f64();
        Ok(spent.max(0.0) * 1e3 / changes.max(1) as f64)
    }

    /// The process id of the proxy.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Changes one endpoint of one service.
    pub(crate) async fn change_endpoint(&self, change: usize) -> Result<()> {
        self.push(ENDPOINT, self.endpoint_change(change)).await
    }

    fn endpoint_change(&self, change: usize) -> Resource {
        self.mesh.assignment(self.service(change), change + 1)
    }

    /// Which service the change touches: never the last.
    fn service(&self, change: usize) -> usize {
        change * 37 % (self.services - 1)
    }

    /// Changes one resource and waits until that is acknowledged.
    async fn push(&self, type_url: &str, resource: Resource) -> Result<()> {
        self.control_plane.forget_requests();
        self.control_plane.put([resource]);
        let answer = |recorded: &harness::control_plane::Recorded| {
            recorded.kind != Kind::Subscribe && recorded.type_url == type_url
        };
        let answer = self.control_plane.wait_for(PATIENCE, answer).await?;
        ensure!(answer.kind == Kind::Ack, "refused: {}", answer.error);
        Ok(())
    }
}

/// Waits until a request to `authority` is answered by its service.
async fn answers(listener: SocketAddr, authority: &str) -> Result<()> {
    let request = format!("GET / HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(mut client) = RawClient::connect(listener).await
            && let Ok(answer) = client.exchange(request.as_bytes()).await
            && answer.status() == 200
        {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{authority} does not answer");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The reading once the memory is at rest.
async fn at_rest(pid: u32) -> Result<accounting::Reading> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = accounting::read(&[pid])?;
    loop {
        tokio::time::sleep(REST).await;
        let now = accounting::read(&[pid])?;
        let moved = now.resident_kib.abs_diff(before.resident_kib);
        if moved * 100 < before.resident_kib || Instant::now() > deadline {
            return Ok(now);
        }
        before = now;
    }
}

/// How much of a core it uses when nothing happens.
async fn idle_cores(pid: u32) -> Result<f64> {
    let started = Instant::now();
    let before = accounting::read(&[pid])?;
    tokio::time::sleep(IDLE).await;
    let after = accounting::read(&[pid])?;
    Ok((after.cpu_ns - before.cpu_ns) as f64 / 1e9 / started.elapsed().as_secs_f64())
}

/// Reads the metrics; says how many bytes they are.
async fn scrape(admin: SocketAddr) -> Result<usize> {
    let mut stream = tokio::net::TcpStream::connect(admin).await?;
    let request = format!("GET /stats/prometheus HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await?? {
            0 => return Ok(bytes),
            read => bytes += read,
        }
    }
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
