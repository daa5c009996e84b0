//! `/clusters`: every cluster with its limits and endpoints.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use remora_model::cluster::{Cluster, Thresholds};
use remora_model::endpoint::{Endpoint, EndpointAddress, Health, HealthStatus};
use remora_model::health::{Flag, Monitor};
use remora_model::snapshot::Snapshot;
use serde_json::{Map, Value, json};

use super::AdminContext;
use super::body::{Answer, json_pieces, text, text_pieces};
use super::query::Query;

/// Clusters in the order of their names, each with whether the control plane sent it.
type Listed = Vec<(Arc<Cluster>, bool)>;

/// Envoy's text, or `envoy.admin.v3.Clusters`.
pub(super) fn clusters(context: &AdminContext, query: &Query) -> Answer {
    let filter = match query
        .value("filter")
        .filter(|filter| !filter.is_empty())
        .map(regex::Regex::new)
        .transpose()
    {
        Ok(filter) => filter,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("Invalid re2 regex: {error}")),
    };
    let mut listed = listed(context, &context.operator.snapshot());
    listed.retain(|(cluster, _)| {
        filter
            .as_ref()
            .is_none_or(|filter| filter.is_match(&cluster.config.name))
    });
    if query.value("format") != Some("json") {
        return text_pieces(
            listed
                .into_iter()
                .map(|(cluster, added)| cluster_text(&cluster, added)),
        );
    }
    let last = listed.len().saturating_sub(1);
    let elements = listed
        .into_iter()
        .enumerate()
        .map(move |(index, (cluster, added))| {
            let comma = if index == last { "" } else { "," };
            format!("{}{comma}", cluster_json(&cluster, added))
        });
    let begin = std::iter::once("{\"cluster_statuses\":[".to_owned());
    json_pieces(begin.chain(elements).chain(std::iter::once("]}\n".to_owned())))
}

fn listed(context: &AdminContext, snapshot: &Snapshot) -> Listed {
    let of_bootstrap = context.operator.static_clusters();
    let mut listed: Listed = snapshot
        .clusters
        .iter()
        .map(|(_, cluster)| (Arc::clone(cluster), !of_bootstrap.contains(&cluster.config.name)))
        .collect();
    listed.sort_by(|(a, _), (b, _)| a.config.name.cmp(&b.config.name));
    listed
}

fn address_text(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(socket) => socket.to_string(),
        EndpointAddress::Pipe(path) => path.to_string(),
        EndpointAddress::Host(name, port) => format!("{name}:{port}"),
    }
}

/// The endpoints of a cluster with locality and priority.
fn members(cluster: &Cluster) -> Vec<(&Endpoint, [&str; 3], u32)> {
    let mut members = Vec::with_capacity(cluster.endpoints.endpoints.len());
    for locality in &cluster.endpoints.assignment.localities {
        let place = [
            &*locality.locality.region.0,
            &*locality.locality.zone.0,
            &*locality.locality.sub_zone.0,
        ];
        for spec in &locality.endpoints {
            let found = cluster
                .endpoints
                .endpoints
                .iter()
                .find(|endpoint| endpoint.spec == *spec);
            members.extend(found.map(|endpoint| (&**endpoint, place, locality.priority)));
        }
    }
    members
}

/// Counters and gauges of an endpoint, under Envoy's names.
fn counts(endpoint: &Endpoint) -> [(&'static str, bool, u64); 7] {
    let live = endpoint.counts();
    let (total, errors) = (
        live.total.load(Ordering::Relaxed),
        live.errors.load(Ordering::Relaxed),
    );
    let active = u64::from(live.active.load(Ordering::Relaxed));
    [
        ("cx_active", true, live.connections.load(Ordering::Relaxed).into()),
        (
            "cx_connect_fail",
            false,
            live.connect_failures.load(Ordering::Relaxed),
        ),
        ("cx_total", false, live.connections_total.load(Ordering::Relaxed)),
        ("rq_active", true, active),
        ("rq_error", false, errors),
        (
            "rq_success",
            false,
            total.saturating_sub(errors).saturating_sub(active),
        ),
        ("rq_total", false, total),
    ]
}

fn thresholds(thresholds: Thresholds) -> [(&'static str, u32); 4] {
    [
        ("max_connections", thresholds.max_connections),
        ("max_pending_requests", thresholds.max_pending_requests),
        ("max_requests", thresholds.max_requests),
        ("max_retries", thresholds.retries.bound(0)),
    ]
}

fn cluster_text(cluster: &Cluster, added: bool) -> String {
    let config = &cluster.config;
    let name = &config.name;
    let mut out = format!("{name}::observability_name::{}\n", config.stat_name);
    for (priority, of) in [
        ("default_priority", config.thresholds[0]),
        ("high_priority", config.thresholds[1]),
    ] {
        for (limit, value) in thresholds(of) {
            let _ = writeln!(out, "{name}::{priority}::{limit}::{value}");
        }
    }
    let _ = writeln!(out, "{name}::added_via_api::{added}");
    for (endpoint, [region, zone, sub_zone], priority) in members(cluster) {
        let begin = format!("{name}::{}", address_text(&endpoint.spec.address));
        for (count, _, value) in counts(endpoint) {
            let _ = writeln!(out, "{begin}::{count}::{value}");
        }
        let flags = health_flags(endpoint);
        let _ = writeln!(
            out,
            "{begin}::hostname::{}",
            endpoint.spec.details().hostname.as_deref().unwrap_or("")
        );
        let _ = writeln!(
            out,
            "{begin}::health_flags::{flags}\n{begin}::weight::{}",
            endpoint.spec.weight
        );
        let _ = writeln!(
            out,
            "{begin}::region::{region}\n{begin}::zone::{zone}\n{begin}::sub_zone::{sub_zone}"
        );
        let _ = writeln!(out, "{begin}::canary::false\n{begin}::priority::{priority}");
        let rates = success_rates(endpoint);
        let _ = writeln!(
            out,
            "{begin}::success_rate::{}\n{begin}::local_origin_success_rate::{}",
            rate_text(rates[0]),
            rate_text(rates[1])
        );
    }
    out
}

/// Why an endpoint is not used, in Envoy's words and order.
fn health_flags(endpoint: &Endpoint) -> String {
    let eds = match endpoint.spec.health() {
        Health::Healthy => "",
        Health::Degraded => "/degraded_eds_health",
        Health::Unhealthy => "/failed_eds_health",
    };
    let holds = |flag, word| if endpoint.has(flag) { word } else { "" };
    let (failed, degraded) = match endpoint.spec.health() {
        Health::Degraded => ("", eds),
        Health::Unhealthy if endpoint.spec.status == HealthStatus::Draining => ("", ""),
        _ => (eds, ""),
    };
    let flags = [
        holds(Flag::FailedCheck, "/failed_active_hc"),
        holds(Flag::Ejected, "/failed_outlier_check"),
        failed,
        holds(Flag::Degraded, "/degraded_active_hc"),
        degraded,
        holds(Flag::Lingers, "/pending_dynamic_removal"),
        holds(Flag::Unchecked, "/pending_active_hc"),
        holds(Flag::Leaves, "/excluded_via_immediate_hc_fail"),
        holds(Flag::TimedOut, "/active_hc_timeout"),
        if endpoint.spec.status == HealthStatus::Draining {
            "/eds_status_draining"
        } else {
            ""
        },
        holds(Flag::Quarantined, "/quarantined"),
    ]
    .concat();
    if flags.is_empty() { "healthy".into() } else { flags }
}

/// Success rates of the last interval, as outlier detection compared them.
fn success_rates(endpoint: &Endpoint) -> [Option<f64>; 2] {
    endpoint.monitor().map(Monitor::success_rates).unwrap_or_default()
}

fn rate_text(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-1".into(), |rate| rate.to_string())
}

fn cluster_json(cluster: &Cluster, added: bool) -> Value {
    let config = &cluster.config;
    let limits: Vec<Value> = [("DEFAULT", config.thresholds[0]), ("HIGH", config.thresholds[1])]
        .into_iter()
        .map(|(priority, of)| {
            let mut limit: Map<String, Value> = thresholds(of)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), json!(value)))
                .collect();
            if priority != "DEFAULT" {
                limit.insert("priority".into(), json!(priority));
            }
            Value::Object(limit)
        })
        .collect();
    let mut status = Map::new();
    status.insert("name".into(), json!(*config.name));
    if added {
        status.insert("added_via_api".into(), json!(true));
    }
    let hosts: Vec<Value> = members(cluster)
        .into_iter()
        .map(|(endpoint, place, priority)| host_json(endpoint, place, priority))
        .collect();
    if !hosts.is_empty() {
        status.insert("host_statuses".into(), json!(hosts));
    }
    status.insert("circuit_breakers".into(), json!({ "thresholds": limits }));
    status.insert("observability_name".into(), json!(*config.stat_name));
    Value::Object(status)
}

fn host_json(endpoint: &Endpoint, [region, zone, sub_zone]: [&str; 3], priority: u32) -> Value {
    let spec = &endpoint.spec;
    let address = match &spec.address {
        EndpointAddress::Socket(socket) => {
            json!({ "socket_address": { "address": socket.ip().to_string(), "port_value": socket.port() } })
        }
        EndpointAddress::Pipe(path) => json!({ "pipe": { "path": **path } }),
        EndpointAddress::Host(name, port) => {
            json!({ "socket_address": { "address": **name, "port_value": port } })
        }
    };
    let stats: Vec<Value> = counts(endpoint)
        .into_iter()
        .map(|(name, gauge, value)| {
            // As protobuf's JSON writes it: defaults are left out, 64-bit numbers are texts.
            let mut stat = Map::new();
            if gauge {
                stat.insert("type".into(), json!("GAUGE"));
            }
            if value > 0 {
                stat.insert("value".into(), json!(value.to_string()));
            }
            stat.insert("name".into(), json!(name));
            Value::Object(stat)
        })
        .collect();
    let named = [("region", region), ("zone", zone), ("sub_zone", sub_zone)];
    let locality: Map<String, Value> = named
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let mut host = Map::new();
    host.insert("address".into(), address);
    host.insert("stats".into(), json!(stats));
    host.insert("health_status".into(), health_status(endpoint));
    let rates = success_rates(endpoint);
    for (name, rate) in ["success_rate", "local_origin_success_rate"]
        .into_iter()
        .zip(rates)
    {
        if let Some(rate) = rate {
            host.insert(name.into(), json!({ "value": rate }));
        }
    }
    host.insert("weight".into(), json!(spec.weight));
    if let Some(hostname) = spec
        .details()
        .hostname
        .as_deref()
        .filter(|hostname| !hostname.is_empty())
    {
        host.insert("hostname".into(), json!(hostname));
    }
    if priority > 0 {
        host.insert("priority".into(), json!(priority));
    }
    host.insert("locality".into(), Value::Object(locality));
    Value::Object(host)
}

/// `envoy.admin.v3.HostHealthStatus`.
fn health_status(endpoint: &Endpoint) -> Value {
    let eds = match endpoint.spec.health() {
        Health::Healthy => "HEALTHY",
        Health::Degraded => "DEGRADED",
        Health::Unhealthy if endpoint.spec.status == HealthStatus::Draining => "DRAINING",
        Health::Unhealthy => "UNHEALTHY",
    };
    let mut status = Map::new();
    for (flag, name) in [
        (Flag::FailedCheck, "failed_active_health_check"),
        (Flag::Ejected, "failed_outlier_check"),
        (Flag::Degraded, "failed_active_degraded_check"),
        (Flag::Lingers, "pending_dynamic_removal"),
        (Flag::Unchecked, "pending_active_hc"),
        (Flag::Leaves, "excluded_via_immediate_hc_fail"),
        (Flag::TimedOut, "active_hc_timeout"),
    ] {
        if endpoint.has(flag) {
            status.insert(name.into(), json!(true));
        }
    }
    status.insert("eds_health_status".into(), json!(eds));
    Value::Object(status)
}
