//! Which server does a tunnel go to? By the client's address, by labels, by weight, as Envoy sends it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use harness::bootstrap::{self, address, merge};
use harness::peers;
use harness::process::{Port, Proxy, ProxyProcess};
use harness::upstream::{TcpEcho, tcp_echo};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpSocket;

use crate::stage::{start, timely};

/// Clients of the hashing listener, each with an address of its own.
const CLIENTS: u8 = 40;
/// Tunnels by weight; the standard deviation of a share is three points.
const BY_WEIGHT: u32 = 200;
const APART: f64 = 0.15;

fn listeners(ports: &[Port; 4]) -> Vec<Value> {
    let label = |version: &str| json!({"filter_metadata": {"envoy.lb": {"version": version}}});
    let weighted = json!({"clusters": [
        {"name": "labelled", "weight": 3, "metadata_match": label("one")},
        {"name": "labelled", "weight": 1, "metadata_match": label("two")}]});
    let choices = [
        json!({"cluster": "ring", "hash_policy": [{"source_ip": {}}]}),
        json!({"cluster": "labelled", "metadata_match": label("one")}),
        json!({"cluster": "labelled", "metadata_match": label("none")}),
        json!({"cluster": null, "weighted_clusters": weighted}),
    ];
    let each = choices
        .iter()
        .zip(ports)
        .enumerate()
        .map(|(number, (choice, port))| {
            let mut filter = bootstrap::tcp_proxy("");
            merge(&mut filter["typed_config"], choice);
            if let Some(config) = filter["typed_config"].as_object_mut() {
                config.retain(|_, value| !value.is_null());
            }
            bootstrap::listener(&format!("choice-{number}"), port.address(), filter)
        });
    each.collect()
}

fn clusters(servers: &[TcpEcho]) -> Vec<Value> {
    let labelled = |(number, server): (usize, &TcpEcho)| {
        let version = if number == 0 { "one" } else { "two" };
        json!({"endpoint": {"address": address(server.address())},
            "metadata": {"filter_metadata": {"envoy.lb": {"version": version}}}})
    };
    let endpoints: Vec<Value> = servers.iter().enumerate().map(labelled).collect();
    let cluster = |name: &str, fields: Value| {
        let mut cluster = json!({"name": name, "type": "STATIC", "connect_timeout": "10s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}});
        merge(&mut cluster, &fields);
        cluster
    };
    vec![
        cluster("ring", json!({"lb_policy": "RING_HASH"})),
        cluster(
            "labelled",
            json!({"lb_subset_config": {"subset_selectors": [{"keys": ["version"]}]}}),
        ),
    ]
}

/// A proxy with the four listeners.
struct World {
    ports: [Port; 4],
    _process: ProxyProcess,
}

impl World {
    async fn start(proxy: Proxy, servers: &[TcpEcho]) -> Result<Self> {
        let ports = [
            Port::reserve()?,
            Port::reserve()?,
            Port::reserve()?,
            Port::reserve()?,
        ];
        let process = start(proxy, listeners(&ports), clusters(servers)).await?;
        Ok(Self {
            ports,
            _process: process,
        })
    }

    /// Who greets a client with this address.
    async fn greets(&self, listener: usize, client: Ipv4Addr) -> Result<String> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((client, 0).into())?;
        let stream = socket.connect(self.ports[listener].address()).await?;
        let mut name = String::new();
        let read = BufReader::new(stream).read_line(&mut name).await;
        Ok(match read {
            Ok(length) if length > 0 => name.trim_end().to_owned(),
            _ => "nobody".to_owned(),
        })
    }

    /// By hash and by label; then the shares by weight.
    async fn observed(&self) -> Result<(Vec<String>, BTreeMap<String, f64>)> {
        let mut sure = Vec::new();
        for last in 1..=CLIENTS {
            sure.push(timely(self.greets(0, Ipv4Addr::new(127, 0, 1, last))).await?);
        }
        for listener in [1, 1, 1, 2] {
            sure.push(timely(self.greets(listener, Ipv4Addr::LOCALHOST)).await?);
        }
        let mut shares = BTreeMap::new();
        for _ in 0..BY_WEIGHT {
            let name = timely(self.greets(3, Ipv4Addr::LOCALHOST)).await?;
            *shares.entry(name).or_default() += 1.0 / f64::from(BY_WEIGHT);
        }
        Ok((sure, shares))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_go_where_envoys_go() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("tunnels_go_where_envoys_go", &missing);
    }
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        servers.push(tcp_echo(name).await?);
    }
    let envoy = World::start(Proxy::Envoy, &servers).await?;
    let (sure, shares) = envoy.observed().await?;
    for name in ["one", "two", "three"] {
        ensure!(
            sure[..CLIENTS.into()].iter().any(|by| by == name),
            "{name} is hashed to by nobody"
        );
    }
    for proxy in Proxy::under_test("tunnels_go_where_envoys_go")? {
        let tested = World::start(proxy, &servers).await?;
        let (found, shares_found) = tested.observed().await?;
        ensure!(found == sure, "{}: {found:?}, Envoy {sure:?}", proxy.name());
        let one = |shares: &BTreeMap<String, f64>| shares.get("one").copied().unwrap_or(0.0);
        ensure!(
            (one(&shares_found) - 0.75).abs() < APART && shares_found.keys().eq(shares.keys()),
            "{}: {shares_found:?}, Envoy {shares:?}",
            proxy.name()
        );
    }
    Ok(())
}
