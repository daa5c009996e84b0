//! What stands on the stage: one proxy on ADS in one variant, and short words for its resources.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, merge};
use harness::client::{self, PATIENCE, RawResponse};
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, ResourceReader};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::scripted::{ADS, Conversation, ScriptedPlane, Variant};
use harness::traffic::{Plan, Protocol, Traffic};
use harness::upstream::Upstream;
use serde_json::{Value, json};

#[expect(clippy::expect_used, reason = "they are built in")]
static READER: LazyLock<ResourceReader> =
    LazyLock::new(|| ResourceReader::new().expect("the descriptors load"));

/// A proxy that dialled its ADS server; nothing was read or said yet.
pub struct Scene<V: Variant> {
    /// The server of its ADS stream.
    pub plane: ScriptedPlane,
    /// The first stream.
    pub ads: Conversation<V>,
    /// Where `listener` listens.
    pub port: Port,
    /// The proxy.
    pub process: ProxyProcess,
}

impl<V: Variant> Scene<V> {
    /// Requests to the listener, one after the other, until they are stopped.
    pub fn traffic(&self) -> Traffic {
        Traffic::start(&Plan::new(self.port.address(), Protocol::Http1))
    }

    /// With the plainest bootstrap.
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| ()).await
    }

    /// With a bootstrap that `change` touched.
    pub async fn start_with(change: impl FnOnce(&mut Value)) -> Result<Self> {
        Self::start_as(change, &[]).await
    }

    /// With further arguments too.
    pub async fn start_as(change: impl FnOnce(&mut Value), arguments: &[&str]) -> Result<Self> {
        let plane = ScriptedPlane::tcp().await?;
        let mut bootstrap =
            ads_bootstrap::<V>(&bootstrap::http2_cluster("control_plane", &[plane.address()]));
        change(&mut bootstrap);
        let process = spawn_as(&mut bootstrap, arguments)?;
        let ads = plane.open::<V>(ADS).await?;
        Ok(Self {
            plane,
            ads,
            port: Port::reserve()?,
            process,
        })
    }

    /// Goes through start-up: these clusters of type EDS, each with one endpoint, and a listener `ingress` on
    /// [`Self::port`] whose routes `routes` send everything to the first. All have version `1`.
    pub async fn serve(&mut self, upstreams: &[&Upstream]) -> Result<Nonces> {
        let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.name()).collect();
        let clusters: Vec<_> = names.iter().map(|name| eds_cluster(name)).collect();
        let endpoints: Vec<_> = upstreams.iter().map(|upstream| endpoints(upstream)).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        self.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
        let cluster = self.ads.serve(CLUSTER, "1", &clusters, &[]).await?;
        self.ads.expect_exactly(&V::first(ENDPOINT, &sorted)).await?;
        let endpoint = self.ads.serve(ENDPOINT, "1", &endpoints, &sorted).await?;
        self.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
        let ingress = rds_listener("ingress", &self.port);
        let listener = self.ads.serve(LISTENER, "1", &[ingress], &[]).await?;
        self.ads.expect_exactly(&V::first(ROUTE, &["routes"])).await?;
        let to = names.first().context("a scene has an upstream")?;
        let route = self
            .ads
            .serve(ROUTE, "1", &[routes("routes", to)], &["routes"])
            .await?;
        self.process.wait_ready(PATIENCE).await?;
        Ok(BTreeMap::from([
            (CLUSTER, cluster),
            (ENDPOINT, endpoint),
            (LISTENER, listener),
            (ROUTE, route),
        ]))
    }

    /// Ends the stream as a server that restarts does; from here on [`Self::ads`] is the next one.
    pub async fn reconnect(&mut self) -> Result<()> {
        self.ads.close(14, "the server restarts")?;
        self.ads = self.plane.open(ADS).await?;
        Ok(())
    }

    /// Waits until a `GET /` at [`Self::port`] is answered by the upstream of this name.
    pub async fn answers_from(&self, upstream: &str) -> Result<()> {
        let wanted = format!("\"upstream\":\"{upstream}\"");
        let by = |answer: &RawResponse| answer.status() == 200 && answer.text().contains(&wanted);
        wait_answer(&self.port, by).await.map(drop)
    }

    /// The status with which one `GET /` at [`Self::port`] is answered.
    pub async fn answers_now(&self) -> Result<u16> {
        Ok(client::get(self.port.address(), "/").await?.status())
    }

    /// Waits until a `GET /` at [`Self::port`] is answered with this status.
    pub async fn answers_with(&self, status: u16) -> Result<()> {
        wait_answer(&self.port, |answer| answer.status() == status)
            .await
            .map(drop)
    }
}

/// The newest nonce of each type.
pub type Nonces = BTreeMap<&'static str, String>;

/// A bootstrap that gets everything from the ADS server behind this cluster.
pub fn ads_bootstrap<V: Variant>(control_plane: &Value) -> Value {
    let name = control_plane["name"].as_str().unwrap_or_default();
    json!({
        "node": {"id": "test", "cluster": "test"},
        "dynamic_resources": {"ads_config": api::<V>(name), "lds_config": ads(), "cds_config": ads()},
        "static_resources": {"clusters": [control_plane]},
    })
}

/// Starts the proxy with this bootstrap, to which the admin endpoint is added.
pub fn spawn(bootstrap: &mut Value) -> Result<ProxyProcess> {
    spawn_as(bootstrap, &[])
}

/// The same with further arguments.
pub fn spawn_as(bootstrap: &mut Value, arguments: &[&str]) -> Result<ProxyProcess> {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    merge(bootstrap, &json!({"admin": {"address": bootstrap::address(any)}}));
    let options = Options {
        log_level: "info".to_owned(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        ..Options::default()
    };
    ProxyProcess::spawn_on_any_port(Proxy::Remora, &bootstrap.to_string(), &options)
}

/// Waits until a `GET /` at `port` gets an answer for which `wanted` holds.
pub async fn wait_answer(port: &Port, wanted: impl Fn(&RawResponse) -> bool) -> Result<RawResponse> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client::get(port.address(), "/").await;
        match answer {
            Ok(answer) if wanted(&answer) => return Ok(answer),
            other => ensure!(Instant::now() < deadline, "not that answer, but {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An `ApiConfigSource` of the variant `V` over a cluster of the bootstrap.
pub fn api<V: Variant>(cluster: &str) -> Value {
    json!({
        "api_type": V::API_TYPE, "transport_api_version": "V3", "set_node_on_first_message_only": true,
        "grpc_services": [{"envoy_grpc": {"cluster_name": cluster}}],
    })
}

/// The ADS stream as a source.
pub fn ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3"})
}

/// A resource from its JSON form.
#[expect(clippy::expect_used, reason = "a test writes what it means")]
pub fn resource(type_url: &str, value: &Value) -> Resource {
    READER.json(type_url, value).expect("a test writes what it means")
}

/// A cluster whose endpoints come over ADS.
pub fn eds_cluster(name: &str) -> Resource {
    eds_cluster_from(name, &ads())
}

/// A cluster whose endpoints come from this source.
pub fn eds_cluster_from(name: &str, source: &Value) -> Resource {
    let eds = json!({"eds_config": source});
    let value = json!({"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": eds});
    resource(CLUSTER, &value)
}

/// A cluster that no proxy can take: nobody knows its transport socket.
pub fn bad_cluster(name: &str) -> Resource {
    let nope = json!({"name": "nope", "typed_config": {
        "@type": bootstrap::type_url("config.core.v3.Node"), "id": "no transport socket"}});
    let eds = json!({"eds_config": ads()});
    let value = json!({"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": eds,
        "transport_socket": nope});
    resource(CLUSTER, &value)
}

/// The endpoints of the cluster that is named as the upstream.
pub fn endpoints(upstream: &Upstream) -> Resource {
    endpoints_of(upstream.name(), upstream)
}

/// The upstream as the one endpoint of a cluster.
pub fn endpoints_of(cluster: &str, upstream: &Upstream) -> Resource {
    let value = bootstrap::load_assignment(cluster, &[upstream.address()]);
    resource(ENDPOINT, &value)
}

/// A listener on `port` whose routes, named `routes`, come over ADS.
pub fn rds_listener(name: &str, port: &Port) -> Resource {
    rds_listener_from(name, port, &ads())
}

/// A listener on `port` whose routes, named `routes`, come from this source.
pub fn rds_listener_from(name: &str, port: &Port, source: &Value) -> Resource {
    let rds = json!({"rds": {"route_config_name": "routes", "config_source": source}});
    manager_listener(name, port, &rds)
}

/// A listener on `port` that answers everything with 200 by itself.
pub fn direct_listener(name: &str, port: &Port) -> Resource {
    let direct = json!({"route_config": {"name": "direct", "virtual_hosts": [{"name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]}});
    manager_listener(name, port, &direct)
}

/// A listener on `port` with a connection manager over which `fields` are put.
pub fn manager_listener(name: &str, port: &Port, fields: &Value) -> Resource {
    let manager = bootstrap::http_connection_manager(fields);
    resource(LISTENER, &bootstrap::listener(name, port.address(), manager))
}

/// Routes that send everything to one cluster.
pub fn routes(name: &str, cluster: &str) -> Resource {
    resource(ROUTE, &bootstrap::route_everything(name, cluster))
}
