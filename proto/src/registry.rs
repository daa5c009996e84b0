//! Which extension is meant by a name?
//!
//! Envoy finds an extension by the type URL of its configuration; the name beside it is free text. Only where an entry has no
//! `typed_config` at all does the well-known name decide, and then every field has its default.
//!
//! What always holds: the names are sorted, and each maps to a message that the pool describes (a test says so). Whether we
//! support an extension is decided in `translate`.

/// Well-known extension names and the message that configures each.
const EXTENSIONS: [(&str, &str); 38] = [
    (
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    ),
    (
        "envoy.access_loggers.http_grpc",
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
    ),
    (
        "envoy.access_loggers.open_telemetry",
        "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
    ),
    (
        "envoy.access_loggers.stderr",
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    ),
    (
        "envoy.access_loggers.stdout",
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    ),
    (
        "envoy.access_loggers.tcp_grpc",
        "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
    ),
    (
        "envoy.clusters.aggregate",
        "envoy.extensions.clusters.aggregate.v3.ClusterConfig",
    ),
    (
        "envoy.clusters.dns",
        "envoy.extensions.clusters.dns.v3.DnsCluster",
    ),
    (
        "envoy.clusters.dynamic_forward_proxy",
        "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    ),
    (
        "envoy.filters.http.cors",
        "envoy.extensions.filters.http.cors.v3.Cors",
    ),
    (
        "envoy.filters.http.ext_authz",
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    ),
    (
        "envoy.filters.http.fault",
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
    ),
    (
        "envoy.filters.http.grpc_stats",
        "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    ),
    (
        "envoy.filters.http.health_check",
        "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    ),
    (
        "envoy.filters.http.jwt_authn",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
    ),
    (
        "envoy.filters.http.local_ratelimit",
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    ),
    (
        "envoy.filters.http.lua",
        "envoy.extensions.filters.http.lua.v3.Lua",
    ),
    (
        "envoy.filters.http.ratelimit",
        "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
    ),
    (
        "envoy.filters.http.rbac",
        "envoy.extensions.filters.http.rbac.v3.RBAC",
    ),
    (
        "envoy.filters.http.router",
        "envoy.extensions.filters.http.router.v3.Router",
    ),
    (
        "envoy.filters.http.set_filter_state",
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
    ),
    (
        "envoy.filters.http.stateful_session",
        "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
    ),
    (
        "envoy.filters.listener.http_inspector",
        "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    ),
    (
        "envoy.filters.listener.original_dst",
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    ),
    (
        "envoy.filters.listener.original_src",
        "envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
    ),
    (
        "envoy.filters.listener.proxy_protocol",
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    ),
    (
        "envoy.filters.listener.tls_inspector",
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    ),
    (
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    ),
    (
        "envoy.filters.network.local_ratelimit",
        "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
    ),
    (
        "envoy.filters.network.rbac",
        "envoy.extensions.filters.network.rbac.v3.RBAC",
    ),
    (
        "envoy.filters.network.set_filter_state",
        "envoy.extensions.filters.network.set_filter_state.v3.Config",
    ),
    (
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    ),
    (
        "envoy.retry_host_predicates.previous_hosts",
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    ),
    (
        "envoy.retry_priorities.previous_priorities",
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    ),
    (
        "envoy.transport_sockets.internal_upstream",
        "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
    ),
    (
        "envoy.transport_sockets.raw_buffer",
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    ),
    (
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    ),
];

/// The full name of the message that configures the extension of a well-known name, for an entry without
/// `typed_config`. `envoy.transport_sockets.tls` is given as the upstream side; on a listener it is
/// `envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext`.
#[must_use]
pub fn message_of_extension(name: &str) -> Option<&'static str> {
    let index = EXTENSIONS
        .binary_search_by(|(extension, _)| (*extension).cmp(name))
        .ok()?;
    Some(EXTENSIONS[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_every_message_is_described() {
        assert!(EXTENSIONS.is_sorted_by(|(left, _), (right, _)| left < right));
        let pool = crate::Pool::load().unwrap();
        let unknown: Vec<_> = EXTENSIONS
            .iter()
            .filter(|(_, message)| !pool.knows(message))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn a_well_known_name_gives_its_message() {
        assert_eq!(
            message_of_extension("envoy.filters.http.router"),
            Some("envoy.extensions.filters.http.router.v3.Router")
        );
        assert_eq!(message_of_extension("my.filter"), None);
    }
}
