//! Which filter chain does a connection get? Every criterion, compared with the real Envoy.
//!
//! Each chain answers with its own name: by HTTP with or without TLS, or by the greeting of a server behind it. Levels are
//! asked in one order and never gone back to; what no chain wants is closed without a byte.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use harness::bootstrap::{self, http_connection_manager, merge, type_url};
use harness::certificates::{Authority, Leaf, LeafRequest};
use harness::client::RawClient;
use harness::peers;
use harness::process::{Port, Proxy, ProxyProcess};
use harness::tls;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::stage::{inspectors, listener_filter, start, timely};

/// A listener and what is tried on it.
struct Listener {
    name: &'static str,
    filters: Value,
    chains: Vec<Value>,
    default: Option<Value>,
}

/// A connection that is tried.
struct Case {
    listener: &'static str,
    to: Ipv4Addr,
    from: (Ipv4Addr, u16),
    says: Says,
}

/// What the client begins with.
#[derive(Debug)]
enum Says {
    /// A request.
    Plain,
    /// A TLS handshake with this SNI and ALPN, then a request.
    Tls(&'static str, &'static [&'static str]),
    /// The first bytes of a TLS handshake, and then it listens.
    Hello,
}

/// What the listeners are made with.
struct Made {
    leaf: Leaf,
    authority: Authority,
    echo: SocketAddr,
    source_port: u16,
}

impl Made {
    /// A chain that answers requests with its name.
    fn chain(&self, name: &str, matching: Value) -> Value {
        let manager = http_connection_manager(&json!({"route_config": {"name": "r", "virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"},
                "direct_response": {"status": 200, "body": {"inline_string": name}}}]}]}}));
        let mut chain = json!({"name": name, "filters": [manager], "filter_chain_match": matching});
        let is_tls = chain["filter_chain_match"]["transport_protocol"] == "tls";
        if is_tls || chain["filter_chain_match"].get("server_names").is_some() {
            let leaf = &self.leaf;
            let certificates = json!([{"certificate_chain": {"inline_string": leaf.certificate_pem},
                "private_key": {"inline_string": leaf.key_pem}}]);
            merge(
                &mut chain,
                &json!({"transport_socket": {"name": "tls", "typed_config": {
                "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {"tls_certificates": certificates}}}}),
            );
        }
        chain
    }

    fn addresses(&self) -> Listener {
        let range = |address: &str, length: u32| json!([{"address_prefix": address, "prefix_len": length}]);
        let mut of_source = self.chain(
            "three from nine",
            json!({"prefix_ranges": range("127.0.0.3", 32)}),
        );
        of_source["filter_chain_match"]["source_prefix_ranges"] = range("127.0.0.9", 32);
        let mut of_few = self.chain("three from few", json!({"prefix_ranges": range("127.0.0.3", 32)}));
        of_few["filter_chain_match"]["source_prefix_ranges"] = range("127.0.0.8", 30);
        let mut direct = self.chain(
            "four from nine itself",
            json!({"prefix_ranges": range("127.0.0.4", 32)}),
        );
        direct["filter_chain_match"]["direct_source_prefix_ranges"] = range("127.0.0.9", 32);
        let mut of_port = self.chain(
            "five from a port",
            json!({"prefix_ranges": range("127.0.0.5", 32)}),
        );
        of_port["filter_chain_match"]["source_ports"] = json!([self.source_port, 1]);
        let mut local = self.chain("six from here", json!({"prefix_ranges": range("127.0.0.6", 32)}));
        local["filter_chain_match"]["source_type"] = "SAME_IP_OR_LOOPBACK".into();
        let mut far = self.chain(
            "seven from outside",
            json!({"prefix_ranges": range("127.0.0.7", 32)}),
        );
        far["filter_chain_match"]["source_type"] = "EXTERNAL".into();
        Listener {
            name: "addresses",
            filters: json!([]),
            chains: vec![
                self.chain("two", json!({"prefix_ranges": range("127.0.0.2", 32)})),
                self.chain("few", json!({"prefix_ranges": range("127.0.0.0", 29)})),
                self.chain("ten", json!({"prefix_ranges": range("127.0.0.10", 31)})),
                of_source,
                of_few,
                direct,
                of_port,
                local,
                far,
            ],
            default: Some(self.chain("default", json!({}))),
        }
    }

    fn protocols(&self) -> Listener {
        let named = |name: &str, names: Value| self.chain(name, json!({"server_names": names}));
        let tls = |name: &str, alpn: Value| {
            self.chain(
                name,
                json!({"transport_protocol": "tls", "server_names": ["alpn.test"], "application_protocols": alpn}),
            )
        };
        Listener {
            name: "protocols",
            filters: inspectors(),
            chains: vec![
                named("exact", json!(["exact.test", "one.wild.test"])),
                named("wild", json!(["*.wild.test"])),
                named("wilder", json!(["*.very.wild.test"])),
                tls("h2", json!(["h2"])),
                tls("http/1.1", json!(["http/1.1", "http/1.0"])),
                self.chain("tls", json!({"transport_protocol": "tls"})),
                self.chain(
                    "plain http",
                    json!({"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1"]}),
                ),
            ],
            default: None,
        }
    }

    /// Of these two ports the first one is the listener's, and no chain without a port is looked at then.
    fn ports(&self, own: u16) -> Listener {
        let at = |name: &str, port: u16| {
            self.chain(
                name,
                json!({"destination_port": port, "transport_protocol": "raw_buffer"}),
            )
        };
        Listener {
            name: "ports",
            filters: inspectors(),
            chains: vec![
                at("own port", own),
                at("another port", if own == 9 { 10 } else { 9 }),
                self.chain("any port", json!({"transport_protocol": "tls"})),
            ],
            default: Some(self.chain("default", json!({}))),
        }
    }

    /// A listener whose inspector of TLS is off where this holds.
    fn inspected(&self, name: &'static str, disabled: Value) -> Listener {
        let mut filter = listener_filter("tls_inspector", "tls_inspector.v3.TlsInspector");
        merge(&mut filter, &json!({"filter_disabled": disabled}));
        let mut raw = self.chain("raw", json!({}));
        raw["filters"] = json!([bootstrap::tcp_proxy("echo")]);
        Listener {
            name,
            filters: json!([filter]),
            chains: vec![self.chain("tls", json!({"transport_protocol": "tls"}))],
            default: Some(raw),
        }
    }
}

fn cases(source_port: u16) -> Vec<Case> {
    let at = |last: u8| Ipv4Addr::new(127, 0, 0, last);
    let case = |listener, to: u8, from: (u8, u16), says| Case {
        listener,
        to: at(to),
        from: (at(from.0), from.1),
        says,
    };
    let mut cases = Vec::new();
    for to in 1..=11 {
        cases.push(case("addresses", to, (1, 0), Says::Plain));
        cases.push(case("addresses", to, (9, 0), Says::Plain));
    }
    cases.push(case("addresses", 3, (10, 0), Says::Plain));
    cases.push(case("addresses", 5, (1, source_port), Says::Plain));
    for name in [
        "exact.test",
        "EXACT.test",
        "one.wild.test",
        "two.wild.test",
        "a.b.wild.test",
        "x.very.wild.test",
        "very.wild.test",
        "wild.test",
        "other.test",
        "127.0.0.1",
    ] {
        cases.push(case("protocols", 1, (1, 0), Says::Tls(name, &[])));
    }
    for alpn in [
        &["h2", "http/1.1"][..],
        &["http/1.1", "h2"],
        &["http/1.0"],
        &["h3"],
        &[],
    ] {
        cases.push(case("protocols", 1, (1, 0), Says::Tls("alpn.test", alpn)));
    }
    cases.push(case("protocols", 1, (1, 0), Says::Plain));
    cases.push(case("ports", 1, (1, 0), Says::Plain));
    cases.push(case("ports", 1, (1, 0), Says::Tls("a.test", &[])));
    for listener in DISABLED {
        cases.push(case(listener, 1, (1, 0), Says::Hello));
    }
    cases
}

/// The listeners that say when their inspector is off.
const DISABLED: [&str; 6] = [
    "always",
    "never",
    "at own port",
    "at another port",
    "one of two",
    "both of two",
];

fn listeners(made: &Made, ports: &[Port]) -> Vec<Value> {
    let own = |index: usize| ports[index].number();
    let range = |port: u16| json!({"destination_port_range": {"start": port, "end": u32::from(port) + 1}});
    let any = || json!({"any_match": true});
    let never = || json!({"not_match": any()});
    let predicates = [
        any(),
        never(),
        range(own(5)),
        range(1),
        json!({"or_match": {"rules": [range(1), range(own(7))]}}),
        json!({"and_match": {"rules": [any(), range(1)]}}),
    ];
    let mut all = vec![made.addresses(), made.protocols(), made.ports(own(2))];
    all.extend(
        DISABLED
            .iter()
            .zip(predicates)
            .map(|(name, when)| made.inspected(name, when)),
    );
    let with_ports = all.into_iter().zip(ports);
    let listeners = with_ports.map(|(listener, port)| {
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.number()));
        let mut value = json!({"name": listener.name, "address": bootstrap::address(at),
            "listener_filters": listener.filters, "filter_chains": listener.chains});
        if let Some(default) = listener.default {
            value["default_filter_chain"] = default;
        }
        value
    });
    listeners.collect()
}

/// A proxy with the listeners.
struct World {
    ports: Vec<Port>,
    _process: ProxyProcess,
}

impl World {
    async fn start(proxy: Proxy, made: &Made) -> Result<Self> {
        let ports = (0..3 + DISABLED.len())
            .map(|_| Port::reserve())
            .collect::<Result<Vec<_>>>()?;
        let clusters = vec![bootstrap::cluster("echo", &[made.echo])];
        let process = start(proxy, listeners(made, &ports), clusters).await?;
        Ok(Self {
            ports,
            _process: process,
        })
    }

    /// The chain that a connection gets, or how it ends.
    async fn chain(&self, case: &Case, made: &Made) -> Result<String> {
        let first = ["addresses", "protocols", "ports"].into_iter();
        let index = first.chain(DISABLED).position(|name| name == case.listener);
        let port = &self.ports[index.context("a listener of that name")?];
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(case.from.into())?;
        let mut stream = socket.connect((case.to, port.number()).into()).await?;
        match &case.says {
            Says::Plain => request(RawClient::over(stream)).await,
            Says::Hello => {
                stream.write_all(&[22, 3, 1]).await?;
                greeting(stream).await
            }
            Says::Tls(name, alpn) => {
                let config = tls::client_config(&made.authority, None, alpn)?;
                match tls::connect(config, name, stream).await {
                    Ok(stream) => request(RawClient::over(stream)).await,
                    Err(_) => Ok("no handshake".to_owned()),
                }
            }
        }
    }
}

async fn request<S>(mut client: RawClient<S>) -> Result<String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if client.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.is_err() {
        return Ok("closed".to_owned());
    }
    Ok(match client.read_response("GET").await {
        Ok(Some(answer)) => answer.text(),
        Ok(None) | Err(_) => "closed".to_owned(),
    })
}

/// Says `raw` to a client that has spoken, and not before: who waits for the client is not told from who does not.
async fn answer_the_first_bytes(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut heard = [0; 16];
            if matches!(stream.read(&mut heard).await, Ok(length) if length > 0) {
                let _ = stream.write_all(b"raw\n").await;
                let _ = stream.read(&mut heard).await;
            }
        });
    }
}

/// The server's name, or that nobody says one before the handshake goes on.
async fn greeting(mut stream: TcpStream) -> Result<String> {
    let mut word = [0; 4];
    let read = stream.read_exact(&mut word);
    Ok(
        match tokio::time::timeout(std::time::Duration::from_millis(400), read).await {
            Ok(Ok(_)) => String::from_utf8_lossy(&word).into_owned(),
            Ok(Err(_)) => "closed".to_owned(),
            Err(_) => "waits for the handshake".to_owned(),
        },
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_gets_the_chain_that_envoy_gives_it() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("every_connection_gets_the_chain_that_envoy_gives_it", &missing);
    }
    let authority = Authority::new("chains")?;
    let leaf = authority.leaf(&LeafRequest {
        dns_names: vec!["test".to_owned()],
        ..LeafRequest::default()
    })?;
    let raw = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let echo = raw.local_addr()?;
    tokio::spawn(answer_the_first_bytes(raw));
    // Held to the end, so that nobody else gets it.
    let source = Port::reserve()?;
    let made = Made {
        leaf,
        authority,
        echo,
        source_port: source.number(),
    };
    let envoy = World::start(Proxy::Envoy, &made).await?;
    for proxy in Proxy::under_test("every_connection_gets_the_chain_that_envoy_gives_it")? {
        let tested = World::start(proxy, &made).await?;
        let mut wrong = String::new();
        for case in cases(made.source_port) {
            let expected = timely(envoy.chain(&case, &made)).await?;
            let found = timely(tested.chain(&case, &made)).await?;
            if expected != found {
                let Case {
                    listener,
                    to,
                    from,
                    says,
                } = &case;
                wrong.push_str(&format!(
                    "\n{listener}, {from:?} to {to}, {says:?}: {expected} and not {found}"
                ));
            }
            if std::env::var_os("REMORA_SHOW_TABLE").is_some() {
                use std::io::Write as _;
                writeln!(
                    std::io::stderr(),
                    "{} {:?} {} {:?}: {expected}",
                    case.listener,
                    case.from,
                    case.to,
                    case.says
                )?;
            }
        }
        ensure!(wrong.is_empty(), "{} differs from Envoy:{wrong}", proxy.name());
    }
    Ok(())
}
