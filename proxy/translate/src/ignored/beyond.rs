//! Verdicts on single fields of messages that have no list of their own, and on single members of a choice.
//!
//! A test sets every field of the table (`remora fields`) and fails when one that counts as honoured makes no difference:
//! it belongs here then, with its reason, or somebody has to read it.

use super::FieldReason;

/// Extensions that are read although they have no list of their own; their messages stand in the table.
pub const EXTENSIONS: &[&str] = &[
    "envoy.config.rbac.v3.Action",
    "envoy.config.route.v3.FilterConfig",
    "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    "envoy.extensions.clusters.aggregate.v3.ClusterConfig",
    "envoy.extensions.filters.http.buffer.v3.Buffer",
    "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
    "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute",
    "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    "envoy.extensions.filters.http.decompressor.v3.Decompressor",
    "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
    "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
    "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
    "envoy.extensions.filters.http.set_filter_state.v3.Config",
    "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
    "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
    "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
    "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
    "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
    "envoy.extensions.load_balancing_policies.pick_first.v3.PickFirst",
    "envoy.extensions.load_balancing_policies.random.v3.Random",
    "envoy.extensions.load_balancing_policies.random_subsetting.v3.RandomSubsetting",
    "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
    "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    "envoy.extensions.load_balancing_policies.subset.v3.Subset",
    "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality",
    "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
    "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
    "envoy.extensions.matching.input_matchers.ip.v3.Ip",
    "envoy.extensions.rbac.principals.mtls_authenticated.v3.Config",
    "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
    "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
];

/// Fields that are ignored in part, for some of their values; the others are honoured.
pub const IN_PART: &[&str] = &[
    "envoy.config.route.v3.RateLimit.hits_addend",
    "envoy.config.cluster.v3.Cluster.metadata",
    "envoy.config.route.v3.RetryPolicy.retry_host_predicate",
    "envoy.config.route.v3.RetryPolicy.retry_on",
    "envoy.config.accesslog.v3.AccessLog.filter",
    "envoy.config.accesslog.v3.AccessLog.typed_config",
    "envoy.config.core.v3.GrpcService.retry_policy",
    "envoy.config.core.v3.SubstitutionFormatString.formatters",
    "envoy.config.route.v3.FilterConfig.is_optional",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.is_optional",
];

/// Fields that nothing reads, by full name.
pub const UNREAD: &[FieldReason] = &[
    (
        "envoy.config.core.v3.SchemeHeaderTransformation.match_upstream",
        "the upstream hears the scheme that the client used",
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ProxyStatusConfig.remove_connection_termination_details",
        "there are none that could be removed",
    ),
    (
        "envoy.config.core.v3.KeyValueAppend.entry",
        "deprecated: only record is read, and must be there",
    ),
    (
        "envoy.config.core.v3.KeyValue.key",
        "part of the deprecated KeyValueAppend.entry",
    ),
    (
        "envoy.config.core.v3.KeyValue.value",
        "part of the deprecated KeyValueAppend.entry",
    ),
    (
        "envoy.config.core.v3.RuntimeFeatureFlag.runtime_key",
        "there is no runtime layer; the value given here holds",
    ),
    (
        "envoy.type.v3.HashPolicy.filter_state",
        "nothing puts objects into the state of a connection, so there is none to hash; the choice is random then",
    ),
    (
        "envoy.type.v3.HashPolicy.FilterState.key",
        "nothing puts objects into the state of a connection, so there is none to hash",
    ),
    (
        "envoy.config.route.v3.RateLimit.Action.GenericKey.default_value",
        "formatted by Envoy only behind a switch that is off; the value is a text that is never empty",
    ),
    (
        "envoy.config.route.v3.RateLimit.Action.HeaderValueMatch.default_value",
        "formatted by Envoy only behind a switch that is off; the value is a text that is never empty",
    ),
    (
        "envoy.config.route.v3.RateLimit.Action.QueryParameterValueMatch.default_value",
        "formatted by Envoy only behind a switch that is off; the value is a text that is never empty",
    ),
    (
        "envoy.config.route.v3.RateLimit.Action.RemoteAddressMatch.default_value",
        "operators in the value are refused, so it is never empty",
    ),
    (
        "envoy.config.route.v3.RateLimit.Override.DynamicMetadata.metadata_key",
        "nothing writes dynamic metadata, so there is never a limit in it",
    ),
    (
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget.budget_interval",
        "tuning: the budget is a share of what is in flight now",
    ),
    (
        "envoy.config.route.v3.RetryPolicy.RetryHostPredicate.name",
        "extensions are known by the type of their configuration",
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig.unix_sockets",
        "a client over a Unix socket is never inside",
    ),
    (
        "envoy.config.core.v3.GrpcService.GoogleGrpc.stat_prefix",
        "observability: which metrics are kept",
    ),
    (
        "envoy.config.core.v3.GrpcService.GoogleGrpc.config",
        "settings of a library that is not used",
    ),
    (
        "envoy.config.core.v3.GrpcService.GoogleGrpc.per_stream_buffer_limit_bytes",
        "tuning: buffers have bounds of their own",
    ),
    (
        "envoy.config.core.v3.GrpcService.GoogleGrpc.channel_args",
        "settings of a library that is not used",
    ),
    (
        "envoy.config.core.v3.RuntimeFeatureFlag.runtime_key",
        "there is no runtime layer; the value given here holds",
    ),
    (
        "envoy.config.core.v3.RuntimeUInt32.runtime_key",
        "there is no runtime layer; the value given here holds",
    ),
    (
        "envoy.config.core.v3.SubstitutionFormatString.json_format_options",
        "observability: members of a line stand in their own order",
    ),
    (
        "envoy.config.core.v3.WatchedDirectory.watch_modify",
        "moves into the folder are what is followed",
    ),
    (
        "envoy.config.endpoint.v3.ClusterLoadAssignment.named_endpoints",
        "read with endpoint_name only, which is refused",
    ),
    (
        "envoy.config.listener.v3.Filter.name",
        "the type of its configuration says what it is",
    ),
    (
        "envoy.extensions.filters.http.fault.v3.FaultAbort.response_body",
        "the look of the proxy's own error responses only",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.GenericSecret.secrets",
        "read by nothing that is supported",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher.oid",
        "read with OTHER_NAME only, which is refused",
    ),
    (
        "envoy.config.core.v3.RetryPolicy.num_retries",
        "tuning: a stream to the control plane is retried for ever",
    ),
    (
        "envoy.config.core.v3.RetryPolicy.retry_on",
        "tuning: a stream to the control plane is retried for ever",
    ),
    (
        "envoy.config.core.v3.RetryPolicy.retry_priority",
        "tuning: a stream to the control plane is retried for ever",
    ),
    (
        "envoy.config.core.v3.RetryPolicy.retry_host_predicate",
        "tuning: a stream to the control plane is retried for ever",
    ),
    (
        "envoy.config.core.v3.RetryPolicy.host_selection_retry_max_attempts",
        "tuning: a stream to the control plane is retried for ever",
    ),
    (
        "envoy.config.accesslog.v3.AccessLog.name",
        "the type of its configuration says what it is",
    ),
    (
        "envoy.config.accesslog.v3.AccessLogFilter.extension_filter",
        "observability: a log with a filter that is not supported is not written",
    ),
    (
        "envoy.config.accesslog.v3.AccessLogFilter.grpc_status_filter",
        "observability: a log with a filter that is not supported is not written",
    ),
    (
        "envoy.config.accesslog.v3.AccessLogFilter.log_type_filter",
        "observability: a log with a filter that is not supported is not written",
    ),
    (
        "envoy.config.accesslog.v3.AccessLogFilter.metadata_filter",
        "observability: a log with a filter that is not supported is not written",
    ),
    (
        "envoy.config.accesslog.v3.AccessLogFilter.runtime_filter",
        "observability: a log with a filter that is not supported is not written",
    ),
    (
        "envoy.config.core.v3.ApiConfigSource.refresh_delay",
        "read with REST only, which is refused",
    ),
    (
        "envoy.config.core.v3.ApiConfigSource.request_timeout",
        "read with REST only, which is refused",
    ),
    (
        "envoy.config.core.v3.ConfigSource.authorities",
        "read with xdstp names only",
    ),
    (
        "envoy.config.core.v3.JsonFormatOptions.sort_properties",
        "observability: members of a line stand in their own order",
    ),
    (
        "envoy.config.core.v3.KeepaliveSettings.interval_jitter",
        "tuning: pings are sent at the interval",
    ),
    (
        "envoy.config.core.v3.Metadata.typed_filter_metadata",
        "read by no filter that is supported",
    ),
    (
        "envoy.config.core.v3.Pipe.mode",
        "the socket has the mode that the umask gives it",
    ),
    (
        "envoy.config.core.v3.RuntimeDouble.runtime_key",
        "there is no runtime layer; the value given here holds",
    ),
    (
        "envoy.config.core.v3.RuntimeFractionalPercent.runtime_key",
        "there is no runtime layer; the value given here holds",
    ),
    (
        "envoy.config.listener.v3.AdditionalAddress.tcp_keepalive",
        "tuning: the system's keepalive settings hold",
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.tracing",
        "observability: tracing is not supported yet",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.session_ticket_keys_sds_secret_config",
        "tuning: tickets have keys of this process, so others do not resume",
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig.alternate_protocols_cache_options",
        "read with HTTP/3 only",
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig.http3_protocol_options",
        "HTTP/3 is not offered, so ALPN chooses among the others",
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig.http3_protocol_options",
        "no client speaks HTTP/3 here",
    ),
    (
        "xds.type.matcher.v3.RegexMatcher.google_re2",
        "the only engine there is; its program size is bounded by a limit of our own",
    ),
    (
        "envoy.type.matcher.v3.RegexMatcher.google_re2",
        "the only engine there is; its program size is bounded by a limit of our own",
    ),
];

/// Fields that are always refused, by full name.
pub const REFUSED: &[FieldReason] = &[
    (
        "envoy.config.rbac.v3.Permission.matcher",
        "permissions by extension",
    ),
    (
        "envoy.config.rbac.v3.SourcedMetadata.metadata_source",
        "matching by a route's metadata; what filters noted is matched",
    ),
    (
        "xds.type.matcher.v3.Matcher.MatcherTree.custom_match",
        "trees by extension",
    ),
    (
        "xds.type.matcher.v3.Matcher.OnMatch.keep_matching",
        "actions that do not end the search",
    ),
    (
        "xds.type.matcher.v3.StringMatcher.custom",
        "matchers of a custom kind",
    ),
    (
        "envoy.config.route.v3.RateLimit.Action.extension",
        "descriptors by extension",
    ),
    (
        "envoy.type.metadata.v3.MetadataKey.PathSegment.index",
        "elements of lists",
    ),
    (
        "envoy.config.core.v3.ApiConfigSource.config_validators",
        "validators that are not run",
    ),
    (
        "envoy.config.core.v3.GrpcService.GoogleGrpc.credentials_factory_name",
        "credentials by plug-in",
    ),
    (
        "envoy.config.cluster.v3.Filter.config_discovery",
        "filters by ECDS",
    ),
    ("envoy.config.core.v3.ConfigSource.self", "self as a source"),
    (
        "envoy.config.core.v3.GrpcService.GoogleGrpc.call_credentials",
        "call credentials; use initial_metadata",
    ),
    (
        "envoy.config.core.v3.GrpcService.GoogleGrpc.channel_credentials",
        "credentials for TLS; use envoy_grpc and a cluster with a transport socket",
    ),
    (
        "envoy.config.route.v3.RouteAction.inline_cluster_specifier_plugin",
        "clusters chosen by a plug-in",
    ),
    (
        "envoy.config.core.v3.Address.envoy_internal_address",
        "internal listeners",
    ),
    (
        "envoy.config.core.v3.BindConfig.socket_options",
        "options beyond TCP, buffers and keepalive; these are ignored",
    ),
    (
        "envoy.config.core.v3.Http1ProtocolOptions.send_fully_qualified_url",
        "absolute URLs towards the upstream",
    ),
    (
        "envoy.config.core.v3.SocketAddress.named_port",
        "ports by name; use port_value",
    ),
    (
        "envoy.config.core.v3.SocketOptionsOverride.socket_options",
        "options beyond TCP, buffers and keepalive; these are ignored",
    ),
    (
        "envoy.config.endpoint.v3.LbEndpoint.endpoint_name",
        "endpoints by name",
    ),
    (
        "envoy.config.endpoint.v3.LocalityLbEndpoints.leds_cluster_locality_config",
        "endpoints by LEDS",
    ),
    (
        "envoy.config.listener.v3.Filter.config_discovery",
        "filters by ECDS",
    ),
    (
        "envoy.config.listener.v3.FilterChain.use_proxy_proto",
        "PROXY protocol from downstream",
    ),
    (
        "envoy.config.listener.v3.Listener.internal_listener",
        "internal listeners",
    ),
    (
        "envoy.config.listener.v3.Listener.socket_options",
        "options beyond TCP, buffers and keepalive; these are ignored",
    ),
    (
        "envoy.config.listener.v3.Listener.transparent",
        "transparent sockets; use redirection",
    ),
    (
        "envoy.config.listener.v3.ListenerFilter.config_discovery",
        "filters by ECDS",
    ),
    ("envoy.config.route.v3.Route.filter_action", "actions of filters"),
    (
        "envoy.config.route.v3.Route.non_forwarding_action",
        "routes that do not forward",
    ),
    (
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz.http_service",
        "authorization over HTTP",
    ),
    (
        "envoy.extensions.filters.http.ext_authz.v3.BufferSettings.allow_partial_message",
        "the beginning of a body",
    ),
    (
        "envoy.type.matcher.v3.FilterStateMatcher.address_match",
        "addresses in the filter state",
    ),
    (
        "envoy.config.route.v3.RouteConfiguration.cluster_specifier_plugins",
        "clusters chosen by a plug-in, unless it is optional",
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails.format",
        "client certificates in a format of its own",
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig.filters",
        "filter chains of upgrades",
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.scoped_routes",
        "scoped routes",
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.config_discovery",
        "filters by ECDS",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.require_signed_certificate_timestamp",
        "certificate transparency",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.ocsp_staple_policy",
        "policies that demand staples",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig.TrustDomain.workload_trust_domain",
        "trust domains of workloads",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig.trust_bundles",
        "trust bundles as one map",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate.password",
        "private keys that are protected by a password",
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig.http3_protocol_options",
        "HTTP/3",
    ),
    (
        "envoy.type.matcher.v3.StringMatcher.custom",
        "matchers of a custom kind",
    ),
];

/// Fields of [`UNREAD`] that need not be told by that name: the translation counts them under another, or they are labels.
pub const COUNTED: &[&str] = &[
    "envoy.config.accesslog.v3.AccessLog.name",
    "envoy.config.accesslog.v3.AccessLogFilter.extension_filter",
    "envoy.config.accesslog.v3.AccessLogFilter.grpc_status_filter",
    "envoy.config.accesslog.v3.AccessLogFilter.log_type_filter",
    "envoy.config.accesslog.v3.AccessLogFilter.metadata_filter",
    "envoy.config.accesslog.v3.AccessLogFilter.runtime_filter",
    "envoy.config.listener.v3.Filter.name",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.tracing",
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.session_ticket_keys_sds_secret_config",
];
