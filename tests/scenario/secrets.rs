//! Does a listener live with secrets that come late and change?
//!
//! Before its secret is there, a listener that gave up waiting refuses connections cleanly, counts them and says why;
//! once the secret arrives it serves. A rotation gives new handshakes the new certificate and leaves live connections.

#[path = "secrets/admission.rs"]
mod admission;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant, type_url};
use harness::certificates::{Authority, Leaf, LeafRequest};
use harness::client::RawClient;
use harness::control_plane::{ControlPlane, LISTENER, Resource, ResourceReader, SECRET};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::tls;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const WITHIN: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";

struct Scene {
    authority: Authority,
    reader: ResourceReader,
    control_plane: ControlPlane,
    port: Port,
    process: ProxyProcess,
}

impl Scene {
    /// A TLS listener whose certificate is to come over ADS as `own`.
    async fn start(proxy: Proxy) -> Result<Self> {
        let reader = ResourceReader::new()?;
        let control_plane = ControlPlane::start().await?;
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        let direct = json!({"route_config": {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]}});
        let mut listener =
            bootstrap::listener("tls", port.address(), bootstrap::http_connection_manager(&direct));
        let source = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0.5s"});
        listener["filter_chains"][0]["transport_socket"] = json!({"name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {"tls_certificate_sds_secret_configs": [
                    {"name": "own", "sds_config": source}]}}});
        control_plane.put([reader.json(LISTENER, &listener)?]);
        let text = bootstrap::ads(admin.address(), control_plane.address(), AdsVariant::Delta).to_string();
        let options = Options {
            log_level: "info".to_owned(),
            ..Options::default()
        };
        let process = ProxyProcess::spawn(proxy, &text, admin, &options)?;
        let mut scene = Self {
            authority: Authority::new("test root")?,
            reader,
            control_plane,
            port,
            process,
        };
        scene.process.wait_ready(WITHIN).await?;
        Ok(scene)
    }

    fn leaf(&self) -> Result<Leaf> {
        self.authority.leaf(&LeafRequest {
            dns_names: vec!["server.test".to_owned()],
            ..LeafRequest::default()
        })
    }

    fn secret(&self, leaf: &Leaf) -> Result<Resource> {
        let secret = json!({"name": "own", "tls_certificate": {
            "certificate_chain": {"inline_string": leaf.certificate_pem},
            "private_key": {"inline_string": leaf.key_pem}}});
        self.reader.json(SECRET, &secret)
    }

    /// A connection after its handshake.
    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let config = tls::client_config(&self.authority, None, &["http/1.1"])?;
        let stream = TcpStream::connect(self.port.address())
            .await
            .context("no listener")?;
        tls::connect(config, "server.test", stream).await
    }

    /// Waits until a handshake shows `leaf`, and returns that connection.
    async fn shows(&self, leaf: &Leaf) -> Result<RawClient<TlsStream<TcpStream>>> {
        let deadline = Instant::now() + WITHIN;
        loop {
            if let Ok(stream) = self.connect().await
                && tls::peer_leaf(stream.get_ref().1)? == leaf.der
            {
                return Ok(RawClient::over(stream));
            }
            ensure!(Instant::now() < deadline, "the certificate is never shown");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_secret_a_listener_refuses_cleanly_says_so_and_serves_once_it_is_there() -> Result<()> {
    for proxy in Proxy::under_test("secrets: late")? {
        let scene = Scene::start(proxy).await?;
        for _ in 0..3 {
            // The TCP connection is taken and closed at once: a refusal, not a hang.
            let refused = tokio::time::timeout(Duration::from_secs(5), scene.connect()).await;
            let error = refused.context("the handshake hangs")?.err();
            let words = format!("{:#}", error.context("a handshake without a certificate")?);
            ensure!(!words.contains("no listener"), "{words}");
        }
        scene
            .process
            .wait_metric(
                "envoy_listener_downstream_context_secrets_not_ready",
                "",
                3.0,
                WITHIN,
            )
            .await
            .or_else(|error| {
                // Envoy counts it in a scope with another tag.
                (proxy == Proxy::Envoy).then_some(()).ok_or(error)
            })?;
        if proxy == Proxy::Remora {
            scene
                .process
                .wait_log(&["listener=tls", "secret", "has not arrived"], WITHIN)
                .await?;
        }
        let leaf = scene.leaf()?;
        scene.control_plane.put([scene.secret(&leaf)?]);
        let answer = scene.shows(&leaf).await?.exchange(GET).await?;
        ensure!(answer.status() == 200, "{:?}", answer.head);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_keeps_live_connections_and_serves_new_ones_with_the_new_certificate() -> Result<()> {
    for proxy in Proxy::under_test("secrets: rotation")? {
        let scene = Scene::start(proxy).await?;
        let (first, second) = (scene.leaf()?, scene.leaf()?);
        scene.control_plane.put([scene.secret(&first)?]);
        let mut live = scene.shows(&first).await?;
        ensure!(live.exchange(GET).await?.status() == 200);
        scene.control_plane.put([scene.secret(&second)?]);
        let mut new = scene.shows(&second).await?;
        for _ in 0..3 {
            for client in [&mut live, &mut new] {
                let answer = client.exchange(GET).await?;
                ensure!(
                    answer.status() == 200 && answer.head.header("connection").is_none(),
                    "{:?}",
                    answer.head
                );
            }
        }
        // A certificate that is none changes nothing, and is refused by its name.
        let mut broken = second.clone();
        broken.certificate_pem = "no certificate".to_owned();
        scene.control_plane.put([scene.secret(&broken)?]);
        let refusal = scene.control_plane.wait_nack(SECRET).await?;
        ensure!(
            proxy == Proxy::Envoy || refusal.error.contains("own"),
            "{}",
            refusal.error
        );
        let mut again = scene.shows(&second).await?;
        for client in [&mut live, &mut again] {
            ensure!(client.exchange(GET).await?.status() == 200);
        }
    }
    Ok(())
}
