//! One proxy with one route configuration, an access log and some clusters.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::bootstrap;
use harness::client::{RawClient, RawResponse};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use serde_json::{Value, json};

pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// What is logged of each exchange.
const FORMAT: &str = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%";

pub(crate) struct Scene {
    pub(crate) port: Port,
    pub(crate) process: ProxyProcess,
    folder: tempfile::TempDir,
}

/// What a scene is made of.
pub(crate) struct Plan {
    /// Routes of the only virtual host.
    pub(crate) routes: Vec<Value>,
    /// Endpoints of clusters by name; more of a cluster is merged over it.
    pub(crate) clusters: Vec<(&'static str, SocketAddr, Value)>,
    /// Merged over the connection manager.
    pub(crate) manager: Value,
    /// Behind the fields that every line of the log has.
    pub(crate) log: &'static str,
}

impl Plan {
    pub(crate) fn new(routes: Vec<Value>, clusters: &[(&'static str, SocketAddr)]) -> Self {
        let clusters = clusters.iter().map(|(name, at)| (*name, *at, json!({})));
        Self {
            routes,
            clusters: clusters.collect(),
            manager: json!({}),
            log: "",
        }
    }
}

/// A route of everything below `prefix`.
pub(crate) fn to(cluster: &str, prefix: &str, more: Value) -> Value {
    let mut route = json!({"match": {"prefix": prefix}, "route": {"cluster": cluster}});
    bootstrap::merge(&mut route["route"], &more);
    route
}

impl Scene {
    pub(crate) async fn start(proxy: Proxy, plan: &Plan) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        let hosts = json!([{"name": "all", "domains": ["*"], "routes": plan.routes}]);
        let mut manager = json!({
            "route_config": {"name": "routes", "virtual_hosts": hosts},
            "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                "@type": bootstrap::type_url("extensions.access_loggers.file.v3.FileAccessLog"),
                "path": folder.path().join("access").to_string_lossy(),
                "log_format": {"text_format_source": {"inline_string": format!("{FORMAT}{}\n", plan.log)}},
            }}],
        });
        bootstrap::merge(&mut manager, &plan.manager);
        let clusters = plan.clusters.iter().map(|(name, at, more)| {
            let mut cluster = bootstrap::cluster(name, &[*at]);
            bootstrap::merge(&mut cluster, more);
            cluster
        });
        let manager = bootstrap::http_connection_manager(&manager);
        let listener = bootstrap::listener("http", port.address(), manager);
        let text = bootstrap::fixed(admin.address(), vec![listener], clusters.collect()).to_string();
        let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
        Ok(Self {
            port,
            process,
            folder,
        })
    }

    /// A request with these header lines (each ended by CRLF), and its answer.
    pub(crate) async fn get(&self, path: &str, lines: &str) -> Result<RawResponse> {
        let mut client = RawClient::connect(self.port.address()).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{lines}\r\n");
        client.exchange(request.as_bytes()).await
    }

    /// Waits for the access log's line for `path`: what stands behind it.
    pub(crate) async fn logged(&self, path: &str) -> Result<String> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("access")).unwrap_or_default();
            let found = log
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{path} ")));
            if let Some(found) = found {
                return Ok(found.to_owned());
            }
            ensure!(
                Instant::now() < deadline,
                "{path} is not in the access log:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a metric with these labels is at least so high.
    pub(crate) async fn counted(&self, name: &str, labels: &str, least: f64) -> Result<()> {
        self.process.wait_metric(name, labels, least, WITHIN).await
    }
}
