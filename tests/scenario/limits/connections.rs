//! Limits of connections: the network filters `local_ratelimit` and `connection_limit`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::bootstrap::{self, type_url};
use harness::client::RawClient;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::Upstream;
use serde_json::{Value, json};

use super::WITHIN;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// A proxy with a listener for each list of limits, all before one upstream.
struct Scene {
    ports: Vec<Port>,
    process: ProxyProcess,
    _upstream: Upstream,
}

fn limit(kind: &str, fields: &Value) -> Value {
    let mut config = json!({"@type": type_url(&format!("extensions.filters.network.{kind}"))});
    bootstrap::merge(&mut config, fields);
    json!({"name": kind, "typed_config": config})
}

fn rate(fields: &Value) -> Value {
    let mut all = json!({"stat_prefix": "rate", "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}});
    bootstrap::merge(&mut all, fields);
    limit("local_ratelimit.v3.LocalRateLimit", &all)
}

fn connections(fields: &Value) -> Value {
    let mut all = json!({"stat_prefix": "open", "max_connections": 1});
    bootstrap::merge(&mut all, fields);
    limit("connection_limit.v3.ConnectionLimit", &all)
}

impl Scene {
    async fn start(proxy: Proxy, limits: &[Value]) -> Result<Self> {
        let upstream = Upstream::start("upstream").await?;
        let admin = Port::reserve()?;
        let (mut ports, mut listeners) = (Vec::new(), Vec::new());
        for (index, limit) in limits.iter().enumerate() {
            let port = Port::reserve()?;
            let name = format!("listener-{index}");
            let mut listener = bootstrap::listener(&name, port.address(), bootstrap::tcp_proxy("upstream"));
            if let Some(Value::Array(filters)) = listener.pointer_mut("/filter_chains/0/filters") {
                filters.insert(0, limit.clone());
            }
            listeners.push(listener);
            ports.push(port);
        }
        let cluster = bootstrap::cluster("upstream", &[upstream.address()]);
        let text = bootstrap::fixed(admin.address(), listeners, vec![cluster]).to_string();
        let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
        Ok(Self {
            ports,
            process,
            _upstream: upstream,
        })
    }

    /// A connection that was answered, or none if it was closed.
    async fn connect(&self, listener: usize) -> Result<Option<RawClient>> {
        let mut client = RawClient::connect(self.ports[listener].address()).await?;
        if client.send(REQUEST).await.is_err() {
            return Ok(None);
        }
        match client.read_response("GET").await {
            Ok(Some(answer)) => {
                ensure!(answer.status() == 200, "{:?}", answer.head);
                Ok(Some(client))
            }
            Ok(None) | Err(_) => Ok(None),
        }
    }

    async fn counts(&self, family: &str, prefix: &str, least: f64) -> Result<()> {
        let family = format!("envoy_{family}");
        self.process.wait_metric(&family, prefix, least, WITHIN).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_token_is_closed() -> Result<()> {
    for proxy in Proxy::under_test("limits: network local_ratelimit")? {
        let off = json!({"runtime_enabled": {"default_value": false, "runtime_key": "off"}});
        let shared = json!({"share_key": "together", "stat_prefix": "shared"});
        let scene = Scene::start(
            proxy,
            &[rate(&json!({})), rate(&off), rate(&shared), rate(&shared)],
        )
        .await?;
        ensure!(scene.connect(0).await?.is_some());
        ensure!(scene.connect(0).await?.is_none(), "the second has no token");
        scene.counts("local_rate_limit_rate_limited", "rate", 1.0).await?;
        ensure!(scene.connect(1).await?.is_some() && scene.connect(1).await?.is_some());
        ensure!(scene.connect(2).await?.is_some());
        ensure!(scene.connect(3).await?.is_none(), "both have one bucket");
        scene
            .counts("local_rate_limit_rate_limited", "shared", 1.0)
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_too_many_is_closed_until_another_ends() -> Result<()> {
    for proxy in Proxy::under_test("limits: connection_limit")? {
        let delayed = json!({"stat_prefix": "delayed", "delay": "0.3s"});
        let scene = Scene::start(proxy, &[connections(&json!({})), connections(&delayed)]).await?;
        let first = scene.connect(0).await?;
        ensure!(first.is_some());
        scene
            .counts("connection_limit_active_connections", "open", 1.0)
            .await?;
        ensure!(scene.connect(0).await?.is_none());
        scene
            .counts("connection_limit_limited_connections", "open", 1.0)
            .await?;
        drop(first);
        let deadline = Instant::now() + WITHIN;
        while scene.connect(0).await?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "the place of the first is not free again"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _held = scene.connect(1).await?;
        let begun = Instant::now();
        ensure!(scene.connect(1).await?.is_none());
        ensure!(
            begun.elapsed() >= Duration::from_millis(300),
            "it is kept for the delay"
        );
    }
    Ok(())
}
