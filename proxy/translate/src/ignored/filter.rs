//! Verdicts on the configurations of HTTP filters.

use crate::pb::envoy::config::rbac::v3::{Policy, Rbac as Rules};
use crate::pb::envoy::extensions::compression::{brotli, gzip, zstd};
use crate::pb::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue;
use crate::pb::envoy::extensions::filters::http::cache::v3::CacheConfig;
use crate::pb::envoy::extensions::filters::http::compressor::v3::Compressor;
use crate::pb::envoy::extensions::filters::http::ext_authz::v3::{CheckSettings, ExtAuthz};
use crate::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use crate::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as GrpcStats;
use crate::pb::envoy::extensions::filters::http::header_mutation::v3::Mutations;
use crate::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use crate::pb::envoy::extensions::filters::http::ratelimit::v3::{
    RateLimit as GlobalRateLimit, RateLimitPerRoute,
};
use crate::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use crate::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSession;
use crate::pb::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit;
use crate::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit as ConnectionRateLimit;
use crate::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use crate::reviewed::reviewed;

reviewed! { HttpFault as "HTTPFault" {
    honoured: [delay, abort, upstream_cluster, headers, downstream_nodes, max_active_faults, response_rate_limit]
    ignored: {
        delay_percent_runtime: "there is no runtime layer; the percentage given here holds",
        abort_percent_runtime: "there is no runtime layer; the percentage given here holds",
        delay_duration_runtime: "there is no runtime layer; the delay given here holds",
        abort_http_status_runtime: "there is no runtime layer; the status given here holds",
        abort_grpc_status_runtime: "there is no runtime layer; the status given here holds",
        max_active_faults_runtime: "there is no runtime layer; the bound given here holds",
        response_rate_limit_percent_runtime: "there is no runtime layer",
        disable_downstream_cluster_stats: "observability: there are no metrics by downstream cluster",
        filter_metadata: "read by no filter that is supported",
    }
    refused: {}
} }

reviewed! { Mutations as "HeaderMutation.Mutations" {
    honoured: [
        request_mutations, response_mutations, query_parameter_mutations, response_trailers_mutations,
        request_trailers_mutations,
    ]
    ignored: {}
    refused: {}
} }

reviewed! { LocalRateLimit as "LocalRateLimit" {
    honoured: [
        stat_prefix, status, token_bucket, filter_enabled, filter_enforced, request_headers_to_add_when_not_enforced,
        response_headers_to_add, local_rate_limit_per_downstream_connection, enable_x_ratelimit_headers,
        rate_limited_as_resource_exhausted, stage, vh_rate_limits, always_consume_default_token_bucket, descriptors,
        max_dynamic_descriptors, rate_limits, enable_retry_after_header,
    ]
    ignored: {}
    refused: { local_cluster_rate_limit: "a limit that the members of a cluster share" }
} }

reviewed! { GlobalRateLimit as "ratelimit.RateLimit" {
    honoured: [
        domain, stage, request_type, timeout, failure_mode_deny, rate_limited_as_resource_exhausted, rate_limit_service,
        enable_x_ratelimit_headers, disable_x_envoy_ratelimited_header, rate_limited_status, response_headers_to_add,
        status_on_error, stat_prefix, filter_enabled, filter_enforced, failure_mode_deny_percent, rate_limits,
        metadata_namespace, enable_retry_after_header,
    ]
    ignored: {}
    refused: {}
} }

reviewed! { RateLimitPerRoute as "RateLimitPerRoute" {
    honoured: [vh_rate_limits, rate_limits, domain]
    ignored: { override_option: "not implemented in Envoy either" }
    refused: {}
} }

reviewed! { FilterStateValue as "FilterStateValue" {
    honoured: [key, factory_key, value, skip_if_empty]
    ignored: {
        read_only: "deprecated: it has no effect in Envoy either",
        shared_with_upstream: "there are no internal connections that it could be shared with",
    }
    refused: {}
} }

reviewed! { ExtAuthz as "ExtAuthz" {
    honoured: [
        services, transport_api_version, failure_mode_allow, failure_mode_allow_header_add, with_request_body,
        clear_route_cache, status_on_error, validate_mutations, metadata_context_namespaces, filter_enabled,
        filter_enabled_metadata, deny_at_disable, include_peer_certificate, stat_prefix, allowed_headers,
        disallowed_headers, include_tls_session, enable_dynamic_metadata_ingestion,
    ]
    ignored: {
        charge_cluster_response_stats: "observability: refusals are not counted as responses of the cluster",
        filter_metadata: "observability: metadata for access logs in the filter state",
        emit_filter_state_stats: "observability: statistics for access logs in the filter state",
        emit_client_span: "observability: tracing is not supported yet",
        max_denied_response_body_bytes: "an answer of the service is bounded as a whole, and its body is passed on",
        enforce_response_header_limits: "headers of a response are limited when it is sent",
    }
    refused: {
        typed_metadata_context_namespaces: "the service would not be told typed metadata",
        route_metadata_context_namespaces: "the service would not be told metadata of the route",
        route_typed_metadata_context_namespaces: "the service would not be told metadata of the route",
        bootstrap_metadata_labels_key: "the service would not be told labels of this node",
        encode_raw_headers: "the service would be told headers in another form",
        decoder_header_mutation_rules: "limits of what the service may change",
        shadow_mode: "requests that the service refuses would go on",
    }
} }

reviewed! { CheckSettings as "CheckSettings" {
    honoured: [context_extensions, disable_request_body_buffering, with_request_body]
    ignored: { emit_client_span: "observability: tracing is not supported yet" }
    refused: { service_override: "another service for this route" }
} }

reviewed! { GrpcStats as "grpc_stats.FilterConfig" {
    honoured: [replace_dots_in_grpc_service_name, enable_upstream_stats, per_method_stat_specifier]
    ignored: { emit_filter_state: "observability: there is no filter state that a log could show" }
    refused: {}
} }

reviewed! { Compressor as "Compressor" {
    honoured: [
        content_length, content_type, disable_on_etag_header, remove_accept_encoding_header, runtime_enabled,
        compressor_library, request_direction_config, response_direction_config, choose_first,
    ]
    ignored: {}
    refused: {}
} }

reviewed! { gzip::compressor::v3::Gzip as "gzip.compressor.Gzip" {
    honoured: [compression_level]
    ignored: {
        memory_level: "tuning: the compressor has one size",
        compression_strategy: "tuning: the level alone chooses the strategy",
        window_bits: "tuning: the window is as large as the format allows, and every client can read that",
        chunk_size: "tuning: what a frame compresses to leaves with it",
    }
    refused: {}
} }

reviewed! { brotli::compressor::v3::Brotli as "brotli.compressor.Brotli" {
    honoured: [quality, window_bits]
    ignored: {
        encoder_mode: "tuning: the encoder does not ask what kind of content it is",
        input_block_bits: "tuning: the encoder chooses the size of its blocks",
        chunk_size: "tuning: what a frame compresses to leaves with it",
        disable_literal_context_modeling: "tuning: the encoder chooses by quality",
    }
    refused: {}
} }

reviewed! { zstd::compressor::v3::Zstd as "zstd.compressor.Zstd" {
    honoured: [compression_level, enable_checksum]
    ignored: {
        strategy: "tuning: the level alone chooses the strategy",
        chunk_size: "tuning: what a frame compresses to leaves with it",
    }
    refused: { dictionary: "compression with a dictionary that the client must have" }
} }

reviewed! { gzip::decompressor::v3::Gzip as "gzip.decompressor.Gzip" {
    honoured: [max_inflate_ratio]
    ignored: {
        window_bits: "tuning: every window that the format allows can be read",
        chunk_size: "tuning: pieces have one size",
    }
    refused: {}
} }

reviewed! { brotli::decompressor::v3::Brotli as "brotli.decompressor.Brotli" {
    honoured: []
    ignored: {
        disable_ring_buffer_reallocation: "tuning: how the decoder keeps its memory",
        chunk_size: "tuning: pieces have one size",
    }
    refused: {}
} }

reviewed! { zstd::decompressor::v3::Zstd as "zstd.decompressor.Zstd" {
    honoured: []
    ignored: { chunk_size: "tuning: pieces have one size" }
    refused: { dictionaries: "decompression with a dictionary" }
} }

reviewed! { ConnectionRateLimit as "network.LocalRateLimit" {
    honoured: [stat_prefix, token_bucket, runtime_enabled, share_key]
    ignored: {}
    refused: {}
} }

reviewed! { ConnectionLimit as "ConnectionLimit" {
    honoured: [stat_prefix, max_connections, delay, runtime_enabled]
    ignored: {}
    refused: {}
} }

reviewed! { CacheConfig as "CacheConfig" {
    honoured: [
        typed_config, disabled, allowed_vary_headers, key_creator_params, max_body_bytes,
        ignore_request_cache_control_header,
    ]
    ignored: {}
    refused: {}
} }

reviewed! { StatefulSession as "StatefulSession" {
    honoured: [session_state, strict, status_on_strict_destination_not_found]
    ignored: { stat_prefix: "observability: which metrics are kept" }
    refused: {}
} }

reviewed! { Rbac as "http.RBAC" {
    honoured: [
        rules, rules_stat_prefix, matcher, shadow_rules, shadow_matcher, shadow_rules_stat_prefix, track_per_rule_stats,
    ]
    ignored: {}
    refused: {}
} }

reviewed! { NetworkRbac as "network.RBAC" {
    honoured: [rules, matcher, shadow_rules, shadow_matcher, shadow_rules_stat_prefix, stat_prefix, delay_deny]
    ignored: { enforcement_type: "an open connection is judged anew whenever its policy changes, and nothing else of it can" }
    refused: {}
} }

reviewed! { Rules as "RBAC" {
    honoured: [action, policies]
    ignored: { audit_logging_options: "observability: audit logs are not written" }
    refused: {}
} }

reviewed! { Policy as "RBAC.Policy" {
    honoured: [permissions, principals]
    ignored: {}
    refused: {
        condition: "conditions in CEL",
        checked_condition: "conditions in CEL",
        cel_config: "conditions in CEL",
    }
} }
