//! Who was let in and would not be any more loses its connections, and nobody else does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant, type_url};
use harness::certificates::{Authority, Leaf, LeafRequest};
use harness::client::RawClient;
use harness::control_plane::{ControlPlane, LISTENER, Resource, ResourceReader, SECRET};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::tls;
use harness::upstream::{TcpEcho, tcp_echo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{GET, WITHIN};

/// How long a revoked peer's connections may live on.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What the check itself may take on a busy machine.
const SLACK: Duration = Duration::from_secs(4);

/// An HTTP listener and a TCP listener that demand certificates by the secret `roots`.
struct Scene {
    server: Authority,
    reader: ResourceReader,
    control_plane: ControlPlane,
    ports: [Port; 2],
    process: ProxyProcess,
    _echo: TcpEcho,
}

/// The two connections of one client.
struct Client {
    http: RawClient<TlsStream<TcpStream>>,
    tunnel: TlsStream<TcpStream>,
}

impl Scene {
    async fn start(roots: &[&Authority]) -> Result<Self> {
        let reader = ResourceReader::new()?;
        let control_plane = ControlPlane::start().await?;
        let (ports, admin) = ([Port::reserve()?, Port::reserve()?], Port::reserve()?);
        let (server, echo) = (Authority::new("of the server")?, tcp_echo("echo").await?);
        let leaf = server.leaf(&LeafRequest {
            dns_names: vec!["server.test".to_owned()],
            ..LeafRequest::default()
        })?;
        let http =
            bootstrap::http_connection_manager(&json!({"route_config": {"name": "r", "virtual_hosts": [
            {"name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]}}));
        let filters = [("http", http), ("tcp", bootstrap::tcp_proxy("echo"))];
        let listeners = filters.into_iter().zip(&ports).map(|((name, filter), port)| {
            let mut listener = bootstrap::listener(name, port.address(), filter);
            listener["filter_chains"][0]["transport_socket"] = demanding(&leaf);
            reader.json(LISTENER, &listener)
        });
        control_plane.put(listeners.collect::<Result<Vec<_>>>()?);
        control_plane.put([validation(&reader, roots, "")?]);
        let mut text = bootstrap::ads(admin.address(), control_plane.address(), AdsVariant::Delta);
        let clusters = text["static_resources"]["clusters"].as_array_mut();
        clusters
            .context("a list")?
            .push(bootstrap::cluster("echo", &[echo.address()]));
        let options = Options {
            log_level: "info".to_owned(),
            ..Options::default()
        };
        let process = ProxyProcess::start(Proxy::Remora, &text.to_string(), admin, &options).await?;
        Ok(Self {
            server,
            reader,
            control_plane,
            ports,
            process,
            _echo: echo,
        })
    }

    fn trusts(&self, roots: &[&Authority], revoked: &str) -> Result<()> {
        self.control_plane
            .put([validation(&self.reader, roots, revoked)?]);
        Ok(())
    }

    async fn connect(&self, leaf: &Leaf) -> Result<Client> {
        let to = async |port: &Port| {
            let config = tls::client_config(&self.server, Some(leaf), &["http/1.1"])?;
            let stream = TcpStream::connect(port.address()).await?;
            tls::connect(config, "server.test", stream).await
        };
        let [http, tcp] = &self.ports;
        let mut client = Client {
            http: RawClient::over(to(http).await?),
            tunnel: to(tcp).await?,
        };
        let mut greeting = [0; 5];
        client.tunnel.read_exact(&mut greeting).await?;
        client.is_served().await?;
        Ok(client)
    }

    async fn ended(&self, least: f64) -> Result<()> {
        self.process
            .wait_metric("envoy_listener_ssl_peer_no_longer_admitted", "", least, WITHIN)
            .await
    }
}

impl Client {
    async fn is_served(&mut self) -> Result<()> {
        let answer = self.http.exchange(GET).await?;
        ensure!(answer.status() == 200, "{:?}", answer.head);
        let mut echo = [0; 4];
        self.tunnel.write_all(b"ping").await?;
        self.tunnel.read_exact(&mut echo).await?;
        ensure!(&echo == b"ping");
        Ok(())
    }

    /// Waits until both connections are closed by the other side.
    async fn ends(mut self) -> Result<()> {
        let both = async {
            let mut rest = Vec::new();
            // An end without a close_notify is an end too.
            let _ = self.http.stream().read_to_end(&mut rest).await;
            let _ = self.tunnel.read_to_end(&mut rest).await;
        };
        tokio::time::timeout(WITHIN, both)
            .await
            .context("a connection lives on")
    }
}

fn demanding(leaf: &Leaf) -> Value {
    let source = json!({"ads": {}, "resource_api_version": "V3"});
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificates": [{"certificate_chain": {"inline_string": leaf.certificate_pem},
                "private_key": {"inline_string": leaf.key_pem}}],
            "validation_context_sds_secret_config": {"name": "roots", "sds_config": source}}}})
}

fn validation(reader: &ResourceReader, roots: &[&Authority], revoked: &str) -> Result<Resource> {
    let roots: String = roots.iter().map(|root| root.pem()).collect();
    let mut context = json!({"trusted_ca": {"inline_string": roots}});
    if !revoked.is_empty() {
        context["crl"] = json!({"inline_string": revoked});
    }
    reader.json(SECRET, &json!({"name": "roots", "validation_context": context}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_ends_its_connections_at_once_and_no_others() -> Result<()> {
    let clients = Authority::new("of the clients")?;
    let scene = Scene::start(&[&clients]).await?;
    let (bad, good) = (
        clients.spiffe("spiffe://td/bad")?,
        clients.spiffe("spiffe://td/good")?,
    );
    let (refused, mut admitted) = (scene.connect(&bad).await?, scene.connect(&good).await?);

    // A list that revokes nobody who is connected ends nothing.
    let gone = clients.spiffe("spiffe://td/gone")?;
    scene.trusts(&[&clients], &clients.revokes(&[&gone])?)?;
    scene.control_plane.wait_ack(SECRET).await?;
    admitted.is_served().await?;

    scene.control_plane.forget_requests();
    scene.trusts(&[&clients], &clients.revokes(&[&gone, &bad])?)?;
    scene.control_plane.wait_ack(SECRET).await?;
    let acknowledged = Instant::now();
    refused.ends().await?;
    let took = acknowledged.elapsed();
    ensure!(took < AT_ONCE + SLACK, "{took:?}");
    for _ in 0..3 {
        admitted.is_served().await?;
    }
    ensure!(scene.connect(&bad).await.is_err(), "it came in again");
    scene.ended(2.0).await?;
    scene
        .process
        .wait_log(&["not admitted any more", "spiffe://td/bad", "revoked"], WITHIN)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_goes_takes_its_peers_along_and_leaves_the_others() -> Result<()> {
    let (old, new) = (Authority::new("old")?, Authority::new("new")?);
    let scene = Scene::start(&[&old, &new]).await?;
    let refused = scene.connect(&old.spiffe("spiffe://td/old")?).await?;
    let mut admitted = scene.connect(&new.spiffe("spiffe://td/new")?).await?;

    scene.trusts(&[&new], "")?;
    refused.ends().await?;
    admitted.is_served().await?;
    scene.ended(2.0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_gives_its_connections_a_last_answer_and_touches_no_other() -> Result<()> {
    let clients = Authority::new("of the clients")?;
    let scene = Scene::start(&[&clients]).await?;
    let brief = clients.leaf(&LeafRequest {
        uris: vec!["spiffe://td/brief".to_owned()],
        valid_for: Some(Duration::from_secs(4)),
        ..LeafRequest::default()
    })?;
    let ending = scene.connect(&brief).await?;
    let mut admitted = scene.connect(&clients.spiffe("spiffe://td/long")?).await?;
    scene
        .process
        .wait_log(
            &["not admitted any more", "spiffe://td/brief", "has ended"],
            WITHIN,
        )
        .await?;
    let mut http = ending.http;
    let last = http.exchange(GET).await?;
    ensure!(last.status() == 200 && last.head.header("connection") == Some("close"));
    scene.ended(2.0).await?;
    admitted.is_served().await
}
