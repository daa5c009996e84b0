//! Which proxies are compared, and with which configuration does each do the same work?
//!
//! Every peer runs one worker on one core. Remora and Envoy get the same bootstrap. In the `mtls` scenario two
//! instances of the same peer stand in a row, mutual TLS 1.3 between them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::bootstrap::{self, Identity};
use harness::certificates::{Authority, Leaf, LeafRequest};
use harness::peers::{self, Missing};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use serde_json::{Value, json};

use crate::Scenario;
use crate::generator::pinned;

const CLIENT: &str = "spiffe://load.local/client";
const SERVER: &str = "spiffe://load.local/server";

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// No proxy: the load goes to the backend.
    Direct,
    Envoy,
    Remora,
    Haproxy,
    Nginx,
}

/// The certificates of the pair.
pub(crate) struct Certificates {
    authority: Authority,
    client: Leaf,
    server: Leaf,
    folder: tempfile::TempDir,
}

/// A peer at work.
pub(crate) struct Running {
    /// Where the load goes.
    pub(crate) address: SocketAddr,
    /// Its processes; none for [`Peer::Direct`].
    pub(crate) pids: Vec<u32>,
    _parts: Parts,
}

#[derive(Default)]
struct Parts {
    _ports: Vec<Port>,
    _proxies: Vec<ProxyProcess>,
    children: Vec<Child>,
    _folder: Option<tempfile::TempDir>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Certificates {
    pub(crate) fn new() -> Result<Self> {
        let authority = Authority::new("load root")?;
        let client = authority.spiffe(CLIENT)?;
        // HAProxy checks the name that it asked for.
        let named = LeafRequest {
            uris: vec![SERVER.into()],
            dns_names: vec!["server.test".into()],
            ..LeafRequest::default()
        };
        let server = authority.leaf(&named)?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("ca.pem"), authority.pem())?;
        for (name, leaf) in [("client.pem", &client), ("server.pem", &server)] {
            std::fs::write(
                folder.path().join(name),
                format!("{}{}", leaf.certificate_pem, leaf.key_pem),
            )?;
        }
        Ok(Self {
            authority,
            client,
            server,
            folder,
        })
    }

    fn identity<'a>(&'a self, leaf: &'a Leaf, peer: &'a str) -> Identity<'a> {
        Identity {
            certificate: &leaf.certificate_pem,
            key: &leaf.key_pem,
            roots: self.authority.pem(),
            peer,
        }
    }
}

impl Peer {
    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Envoy => "envoy",
            Self::Remora => "remora",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it can be run here for `scenario`.
    pub(crate) fn usable(self, scenario: Scenario) -> Result<(), Missing> {
        match self {
            Self::Direct => Ok(()),
            Self::Envoy => Proxy::Envoy.binary().map(|_| ()),
            Self::Remora => Proxy::Remora.binary().map(|_| ()),
            Self::Haproxy => peers::program("haproxy").map(|_| ()),
            Self::Nginx if scenario == Scenario::Http1 => peers::program("nginx").map(|_| ()),
            Self::Nginx => Err(Missing(
                "nginx is set up here for HTTP/1.1 only (it speaks no HTTP/2 to its backend)".to_owned(),
            )),
        }
    }

    /// Starts it before `backend`.
    pub(crate) async fn start(
        self,
        scenario: Scenario,
        backend: SocketAddr,
        certificates: &Certificates,
        core: Option<usize>,
    ) -> Result<Running> {
        match self {
            Self::Direct => Ok(Running {
                address: backend,
                pids: Vec::new(),
                _parts: Parts::default(),
            }),
            Self::Envoy | Self::Remora => {
                let wrapper = core.map_or_else(Vec::new, |core| {
                    vec!["taskset".to_owned(), "-c".to_owned(), core.to_string()]
                });
                let proxy = if self == Self::Envoy {
                    Proxy::Envoy
                } else {
                    Proxy::Remora
                };
                start_under(wrapper, proxy, scenario, backend, certificates).await
            }
            Self::Haproxy => haproxy(scenario, backend, certificates, core).await,
            Self::Nginx => nginx(backend, core).await,
        }
    }
}

/// Starts a proxy of Envoy's configuration before `backend`, its command line behind `wrapper`.
pub(crate) async fn start_under(
    wrapper: Vec<String>,
    proxy: Proxy,
    scenario: Scenario,
    backend: SocketAddr,
    certificates: &Certificates,
) -> Result<Running> {
    let (configs, ports) = xds_configs(scenario, backend, certificates)?;
    start_proxies(proxy, configs, ports, wrapper).await
}

/// What one proxy is configured with.
type ListenerAndCluster = (Value, Value);

/// The listener and cluster of each proxy in the row, and the ports that they use.
fn xds_configs(
    scenario: Scenario,
    backend: SocketAddr,
    certificates: &Certificates,
) -> Result<(Vec<ListenerAndCluster>, Vec<Port>)> {
    let first = Port::reserve()?;
    let address = first.address();
    if scenario == Scenario::Mtls {
        let second = Port::reserve()?;
        let middle = second.address();
        let outbound = certificates.identity(&certificates.client, SERVER);
        let mut cluster = bootstrap::cluster("next", &[middle]);
        cluster["transport_socket"] = outbound.upstream(&["http/1.1"]);
        let mut listener = bootstrap::listener("inbound", middle, manager());
        let inbound = certificates.identity(&certificates.server, CLIENT);
        listener["filter_chains"][0]["transport_socket"] = inbound.downstream(&["http/1.1"]);
        let configs = vec![
            (bootstrap::listener("outbound", address, manager()), cluster),
            (listener, bootstrap::cluster("next", &[backend])),
        ];
        return Ok((configs, vec![first, second]));
    }
    let filter = if scenario == Scenario::Tcp {
        bootstrap::tcp_proxy("next")
    } else {
        manager()
    };
    let cluster = match scenario {
        Scenario::Http2 => bootstrap::http2_cluster("next", &[backend]),
        _ => bootstrap::cluster("next", &[backend]),
    };
    let configs = vec![(bootstrap::listener("in", address, filter), cluster)];
    Ok((configs, vec![first]))
}

/// Starts one proxy per listener and cluster; the load goes to the first port.
async fn start_proxies(
    proxy: Proxy,
    configs: Vec<ListenerAndCluster>,
    ports: Vec<Port>,
    wrapper: Vec<String>,
) -> Result<Running> {
    let options = Options {
        wrapper,
        ready_within: Duration::from_secs(120),
        ..Options::default()
    };
    let address = ports.first().context("a proxy listens somewhere")?.address();
    let mut parts = Parts::default();
    parts._ports.extend(ports);
    for (listener, cluster) in configs {
        let admin = Port::reserve()?;
        let text = bootstrap::fixed(admin.address(), vec![listener], vec![cluster]).to_string();
        parts
            ._proxies
            .push(ProxyProcess::start(proxy, &text, admin, &options).await?);
    }
    let pids = parts._proxies.iter().map(ProxyProcess::pid).collect();
    Ok(Running {
        address,
        pids,
        _parts: parts,
    })
}

fn manager() -> Value {
    bootstrap::http_connection_manager(&json!({"route_config": bootstrap::route_everything("r", "next")}))
}

async fn haproxy(
    scenario: Scenario,
    backend: SocketAddr,
    certificates: &Certificates,
    core: Option<usize>,
) -> Result<Running> {
    let (first, second) = (Port::reserve()?, Port::reserve()?);
    let (address, middle) = (first.address(), second.address());
    drop((first, second));
    let folder = certificates.folder.path().display();
    let head = |mode: &str| {
        format!(
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\n  http-reuse always\n"
        )
    };
    let tls = format!("ssl crt {folder}/server.pem ca-file {folder}/ca.pem verify required");
    let to_tls =
        format!("ssl crt {folder}/client.pem ca-file {folder}/ca.pem verify required sni str(server.test)");
    let part = |mode: &str, bind: SocketAddr, how: &str, to: SocketAddr, server: &str| {
        format!(
            "{}listen l\n  bind {bind} {how}\n  server s {to} {server}\n",
            head(mode)
        )
    };
    let configs = match scenario {
        Scenario::Http1 => vec![part("http", address, "", backend, "")],
        Scenario::Http2 => vec![part("http", address, "proto h2", backend, "proto h2")],
        Scenario::Tcp => vec![part("tcp", address, "", backend, "").replace("  http-reuse always\n", "")],
        Scenario::Mtls => {
            vec![
                part("http", address, "", middle, &to_tls),
                part("http", middle, &tls, backend, ""),
            ]
        }
    };
    let program = peers::program("haproxy").map_err(|missing| anyhow::anyhow!(missing.0))?;
    let start = |file: &Path| {
        let mut command = pinned(&program, core);
        command.args(["-db", "-f"]).arg(file);
        command
    };
    let speaks = if scenario == Scenario::Http2 {
        Speaks::Http2
    } else {
        Speaks::Http1
    };
    processes(&configs, address, speaks, start).await
}

async fn nginx(backend: SocketAddr, core: Option<usize>) -> Result<Running> {
    let address = Port::reserve()?.address();
    let config = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nerror_log stderr error;\npid FOLDER/pid;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  keepalive_requests 1000000000;\n  \
         client_body_temp_path FOLDER/b;\n  proxy_temp_path FOLDER/p;\n  fastcgi_temp_path FOLDER/f;\n  \
         uwsgi_temp_path FOLDER/u;\n  scgi_temp_path FOLDER/s;\n  \
         upstream next {{ server {backend}; keepalive 128; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen {address};\n    location / {{\n      proxy_pass http://next;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_set_header Host $host;\n    \
         }}\n  }}\n}}\n"
    );
    let program = peers::program("nginx").map_err(|missing| anyhow::anyhow!(missing.0))?;
    let start = |file: &Path| {
        let mut command = pinned(&program, core);
        command
            .arg("-c")
            .arg(file)
            .arg("-p")
            .arg(file.parent().unwrap_or(file));
        command
    };
    processes(&[config], address, Speaks::Http1, start).await
}

/// What a listener wants to hear.
#[derive(Clone, Copy, Debug)]
enum Speaks {
    Http1,
    Http2,
}

/// Starts one process per configuration (`FOLDER` in it is a scratch folder) and waits until the first one listens.
async fn processes(
    configs: &[String],
    address: SocketAddr,
    speaks: Speaks,
    start: impl Fn(&Path) -> Command,
) -> Result<Running> {
    let folder = tempfile::tempdir()?;
    let mut parts = Parts::default();
    for (number, config) in configs.iter().enumerate() {
        let file = folder.path().join(format!("{number}.conf"));
        std::fs::write(
            &file,
            config.replace("FOLDER", &folder.path().display().to_string()),
        )?;
        let log = std::fs::File::create(folder.path().join(format!("{number}.log")))?;
        let child = start(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        parts.children.push(child);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while !listens(address, speaks).await {
        if Instant::now() > deadline {
            let log = std::fs::read_to_string(folder.path().join("0.log")).unwrap_or_default();
            bail!("nobody listens at {address}: {log}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pids = parts.children.iter().map(Child::id).collect();
    parts._folder = Some(folder);
    Ok(Running {
        address,
        pids,
        _parts: parts,
    })
}

/// Whether a request, or for HTTP/2 a connection, gets through.
async fn listens(address: SocketAddr, speaks: Speaks) -> bool {
    match speaks {
        Speaks::Http1 => {
            matches!(harness::client::get(address, "/").await, Ok(answer) if answer.status() == 200)
        }
        Speaks::Http2 => std::net::TcpStream::connect(address).is_ok(),
    }
}

/// The backend for a scenario as a process of its own, and its address.
pub(crate) fn start_backend(scenario: Scenario, core: Option<usize>) -> Result<(Backing, SocketAddr)> {
    use std::io::BufRead;
    let kind = if scenario == Scenario::Http2 {
        "http2"
    } else {
        "http1"
    };
    let mut child = pinned(&std::env::current_exe()?, core)
        .args(["backend", kind])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("standard output is piped")?;
    let backing = Backing(child);
    let mut line = String::new();
    std::io::BufReader::new(output).read_line(&mut line)?;
    let port: u16 = line.trim().parse().context("the backend names its port")?;
    Ok((backing, SocketAddr::from(([127, 0, 0, 1], port))))
}

/// The backend's process; killed when dropped.
pub(crate) struct Backing(Child);

impl Drop for Backing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
