//! A proxy before one cluster of several applications.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::bootstrap::{self, fixed, http_connection_manager, listener, merge, route_everything};
use harness::client::{RawClient, RawResponse};
use harness::peers;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::{Behaviour, Upstream};
use serde_json::{Value, json};

pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// The proxies to test, and Envoy where there is one.
pub(crate) fn with_envoy(test: &str) -> Result<Vec<Proxy>> {
    let mut proxies = Proxy::under_test(test)?;
    match peers::envoy() {
        Ok(_) if !proxies.contains(&Proxy::Envoy) => proxies.push(Proxy::Envoy),
        Ok(_) => {}
        Err(missing) => peers::skip(&format!("{test} with envoy"), &missing)?,
    }
    Ok(proxies)
}

/// An application that answers every request with this status.
pub(crate) async fn answering(name: &str, status: u16) -> Result<Upstream> {
    let behaviour = Behaviour {
        status: Some(status),
        ..Behaviour::default()
    };
    Upstream::start_with(name, behaviour, None).await
}

/// A running proxy whose only route leads to the cluster `watched`.
pub(crate) struct Stage {
    pub(crate) process: ProxyProcess,
    port: Port,
}

impl Stage {
    /// `over` is merged over the cluster.
    pub(crate) async fn start(proxy: Proxy, endpoints: &[SocketAddr], over: &Value) -> Result<Self> {
        Self::start_with(proxy, endpoints, over, &json!({}), 1).await
    }

    /// `route` is merged over the route's action.
    pub(crate) async fn start_with(
        proxy: Proxy,
        endpoints: &[SocketAddr],
        over: &Value,
        route: &Value,
        concurrency: u32,
    ) -> Result<Self> {
        let mut routes = route_everything("routes", "watched");
        merge(&mut routes["virtual_hosts"][0]["routes"][0]["route"], route);
        let manager = http_connection_manager(&json!({"route_config": routes}));
        Self::before(proxy, endpoints, over, manager, concurrency).await
    }

    /// Any network filter before the cluster.
    pub(crate) async fn before(
        proxy: Proxy,
        endpoints: &[SocketAddr],
        over: &Value,
        filter: Value,
        concurrency: u32,
    ) -> Result<Self> {
        let (admin, port) = (Port::reserve()?, Port::reserve()?);
        let mut cluster = bootstrap::cluster("watched", endpoints);
        merge(&mut cluster, over);
        let listeners = vec![listener("in", port.address(), filter)];
        let text = fixed(admin.address(), listeners, vec![cluster]).to_string();
        let options = Options {
            concurrency,
            ..Options::default()
        };
        let process = ProxyProcess::start(proxy, &text, admin, &options).await?;
        Ok(Self { process, port })
    }

    /// One request, on a connection of its own.
    pub(crate) async fn get(&self) -> Result<RawResponse> {
        let mut client = RawClient::connect(self.port.address()).await?;
        client.exchange(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await
    }

    /// A request that is under way.
    pub(crate) async fn begin(&self, behave: &str) -> Result<RawClient> {
        let mut client = self.connect().await?;
        let request = format!("GET / HTTP/1.1\r\nhost: h\r\nx-behave: {behave}\r\n\r\n");
        client.send(request.as_bytes()).await?;
        Ok(client)
    }

    /// A connection to the proxy.
    pub(crate) async fn connect(&self) -> Result<RawClient> {
        RawClient::connect(self.port.address()).await
    }

    /// The statuses of so many requests, one after the other.
    pub(crate) async fn statuses(&self, count: usize) -> Result<Vec<u16>> {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(self.get().await?.status());
        }
        Ok(statuses)
    }

    /// `health_flags` of an endpoint.
    pub(crate) async fn flags(&self, endpoint: SocketAddr) -> Result<String> {
        let text = self.process.admin_text("/clusters").await?;
        let begin = format!("watched::{endpoint}::health_flags::");
        let found = text.lines().find_map(|line| line.strip_prefix(&begin));
        Ok(found.unwrap_or("nothing").to_owned())
    }

    /// Waits until the endpoint has these flags.
    pub(crate) async fn wait_flags(&self, endpoint: SocketAddr, wanted: &str) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let flags = self.flags(endpoint).await?;
            if flags == wanted {
                return Ok(());
            }
            let name = self.process.kind().name();
            ensure!(Instant::now() < deadline, "{name}: {flags}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until this gauge or counter `cluster.watched.NAME` has this value.
    pub(crate) async fn wait_stat(&self, name: &str, value: u64) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        let wanted = format!("cluster.watched.{name}: {value}");
        loop {
            let text = self.process.admin_text("/stats").await?;
            if text.lines().any(|line| line == wanted) {
                return Ok(());
            }
            let begin = format!("cluster.watched.{name}: ");
            let found = text.lines().find(|line| line.starts_with(&begin));
            let proxy = self.process.kind().name();
            ensure!(Instant::now() < deadline, "{proxy}: {found:?}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Counters and gauges `cluster.watched.PART.*` that are not zero, as `/stats` shows them.
    pub(crate) async fn stats(&self, part: &str) -> Result<Vec<String>> {
        let text = self.process.admin_text("/stats").await?;
        let begin = format!("cluster.watched.{part}.");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&begin));
        let mut lines: Vec<String> = lines
            .filter(|line| !line.ends_with(": 0"))
            .map(str::to_owned)
            .collect();
        lines.sort_unstable();
        Ok(lines)
    }
}
