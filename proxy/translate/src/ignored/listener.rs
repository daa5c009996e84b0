//! Verdicts on listeners, filter chains, the HTTP connection manager, the router and the TCP proxy.

use crate::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions};
use crate::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use crate::pb::envoy::extensions::filters::http::router::v3::Router;
use crate::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use crate::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use crate::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use crate::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::TunnelingConfig;
use crate::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use crate::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use crate::reviewed::reviewed;

reviewed! { Listener as "Listener" {
    honoured: [
        name, address, additional_addresses, stat_prefix, filter_chains, use_original_dst, default_filter_chain,
        per_connection_buffer_limit_bytes, deprecated_v1, listener_filters, listener_filters_timeout,
        continue_on_listener_filters_timeout, transparent, socket_options, traffic_direction, access_log,
        tcp_backlog_size, bind_to_port, listener_specifier,
    ]
    ignored: {
        stats_matcher: "observability: which metrics are kept",
        per_connection_buffer_high_watermark_timeout: "tuning: a full buffer only pauses reading",
        metadata: "read by no filter that is supported",
        drain_type: "tuning: every removal or change of a listener drains",
        freebind: "a bind that fails is reported, no other address is used",
        tcp_fast_open_queue_length: "tuning of the handshake",
        connection_balance_config: "tuning: workers balance by themselves",
        reuse_port: "tuning: every worker has its own socket anyway",
        enable_reuse_port: "tuning: every worker has its own socket anyway",
        max_connections_to_accept_per_socket_event: "tuning of the accept loop",
        enable_mptcp: "plain TCP reaches the same peers",
        ignore_global_conn_limit: "there is no global connection limit yet",
        bypass_overload_manager: "there is no overload manager yet",
        tcp_keepalive: "tuning: the system's keepalive settings hold",
    }
    refused: {
        fcds_config: "filter chains by FCDS",
        filter_chain_matcher: "filter chains chosen by a matching tree; use filter_chain_match",
        udp_listener_config: "UDP and QUIC listeners",
        api_listener: "listeners without a socket",
    }
} }

reviewed! { FilterChain as "FilterChain" {
    honoured: [filter_chain_match, filters, use_proxy_proto, transport_socket, transport_socket_connect_timeout, name]
    ignored: { metadata: "read by no filter that is supported" }
    refused: {}
} }

reviewed! { FilterChainMatch as "FilterChainMatch" {
    honoured: [
        destination_port, prefix_ranges, direct_source_prefix_ranges, source_type, source_prefix_ranges, source_ports,
        server_names, transport_protocol, application_protocols,
    ]
    ignored: {}
    refused: {
        address_suffix: "matching by address suffix, which no proxy implements",
        suffix_len: "matching by address suffix, which no proxy implements",
    }
} }

reviewed! { HttpConnectionManager as "HttpConnectionManager" {
    honoured: [
        internal_address_config,
        proxy_100_continue,
        codec_type, stat_prefix, http_filters, common_http_protocol_options, http_protocol_options,
        http2_protocol_options, server_name, server_header_transformation, max_request_headers_kb, stream_idle_timeout,
        request_timeout, request_headers_timeout, drain_timeout, delayed_close_timeout, access_log, use_remote_address,
        xff_num_trusted_hops, skip_xff_append, via, generate_request_id, preserve_external_request_id,
        always_set_request_id_in_response, forward_client_cert_details, set_current_client_cert_details, upgrade_configs,
        normalize_path, merge_slashes, path_with_escaped_slashes_action, request_id_extension, strip_matching_host_port,
        route_specifier, strip_port_mode, tracing, strip_trailing_host_dot, original_ip_detection_extensions,
        early_header_mutation_extensions, local_reply_config, add_user_agent, scheme_header_transformation,
        proxy_status_config, append_x_forwarded_port,
    ]
    ignored: {
        http1_safe_max_connection_duration: "tuning: a drained connection ends after its response",
        http3_protocol_options: "only read with codec HTTP3, which is refused",
        stream_flush_timeout: "tuning: stream_idle_timeout bounds the flush too",
        drain_timeout_jitter: "tuning of a drain",
        access_log_flush_interval: "observability: a line is written at the end of its exchange",
        flush_access_log_on_new_request: "observability: a line is written at the end of its exchange",
        access_log_options: "observability: a line is written at the end of its exchange",
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6: "the form of an address in x-forwarded-for only",
        stream_error_on_invalid_http_message: "tuning: an invalid message always ends what it must end",
        path_normalization_options: "not implemented by Envoy either",
        typed_header_validation_config: "the codecs always validate headers",
        append_local_overload: "adds a header that decides nothing here",
        add_proxy_protocol_connection_state: "an upstream is told of the connection wherever its cluster asks for a PROXY header",
    }
    refused: {
        forward_client_cert_matcher: "it decides which client identity the upstream is told",
        forward_proto_config: "it decides which scheme require_tls sees",
    }
} }

reviewed! { HttpProtocolOptions as "HttpProtocolOptions" {
    honoured: [
        idle_timeout, max_connection_duration, max_headers_count, max_stream_duration, headers_with_underscores_action,
        max_requests_per_connection,
    ]
    ignored: {
        max_connection_duration_jitter: "tuning: connections end at max_connection_duration",
        max_response_headers_kb: "response heads have a fixed bound",
    }
    refused: {}
} }

reviewed! { Http1ProtocolOptions as "Http1ProtocolOptions" {
    honoured: [allow_absolute_url, accept_http_10, default_host_for_http_10, enable_trailers, send_fully_qualified_url]
    ignored: {
        header_key_format: "header names are case-insensitive (RFC 9110 section 5.1); they are sent in lower case",
        allow_chunked_length: "a message with both framings is always refused, which is the strict side",
        override_stream_error_on_invalid_http_message: "an invalid message always ends its connection",
        use_balsa_parser: "choice of Envoy's parser",
        allow_custom_methods: "any token is a method (RFC 9110 section 9.1)",
        ignore_http_11_upgrade: "upgrade_configs alone decides which upgrades pass",
    }
    refused: {}
} }

reviewed! { Http2ProtocolOptions as "Http2ProtocolOptions" {
    honoured: [max_concurrent_streams, initial_stream_window_size, initial_connection_window_size, connection_keepalive]
    ignored: {
        hpack_table_size: "tuning of header compression",
        allow_connect: "upgrade_configs alone decides which upgrades pass",
        allow_metadata: "METADATA frames are dropped, as the RFC wants of unknown frames",
        max_outbound_frames: "the codec has its own flood limits",
        max_outbound_control_frames: "the codec has its own flood limits",
        max_consecutive_inbound_frames_with_empty_payload: "the codec has its own flood limits",
        max_inbound_priority_frames_per_stream: "the codec has its own flood limits",
        max_inbound_window_update_frames_per_data_frame_sent: "the codec has its own flood limits",
        stream_error_on_invalid_http_messaging: "an invalid message always resets its stream",
        override_stream_error_on_invalid_http_message: "an invalid message always resets its stream",
        custom_settings_parameters: "settings that no peer of ours needs",
        use_oghttp2_codec: "choice of Envoy's codec",
        max_metadata_size: "METADATA frames are dropped",
        enable_huffman_encoding: "tuning of header compression",
        max_header_field_size_kb: "max_request_headers_kb bounds the whole head",
        disallow_obs_text: "header values are checked by the codec",
        stream_reset_burst: "the codec has its own flood limits",
        stream_reset_rate: "the codec has its own flood limits",
    }
    refused: {}
} }

reviewed! { Router as "Router" {
    honoured: [upstream_http_filters, suppress_envoy_headers]
    ignored: {
        dynamic_stats: "observability: which metrics are kept",
        start_child_span: "observability: tracing is not supported yet",
        upstream_log: "observability: the access log has one line per exchange",
        upstream_log_options: "observability: the access log has one line per exchange",
        strict_check_headers: "no x-envoy-* request header is honoured",
        respect_expected_rq_timeout: "no x-envoy-* request header is honoured",
        suppress_grpc_request_failure_code_stats: "observability: which metrics are kept",
        reject_connect_request_early_data: "TLS early data is never accepted",
    }
    refused: {}
} }

reviewed! { TcpProxy as "TcpProxy" {
    honoured: [
        stat_prefix, idle_timeout, access_log, max_connect_attempts, backoff_options, hash_policy,
        max_downstream_connection_duration, max_downstream_connection_duration_jitter_percentage, access_log_options,
        access_log_flush_interval, flush_access_log_on_connected, upstream_connect_mode, max_early_data_bytes,
        tunneling_config, cluster_specifier, metadata_match, proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy,
    ]
    ignored: {
        on_demand: "every cluster that is named is subscribed to; a connection to one that is unknown is closed",
        downstream_idle_timeout: "not implemented by Envoy either; idle_timeout holds for both directions",
        upstream_idle_timeout: "not implemented by Envoy either; idle_timeout holds for both directions",
        check_drain_close: "tuning of a drain",
    }
    refused: {}
} }

reviewed! { TunnelingConfig as "TcpProxy.TunnelingConfig" {
    honoured: [hostname, use_post, post_path, headers_to_add]
    ignored: {
        propagate_response_headers: "no network filter reads the state of a connection",
        propagate_response_trailers: "no network filter reads the state of a connection",
        request_id_extension: "observability: the tunnel's request carries no id",
        request_id_header: "observability: the tunnel's request carries no id",
        request_id_metadata_key: "observability: the tunnel's request carries no id",
        formatters: "only Envoy's built-in operators are known; a text with another one is refused",
    }
    refused: {}
} }

reviewed! { ClusterWeight as "TcpProxy.WeightedCluster.ClusterWeight" {
    honoured: [name, weight, metadata_match]
    ignored: {}
    refused: {}
} }

reviewed! { ProxyProtocol as "ProxyProtocol" {
    honoured: [
        rules, allow_requests_without_proxy_protocol, pass_through_tlvs, disallowed_versions, stat_prefix, tlv_location,
    ]
    ignored: {}
    refused: {}
} }

reviewed! { ProxyProtocolUpstreamTransport as "ProxyProtocolUpstreamTransport" {
    honoured: [config, transport_socket]
    ignored: {
        allow_unspecified_address: "not implemented by Envoy either",
        tlv_as_pool_key: "connections are never shared by clients that their headers tell apart",
    }
    refused: {}
} }

reviewed! { TlsInspector as "TlsInspector" {
    honoured: []
    ignored: {
        enable_ja3_fingerprinting: "observability: fingerprints of clients",
        enable_ja4_fingerprinting: "observability: fingerprints of clients",
        initial_read_buffer_size: "tuning: the ClientHello is read as it comes",
        close_connection_on_client_hello_parsing_errors: "what is not a ClientHello is not taken for TLS",
        max_client_hello_size: "a ClientHello has a fixed bound",
    }
    refused: {}
} }
