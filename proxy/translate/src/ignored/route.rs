//! Verdicts on route configurations, virtual hosts, routes and their actions.

use crate::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy;
use crate::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use crate::pb::envoy::config::route::v3::{
    DirectResponseAction, HedgePolicy, RateLimit, RetryPolicy, Route, RouteAction, RouteConfiguration,
    RouteMatch, VirtualHost, WeightedCluster,
};
use crate::reviewed::reviewed;

reviewed! { RouteConfiguration as "RouteConfiguration" {
    honoured: [
        name, virtual_hosts, response_headers_to_add, response_headers_to_remove, request_headers_to_add,
        request_headers_to_remove, most_specific_header_mutations_wins, max_direct_response_body_size_bytes,
        cluster_specifier_plugins, ignore_port_in_host_matching, typed_per_filter_config, request_mirror_policies,
        internal_only_headers, vhost_header, ignore_path_parameters_in_path_matching,
    ]
    ignored: {
        validate_clusters: "a route to a cluster that is not there (yet) answers 503 with its own cause",
        metadata: "read by no filter that is supported",
        vhds: "virtual hosts that come on demand are not asked for: their requests get 404, the others are served",
    }
    refused: {
        route_specifiers: "they decide which route is taken",
    }
} }

reviewed! { VirtualHost as "VirtualHost" {
    honoured: [
        name, domains, routes, require_tls, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
        response_headers_to_remove, typed_per_filter_config, include_request_attempt_count, cors, retry_policy,
        include_attempt_count_in_response, include_is_timeout_retry_header, per_request_buffer_limit_bytes,
        request_body_buffer_limit, request_mirror_policies, rate_limits, hedge_policy,
    ]
    ignored: {
        virtual_clusters: "observability: metrics by request pattern",
        retry_policy_typed_config: "retries by a plug-in that is not supported; a failure is passed on",
        metadata: "read by no filter that is supported",
    }
    refused: {
        matcher: "it decides which route is taken",
        route_specifiers: "they decide which route is taken",
    }
} }

reviewed! { Route as "Route" {
    honoured: [
        name, r#match, typed_per_filter_config, request_headers_to_add, request_headers_to_remove,
        response_headers_to_add, response_headers_to_remove, action, per_request_buffer_limit_bytes,
        request_body_buffer_limit, metadata,
    ]
    ignored: {
        decorator: "observability: names of spans",
        tracing: "observability: tracing is not supported yet",
        stat_prefix: "observability: metrics by route",
    }
    refused: { route_specifiers: "they decide which route is taken" }
} }

reviewed! { RouteMatch as "RouteMatch" {
    honoured: [
        case_sensitive, runtime_fraction, headers, query_parameters, grpc, path_specifier, cookies, tls_context, dynamic_metadata,
        filter_state,
    ]
    ignored: {}
    refused: {}
} }

reviewed! { RouteAction as "RouteAction" {
    honoured: [
        cluster_not_found_response_code, prefix_rewrite, regex_rewrite, append_x_forwarded_host, timeout, idle_timeout,
        hash_policy, max_grpc_timeout, grpc_timeout_offset, upgrade_configs, max_stream_duration, cluster_specifier,
        host_rewrite_specifier, cors, retry_policy, request_mirror_policies, internal_redirect_policy,
        internal_redirect_action, max_internal_redirects, metadata_match, rate_limits, include_vh_rate_limits, priority,
        path_rewrite_policy, path_rewrite,
        hedge_policy,
    ]
    ignored: {
        flush_timeout: "tuning: idle_timeout bounds the flush too",
        early_data_policy: "TLS early data is never sent",
        retry_policy_typed_config: "retries by a plug-in that is not supported; a failure is passed on",
    }
    refused: {}
} }

reviewed! { HedgePolicy as "HedgePolicy" {
    honoured: [hedge_on_per_try_timeout]
    ignored: {
        initial_requests: "Envoy does not carry it out either: one request is sent first",
        additional_request_chance: "Envoy does not carry it out either: one request is sent first",
    }
    refused: {}
} }

reviewed! { RequestMirrorPolicy as "RequestMirrorPolicy" {
    honoured: [
        cluster, cluster_header, runtime_fraction, disable_shadow_host_suffix_append, request_headers_mutations,
        host_rewrite_literal,
    ]
    ignored: { trace_sampled: "observability: tracing is not supported yet" }
    refused: {}
} }

reviewed! { RetryPolicy as "RetryPolicy" {
    honoured: [
        retry_on, num_retries, per_try_timeout, per_try_idle_timeout, retry_host_predicate,
        host_selection_retry_max_attempts, retriable_status_codes, retry_back_off, rate_limited_retry_back_off,
        retriable_headers, retriable_request_headers,
    ]
    ignored: {
        retry_priority: "tuning: a retry chooses among priorities as a first attempt does",
        retry_options_predicates: "tuning: a retry uses the options of the first attempt",
        refresh_cluster_on_retry: "a retry stays with the cluster that was chosen",
    }
    refused: {}
} }

reviewed! { WeightedCluster as "WeightedCluster" {
    honoured: [clusters]
    ignored: {
        total_weight: "deprecated: the sum of the weights counts",
        runtime_key_prefix: "there is no runtime layer; the weights given here hold",
    }
    refused: { random_value_specifier: "it decides which cluster is chosen" }
} }

reviewed! { ClusterWeight as "WeightedCluster.ClusterWeight" {
    honoured: [
        name, weight, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
        response_headers_to_remove, typed_per_filter_config, host_rewrite_specifier, metadata_match,
    ]
    ignored: {}
    refused: { cluster_header: "a weighted cluster named by a header" }
} }

reviewed! { DirectResponseAction as "DirectResponseAction" {
    honoured: [status, body, body_format]
    ignored: {}
    refused: {}
} }

reviewed! { RateLimit as "RateLimit" {
    honoured: [stage, disable_key, actions, limit, hits_addend, x_ratelimit_option]
    ignored: {}
    refused: { apply_on_stream_done: "counting at the end of a request" }
} }
