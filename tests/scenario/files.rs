//! Does the proxy follow files without any server?
//!
//! Listeners, clusters, routes, endpoints and a secret come from YAML files (`path_config_source`). A file that is
//! renamed into place is picked up; one that is broken changes nothing and is named in the log.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, type_url};
use harness::certificates::{Authority, Leaf, LeafRequest};
use harness::client::{RawClient, get};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::tls;
use harness::upstream::Upstream;
use serde_json::{Value, json};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(20);

/// A folder of resource files.
struct Files(tempfile::TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.yaml"))
    }

    /// Where a bootstrap or a resource points to the file.
    fn source(&self, name: &str) -> Value {
        json!({"path_config_source": {"path": self.path(name).to_string_lossy()}, "resource_api_version": "V3"})
    }

    /// Replaces the file by one rename.
    fn put_text(&self, name: &str, text: &str) -> Result<()> {
        let staged = self.0.path().join(format!("{name}.new"));
        std::fs::write(&staged, text)?;
        Ok(std::fs::rename(staged, self.path(name))?)
    }

    /// Replaces the file by resources of one type, written as YAML.
    fn put(&self, name: &str, message: &str, resources: &[Value]) -> Result<()> {
        let mut text = "resources:\n".to_owned();
        for resource in resources {
            let fields = resource
                .as_object()
                .context("a resource is an object")?
                .iter()
                .map(|(name, value)| format!("  {name}: {value}\n"));
            text.push_str(&format!("- \"@type\": {}\n", type_url(message)));
            text.extend(fields);
        }
        self.put_text(name, &text)
    }

    fn routes(&self, to: &str) -> Result<()> {
        let table = bootstrap::route_everything("routes", to);
        self.put("rds", "config.route.v3.RouteConfiguration", &[table])
    }

    fn endpoints(&self, name: &str, at: &Upstream) -> Result<()> {
        let assignment = bootstrap::load_assignment(name, &[at.address()]);
        self.put(
            &format!("eds-{name}"),
            "config.endpoint.v3.ClusterLoadAssignment",
            &[assignment],
        )
    }

    fn clusters(&self, names: &[&str]) -> Result<()> {
        let cluster = |name: &&str| {
            json!({"name": name, "type": "EDS", "connect_timeout": "1s",
                "eds_cluster_config": {"eds_config": self.source(&format!("eds-{name}"))}})
        };
        let clusters: Vec<Value> = names.iter().map(cluster).collect();
        self.put("cds", "config.cluster.v3.Cluster", &clusters)
    }

    fn listener(&self, at: &Port) -> Result<()> {
        let rds = json!({"rds": {"route_config_name": "routes", "config_source": self.source("rds")}});
        let listener = bootstrap::listener("http", at.address(), bootstrap::http_connection_manager(&rds));
        self.put("lds", "config.listener.v3.Listener", &[listener])
    }
}

struct Scene {
    files: Files,
    blue: Upstream,
    green: Upstream,
    port: Port,
    process: ProxyProcess,
}

impl Scene {
    /// Everything from files; all goes to blue.
    async fn start(proxy: Proxy) -> Result<Self> {
        let files = Files(tempfile::tempdir()?);
        let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        files.endpoints("first", &blue)?;
        files.endpoints("second", &green)?;
        files.clusters(&["first"])?;
        files.routes("first")?;
        files.listener(&port)?;
        let text = json!({
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": bootstrap::address(admin.address())},
            "dynamic_resources": {"lds_config": files.source("lds"), "cds_config": files.source("cds")},
        });
        let process = ProxyProcess::start(proxy, &text.to_string(), admin, &Options::default()).await?;
        Ok(Self {
            files,
            blue,
            green,
            port,
            process,
        })
    }

    async fn who_answers(&self, port: &Port) -> Result<String> {
        let answer = get(port.address(), "/").await?;
        Ok(answer.head.header("x-upstream").unwrap_or("nobody").to_owned())
    }

    async fn wait_answer(&self, who: &str, port: &Port) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            // A listener that has just moved may not be there yet.
            let now = self
                .who_answers(port)
                .await
                .unwrap_or_else(|error| format!("{error:#}"));
            if now == who {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "'{now}' answers, not '{who}'");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_resource_is_followed_by_renames() -> Result<()> {
    for proxy in Proxy::under_test("files")? {
        let scene = Scene::start(proxy).await?;
        let files = &scene.files;
        scene.wait_answer("blue", &scene.port).await?;
        files.endpoints("first", &scene.green)?;
        scene.wait_answer("green", &scene.port).await.context("EDS")?;
        files.endpoints("first", &scene.blue)?;
        scene
            .wait_answer("blue", &scene.port)
            .await
            .context("EDS again")?;
        files.clusters(&["first", "second"])?;
        files.routes("second")?;
        scene
            .wait_answer("green", &scene.port)
            .await
            .context("CDS and RDS")?;
        let elsewhere = Port::reserve()?;
        files.listener(&elsewhere)?;
        scene.wait_answer("green", &elsewhere).await.context("LDS")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing_and_is_named_in_the_log() -> Result<()> {
    let scene = Scene::start(Proxy::Remora).await?;
    let files = &scene.files;
    scene.wait_answer("blue", &scene.port).await?;
    let broken = [
        ("rds", "resources: ["),
        (
            "eds-first",
            "resources:\n- \"@type\": type.googleapis.com/no.such.Message\n",
        ),
        (
            "cds",
            "resources:\n- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n  nome: first\n",
        ),
        ("lds", "\u{0}"),
    ];
    for (name, text) in broken {
        files.put_text(name, text)?;
        let file = format!("{name}.yaml");
        scene
            .process
            .wait_log(&[&file], WITHIN)
            .await
            .with_context(|| format!("{name} is broken"))?;
        ensure!(scene.who_answers(&scene.port).await? == "blue", "after {name}");
    }
    // What is mended is followed again.
    files.endpoints("second", &scene.green)?;
    files.clusters(&["first", "second"])?;
    files.routes("second")?;
    scene
        .wait_answer("green", &scene.port)
        .await
        .context("after mending")
}

fn secret(files: &Files, leaf: &Leaf) -> Result<()> {
    files.put(
        "sds",
        "extensions.transport_sockets.tls.v3.Secret",
        &[json!({"name": "own", "tls_certificate": {
            "certificate_chain": {"inline_string": leaf.certificate_pem},
            "private_key": {"inline_string": leaf.key_pem}}})],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_from_a_file_serves_and_rotates() -> Result<()> {
    for proxy in Proxy::under_test("files: secret")? {
        let authority = Authority::new("test root")?;
        let leaf = || {
            authority.leaf(&LeafRequest {
                dns_names: vec!["server.test".to_owned()],
                ..LeafRequest::default()
            })
        };
        let (first, second) = (leaf()?, leaf()?);
        let files = Files(tempfile::tempdir()?);
        secret(&files, &first)?;
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        let direct = json!({"route_config": {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]}});
        let mut listener =
            bootstrap::listener("tls", port.address(), bootstrap::http_connection_manager(&direct));
        listener["filter_chains"][0]["transport_socket"] = json!({"name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {"tls_certificate_sds_secret_configs": [
                    {"name": "own", "sds_config": files.source("sds")}]}}});
        let text = bootstrap::fixed(admin.address(), vec![listener], Vec::new()).to_string();
        let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;

        let shown = async || -> Result<Vec<u8>> {
            let config = tls::client_config(&authority, None, &["http/1.1"])?;
            let stream =
                tls::connect(config, "server.test", TcpStream::connect(port.address()).await?).await?;
            let leaf = tls::peer_leaf(stream.get_ref().1)?.to_vec();
            let answer = RawClient::over(stream)
                .exchange(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
                .await?;
            ensure!(answer.status() == 200);
            Ok(leaf)
        };
        ensure!(shown().await? == first.der.to_vec(), "another certificate");
        secret(&files, &second)?;
        let deadline = Instant::now() + WITHIN;
        while shown().await? != second.der.to_vec() {
            ensure!(Instant::now() < deadline, "the new certificate is never shown");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(process);
    }
    Ok(())
}
