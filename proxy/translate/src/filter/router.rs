//! `envoy.filters.http.router`, and the filters that would run between it and the upstream.

use super::{HTTP, Outcome, discovered, refuse};
use crate::context::Work;
use crate::extension::{Extension, unknown};
use crate::pb::envoy::extensions::filters::http::router::v3::Router;
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};

pub(crate) const KIND: &str = "envoy.extensions.filters.http.router.v3.Router";
/// The codec is always there; naming it changes nothing.
const CODEC: &str = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";

pub(super) fn check(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Outcome {
    let Some(said) = extension.decode::<Router>(work) else {
        return Outcome::Refused;
    };
    work.review(&said);
    upstream_filters(work, "upstream_http_filters", &said.upstream_http_filters);
    Outcome::Router
}

/// Upstream HTTP filters, of a router or of a cluster: the codec only.
pub(crate) fn upstream_filters(work: &mut Work<'_, '_>, field: &str, said: &[HttpFilter]) {
    work.each(field, said, |work, filter| -> Option<()> {
        match &filter.config_type {
            _ if filter.disabled => work.ignored("HttpFilter.disabled"),
            Some(http_filter::ConfigType::TypedConfig(any)) => {
                let extension = Extension::open(any);
                if extension.kind != CODEC && filter.is_optional {
                    work.ignored("HttpFilter.is_optional");
                } else if extension.kind != CODEC {
                    refuse(work, &filter.name, &extension.kind, HTTP);
                }
            }
            Some(http_filter::ConfigType::ConfigDiscovery(source)) => {
                discovered(work, &filter.name, source);
            }
            None => work.wrong(unknown(&filter.name, "")),
        }
        None
    });
}
