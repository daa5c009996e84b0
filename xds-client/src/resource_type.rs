//! What the protocol must know about a resource type: its URL, its own service, and what absence means.
//!
//! What holds: a type that is not listed here works on an aggregated stream, by explicit names, and absence from a
//! state-of-the-world response means nothing for it. It has no stream of its own.

use crate::session::Variant;

/// `envoy.config.listener.v3.Listener` (LDS).
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// `envoy.config.route.v3.RouteConfiguration` (RDS).
pub const ROUTE_CONFIGURATION: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// `envoy.config.route.v3.ScopedRouteConfiguration` (SRDS).
pub const SCOPED_ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
/// `envoy.config.route.v3.VirtualHost` (VHDS).
pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
/// `envoy.config.cluster.v3.Cluster` (CDS).
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
pub const CLUSTER_LOAD_ASSIGNMENT: &str =
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// `envoy.config.core.v3.TypedExtensionConfig` (ECDS).
pub const EXTENSION_CONFIG: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// `envoy.service.runtime.v3.Runtime` (RTDS).
pub const RUNTIME: &str = "type.googleapis.com/envoy.service.runtime.v3.Runtime";

/// `envoy.service.discovery.v3.Resource`, the wrapper that may surround a resource in a state-of-the-world response.
pub(crate) const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// In the state-of-the-world variant, does a response list all resources that exist, so that absence is removal?
/// xDS protocol, "Deleting Resources": for listeners and clusters only.
#[must_use]
pub fn absence_is_removal(type_url: &str) -> bool {
    matches!(type_url, LISTENER | CLUSTER)
}

/// The gRPC path of the aggregated stream.
pub(crate) fn aggregated_path(variant: Variant) -> &'static str {
    match variant {
        Variant::StateOfTheWorld => {
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
        }
        Variant::Delta => "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    }
}

/// The gRPC path of the type's own stream; nothing for a type without a service, and for virtual hosts outside of
/// delta.
pub(crate) fn own_path(type_url: &str, variant: Variant) -> Option<&'static str> {
    let [sotw, delta] = match type_url {
        LISTENER => [
            "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
            "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
        ],
        ROUTE_CONFIGURATION => [
            "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
            "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
        ],
        SCOPED_ROUTE => [
            "/envoy.service.route.v3.ScopedRoutesDiscoveryService/StreamScopedRoutes",
            "/envoy.service.route.v3.ScopedRoutesDiscoveryService/DeltaScopedRoutes",
        ],
        VIRTUAL_HOST => [
            "",
            "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts",
        ],
        CLUSTER => [
            "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
            "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
        ],
        CLUSTER_LOAD_ASSIGNMENT => [
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
        ],
        SECRET => [
            "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
            "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        ],
        EXTENSION_CONFIG => [
            "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/StreamExtensionConfigs",
            "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/DeltaExtensionConfigs",
        ],
        RUNTIME => [
            "/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime",
            "/envoy.service.runtime.v3.RuntimeDiscoveryService/DeltaRuntime",
        ],
        _ => return None,
    };
    let path = match variant {
        Variant::StateOfTheWorld => sotw,
        Variant::Delta => delta,
    };
    (!path.is_empty()).then_some(path)
}
