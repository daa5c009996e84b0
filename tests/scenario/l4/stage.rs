//! A proxy with listeners of the shapes that a mesh control plane sends, and what one asks of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::bootstrap::{self, type_url};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use serde_json::{Value, json};

/// Nothing here takes that long; it only keeps a broken proxy from hanging the test.
pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// Runs `work`, within reason.
pub(crate) async fn timely<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(WITHIN, work)
        .await
        .context("not within 20 seconds")?
}

/// Starts Remora with one worker, so that what a worker remembers is what the test taught it.
pub(crate) async fn remora(listeners: Vec<Value>, clusters: Vec<Value>) -> Result<ProxyProcess> {
    start(Proxy::Remora, listeners, clusters).await
}

/// Starts `proxy` with one worker.
pub(crate) async fn start(proxy: Proxy, listeners: Vec<Value>, clusters: Vec<Value>) -> Result<ProxyProcess> {
    let admin = Port::reserve()?;
    let text = bootstrap::fixed(admin.address(), listeners, clusters).to_string();
    ProxyProcess::start(proxy, &text, admin, &Options::default()).await
}

/// A listener filter by its message.
pub(crate) fn listener_filter(name: &str, message: &str) -> Value {
    let message = format!("extensions.filters.listener.{message}");
    json!({"name": format!("envoy.filters.listener.{name}"), "typed_config": {"@type": type_url(&message)}})
}

/// Both inspectors, as a port has them whose protocol nobody declared; no timeout, as Istio sets it.
pub(crate) fn inspectors() -> Value {
    json!([
        listener_filter("tls_inspector", "tls_inspector.v3.TlsInspector"),
        listener_filter("http_inspector", "http_inspector.v3.HttpInspector"),
    ])
}

/// The listener of a port whose protocol is detected: HTTP to `http`, everything else to `tcp`.
pub(crate) fn detecting(name: &str, at: SocketAddr, http: &str, tcp: &str) -> Value {
    let manager = bootstrap::http_connection_manager(&json!({
        "server_name": "detected",
        "route_config": bootstrap::route_everything("routes", http),
    }));
    let alpn = json!(["http/1.1", "h2c"]);
    json!({
        "name": name, "address": bootstrap::address(at),
        "listener_filters": inspectors(), "listener_filters_timeout": "0s",
        "continue_on_listener_filters_timeout": true,
        "filter_chains": [{
            "filter_chain_match": {"transport_protocol": "raw_buffer", "application_protocols": alpn},
            "filters": [manager],
        }],
        "default_filter_chain": {"name": "tcp", "filters": [bootstrap::tcp_proxy(tcp)]},
    })
}
