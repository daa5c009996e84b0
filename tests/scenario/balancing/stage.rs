//! Applications, proxies with the same clusters over them, and who answered which request.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use futures_util::future::{select_all, try_join_all};
use harness::bootstrap::{address, fixed, http_connection_manager, listener, merge};
use harness::client::RawClient;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::{Behaviour, Received, Upstream};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

/// Client connections of one round of requests.
const CONNECTIONS: usize = 8;
/// Requests that are on their way on one connection.
const PIPELINED: usize = 32;

/// The applications `e0`, `e1`, ...
pub(crate) struct Applications(Vec<Upstream>);

impl Applications {
    pub(crate) async fn start(count: usize) -> Result<Self> {
        let mut all = Vec::new();
        for number in 0..count {
            let behaviour = Behaviour {
                body: Some(0),
                ..Behaviour::default()
            };
            all.push(Upstream::start_with(&format!("e{number}"), behaviour, None).await?);
        }
        Ok(Self(all))
    }

    /// These, which behave as they were told.
    pub(crate) fn of(all: Vec<Upstream>) -> Self {
        Self(all)
    }

    /// How many requests each has got.
    pub(crate) fn counts(&self) -> Vec<usize> {
        self.0.iter().map(|one| one.received().len()).collect()
    }

    /// What application `number` has got since it was last asked.
    pub(crate) fn take(&self, number: usize) -> Vec<Received> {
        self.0[number].take_received()
    }

    /// The one that gets the next request after these counts were taken.
    pub(crate) async fn next_taker(&self, before: &[usize]) -> String {
        let waits = self.0.iter().zip(before).map(|(one, count)| {
            Box::pin(async move {
                one.wait_received(count + 1).await;
                one.name().to_owned()
            })
        });
        select_all(waits).await.0
    }

    /// Where application `number` listens.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        self.0[number].address()
    }

    /// An `LbEndpoint` for application `number`, with further fields.
    pub(crate) fn endpoint(&self, number: usize, fields: &Value) -> Value {
        let mut endpoint = json!({"endpoint": {
            "address": address(self.0[number].address()), "hostname": format!("host-{number}.test")}});
        merge(&mut endpoint, fields);
        endpoint
    }
}

/// A `STATIC` cluster over localities of endpoints, with further fields.
pub(crate) fn cluster(name: &str, localities: &Value, fields: &Value) -> Value {
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "10s",
        "load_assignment": {"cluster_name": name, "endpoints": localities},
    });
    merge(&mut cluster, fields);
    cluster
}

/// A route from `/NAME` to a cluster, with further fields of the action.
pub(crate) fn route(name: &str, cluster: &str, action: &Value) -> Value {
    let mut to = json!({"cluster": cluster, "timeout": "60s"});
    merge(&mut to, action);
    json!({"match": {"path": format!("/{name}")}, "route": to})
}

/// A proxy with one listener.
pub(crate) struct Running {
    process: ProxyProcess,
    port: Port,
}

impl Running {
    pub(crate) async fn start(proxy: Proxy, routes: &[Value], clusters: &[Value]) -> Result<Self> {
        Self::start_with(proxy, routes, clusters, &json!({})).await
    }

    /// The same with further fields of the connection manager (`manager`) and of the bootstrap (all others).
    pub(crate) async fn start_with(
        proxy: Proxy,
        routes: &[Value],
        clusters: &[Value],
        further: &Value,
    ) -> Result<Self> {
        let (admin, port) = (Port::reserve()?, Port::reserve()?);
        let mut manager = json!({"route_config": {"name": "r", "virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": routes}]}});
        let mut further = further.clone();
        merge(&mut manager, &further["manager"].take());
        let listeners = vec![listener("in", port.address(), http_connection_manager(&manager))];
        let mut bootstrap = fixed(admin.address(), listeners, clusters.to_vec());
        if let Some(further) = further.as_object_mut() {
            further.remove("manager");
        }
        merge(&mut bootstrap, &further);
        let process = ProxyProcess::start(proxy, &bootstrap.to_string(), admin, &Options::default()).await?;
        Ok(Self { process, port })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.process.kind().name()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Who answers each of these requests, over a few connections with several requests under way on each.
    pub(crate) async fn answered_by(&self, requests: &[String]) -> Result<Vec<String>> {
        let share = requests.len().div_ceil(CONNECTIONS).max(1);
        let source = Ipv4Addr::LOCALHOST;
        let parts = requests
            .chunks(share)
            .map(|part| self.one_connection(source, part));
        Ok(try_join_all(parts).await?.concat())
    }

    /// The same over one connection from `source`.
    pub(crate) async fn one_connection(&self, source: Ipv4Addr, requests: &[String]) -> Result<Vec<String>> {
        let mut client = RawClient::over(connect(source, self.port.address()).await?);
        let mut names = Vec::with_capacity(requests.len());
        for batch in requests.chunks(PIPELINED) {
            client.send(batch.concat().as_bytes()).await?;
            for request in batch {
                let answer = client
                    .read_response("GET")
                    .await?
                    .with_context(|| format!("{} closed", self.name()))?;
                ensure!(
                    answer.status() == 200,
                    "{}: {} for {request}",
                    self.name(),
                    answer.head.start_line
                );
                names.push(answer.head.header("x-upstream").unwrap_or("nobody").to_owned());
            }
        }
        Ok(names)
    }

    /// Status and answering endpoint of each of these requests, over one connection from `source`.
    pub(crate) async fn statuses(&self, source: Ipv4Addr, requests: &[String]) -> Result<Vec<String>> {
        let mut client = RawClient::over(connect(source, self.port.address()).await?);
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            client.send(request.as_bytes()).await?;
            let answer = client.read_response("GET").await?;
            let answer = answer.with_context(|| format!("{} closed: {}", self.name(), self.process.log()))?;
            let by = answer.head.header("x-upstream").unwrap_or("nobody");
            answers.push(format!("{} by {by}", answer.status()));
        }
        Ok(answers)
    }

    /// The numbers of a cluster whose names begin like this.
    pub(crate) async fn counts(&self, cluster: &str, beginning: &str) -> Result<BTreeMap<String, u64>> {
        let prefix = format!("cluster.{cluster}.{beginning}");
        let text = self.process.admin_text("/stats").await?;
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.split_once(": "));
        lines
            .map(|(name, number)| Ok((name.to_owned(), number.parse()?)))
            .collect()
    }

    /// One answer, on a connection of its own.
    pub(crate) async fn answer(&self, request: &str) -> Result<harness::client::RawResponse> {
        RawClient::connect(self.port.address())
            .await?
            .exchange(request.as_bytes())
            .await
    }
}

async fn connect(source: Ipv4Addr, to: SocketAddr) -> Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A request with further header lines.
pub(crate) fn get(target: &str, lines: &[(&str, String)]) -> String {
    let lines: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("GET {target} HTTP/1.1\r\nhost: h\r\n{lines}\r\n")
}

/// Fails unless both have the same answers; says how many differ and shows the first few.
pub(crate) fn same(what: &str, envoy: &[String], tested: &[String]) -> Result<()> {
    let wrong: Vec<String> = envoy
        .iter()
        .zip(tested)
        .enumerate()
        .filter(|(_, (one, other))| one != other)
        .map(|(at, (one, other))| format!("{at}: {one} and not {other}"))
        .collect();
    ensure!(
        wrong.is_empty() && envoy.len() == tested.len(),
        "{what}: {} of {} keys differ: {:?}",
        wrong.len(),
        envoy.len(),
        &wrong[..wrong.len().min(5)]
    );
    Ok(())
}
