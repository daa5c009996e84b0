//! How many instructions, and how many allocations, does one request take?
//!
//! The released binary serves real connections under callgrind, one request after the other, and what it executed
//! between two readings is divided by the requests. Instructions say nothing of caches and system calls, but they are
//! the same on a busy machine, so a change of two percent is a change of the program. Figures of one machine and
//! toolchain stand in `recorded.json`; on another nothing is judged.

mod callgrind;
mod recorded;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use harness::bootstrap::{self, AdsVariant};
use harness::client::{Http2Client, RawClient};
use harness::control_plane::{CLUSTER, ControlPlane, LISTENER, ROUTE, ResourceReader};
use harness::peers;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use serde_json::{Value, json};

use self::callgrind::Callgrind;
use crate::Scenario;
use crate::mesh::{Scene, Size};
use crate::peer::{self, Certificates};

/// Requests before the counted ones: pools fill, buffers grow.
const WARM_UP: usize = 100;

/// How long the first answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Hosts and routes of the large tables.
const MANY: usize = 10_000;

/// Counts instructions per request.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Requests over which the count is averaged.
    #[arg(long, default_value_t = 400)]
    requests: usize,
    /// The cases.
    #[arg(long, value_delimiter = ',', default_values_t = Case::ALL)]
    cases: Vec<Case>,
    /// Ends with an error where a case takes two percent more than recorded.
    #[arg(long)]
    check: bool,
    /// Records the figures.
    #[arg(long)]
    record: bool,
    /// A folder that keeps the profiles, for `callgrind_annotate --inclusive=yes FILE`.
    #[arg(long)]
    profiles: Option<PathBuf>,
}

/// What is done again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// HTTP/1.1 with keep-alive on both sides.
    Http1,
    /// HTTP/2 on both sides, one connection.
    Http2,
    /// Two proxies, mutual TLS between them (both added up).
    Mtls,
    /// One message there and back through a TCP relay.
    Tcp,
    /// HTTP/1.1 to one of 10,000 virtual hosts.
    Hosts,
    /// HTTP/1.1 by the last of 10,000 prefix routes of one virtual host.
    Routes,
    /// One endpoint's change in a mesh of 1,000 services, over delta ADS.
    Update,
}

impl Case {
    const ALL: [Self; 7] = [
        Self::Http1,
        Self::Http2,
        Self::Mtls,
        Self::Tcp,
        Self::Hosts,
        Self::Routes,
        Self::Update,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Mtls => "mtls",
            Self::Tcp => "tcp",
            Self::Hosts => "hosts",
            Self::Routes => "routes",
            Self::Update => "update",
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What one request took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    instructions: f64,
    allocations: f64,
}

/// Counts, prints, and judges where that is wanted.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    if let Err(missing) = peers::program("valgrind")
        .and_then(|_| peers::program("vgdb"))
        .and_then(|_| Proxy::Remora.binary())
    {
        return peers::skip("instructions", &missing);
    }
    let mut costs = Vec::new();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| case | instructions | allocations | recorded |\n|---|---|---|---|"
    )?;
    let recorded = recorded::Recorded::read()?;
    for case in &arguments.cases {
        let callgrind = Callgrind::new(arguments.profiles.as_deref())?;
        let cost = count(*case, arguments.requests, &callgrind)
            .await
            .with_context(|| case.name())?;
        let before = recorded.cost(case.name());
        writeln!(
            out,
            "| {case} | {:.0} | {:.2} | {} |",
            cost.instructions,
            cost.allocations,
            before.map_or_else(
                || "-".to_owned(),
                |before| format!(
                    "{:.0} ({:+.1} %), {:.2}",
                    before.instructions,
                    (cost.instructions / before.instructions - 1.0) * 100.0,
                    before.allocations
                )
            )
        )?;
        costs.push((case.name(), cost));
    }
    if arguments.record {
        recorded::write(&costs)?;
    }
    if arguments.check {
        recorded.judge(&costs)?;
    }
    Ok(())
}

async fn count(case: Case, requests: usize, callgrind: &Callgrind) -> Result<Cost> {
    if case == Case::Update {
        let size = Size {
            services: 1_000,
            endpoints: 10,
        };
        let scene = Scene::start(Proxy::Remora, AdsVariant::Delta, size, callgrind.wrapper()).await?;
        for number in 0..WARM_UP {
            scene.change_endpoint(number).await?;
        }
        callgrind.begin(&[scene.pid()])?;
        for number in WARM_UP..WARM_UP + requests {
            scene.change_endpoint(number).await?;
        }
        return callgrind.end(&[scene.pid()], requests);
    }
    let scenario = match case {
        Case::Http2 => Scenario::Http2,
        Case::Mtls => Scenario::Mtls,
        Case::Tcp => Scenario::Tcp,
        Case::Http1 | Case::Hosts | Case::Routes | Case::Update => Scenario::Http1,
    };
    let (_backing, backend) = peer::start_backend(scenario, None)?;
    let hosts = match case {
        Case::Hosts => many_hosts(),
        Case::Routes => many_routes(),
        _ => Vec::new(),
    };
    if !hosts.is_empty() {
        let routed = with_routes(&hosts, backend, callgrind).await?;
        return serve(
            case,
            routed.port.address(),
            &[routed.process.pid()],
            callgrind,
            requests,
        )
        .await;
    }
    let certificates = Certificates::new()?;
    let wrapper = callgrind.wrapper();
    let running = peer::start_under(wrapper, Proxy::Remora, scenario, backend, &certificates).await?;
    serve(case, running.address, &running.pids, callgrind, requests).await
}

/// What the requests to one address take.
async fn serve(
    case: Case,
    to: SocketAddr,
    pids: &[u32],
    callgrind: &Callgrind,
    requests: usize,
) -> Result<Cost> {
    let mut client = Client::connect(case, to).await?;
    // The first handshake may last longer than a connection may take.
    let deadline = Instant::now() + PATIENCE;
    while client.requests(1).await.is_err() && Instant::now() < deadline {}
    client.requests(WARM_UP).await?;
    callgrind.begin(pids)?;
    client.requests(requests).await?;
    callgrind.end(pids, requests)
}

/// The proxy with these virtual hosts. A control plane brings them: a bootstrap of this size is long in reading.
async fn with_routes(hosts: &[Value], backend: SocketAddr, callgrind: &Callgrind) -> Result<Routed> {
    let (port, admin) = (Port::reserve()?, Port::reserve()?);
    let reader = ResourceReader::new()?;
    let rds = json!({"rds": {"route_config_name": "many",
        "config_source": {"ads": {}, "resource_api_version": "V3"}}});
    let manager = bootstrap::http_connection_manager(&rds);
    let control_plane = ControlPlane::start().await?;
    control_plane.put([
        reader.json(CLUSTER, &bootstrap::cluster("next", &[backend]))?,
        reader.json(LISTENER, &bootstrap::listener("in", port.address(), manager))?,
        reader.json(ROUTE, &json!({"name": "many", "virtual_hosts": hosts}))?,
    ]);
    let text = bootstrap::ads(admin.address(), control_plane.address(), AdsVariant::Delta).to_string();
    let options = Options {
        wrapper: callgrind.wrapper(),
        ready_within: PATIENCE,
        ..Options::default()
    };
    let process = ProxyProcess::start(Proxy::Remora, &text, admin, &options).await?;
    Ok(Routed {
        process,
        port,
        _control_plane: control_plane,
    })
}

/// A proxy with routes of a control plane.
struct Routed {
    process: ProxyProcess,
    port: Port,
    _control_plane: ControlPlane,
}

fn many_hosts() -> Vec<Value> {
    (0..MANY)
        .map(|number| {
            json!({"name": format!("host-{number}"), "domains": [format!("service-{number}.ns.svc")],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next"}}]})
        })
        .collect()
}

fn many_routes() -> Vec<Value> {
    let routes: Vec<Value> = (0..MANY)
        .map(|number| json!({"match": {"prefix": format!("/part/{number:05}/")}, "route": {"cluster": "next"}}))
        .collect();
    vec![json!({"name": "all", "domains": ["*"], "routes": routes})]
}

/// Whoever asks.
enum Client {
    Http1(RawClient, String),
    Http2(Http2Client),
}

impl Client {
    async fn connect(case: Case, to: SocketAddr) -> Result<Self> {
        let (host, path) = match case {
            Case::Hosts => (format!("service-{}.ns.svc", MANY - 1), "/".to_owned()),
            Case::Routes => ("load.test".to_owned(), format!("/part/{:05}/x", MANY - 1)),
            _ => ("load.test".to_owned(), "/".to_owned()),
        };
        Ok(if case == Case::Http2 {
            Self::Http2(Http2Client::connect(to).await?)
        } else {
            let head =
                format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: load\r\naccept: */*\r\n\r\n");
            Self::Http1(RawClient::connect(to).await?, head)
        })
    }

    /// One after the other.
    async fn requests(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let status = match self {
                Self::Http1(client, head) => client.exchange(head.as_bytes()).await?.status(),
                Self::Http2(client) => {
                    let request = http::Request::get("http://load.test/")
                        .header("user-agent", "load")
                        .header("accept", "*/*")
                        .body(())?;
                    let answer = client.exchange(request, Bytes::new(), None).await?;
                    answer.head.status().as_u16()
                }
            };
            ensure!(status == 200, "status {status}");
        }
        Ok(())
    }
}
