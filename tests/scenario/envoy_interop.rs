//! Do a Remora and a real Envoy trust each other, and only whom they should?
//!
//! Two sidecars in a row, an application behind them and a client before them; between the two is mutual TLS with
//! SPIFFE ids. Once the proxy under test is the client's sidecar and once the server's, over HTTP/1.1 and HTTP/2. A
//! server with another id is refused by the client's sidecar; a client with another id, of another authority or
//! without a certificate by the server's.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use harness::bootstrap::{self, Identity};
use harness::certificates::{Authority, Leaf};
use harness::client::{Http2Client, RawClient};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::{Received, Upstream};
use harness::{peers, tls};
use serde_json::{Value, json};
use tokio::net::TcpStream;

const CLIENT: &str = "spiffe://test.local/ns/default/sa/client";
const SERVER: &str = "spiffe://test.local/ns/default/sa/server";
const STRANGER: &str = "spiffe://test.local/ns/default/sa/stranger";

/// What is spoken between the sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Http1,
    Http2,
    Tcp,
}

impl Between {
    fn alpn(self) -> &'static [&'static str] {
        match self {
            Self::Http1 => &["http/1.1"],
            Self::Http2 => &["h2"],
            Self::Tcp => &[],
        }
    }
}

/// Who is who in one run.
struct Cast {
    authority: Authority,
    client: Leaf,
    server: Leaf,
    /// The id that the client's sidecar expects of the server.
    expected_server: &'static str,
    between: Between,
}

impl Cast {
    fn new(between: Between) -> Result<Self> {
        let authority = Authority::new("test root")?;
        let (client, server) = (authority.spiffe(CLIENT)?, authority.spiffe(SERVER)?);
        Ok(Self {
            authority,
            client,
            server,
            expected_server: SERVER,
            between,
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

/// The two sidecars and the application.
struct Pair {
    outbound: Port,
    inbound: Port,
    client_side: ProxyProcess,
    server_side: ProxyProcess,
    application: Upstream,
}

impl Pair {
    async fn start(cast: &Cast, client: Proxy, server: Proxy) -> Result<Self> {
        let application = Upstream::start("application").await?;
        let (outbound, inbound) = (Port::reserve()?, Port::reserve()?);
        let server_side = {
            let admin = Port::reserve()?;
            let text = inbound_bootstrap(cast, admin.address(), inbound.address(), application.address());
            ProxyProcess::start(server, &text.to_string(), admin, &Options::default()).await?
        };
        let client_side = {
            let admin = Port::reserve()?;
            let text = outbound_bootstrap(cast, admin.address(), outbound.address(), inbound.address());
            ProxyProcess::start(client, &text.to_string(), admin, &Options::default()).await?
        };
        Ok(Self {
            outbound,
            inbound,
            client_side,
            server_side,
            application,
        })
    }

    fn seen(&self) -> Result<Received> {
        self.application
            .take_received()
            .pop()
            .context("the application got nothing")
    }
}

/// The server's sidecar: TLS in, plain to the application, and the peer's id in `x-forwarded-client-cert`.
fn inbound_bootstrap(cast: &Cast, admin: SocketAddr, at: SocketAddr, application: SocketAddr) -> Value {
    let filter = match cast.between {
        Between::Tcp => bootstrap::tcp_proxy("application"),
        Between::Http1 | Between::Http2 => bootstrap::http_connection_manager(&json!({
            "route_config": bootstrap::route_everything("inbound", "application"),
            "forward_client_cert_details": "SANITIZE_SET", "set_current_client_cert_details": {"uri": true, "issuer": true},
        })),
    };
    let mut listener = bootstrap::listener("inbound", at, filter);
    listener["filter_chains"][0]["transport_socket"] = cast
        .identity(&cast.server, CLIENT)
        .downstream(cast.between.alpn());
    let cluster = bootstrap::cluster("application", &[application]);
    bootstrap::fixed(admin, vec![listener], vec![cluster])
}

/// The client's sidecar: plain in, TLS to the server's.
fn outbound_bootstrap(cast: &Cast, admin: SocketAddr, at: SocketAddr, server: SocketAddr) -> Value {
    let filter = match cast.between {
        Between::Tcp => bootstrap::tcp_proxy("server"),
        Between::Http1 | Between::Http2 => bootstrap::http_connection_manager(
            &json!({"route_config": bootstrap::route_everything("outbound", "server")}),
        ),
    };
    let mut cluster = match cast.between {
        Between::Http2 => bootstrap::http2_cluster("server", &[server]),
        Between::Http1 | Between::Tcp => bootstrap::cluster("server", &[server]),
    };
    cluster["transport_socket"] = cast
        .identity(&cast.client, cast.expected_server)
        .upstream(cast.between.alpn());
    bootstrap::fixed(
        admin,
        vec![bootstrap::listener("outbound", at, filter)],
        vec![cluster],
    )
}

/// Who stands on which side: the proxy under test opposite to Envoy.
fn pairings(test: &str) -> Result<Vec<(Proxy, Proxy)>> {
    if let Err(missing) = peers::envoy() {
        peers::skip(test, &missing)?;
        return Ok(Vec::new());
    }
    let mut pairings = Vec::new();
    for proxy in Proxy::under_test(test)? {
        pairings.push((proxy, Proxy::Envoy));
        if proxy != Proxy::Envoy {
            pairings.push((Proxy::Envoy, proxy));
        }
    }
    Ok(pairings)
}

async fn traffic_passes(pair: &Pair) -> Result<()> {
    let mut client = RawClient::connect(pair.outbound.address()).await?;
    for number in 0..3 {
        let request = format!("GET /http1/{number} HTTP/1.1\r\nhost: app\r\n\r\n");
        let answer = client.exchange(request.as_bytes()).await?;
        ensure!(
            answer.status() == 200,
            "{}: {}",
            answer.head.start_line,
            answer.text()
        );
        let seen = pair.seen()?;
        ensure!(
            seen.target == format!("/http1/{number}"),
            "the application got {}",
            seen.target
        );
        let peer = seen.header("x-forwarded-client-cert").unwrap_or("");
        ensure!(
            peer.contains(&format!("URI={CLIENT}")),
            "the client's id is not told: '{peer}'"
        );
        let issuer = peer
            .rsplit_once(";Issuer=\"")
            .and_then(|(_, issuer)| issuer.strip_suffix('"'));
        ensure!(
            issuer.is_some_and(|issuer| issuer.contains("CN=")),
            "its issuer is not told: '{peer}'"
        );
    }
    let client = Http2Client::connect(pair.outbound.address()).await?;
    let request = http::Request::post("http://app/http2")
        .header("x-behave", "echo")
        .body(())?;
    let body = Bytes::from(vec![b'y'; 300_000]);
    let answer = client.exchange(request, body.clone(), None).await?;
    ensure!(
        answer.head.status() == 200 && answer.body == body,
        "HTTP/2: {:?}",
        answer.head
    );
    Ok(())
}

async fn http(between: Between) -> Result<()> {
    for (client, server) in pairings(&format!("envoy_interop {between:?}"))? {
        let pair = Pair::start(&Cast::new(between)?, client, server).await?;
        let who = || format!("{} to {} over {between:?}", client.name(), server.name());
        traffic_passes(&pair).await.with_context(who)?;
        let spoken = pair
            .server_side
            .metric("envoy_http_downstream_cx_http2_total", "ingress")
            .await?;
        let is_http2 = spoken.unwrap_or(0.0) > 0.0;
        ensure!(
            is_http2 == (between == Between::Http2),
            "{}: HTTP/2 between them: {is_http2}",
            who()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_between_the_sidecars_passes_over_mutual_tls() -> Result<()> {
    http(Between::Http1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_between_the_sidecars_passes_over_mutual_tls() -> Result<()> {
    http(Between::Http2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_passes_over_mutual_tls() -> Result<()> {
    for (client, server) in pairings("envoy_interop TCP")? {
        let pair = Pair::start(&Cast::new(Between::Tcp)?, client, server).await?;
        let mut raw = RawClient::connect(pair.outbound.address()).await?;
        let answer = raw
            .exchange(b"GET /tunnelled HTTP/1.1\r\nhost: app\r\n\r\n")
            .await?;
        ensure!(
            answer.status() == 200,
            "{} to {}: {}",
            client.name(),
            server.name(),
            answer.head.start_line
        );
        ensure!(pair.seen()?.target == "/tunnelled");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_id_is_refused_by_the_client_side() -> Result<()> {
    for between in [Between::Http1, Between::Http2] {
        for (client, server) in pairings("envoy_interop wrong server")? {
            let cast = Cast {
                expected_server: STRANGER,
                ..Cast::new(between)?
            };
            let pair = Pair::start(&cast, client, server).await?;
            let mut raw = RawClient::connect(pair.outbound.address()).await?;
            let answer = raw.exchange(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n").await?;
            let who = format!("{} as client over {between:?}", client.name());
            ensure!(answer.status() == 503, "{who}: {}", answer.head.start_line);
            ensure!(
                pair.application.received().is_empty(),
                "{who}: the request came through"
            );
            let counted = pair
                .client_side
                .metric("envoy_cluster_ssl_fail_verify_san", "server")
                .await?;
            ensure!(
                counted.unwrap_or(0.0) >= 1.0,
                "{who}: the refusal is not counted: {counted:?}"
            );
        }
    }
    Ok(())
}

/// Connects to the server's sidecar by hand; whether a request was answered.
async fn answered(pair: &Pair, config: std::sync::Arc<rustls::ClientConfig>) -> Result<bool> {
    let stream = TcpStream::connect(pair.inbound.address()).await?;
    let Ok(stream) = tls::connect(config, "server.test", stream).await else {
        return Ok(false);
    };
    let mut client = RawClient::over(stream);
    Ok(
        matches!(client.exchange(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n").await, Ok(answer) if answer.status() == 200),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_named_client_with_a_certificate_of_the_authority_is_served() -> Result<()> {
    for (_, server) in pairings("envoy_interop wrong client")? {
        let cast = Cast::new(Between::Http1)?;
        let pair = Pair::start(&cast, Proxy::Envoy, server).await?;
        let elsewhere = Authority::new("another root")?;
        let forged = elsewhere.spiffe(CLIENT)?;
        let stranger = cast.authority.spiffe(STRANGER)?;
        let expectations = [
            ("the named client", Some(&cast.client), true),
            ("no certificate", None, false),
            ("another id", Some(&stranger), false),
            ("another authority", Some(&forged), false),
        ];
        for (name, leaf, is_served) in expectations {
            let config = tls::client_config(&cast.authority, leaf, &["http/1.1"])?;
            let was = answered(&pair, config).await?;
            ensure!(
                was == is_served,
                "{} as server, {name}: served {was}",
                server.name()
            );
        }
        let seen = pair.application.received().len();
        ensure!(
            seen == 1,
            "{} as server let {seen} requests through",
            server.name()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_common_alpn_the_handshake_completes_and_http1_is_spoken() -> Result<()> {
    for (_, server) in pairings("envoy_interop ALPN")? {
        let cast = Cast::new(Between::Http1)?;
        let pair = Pair::start(&cast, Proxy::Envoy, server).await?;
        for alpn in [&["istio"][..], &[]] {
            let config = tls::client_config(&cast.authority, Some(&cast.client), alpn)?;
            let stream = TcpStream::connect(pair.inbound.address()).await?;
            let stream = tls::connect(config, "server.test", stream).await?;
            ensure!(
                stream.get_ref().1.alpn_protocol().is_none(),
                "{}: ALPN was chosen",
                server.name()
            );
            let answer = RawClient::over(stream)
                .exchange(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
                .await?;
            ensure!(
                answer.status() == 200,
                "{} with {alpn:?}: {}",
                server.name(),
                answer.head.start_line
            );
        }
    }
    Ok(())
}
