//! `HttpProtocolOptions` of a cluster, typed or in the deprecated fields: which HTTP is spoken to its endpoints.

use http::HeaderName;
use remora_model::cluster::{RareSettings, UpstreamHttp, UpstreamProtocol};

use crate::context::Work;
use crate::extension::{Extension, unknown};
use crate::filter;
use crate::http_manager::common_timeouts;
use crate::http_options::{http1, http2};
use crate::pb::envoy::config::cluster::v3::{Cluster, cluster::ClusterProtocolSelection};
use crate::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common, UpstreamHttpProtocolOptions,
};
use crate::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
};
use crate::pb::envoy::extensions::upstreams::tcp::v3::TcpProtocolOptions;
use crate::route_action::hash_policy;
use crate::value;

const TCP: &str = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions";
const TYPED: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What was said, from either place.
#[derive(Default)]
struct Said<'s> {
    protocol: UpstreamProtocol,
    http1: Option<&'s Http1ProtocolOptions>,
    http2: Option<&'s Http2ProtocolOptions>,
    common: Option<&'s Common>,
    upstream: Option<&'s UpstreamHttpProtocolOptions>,
    max_requests: Option<u32>,
}

/// The options, and those that few clusters have.
pub(crate) fn translate(work: &mut Work<'_, '_>, said: &Cluster) -> Option<(UpstreamHttp, RareSettings)> {
    let mut names: Vec<_> = said.typed_extension_protocol_options.iter().collect();
    names.sort_by(|a, b| a.0.cmp(b.0));
    let mut typed = None;
    for (name, any) in names {
        let extension = Extension::open(any);
        work.at(&format!("typed_extension_protocol_options[{name:?}]"), |work| {
            if extension.kind == TYPED {
                typed = Some(extension.decode::<HttpProtocolOptions>(work));
            } else if extension.kind == TCP {
                if let Some(said) = extension.decode::<TcpProtocolOptions>(work) {
                    work.review(&said);
                }
            } else {
                work.wrong(unknown(name, &extension.kind));
            }
        });
    }
    match typed {
        Some(typed) => {
            let typed = typed?;
            work.at(&format!("typed_extension_protocol_options[{TYPED:?}]"), |work| {
                of_typed(work, &typed)
            })
        }
        None => Some((of_deprecated(work, said)?, RareSettings::default())),
    }
}

fn of_typed(work: &mut Work<'_, '_>, said: &HttpProtocolOptions) -> Option<(UpstreamHttp, RareSettings)> {
    work.review(said);
    filter::upstream_filters(work, "http_filters", &said.http_filters);
    let rare = RareSettings {
        hash_policies: work.each("hash_policy", &said.hash_policy, hash_policy),
        server_name_header: said
            .upstream_http_protocol_options
            .as_ref()
            .and_then(|options| server_name_header(work, options)),
    };
    let mut found = Said {
        common: said.common_http_protocol_options.as_ref(),
        upstream: said.upstream_http_protocol_options.as_ref(),
        ..Said::default()
    };
    match &said.upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => match &config.protocol_config {
            Some(ProtocolConfig::HttpProtocolOptions(options)) => found.http1 = Some(options),
            Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                (found.protocol, found.http2) = (UpstreamProtocol::Http2, Some(options));
            }
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                work.wrong_at(
                    "explicit_http_config.http3_protocol_options",
                    "is not supported: HTTP/3",
                );
                return None;
            }
            None => {
                work.wrong_at("explicit_http_config", "expected a protocol, found none");
                return None;
            }
        },
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            found.protocol = UpstreamProtocol::Downstream;
            (found.http1, found.http2) = (
                config.http_protocol_options.as_ref(),
                config.http2_protocol_options.as_ref(),
            );
        }
        Some(UpstreamProtocolOptions::AutoConfig(config)) => {
            found.protocol = UpstreamProtocol::Alpn;
            (found.http1, found.http2) = (
                config.http_protocol_options.as_ref(),
                config.http2_protocol_options.as_ref(),
            );
        }
        None => {
            let expected = "explicit_http_config, use_downstream_protocol_config or auto_config";
            work.wrong(format!("expected {expected}; found none"));
            return None;
        }
    }
    Some((built(work, &found), rare))
}

fn server_name_header(work: &mut Work<'_, '_>, said: &UpstreamHttpProtocolOptions) -> Option<HeaderName> {
    let name = &said.override_auto_sni_header;
    let header = HeaderName::try_from(name.as_str()).ok();
    if header.is_none() && !name.is_empty() {
        let field = "upstream_http_protocol_options.override_auto_sni_header";
        work.wrong_at(field, format!("expected the name of a header, found {name:?}"));
    }
    header
}

fn of_deprecated(work: &mut Work<'_, '_>, said: &Cluster) -> Option<UpstreamHttp> {
    let (http1, http2) = (
        said.http_protocol_options.as_ref(),
        said.http2_protocol_options.as_ref(),
    );
    let protocol = match value::known(work, "protocol_selection", said.protocol_selection)? {
        ClusterProtocolSelection::UseDownstreamProtocol => UpstreamProtocol::Downstream,
        ClusterProtocolSelection::UseConfiguredProtocol if http1.is_some() && http2.is_some() => {
            let rule = "Both HTTP1 and HTTP2 options may only be configured with non-default 'protocol_selection' values";
            work.wrong_at("protocol_selection", rule);
            return None;
        }
        ClusterProtocolSelection::UseConfiguredProtocol if http2.is_some() => UpstreamProtocol::Http2,
        ClusterProtocolSelection::UseConfiguredProtocol => UpstreamProtocol::Http1,
    };
    let found = Said {
        protocol,
        http1,
        http2,
        common: said.common_http_protocol_options.as_ref(),
        upstream: said.upstream_http_protocol_options.as_ref(),
        max_requests: said.max_requests_per_connection.as_ref().map(|max| max.value),
    };
    Some(built(work, &found))
}

fn built(work: &mut Work<'_, '_>, said: &Said<'_>) -> UpstreamHttp {
    let common = said.common.cloned().unwrap_or_default();
    work.at("common_http_protocol_options", |work| work.review(&common));
    let (idle_timeout, connection_duration, stream_duration) = common_timeouts(work, &common);
    let upstream = said.upstream.cloned().unwrap_or_default();
    if upstream.auto_san_validation && !upstream.auto_sni {
        work.wrong_at(
            "upstream_http_protocol_options.auto_san_validation",
            "is not supported without auto_sni: the name that is verified is the name that is sent",
        );
    }
    let max_requests = common
        .max_requests_per_connection
        .as_ref()
        .map(|max| max.value)
        .or(said.max_requests);
    UpstreamHttp {
        protocol: said.protocol,
        http1: http1(work, "http_protocol_options", said.http1),
        http2: http2(work, "http2_protocol_options", said.http2),
        idle_timeout,
        connection_duration,
        stream_duration,
        max_requests_per_connection: max_requests.unwrap_or(0),
        auto_sni: upstream.auto_sni,
        auto_san_validation: upstream.auto_san_validation,
    }
}
