//! `HttpConnectionManager` to [`HttpManager`].
//!
//! Holds: every default is Envoy's; whatever decides who the client is or which route is taken is honoured or refused.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use remora_model::listener::{
    ClientCertificateDetails, Codec, EscapedSlashes, ForwardClientCertificate, HttpLimits, HttpManager,
    HttpTimeouts, Routes, ServerHeader, StripPort, Underscores,
};

use crate::access_log::access_logs;
use crate::bootstrap::extensions::is_tracer;
use crate::context::Work;
use crate::extension::{Extension, unknown};
use crate::http_options::{http1, http2};
use crate::pb::envoy::config::core::v3::{self as core, http_protocol_options::HeadersWithUnderscoresAction};
use crate::pb::envoy::config::trace::v3::{DatadogConfig, ZipkinConfig};
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    self as api, http_connection_manager as inner,
};
use crate::subscription::{SubscriptionKind, subscribe};
use crate::{filter, fingerprint, rare_manager, route, value};

/// Field number of `HttpConnectionManager.route_config`.
const ROUTE_CONFIG: u32 = 4;
/// Envoy's default idle timeout of an HTTP connection.
const CONNECTION_IDLE: Duration = Duration::from_secs(3600);
const STREAM_IDLE: Duration = Duration::from_secs(300);
const DRAIN: Duration = Duration::from_secs(5);
const DELAYED_CLOSE: Duration = Duration::from_secs(1);
const UUID_REQUEST_ID: &str = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig";

pub(crate) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<HttpManager>> {
    let said: api::HttpConnectionManager = extension.decode(work)?;
    work.review(&said);
    let stat_prefix = value::required(work, "stat_prefix", &said.stat_prefix);
    let codec = codec(work, &said);
    let routes = routes(work, &said, extension.bytes().unwrap_or_default());
    let filters = filter::http_filters(work, &said.http_filters);
    let client_certificate_details = client_certificate(work, &said);
    let server_header = server_header(work, &said);
    let server_name = if said.server_name.is_empty() {
        "envoy"
    } else {
        &said.server_name
    };
    let server_name = value::header_value(work, "server_name", server_name.as_bytes());
    let via = value::header_value(work, "via", said.via.as_bytes());
    let strip_port = strip_port(work, &said);
    let escaped_slashes = escaped_slashes(work, &said);
    request_id(work, &said);
    tracing(work, &said);
    let internal_addresses = internal_addresses(work, &said);
    extensions(work, &said);
    let upgrades = upgrades(work, &said);
    let common = said.common_http_protocol_options.unwrap_or_default();
    work.at("common_http_protocol_options", |work| work.review(&common));
    let (timeouts, limits) = (timeouts(work, &said, &common), limits(work, &said, &common));
    Some(Arc::new(HttpManager {
        stat_prefix: stat_prefix?.into(),
        codec: codec?,
        routes: routes?,
        filters,
        buffer_limit: work.buffer_limit,
        use_remote_address: value::bool_or(said.use_remote_address.as_ref(), false),
        trusted_hops: said.xff_num_trusted_hops,
        internal_addresses,
        skip_xff_append: said.skip_xff_append,
        client_certificate_details: client_certificate_details?,
        server_name: server_name?,
        server_header: server_header?,
        generate_request_id: value::bool_or(said.generate_request_id.as_ref(), true),
        preserve_external_request_id: said.preserve_external_request_id,
        always_set_request_id_in_response: said.always_set_request_id_in_response,
        via: via.filter(|via| !via.is_empty()),
        normalize_path: value::bool_or(said.normalize_path.as_ref(), false),
        merge_slashes: said.merge_slashes,
        escaped_slashes: escaped_slashes?,
        strip_trailing_host_dot: said.strip_trailing_host_dot,
        strip_port,
        upgrades,
        timeouts,
        limits: limits?,
        http1: http1(work, "http_protocol_options", said.http_protocol_options.as_ref()),
        http2: http2(
            work,
            "http2_protocol_options",
            said.http2_protocol_options.as_ref(),
        ),
        access_logs: access_logs(work, &said.access_log),
        proxy_100_continue: said.proxy_100_continue,
        rare: rare_manager::translate(work, &said),
    }))
}

fn codec(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) -> Option<Codec> {
    match value::known(work, "codec_type", said.codec_type)? {
        inner::CodecType::Auto => Some(Codec::Auto),
        inner::CodecType::Http1 => Some(Codec::Http1),
        inner::CodecType::Http2 => Some(Codec::Http2),
        inner::CodecType::Http3 => {
            work.wrong_at("codec_type", "is not supported: HTTP3");
            None
        }
    }
}

fn routes(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager, bytes: &[u8]) -> Option<Routes> {
    match &said.route_specifier {
        Some(inner::RouteSpecifier::Rds(rds)) => work.at("rds", |work| {
            let name = value::required(work, "route_config_name", &rds.route_config_name)?;
            let kind = SubscriptionKind::RouteConfiguration;
            subscribe(work, kind, name, "config_source", rds.config_source.as_ref())?;
            Some(Routes::Dynamic(work.context.route_tables.id(name)))
        }),
        Some(inner::RouteSpecifier::RouteConfig(config)) => work.at("route_config", |work| {
            let own = fingerprint::fields(bytes, ROUTE_CONFIG)
                .last()
                .unwrap_or_default();
            work.clusters_must_exist = value::bool_or(config.validate_clusters.as_ref(), true);
            let table = route::table(work, config, own, None);
            work.clusters_must_exist = false;
            table.map(Routes::Inline)
        }),
        Some(inner::RouteSpecifier::ScopedRoutes(_)) => {
            work.wrong_at("scoped_routes", "is not supported: route configurations by scope");
            None
        }
        None => {
            work.wrong("expected one of rds, route_config; found none");
            None
        }
    }
}

fn client_certificate(
    work: &mut Work<'_, '_>,
    said: &api::HttpConnectionManager,
) -> Option<ClientCertificateDetails> {
    use inner::ForwardClientCertDetails as Forward;
    let mode = match value::known(
        work,
        "forward_client_cert_details",
        said.forward_client_cert_details,
    )? {
        Forward::Sanitize => ForwardClientCertificate::Sanitize,
        Forward::ForwardOnly => ForwardClientCertificate::ForwardOnly,
        Forward::AppendForward => ForwardClientCertificate::AppendForward,
        Forward::SanitizeSet => ForwardClientCertificate::SanitizeSet,
        Forward::AlwaysForwardOnly => ForwardClientCertificate::AlwaysForwardOnly,
    };
    let details = said.set_current_client_cert_details.unwrap_or_default();
    work.at("set_current_client_cert_details", |work| {
        if details.format != 0 {
            work.wrong_at("format", "is not supported: x-forwarded-client-cert as JSON");
        }
    });
    Some(ClientCertificateDetails {
        mode,
        subject: value::bool_or(details.subject.as_ref(), false),
        cert: details.cert,
        chain: details.chain,
        dns: details.dns,
        uri: details.uri,
        issuer: details.issuer,
    })
}

fn server_header(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) -> Option<ServerHeader> {
    use inner::ServerHeaderTransformation as Transformation;
    Some(
        match value::known(
            work,
            "server_header_transformation",
            said.server_header_transformation,
        )? {
            Transformation::Overwrite => ServerHeader::Overwrite,
            Transformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
            Transformation::PassThrough => ServerHeader::PassThrough,
        },
    )
}

fn strip_port(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) -> StripPort {
    match (said.strip_matching_host_port, &said.strip_port_mode) {
        (true, Some(inner::StripPortMode::StripAnyHostPort(true))) => {
            work.wrong("Error: Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.");
            StripPort::Never
        }
        (false, Some(inner::StripPortMode::StripAnyHostPort(true))) => StripPort::Any,
        (true, _) => StripPort::Matching,
        (false, _) => StripPort::Never,
    }
}

fn escaped_slashes(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) -> Option<EscapedSlashes> {
    use inner::PathWithEscapedSlashesAction as Action;
    let field = "path_with_escaped_slashes_action";
    Some(
        match value::known(work, field, said.path_with_escaped_slashes_action)? {
            Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::Keep,
            Action::RejectRequest => EscapedSlashes::Reject,
            Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
    )
}

fn request_id(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) {
    let Some(any) = said
        .request_id_extension
        .as_ref()
        .and_then(|extension| extension.typed_config.as_ref())
    else {
        return;
    };
    let kind = Extension::open(any).kind;
    if kind == UUID_REQUEST_ID {
        work.ignored("HttpConnectionManager.request_id_extension");
    } else {
        work.wrong_at("request_id_extension", unknown("", &kind));
    }
}

/// Spans only observe, so a tracer that Envoy knows is left out; one that nobody knows is refused, as in Envoy.
fn tracing(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) {
    use crate::pb::envoy::config::trace::v3::tracing::http::ConfigType;
    let Some(tracing) = &said.tracing else { return };
    work.ignored("HttpConnectionManager.tracing");
    let Some(provider) = &tracing.provider else { return };
    let Some(ConfigType::TypedConfig(any)) = &provider.config_type else {
        work.wrong_at("tracing.provider", unknown(&provider.name, ""));
        return;
    };
    let extension = Extension::open(any);
    work.clusters_must_exist = true;
    match extension.kind.as_str() {
        "envoy.config.trace.v3.ZipkinConfig" => {
            if let Some(zipkin) = extension.decode::<ZipkinConfig>(work) {
                work.expect_cluster("envoy.tracers.zipkin: unknown cluster", &zipkin.collector_cluster);
            }
        }
        "envoy.config.trace.v3.DatadogConfig" => {
            if let Some(datadog) = extension.decode::<DatadogConfig>(work) {
                work.expect_cluster(
                    "envoy.tracers.datadog: unknown cluster",
                    &datadog.collector_cluster,
                );
            }
        }
        kind if is_tracer(kind) => {}
        kind => work.wrong_at("tracing.provider", unknown(&provider.name, kind)),
    }
    work.clusters_must_exist = false;
}

fn upgrades(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) -> Vec<(Box<str>, bool)> {
    let mut upgrades: Vec<(Box<str>, bool)> = Vec::new();
    work.each(
        "upgrade_configs",
        &said.upgrade_configs,
        |work, said| -> Option<()> {
            if !said.filters.is_empty() {
                work.wrong_at(
                    "filters",
                    "is not supported: a filter chain of its own for an upgrade",
                );
            }
            let kind: Box<str> = value::required(work, "upgrade_type", &said.upgrade_type)?
                .to_ascii_lowercase()
                .into();
            if upgrades.iter().any(|(other, _)| *other == kind) {
                work.wrong(format!(
                    "Error: multiple upgrade configs with the same name: '{kind}'"
                ));
                return None;
            }
            upgrades.push((kind, value::bool_or(said.enabled.as_ref(), true)));
            None
        },
    );
    upgrades
}

/// `idle_timeout`, `max_connection_duration` and `max_stream_duration` of `common_http_protocol_options`.
pub(crate) fn common_timeouts(
    work: &mut Work<'_, '_>,
    common: &core::HttpProtocolOptions,
) -> (Option<Duration>, Option<Duration>, Option<Duration>) {
    work.at("common_http_protocol_options", |work| {
        let idle = common.idle_timeout.as_ref();
        (
            value::limit_or(work, "idle_timeout", idle, CONNECTION_IDLE),
            value::limit(
                work,
                "max_connection_duration",
                common.max_connection_duration.as_ref(),
            ),
            value::limit(work, "max_stream_duration", common.max_stream_duration.as_ref()),
        )
    })
}

fn timeouts(
    work: &mut Work<'_, '_>,
    said: &api::HttpConnectionManager,
    common: &core::HttpProtocolOptions,
) -> HttpTimeouts {
    let (connection_idle, connection_duration, stream_duration) = common_timeouts(work, common);
    HttpTimeouts {
        connection_idle,
        connection_duration,
        stream_idle: value::limit_or(
            work,
            "stream_idle_timeout",
            said.stream_idle_timeout.as_ref(),
            STREAM_IDLE,
        ),
        stream_idle_said: said.stream_idle_timeout.is_some(),
        request: value::limit(work, "request_timeout", said.request_timeout.as_ref()),
        request_headers: value::limit(
            work,
            "request_headers_timeout",
            said.request_headers_timeout.as_ref(),
        ),
        stream_duration,
        drain: value::duration(work, "drain_timeout", said.drain_timeout.as_ref()).unwrap_or(DRAIN),
        delayed_close: value::limit_or(
            work,
            "delayed_close_timeout",
            said.delayed_close_timeout.as_ref(),
            DELAYED_CLOSE,
        ),
    }
}

fn limits(
    work: &mut Work<'_, '_>,
    said: &api::HttpConnectionManager,
    common: &core::HttpProtocolOptions,
) -> Option<HttpLimits> {
    let kibibytes = value::number_or(
        work,
        "max_request_headers_kb",
        said.max_request_headers_kb.as_ref(),
        60,
        1..=8192,
    );
    work.at("common_http_protocol_options", |work| {
        let underscores = match value::known(
            work,
            "headers_with_underscores_action",
            common.headers_with_underscores_action,
        )? {
            HeadersWithUnderscoresAction::Allow => Underscores::Allow,
            HeadersWithUnderscoresAction::RejectRequest => Underscores::Reject,
            HeadersWithUnderscoresAction::DropHeader => Underscores::Drop,
        };
        Some(HttpLimits {
            max_head_bytes: kibibytes.min(8192) * 1024,
            max_headers: value::number_or(
                work,
                "max_headers_count",
                common.max_headers_count.as_ref(),
                100,
                1..=u32::MAX,
            ),
            max_requests_per_connection: common
                .max_requests_per_connection
                .as_ref()
                .map_or(0, |max| max.value),
            underscores,
        })
    })
}

/// Extensions that decide something and of which we have none.
fn extensions(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) {
    let families = [
        (
            "original_ip_detection_extensions",
            &said.original_ip_detection_extensions,
            "a source of the client's address",
        ),
        (
            "early_header_mutation_extensions",
            &said.early_header_mutation_extensions,
            "a mutation before the route is chosen",
        ),
    ];
    for (field, extensions, what) in families {
        work.each(field, extensions, |work, said| -> Option<()> {
            refuse_extension(work, what, said);
            None
        });
    }
}

fn refuse_extension(work: &mut Work<'_, '_>, what: &str, said: &core::TypedExtensionConfig) {
    let kind = said.typed_config.as_ref().map(|any| Extension::open(any).kind);
    let kind = kind.unwrap_or_default();
    if kind.starts_with("envoy.extensions.") {
        let name = &said.name;
        work.wrong(format!("is not supported: {what}, '{name}' of type {kind}"));
    } else {
        work.wrong(unknown(&said.name, &kind));
    }
}

/// Ranges of clients that are inside.
fn internal_addresses(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) -> Vec<IpNet> {
    let ranges = said
        .internal_address_config
        .as_ref()
        .map(|internal| &internal.cidr_ranges);
    work.each(
        "internal_address_config.cidr_ranges",
        ranges.into_iter().flatten(),
        value::cidr,
    )
}
