//! What does a small Envoy v3 bootstrap look like?
//!
//! Pieces of configuration as JSON values in protobuf's JSON mapping, which YAML readers read as well. Scenarios put
//! them together with `serde_json::json!` and change what they are about; nothing here hides a field from them.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// `type.googleapis.com/` with the name of an Envoy message below `envoy.`.
pub fn type_url(message: &str) -> String {
    format!("type.googleapis.com/envoy.{message}")
}

/// A socket address.
pub fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A whole static bootstrap.
pub fn fixed(admin: SocketAddr, listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": address(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// Which form of ADS a bootstrap asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdsVariant {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// A bootstrap that gets listeners and clusters from an ADS server at `server`.
pub fn ads(admin: SocketAddr, server: SocketAddr, variant: AdsVariant) -> Value {
    let api_type = match variant {
        AdsVariant::Sotw => "GRPC",
        AdsVariant::Delta => "DELTA_GRPC",
    };
    json!({
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": address(admin)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type, "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control_plane"}}],
            },
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [http2_cluster("control_plane", &[server])]},
    })
}

/// A `STATIC` cluster over HTTP/1.1.
pub fn cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": load_assignment(name, endpoints),
    })
}

/// A `STATIC` cluster over HTTP/2 with prior knowledge.
pub fn http2_cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    let mut cluster = cluster(name, endpoints);
    cluster["typed_extension_protocol_options"] = http_protocol(&json!({"http2_protocol_options": {}}));
    cluster
}

/// `typed_extension_protocol_options` with `explicit_http_config`.
pub fn http_protocol(explicit: &Value) -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": type_url("extensions.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": explicit,
    }})
}

/// A `ClusterLoadAssignment` with one locality.
pub fn load_assignment(name: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| json!({"endpoint": {"address": address(*endpoint)}}))
        .collect();
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]})
}

/// A listener with one filter chain of one network filter.
pub fn listener(name: &str, at: SocketAddr, filter: Value) -> Value {
    json!({"name": name, "address": address(at), "filter_chains": [{"filters": [filter]}]})
}

/// A connection manager with the router as its only filter; `fields` are merged over it.
pub fn http_connection_manager(fields: &Value) -> Value {
    let mut config = json!({
        "@type": type_url("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "ingress",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": type_url("extensions.filters.http.router.v3.Router")}}],
    });
    merge(&mut config, fields);
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": config})
}

/// A `tcp_proxy` filter to one cluster.
pub fn tcp_proxy(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": type_url("extensions.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "tcp", "cluster": cluster,
    }})
}

/// A `route_config` that sends everything to one cluster.
pub fn route_everything(name: &str, cluster: &str) -> Value {
    json!({"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]})
}

/// Puts the fields of `over` over those of `base`.
pub fn merge(base: &mut Value, over: &Value) {
    if let (Some(base), Some(over)) = (base.as_object_mut(), over.as_object()) {
        for (name, value) in over {
            base.insert(name.clone(), value.clone());
        }
    }
}

/// Certificates given inline for one side of a TLS context.
#[derive(Clone, Debug)]
pub struct Identity<'a> {
    /// Own certificate, PEM.
    pub certificate: &'a str,
    /// Own key, PEM.
    pub key: &'a str,
    /// Trusted roots, PEM.
    pub roots: &'a str,
    /// The URI SAN that the peer must have.
    pub peer: &'a str,
}

impl Identity<'_> {
    /// A `CommonTlsContext` with the certificates inline and an exact SPIFFE match.
    pub fn common_context(&self, alpn: &[&str]) -> Value {
        json!({
            "alpn_protocols": alpn,
            "tls_certificates": [{
                "certificate_chain": {"inline_string": self.certificate},
                "private_key": {"inline_string": self.key},
            }],
            "validation_context": {
                "trusted_ca": {"inline_string": self.roots},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": self.peer}}],
            },
        })
    }

    /// The server's transport socket; client certificates are required.
    pub fn downstream(&self, alpn: &[&str]) -> Value {
        json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": self.common_context(alpn), "require_client_certificate": true,
        }})
    }

    /// The client's transport socket.
    pub fn upstream(&self, alpn: &[&str]) -> Value {
        json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": self.common_context(alpn), "sni": "server.test",
        }})
    }
}
