//! What does somebody see who looks at the proxy from outside?
//!
//! Dumps as Envoy's from the same configuration, the client status over gRPC, whether the sidecar is up to date and why
//! not, metrics that do not grow with the mesh, and the config generation of each request in its access log line.

#[path = "introspection/client_status.rs"]
mod client_status;
#[path = "introspection/dumps.rs"]
mod dumps;
#[path = "introspection/freshness.rs"]
mod freshness;
#[path = "introspection/outside.rs"]
mod outside;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant};
use harness::certificates::Authority;
use harness::client::RawClient;
use harness::control_plane::{
    CLUSTER, ControlPlane, ENDPOINT, LISTENER, ROUTE, Resource, ResourceReader, SECRET,
};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::Upstream;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);

fn ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3"})
}

/// The same, waiting for ever.
fn patient_ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"})
}

/// A control plane with a small world: cluster `shop` of EDS, cluster `safe` with a certificate `own` of SDS, listener
/// `http` with routes `routes` of RDS and an access log.
struct Scene {
    reader: ResourceReader,
    control_plane: ControlPlane,
    upstream: Upstream,
    port: Port,
    folder: tempfile::TempDir,
    /// The private key of `own`.
    key: String,
}

impl Scene {
    async fn new() -> Result<Self> {
        let leaf = Authority::new("root")?.spiffe("spiffe://test/own")?;
        let scene = Self {
            reader: ResourceReader::new()?,
            control_plane: ControlPlane::start().await?,
            upstream: Upstream::start("upstream").await?,
            port: Port::reserve()?,
            folder: tempfile::tempdir()?,
            key: leaf.key_pem.clone(),
        };
        let secret = json!({"name": "own", "tls_certificate": {
            "certificate_chain": {"inline_string": leaf.certificate_pem}, "private_key": {"inline_string": leaf.key_pem}}});
        scene.control_plane.put([
            scene.reader.json(LISTENER, &scene.listener("routes", ads()))?,
            scene.routes("shop")?,
            scene.cluster("shop")?,
            scene.endpoints("shop")?,
            scene.reader.json(CLUSTER, &scene.safe_cluster())?,
            scene.reader.json(SECRET, &secret)?,
        ]);
        Ok(scene)
    }

    fn listener(&self, routes: &str, source: Value) -> Value {
        let manager = bootstrap::http_connection_manager(&json!({
            "rds": {"route_config_name": routes, "config_source": source},
            "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                "@type": bootstrap::type_url("extensions.access_loggers.file.v3.FileAccessLog"),
                "path": self.folder.path().join("access").to_string_lossy(),
                "log_format": {"text_format_source": {"inline_string": "%PROTOCOL% %RESPONSE_CODE% %REQ(:PATH)%\n"}}}}],
        }));
        bootstrap::listener("http", self.port.address(), manager)
    }

    fn safe_cluster(&self) -> Value {
        let mut safe = bootstrap::cluster("safe", &[self.upstream.address()]);
        safe["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": bootstrap::type_url("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "own", "sds_config": ads()}]}}});
        safe
    }

    fn cluster(&self, name: &str) -> Result<Resource> {
        let eds = json!({"eds_config": patient_ads()});
        let cluster =
            json!({"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": eds});
        self.reader.json(CLUSTER, &cluster)
    }

    fn endpoints(&self, name: &str) -> Result<Resource> {
        let assignment = bootstrap::load_assignment(name, &[self.upstream.address()]);
        self.reader.json(ENDPOINT, &assignment)
    }

    fn routes(&self, cluster: &str) -> Result<Resource> {
        self.reader
            .json(ROUTE, &bootstrap::route_everything("routes", cluster))
    }

    /// A bootstrap over delta ADS; static parts are merged into it.
    fn bootstrap(&self, admin: &Port) -> Value {
        bootstrap::ads(admin.address(), self.control_plane.address(), AdsVariant::Delta)
    }

    /// A proxy that has all of it in use.
    async fn start(&self, proxy: Proxy) -> Result<ProxyProcess> {
        let admin = Port::reserve()?;
        let bootstrap = self.bootstrap(&admin).to_string();
        ProxyProcess::start(proxy, &bootstrap, admin, &Options::default()).await
    }

    /// One request to the listener.
    async fn ask(&self, path: &str) -> Result<u16> {
        let mut client = RawClient::connect(self.port.address()).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\n\r\n");
        Ok(client.exchange(request.as_bytes()).await?.status())
    }
}

/// The answer of an admin path, as JSON.
async fn page(process: &ProxyProcess, path: &str) -> Result<Value> {
    let text = process.admin_text(path).await?;
    serde_json::from_str(&text).with_context(|| format!("{path} is no JSON: {text}"))
}

/// Waits until the answer of an admin path is as wanted, and gives it.
async fn page_when(process: &ProxyProcess, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let found = page(process, path).await?;
        if wanted(&found) {
            return Ok(found);
        }
        ensure!(
            Instant::now() < deadline,
            "{path} does not become as wanted: {found:#}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
