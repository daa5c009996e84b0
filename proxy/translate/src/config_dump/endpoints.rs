//! The endpoints of a cluster in use, as an `envoy.config.endpoint.v3.ClusterLoadAssignment` in JSON.
//!
//! Holds: it is what balancing works with, not what was sent: resolved names, one health, the defaults written out, as
//! Envoy's dump has it. Metadata of endpoints is not kept, so it is not shown.

use remora_model::cluster::{Cluster, Discovery};
use remora_model::endpoint::{EndpointAddress, EndpointSpec, Health, Locality, LocalitySpec};
use remora_proto::TypeUrl;
use serde_json::{Map, Value, json};

/// The name of the assignment that a cluster asks for.
pub(super) fn assignment_name(cluster: &Cluster) -> &str {
    match &cluster.config.discovery {
        Discovery::Eds { service } => service,
        _ => &cluster.config.name,
    }
}

/// The assignment, as an `Any` in JSON.
pub(super) fn assignment(cluster: &Cluster) -> Value {
    let said = &cluster.endpoints.assignment;
    let mut localities: Vec<&LocalitySpec> = said
        .localities
        .iter()
        .filter(|locality| !locality.endpoints.is_empty())
        .collect();
    localities.sort_by_key(|locality| locality.priority);
    let mut shown = json!({
        "@type": TypeUrl::CLUSTER_LOAD_ASSIGNMENT.as_str(),
        "cluster_name": assignment_name(cluster),
        "policy": { "overprovisioning_factor": said.overprovisioning },
    });
    if !localities.is_empty() {
        let localities: Vec<Value> = localities.into_iter().map(of_locality).collect();
        shown["endpoints"] = Value::Array(localities);
    }
    shown
}

fn of_locality(said: &LocalitySpec) -> Value {
    let Locality {
        region,
        zone,
        sub_zone,
    } = &said.locality;
    let locality: Map<String, Value> = [("region", region), ("zone", zone), ("sub_zone", sub_zone)]
        .into_iter()
        .filter(|(_, name)| !name.0.is_empty())
        .map(|(field, name)| (field.to_owned(), Value::from(&*name.0)))
        .collect();
    let endpoints: Vec<Value> = said
        .endpoints
        .iter()
        .map(|endpoint| of_endpoint(endpoint))
        .collect();
    let mut shown = json!({
        "locality": locality,
        "lb_endpoints": endpoints,
        "load_balancing_weight": said.weight.unwrap_or(0),
    });
    if said.priority > 0 {
        shown["priority"] = said.priority.into();
    }
    shown
}

fn of_endpoint(said: &EndpointSpec) -> Value {
    let address = match &said.address {
        EndpointAddress::Socket(socket) => {
            json!({ "socket_address": { "address": socket.ip().to_string(), "port_value": socket.port() } })
        }
        EndpointAddress::Pipe(path) => json!({ "pipe": { "path": &**path } }),
        EndpointAddress::Host(name, port) => {
            json!({ "socket_address": { "address": &**name, "port_value": port } })
        }
    };
    let mut endpoint = json!({ "address": address, "health_check_config": {} });
    if let Some(hostname) = said.details().hostname.as_deref().filter(|name| !name.is_empty()) {
        endpoint["hostname"] = hostname.into();
    }
    let health = match said.health() {
        Health::Healthy => "HEALTHY",
        Health::Degraded => "DEGRADED",
        Health::Unhealthy => "UNHEALTHY",
    };
    json!({ "endpoint": endpoint, "health_status": health, "load_balancing_weight": said.weight })
}
