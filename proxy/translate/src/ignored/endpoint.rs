//! Verdicts on endpoints and addresses.

use crate::pb::envoy::config::core::v3::SocketAddress;
use crate::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use crate::pb::envoy::config::endpoint::v3::endpoint::HealthCheckConfig;
use crate::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LocalityLbEndpoints};
use crate::reviewed::reviewed;

reviewed! { ClusterLoadAssignment as "ClusterLoadAssignment" {
    honoured: [cluster_name, endpoints, policy, named_endpoints]
    ignored: {}
    refused: {}
} }

reviewed! { Policy as "ClusterLoadAssignment.Policy" {
    honoured: [overprovisioning_factor]
    ignored: {
        drop_overloads: "shedding by category is not supported yet; every request is tried",
        endpoint_stale_after: "the last good endpoints are kept for ever",
        weighted_priority_health: "priorities fail over by the number of healthy endpoints",
    }
    refused: {}
} }

reviewed! { LocalityLbEndpoints as "LocalityLbEndpoints" {
    honoured: [locality, lb_endpoints, load_balancing_weight, priority, lb_config]
    ignored: {
        metadata: "read by no filter that is supported",
        proximity: "not implemented by Envoy either",
    }
    refused: {}
} }

reviewed! { Endpoint as "Endpoint" {
    honoured: [address, hostname, health_check_config, additional_addresses]
    ignored: {
        observability_name: "observability: names in metrics",
    }
    refused: {}
} }

reviewed! { HealthCheckConfig as "Endpoint.HealthCheckConfig" {
    honoured: [port_value, hostname, address, disable_active_health_check]
    ignored: {}
    refused: {}
} }

reviewed! { SocketAddress as "SocketAddress" {
    honoured: [protocol, address, port_specifier]
    ignored: { ipv4_compat: "sockets on :: take both families where the system does" }
    refused: {
        resolver_name: "addresses by a named resolver",
        network_namespace_filepath: "addresses in another network namespace",
    }
} }
