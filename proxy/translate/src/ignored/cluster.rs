//! Verdicts on clusters and their options.

use crate::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use crate::pb::envoy::config::cluster::v3::cluster::CommonLbConfig;
use crate::pb::envoy::config::cluster::v3::{Cluster, OutlierDetection, UpstreamConnectionOptions};
use crate::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HttpHealthCheck, TcpHealthCheck, TlsOptions,
};
use crate::pb::envoy::config::core::v3::{BindConfig, HealthCheck};
use crate::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use crate::pb::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use crate::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use crate::pb::envoy::extensions::upstreams::tcp::v3::TcpProtocolOptions;
use crate::reviewed::reviewed;

reviewed! { Cluster as "Cluster" {
    honoured: [
        transport_socket_matches, name, alt_stat_name, eds_cluster_config, connect_timeout,
        lb_policy, load_assignment, max_requests_per_connection, circuit_breakers,
        upstream_http_protocol_options, common_http_protocol_options, http_protocol_options, http2_protocol_options,
        typed_extension_protocol_options, dns_refresh_rate, dns_failure_refresh_rate, dns_jitter, respect_dns_ttl, dns_lookup_family,
        upstream_bind_config, lb_subset_config, common_lb_config, transport_socket, protocol_selection,
        upstream_connection_options, filters, load_balancing_policy, cluster_discovery_type, lb_config, outlier_detection,
        metadata, health_checks, close_connections_on_host_health_failure, ignore_health_on_host_removal,
    ]
    ignored: {
        stats_matcher: "observability: which metrics are kept",
        per_connection_buffer_high_watermark_timeout: "tuning: a full buffer only pauses reading",
        dns_resolvers: "the system's resolver is asked",
        use_tcp_for_dns_lookups: "the system's resolver is asked",
        dns_resolution_config: "the system's resolver is asked",
        typed_dns_resolver_config: "the system's resolver is asked",
        wait_for_warm_on_init: "tuning of the start",
        cleanup_interval: "tuning: unused original destinations are forgotten with their connections",
        lrs_server: "observability: load reports are not sent",
        lrs_report_endpoint_metrics: "observability: load reports are not sent",
        per_connection_buffer_limit_bytes: "tuning: what waits between two connections has bounds of our own",
        track_timeout_budgets: "observability: which metrics are kept",
        track_cluster_stats: "observability: which metrics are kept",
        preconnect_policy: "tuning: connections are made when they are needed",
        queuing_policies: "tuning: requests wait in order",
    }
    refused: {
        transport_socket_matcher: "transport sockets chosen by a matching tree; use transport_socket_matches",
        upstream_config: "upstream connection pools of a custom kind",
        connection_pool_per_downstream_connection: "upstream connections that no two clients share",
    }
} }

reviewed! { ClientSideWeightedRoundRobin as "ClientSideWeightedRoundRobin" {
    honoured: [
        blackout_period, weight_expiration_period, weight_update_period, error_utilization_penalty,
        metric_names_for_computing_utilization, slow_start_config,
    ]
    ignored: {
        enable_oob_load_report: "tuning: reports come with responses; endpoints are not asked for others",
        oob_reporting_period: "tuning: reports come with responses; endpoints are not asked for others",
        oob_reporting_config: "tuning: reports come with responses; endpoints are not asked for others",
    }
    refused: {}
} }

reviewed! { CommonLbConfig as "CommonLbConfig" {
    honoured: [
        healthy_panic_threshold, locality_config_specifier, consistent_hashing_lb_config, override_host_status,
        ignore_new_hosts_until_first_hc,
    ]
    ignored: {
        update_merge_window: "tuning: every change is one publication",
        close_connections_on_host_set_change: "tuning: connections of removed endpoints close",
    }
    refused: {}
} }

reviewed! { Thresholds as "CircuitBreakers.Thresholds" {
    honoured: [priority, max_connections, max_pending_requests, max_requests, max_retries, retry_budget, track_remaining]
    ignored: {
        max_connection_pools: "pools are bounded by max_connections",
    }
    refused: {}
} }

reviewed! { OutlierDetection as "OutlierDetection" {
    honoured: [
        consecutive_5xx, interval, base_ejection_time, max_ejection_percent, enforcing_consecutive_5xx,
        enforcing_success_rate, success_rate_minimum_hosts, success_rate_request_volume, success_rate_stdev_factor,
        consecutive_gateway_failure, enforcing_consecutive_gateway_failure, split_external_local_origin_errors,
        consecutive_local_origin_failure, enforcing_consecutive_local_origin_failure,
        enforcing_local_origin_success_rate, failure_percentage_threshold, enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin, failure_percentage_minimum_hosts,
        failure_percentage_request_volume, max_ejection_time, max_ejection_time_jitter,
        always_eject_one_host, successful_active_health_check_uneject_host,
    ]
    ignored: {
        monitors: "no monitor of another kind is supported; those of the message itself hold",
        detect_degraded_hosts: "an endpoint is degraded where the control plane says so",
    }
    refused: {}
} }

reviewed! { HealthCheck as "HealthCheck" {
    honoured: [
        timeout, interval, initial_jitter, interval_jitter, interval_jitter_percent, unhealthy_threshold,
        healthy_threshold, reuse_connection, no_traffic_interval, no_traffic_healthy_interval, unhealthy_interval,
        unhealthy_edge_interval, healthy_edge_interval, always_log_health_check_failures,
        always_log_health_check_success, tls_options, transport_socket_match_criteria, health_checker,
    ]
    ignored: {
        alt_port: "not implemented by Envoy either; the endpoint's health_check_config.port_value is",
        event_log_path: "observability: changes of health are logged with everything else",
        event_logger: "observability: changes of health are logged with everything else",
        event_service: "observability: changes of health are logged with everything else",
    }
    refused: {}
} }

reviewed! { TlsOptions as "HealthCheck.TlsOptions" {
    honoured: [alpn_protocols]
    ignored: {}
    refused: {}
} }

reviewed! { HttpHealthCheck as "HealthCheck.HttpHealthCheck" {
    honoured: [
        host, path, send, receive, response_buffer_size, request_headers_to_add, request_headers_to_remove,
        expected_statuses, retriable_statuses, codec_client_type, service_name_matcher, method,
    ]
    ignored: {}
    refused: {}
} }

reviewed! { TcpHealthCheck as "HealthCheck.TcpHealthCheck" {
    honoured: [send, receive, proxy_protocol_config]
    ignored: {}
    refused: {}
} }

reviewed! { GrpcHealthCheck as "HealthCheck.GrpcHealthCheck" {
    honoured: [service_name, authority, initial_metadata]
    ignored: {}
    refused: {}
} }

reviewed! { UpstreamConnectionOptions as "UpstreamConnectionOptions" {
    honoured: [tcp_keepalive, happy_eyeballs_config]
    ignored: {
        set_local_interface_name_on_upstream_connections: "observability: which interface carried a connection",
    }
    refused: {}
} }

reviewed! { BindConfig as "BindConfig" {
    honoured: [source_address, extra_source_addresses, socket_options, additional_source_addresses]
    ignored: {
        freebind: "a bind that fails is reported, no other address is used",
        validate_network_namespaces: "network namespaces of addresses are refused",
    }
    refused: { local_address_selector: "it decides the source address" }
} }

reviewed! { TcpProtocolOptions as "upstreams.TcpProtocolOptions" {
    honoured: []
    ignored: { idle_timeout: "a connection that carries no client's is never kept" }
    refused: {}
} }

reviewed! { HttpProtocolOptions as "upstreams.HttpProtocolOptions" {
    honoured: [common_http_protocol_options, upstream_http_protocol_options, http_filters, upstream_protocol_options, hash_policy]
    ignored: {
        header_validation_config: "the codecs always validate headers",
        outlier_detection: "ejection is not supported yet; every healthy endpoint stays in use",
        request_mirror_policies: "the policies of routes, virtual hosts and tables hold",
        retry_policy: "the policies of routes and virtual hosts hold",
    }
    refused: {}
} }

reviewed! { DnsCluster as "DnsCluster" {
    honoured: [dns_refresh_rate, dns_failure_refresh_rate, respect_dns_ttl, dns_jitter, dns_lookup_family, all_addresses_in_single_endpoint]
    ignored: {
        typed_dns_resolver_config: "the system's resolver is asked",
        dns_min_refresh_rate: "tuning: answers are kept at least a second",
    }
    refused: {}
} }
