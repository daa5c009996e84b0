//! What stands around the tests: a control plane, one Remora that follows it, and short words for the resources.

use std::net::SocketAddr;
use std::sync::LazyLock;

use anyhow::Result;
use harness::bootstrap::{self, AdsVariant, merge, type_url};
use harness::control_plane::{CLUSTER, ControlPlane, ENDPOINT, LISTENER, ROUTE, Resource, ResourceReader};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use serde_json::{Value, json};

use super::caller::Caller;
use super::service::{Method, TestServer};

#[expect(clippy::expect_used, reason = "they are built in")]
static READER: LazyLock<ResourceReader> =
    LazyLock::new(|| ResourceReader::new().expect("the descriptors load"));

/// A control plane and a Remora that follows it.
#[derive(Debug)]
pub struct Mesh {
    /// The control plane.
    pub plane: ControlPlane,
    /// The proxy.
    pub process: ProxyProcess,
    /// Where the proxy listens.
    pub port: Port,
}

impl Mesh {
    /// Starts with these resources, and a listener whose routes are those of [`routes`].
    pub async fn start(resources: Vec<Resource>) -> Result<Self> {
        Self::start_with(resources, &json!({}), &json!({})).await
    }

    /// The same, with `manager` over the connection manager and `listener` over the listener.
    pub async fn start_with(resources: Vec<Resource>, manager: &Value, listener: &Value) -> Result<Self> {
        Self::start_at(Port::reserve()?, resources, manager, listener).await
    }

    /// The same, with a listener on this port.
    pub async fn start_at(
        port: Port,
        resources: Vec<Resource>,
        manager: &Value,
        listener: &Value,
    ) -> Result<Self> {
        let ingress = ingress(&port, manager, listener);
        let mut mesh = Self::spawn(port, [resources, vec![ingress]].concat(), &json!({})).await?;
        mesh.process.wait_ready(super::caller::WITHIN).await?;
        Ok(mesh)
    }

    /// Starts with these resources and does not wait until it is ready; `bootstrap` is put over the bootstrap.
    pub async fn spawn(port: Port, resources: Vec<Resource>, bootstrap: &Value) -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let admin = Port::reserve()?;
        plane.put(resources);
        let mut text = bootstrap::ads(admin.address(), plane.address(), AdsVariant::Sotw);
        merge(&mut text, bootstrap);
        let process = ProxyProcess::spawn(Proxy::Remora, &text.to_string(), admin, &Options::default())?;
        Ok(Self { plane, process, port })
    }

    /// A client with one connection.
    pub fn caller(&self) -> Caller {
        Caller::new(self.port.address())
    }
}

fn ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3"})
}

#[expect(clippy::expect_used, reason = "a test writes what it means")]
fn resource(type_url: &str, value: &Value) -> Resource {
    READER.json(type_url, value).expect("a test writes what it means")
}

/// The listener. It knows faults, which routes may then ask for; there is no limit of time but what routes say.
pub fn ingress(port: &Port, manager: &Value, listener: &Value) -> Resource {
    let mut fields = json!({
        "rds": {"route_config_name": "url-map", "config_source": ads()},
        "stream_idle_timeout": "0s",
        "http_filters": [filter("fault", "fault.v3.HTTPFault"), filter("router", "router.v3.Router")],
    });
    merge(&mut fields, manager);
    let manager = bootstrap::http_connection_manager(&fields);
    let mut value = bootstrap::listener("psm.test:8080", port.address(), manager);
    if let Some(chain) = listener.get("filter_chains").and_then(|chains| chains.get(0)) {
        merge(&mut value["filter_chains"][0], chain);
    } else {
        merge(&mut value, listener);
    }
    resource(LISTENER, &value)
}

/// An HTTP filter without configuration of its own.
pub fn filter(name: &str, message: &str) -> Value {
    filter_with(name, message, &json!({}))
}

/// An HTTP filter.
pub fn filter_with(name: &str, message: &str, fields: &Value) -> Value {
    let mut config = json!({"@type": type_url(&format!("extensions.filters.http.{message}"))});
    merge(&mut config, fields);
    json!({"name": format!("envoy.filters.http.{name}"), "typed_config": config})
}

/// A backend service: an EDS cluster that speaks HTTP/2, with `fields` over it.
pub fn service(name: &str, fields: &Value) -> Resource {
    let mut value = json!({
        "name": name, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": ads()},
        "typed_extension_protocol_options": bootstrap::http_protocol(&json!({"http2_protocol_options": {}})),
    });
    merge(&mut value, fields);
    resource(CLUSTER, &value)
}

/// One endpoint, with `fields` over it.
pub fn endpoint(at: SocketAddr, fields: &Value) -> Value {
    let mut value = json!({"endpoint": {"address": bootstrap::address(at)}});
    merge(&mut value, fields);
    value
}

/// A group of endpoints in a zone of its own.
pub fn group(zone: &str, priority: u32, endpoints: &[Value]) -> Value {
    json!({"locality": {"region": "r", "zone": zone}, "priority": priority, "load_balancing_weight": 1,
        "lb_endpoints": endpoints})
}

/// The endpoints of a service by groups.
pub fn groups(name: &str, groups: &[Value]) -> Resource {
    groups_with(name, groups, &json!({}))
}

/// The same, with `fields` over the assignment.
pub fn groups_with(name: &str, groups: &[Value], fields: &Value) -> Resource {
    let mut value = json!({"cluster_name": name, "endpoints": groups});
    merge(&mut value, fields);
    resource(ENDPOINT, &value)
}

/// These servers as the endpoints of a service, in one group.
pub fn servers<'s>(name: &str, servers: impl IntoIterator<Item = &'s TestServer>) -> Resource {
    let endpoints: Vec<Value> = servers
        .into_iter()
        .map(|server| endpoint(server.address(), &json!({})))
        .collect();
    groups(name, &[group("a", 0, &endpoints)])
}

/// These routes before one that sends the rest to `default`; as gRPC has it, without a limit of time of its own.
pub fn routes(rules: &[Value]) -> Resource {
    let mut routes: Vec<Value> = rules.to_vec();
    routes.push(rule(&json!({"prefix": ""}), "default", &json!({})));
    resource(
        ROUTE,
        &json!({"name": "url-map", "virtual_hosts": [{"name": "psm", "domains": ["*"], "routes": routes,
            "include_request_attempt_count": true}]}),
    )
}

/// A route with `action` over its action.
pub fn rule(matching: &Value, to: &str, action: &Value) -> Value {
    let mut route = json!({"cluster": to, "timeout": "0s"});
    merge(&mut route, action);
    json!({"match": matching, "route": route})
}

/// A match of one method's whole path.
pub fn on(method: Method) -> Value {
    json!({"path": method.path()})
}
