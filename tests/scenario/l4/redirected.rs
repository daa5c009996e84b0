//! The same through redirection rules, with a sidecar on either side, as a mesh lays them.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use harness::bootstrap;
use harness::peers::{self, Missing};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use serde_json::{Value, json};

use crate::pods::{self, Inside, PROXY_USER, Place, Scene};
use crate::servers::{Opening, Server, converse, openings};
use crate::stage::{detecting, inspectors, listener_filter};

/// The ports that these protocols have.
const PORTS: [u16; 3] = [3306, 25, 4222];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greetings_pass_two_sidecars_by_redirection() -> Result<()> {
    let test = "greetings by redirection";
    if let Some(missing) = pods::missing().await {
        return peers::skip(test, &Missing(missing));
    }
    let place = Place::new(Scene::Pods).await?;
    let server_pod = place.server_pod;
    let _client = sidecar(&place.client, outbound(server_pod)).await?;
    let _server = sidecar(&place.server, inbound()).await?;
    for (opening, port) in openings().into_iter().zip(PORTS) {
        let server = run_server(&place, opening.clone(), port).await?;
        for _ in 0..3 {
            let opening = opening.clone();
            let talk = async move { converse((server_pod, port).into(), &opening).await };
            place.client.run(talk).await?;
        }
        // The sidecar of the server is what was connected to.
        ensure!(server.accepted() == 3, "{} connections", server.accepted());
    }
    Ok(())
}

async fn run_server(place: &Place, opening: Opening, port: u16) -> Result<Server> {
    let everywhere = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    place
        .server
        .run(async move { Server::at(opening, everywhere, port).await })
        .await
}

async fn sidecar(inside: &Inside, (listeners, clusters): (Vec<Value>, Vec<Value>)) -> Result<ProxyProcess> {
    let options = Options {
        user: Some(PROXY_USER),
        ..Options::default()
    };
    inside
        .run(async move {
            let admin = Port::reserve()?;
            let text = bootstrap::fixed(admin.address(), listeners, clusters).to_string();
            ProxyProcess::start(Proxy::Remora, &text, admin, &options).await
        })
        .await
        .context("a sidecar")
}

/// The client's sidecar: a socket that takes everything, and one listener per service port behind it.
fn outbound(server: IpAddr) -> (Vec<Value>, Vec<Value>) {
    let mut listeners = vec![json!({
        "name": "virtualOutbound", "address": bootstrap::address(([0, 0, 0, 0], 15001).into()),
        "use_original_dst": true, "traffic_direction": "OUTBOUND",
        "filter_chains": [{"filters": [bootstrap::tcp_proxy("PassthroughCluster")]}],
    })];
    let mut clusters = vec![json!({
        "name": "PassthroughCluster", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
    })];
    for port in PORTS {
        let name = format!("outbound|{port}||db");
        let mut listener = detecting(&name, (server, port).into(), &name, &name);
        listener["bind_to_port"] = json!(false);
        listeners.push(listener);
        clusters.push(bootstrap::cluster(&name, &[(server, port).into()]));
    }
    (listeners, clusters)
}

/// The server's sidecar: one listener, with chains for each port and for what is not known.
fn inbound() -> (Vec<Value>, Vec<Value>) {
    let mut chains = Vec::new();
    let mut clusters = vec![json!({
        "name": "InboundPassthroughCluster", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
        "upstream_bind_config": {"source_address": {"address": "127.0.0.6", "port_value": 0}},
    })];
    // The last port is nobody's: its connections go where they wanted to go.
    for port in &PORTS[..2] {
        let name = format!("inbound|{port}||");
        let mut cluster = bootstrap::cluster(&name, &[([127, 0, 0, 1], *port).into()]);
        cluster["upstream_bind_config"] = clusters[0]["upstream_bind_config"].clone();
        clusters.push(cluster);
        chains.extend(chains_of(&name, Some(*port)));
    }
    chains.extend(chains_of("InboundPassthroughCluster", None));
    let mut filters = vec![listener_filter("original_dst", "original_dst.v3.OriginalDst")];
    filters.extend(inspectors().as_array().cloned().unwrap_or_default());
    let listener = json!({
        "name": "virtualInbound", "address": bootstrap::address(([0, 0, 0, 0], 15006).into()),
        "traffic_direction": "INBOUND", "listener_filters": filters,
        "listener_filters_timeout": "0s", "continue_on_listener_filters_timeout": true,
        "filter_chains": chains,
    });
    (vec![listener], clusters)
}

/// What a port has where plain text is permitted: HTTP and anything else, with TLS and without.
fn chains_of(cluster: &str, port: Option<u16>) -> Vec<Value> {
    let manager = bootstrap::http_connection_manager(
        &json!({"route_config": bootstrap::route_everything("routes", cluster)}),
    );
    let chain = |transport: &str, alpn: &[&str], filter: &Value| {
        let mut criteria = json!({"transport_protocol": transport, "application_protocols": alpn});
        if let Some(port) = port {
            criteria["destination_port"] = json!(port);
        }
        json!({"filter_chain_match": criteria, "filters": [filter]})
    };
    let tunnel = bootstrap::tcp_proxy(cluster);
    vec![
        chain("raw_buffer", &["http/1.1", "h2c"], &manager),
        chain("raw_buffer", &[], &tunnel),
        chain("tls", &[], &tunnel),
    ]
}
