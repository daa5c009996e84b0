//! The reviewed lists: what of each message is honoured, what is ignored and why, what is refused and why.
//!
//! The rule: ignored is what only observes or tunes; refused is whatever decides who may connect, which identity is
//! required, or where bytes go. Every ignored field that is set is counted by its full name.

mod beyond;
mod cluster;
mod endpoint;
mod filter;
mod listener;
mod route;
mod tls;

use crate::pb::envoy::config::{cluster::v3 as clusters, core::v3 as core, endpoint::v3 as endpoints};
use crate::pb::envoy::config::{listener::v3 as listeners, route::v3 as routes};
use crate::pb::envoy::extensions::compression;
use crate::pb::envoy::extensions::filters::http as filters;
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3 as manager;
use crate::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use crate::pb::envoy::extensions::transport_sockets::tls::v3 as tls_api;
use crate::reviewed::Reviewed;

pub use beyond::{COUNTED, EXTENSIONS, IN_PART, REFUSED, UNREAD};

/// A field's full name and the reason of its verdict.
pub type FieldReason = (&'static str, &'static str);

/// What is ignored for some of its values, or as one arm of a choice.
pub const PARTLY: &[FieldReason] = &[
    (
        "AccessLog.filter",
        "observability: a log with a filter that is not supported is not written",
    ),
    (
        "AccessLog.typed_config",
        "observability: a log to a sink that is not supported is not written",
    ),
    ("Cluster.metadata", "read under remora.circuit_breaker only"),
    (
        "DownstreamTlsContext.session_ticket_keys",
        "tuning: tickets have keys of this process, so others do not resume",
    ),
    (
        "FilterConfig.is_optional",
        "a filter that is optional may be left out",
    ),
    (
        "GrpcService.retry_policy",
        "a service that filters ask is asked once; a stream to a control plane is retried for ever",
    ),
    (
        "HealthCheck.custom_health_check",
        "checks of a custom kind are not made; endpoints count as the control plane says",
    ),
    (
        "HttpConnectionManager.request_id_extension",
        "the request id is always a UUID; the trace reason is not packed",
    ),
    (
        "HttpConnectionManager.tracing",
        "observability: tracing is not supported yet; trace headers pass untouched",
    ),
    (
        "HttpFilter.config_discovery",
        "a filter by ECDS that is optional, or that only tunes or counts, may be left out",
    ),
    (
        "HttpFilter.disabled",
        "a filter that does not run by default; a request that a route would send through it is answered 500",
    ),
    (
        "HttpFilter.is_optional",
        "a filter that is optional may be left out",
    ),
    (
        "KeepaliveSettings.connection_idle_interval",
        "tuning: pings are sent at the interval",
    ),
    (
        "OverrideHost.selected_host_key",
        "observability: the chosen endpoint stands in logs, not in metadata",
    ),
    (
        "RateLimit.hits_addend",
        "at routes and virtual hosts a request is one hit, as in Envoy; in filters it is honoured",
    ),
    (
        "RateLimit.Override.dynamic_metadata",
        "nothing writes dynamic metadata, so there is never a limit in it",
    ),
    (
        "RetryPolicy.retry_host_predicate",
        "tuning: a predicate that is not known excludes no endpoint",
    ),
    (
        "RetryPolicy.retry_on",
        "a condition that is not known never holds, as in Envoy",
    ),
    (
        "RouteAction.HashPolicy.Cookie.attributes",
        "the cookie decides the same with and without attributes",
    ),
    ("SocketOption", "tuning: options of TCP, buffers and keepalive"),
    (
        "SubstitutionFormatString.formatters",
        "observability: an operator that is not known is refused",
    ),
];

/// The verdicts on one message that has a list of its own.
#[derive(Debug, Clone)]
pub struct Lists {
    /// Full name of the message.
    pub message: String,
    /// What its fields are called in the lists: `Cluster` of `Cluster.outlier_detection`.
    pub short: &'static str,
    /// Honoured fields and choices, by their names in the message.
    pub honoured: &'static [&'static str],
    /// Ignored fields with reasons.
    pub ignored: &'static [FieldReason],
    /// Refused fields with reasons.
    pub refused: &'static [FieldReason],
}

/// All fields that are ignored, with their reasons.
pub fn ignored_fields() -> Vec<FieldReason> {
    let whole = lists()
        .into_iter()
        .flat_map(|lists| lists.ignored.iter().copied());
    whole
        .chain(PARTLY.iter().copied())
        .chain(crate::filter::IGNORED.iter().copied())
        .collect()
}

/// All fields that are refused, with their reasons.
pub fn refused_fields() -> Vec<FieldReason> {
    lists()
        .into_iter()
        .flat_map(|lists| lists.refused.iter().copied())
        .collect()
}

fn of<M: Reviewed>() -> Lists {
    Lists {
        message: M::full_name(),
        short: M::SHORT,
        honoured: M::HONOURED,
        ignored: M::IGNORED,
        refused: M::REFUSED,
    }
}

/// The verdicts on every message that has a list of its own.
pub fn lists() -> Vec<Lists> {
    let mut all = vec![
        of::<listeners::Listener>(),
        of::<listeners::FilterChain>(),
        of::<listeners::FilterChainMatch>(),
        of::<manager::HttpConnectionManager>(),
        of::<core::HttpProtocolOptions>(),
        of::<core::Http1ProtocolOptions>(),
        of::<core::Http2ProtocolOptions>(),
        of::<tcp::TcpProxy>(),
        of::<crate::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit>(),
        of::<crate::pb::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit>(),
        of::<crate::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector>(),
        of::<tcp::tcp_proxy::weighted_cluster::ClusterWeight>(),
        of::<tcp::tcp_proxy::TunnelingConfig>(),
        of::<crate::pb::envoy::extensions::upstreams::tcp::v3::TcpProtocolOptions>(),
        of::<crate::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol>(),
        of::<crate::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport>(),
        of::<crate::pb::envoy::extensions::filters::http::router::v3::Router>(),
        of::<routes::RouteConfiguration>(),
        of::<routes::VirtualHost>(),
        of::<routes::Route>(),
        of::<routes::RouteMatch>(),
        of::<routes::RouteAction>(),
        of::<routes::RetryPolicy>(),
        of::<routes::route_action::RequestMirrorPolicy>(),
        of::<routes::HedgePolicy>(),
        of::<routes::WeightedCluster>(),
        of::<routes::weighted_cluster::ClusterWeight>(),
        of::<routes::DirectResponseAction>(),
        of::<routes::RateLimit>(),
        of::<clusters::Cluster>(),
        of::<clusters::cluster::CommonLbConfig>(),
        of::<crate::pb::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin>(),
        of::<crate::pb::envoy::extensions::clusters::dns::v3::DnsCluster>(),
        of::<clusters::circuit_breakers::Thresholds>(),
        of::<clusters::OutlierDetection>(),
        of::<core::HealthCheck>(),
        of::<core::health_check::HttpHealthCheck>(),
        of::<core::health_check::GrpcHealthCheck>(),
        of::<core::health_check::TcpHealthCheck>(),
        of::<core::health_check::TlsOptions>(),
        of::<endpoints::endpoint::HealthCheckConfig>(),
        of::<clusters::UpstreamConnectionOptions>(),
        of::<core::BindConfig>(),
        of::<crate::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions>(),
        of::<endpoints::ClusterLoadAssignment>(),
        of::<endpoints::cluster_load_assignment::Policy>(),
        of::<endpoints::LocalityLbEndpoints>(),
        of::<endpoints::Endpoint>(),
        of::<core::SocketAddress>(),
        of::<tls_api::DownstreamTlsContext>(),
        of::<tls_api::UpstreamTlsContext>(),
        of::<tls_api::CommonTlsContext>(),
        of::<tls_api::TlsParameters>(),
        of::<tls_api::TlsCertificate>(),
        of::<tls_api::CertificateValidationContext>(),
    ];
    all.extend(filter_lists());
    all
}

/// Those on the configurations of HTTP filters and of what they use.
fn filter_lists() -> Vec<Lists> {
    vec![
        of::<filters::fault::v3::HttpFault>(),
        of::<filters::cache::v3::CacheConfig>(),
        of::<filters::compressor::v3::Compressor>(),
        of::<compression::gzip::compressor::v3::Gzip>(),
        of::<compression::brotli::compressor::v3::Brotli>(),
        of::<compression::zstd::compressor::v3::Zstd>(),
        of::<compression::gzip::decompressor::v3::Gzip>(),
        of::<compression::brotli::decompressor::v3::Brotli>(),
        of::<compression::zstd::decompressor::v3::Zstd>(),
        of::<filters::grpc_stats::v3::FilterConfig>(),
        of::<filters::header_mutation::v3::Mutations>(),
        of::<filters::local_ratelimit::v3::LocalRateLimit>(),
        of::<crate::pb::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue>(),
        of::<filters::ext_authz::v3::ExtAuthz>(),
        of::<filters::ext_authz::v3::CheckSettings>(),
        of::<filters::ratelimit::v3::RateLimit>(),
        of::<filters::ratelimit::v3::RateLimitPerRoute>(),
        of::<filters::stateful_session::v3::StatefulSession>(),
        of::<filters::rbac::v3::Rbac>(),
        of::<crate::pb::envoy::extensions::filters::network::rbac::v3::Rbac>(),
        of::<crate::pb::envoy::config::rbac::v3::Rbac>(),
        of::<crate::pb::envoy::config::rbac::v3::Policy>(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_verdict_stands_once_and_has_a_reason() {
        let mut names = HashSet::new();
        for (field, reason) in ignored_fields().into_iter().chain(refused_fields()) {
            assert!(names.insert(field), "{field} stands twice");
            assert!(reason.len() > 10, "{field} has no reason");
        }
        assert!(names.len() > 150, "only {} verdicts", names.len());
    }
}
