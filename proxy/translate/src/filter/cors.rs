//! `envoy.filters.http.cors`: the policies of routes, typed and in their deprecated fields.

use std::sync::Arc;

use remora_model::filter::CorsPolicy;

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use crate::pb::envoy::config::route::v3::{self as route, cors_policy::EnabledSpecifier};
use crate::pb::envoy::extensions::filters::http::cors::v3 as api;
use crate::{matcher, value};

pub(super) const KIND: &str = "envoy.extensions.filters.http.cors.v3.Cors";
pub(super) const POLICY: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
/// The name under which the deprecated fields speak to the filter.
pub(crate) const NAME: &str = "envoy.filters.http.cors";

pub(super) fn policy(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<CorsPolicy>> {
    let said: api::CorsPolicy = extension.decode(work)?;
    translate(work, &said)
}

/// The deprecated `cors` of a virtual host or a route, which has the same fields.
pub(crate) fn deprecated(work: &mut Work<'_, '_>, said: &route::CorsPolicy) -> Option<Arc<CorsPolicy>> {
    let enabled = said
        .enabled_specifier
        .as_ref()
        .map(|EnabledSpecifier::FilterEnabled(enabled)| enabled.clone());
    let said = api::CorsPolicy {
        allow_origin_string_match: said.allow_origin_string_match.clone(),
        allow_methods: said.allow_methods.clone(),
        allow_headers: said.allow_headers.clone(),
        expose_headers: said.expose_headers.clone(),
        max_age: said.max_age.clone(),
        allow_credentials: said.allow_credentials,
        filter_enabled: enabled,
        shadow_enabled: said.shadow_enabled.clone(),
        allow_private_network_access: said.allow_private_network_access,
        forward_not_matching_preflights: said.forward_not_matching_preflights,
    };
    work.at("cors", |work| translate(work, &said))
}

fn translate(work: &mut Work<'_, '_>, said: &api::CorsPolicy) -> Option<Arc<CorsPolicy>> {
    let header = |work: &mut Work<'_, '_>, field: &str, said: &str| {
        value::header_value(work, field, said.as_bytes()).filter(|said| !said.is_empty())
    };
    Some(Arc::new(CorsPolicy {
        allow_origin: work.each(
            "allow_origin_string_match",
            &said.allow_origin_string_match,
            matcher::string,
        ),
        allow_methods: header(work, "allow_methods", &said.allow_methods),
        allow_headers: header(work, "allow_headers", &said.allow_headers),
        expose_headers: header(work, "expose_headers", &said.expose_headers),
        max_age: header(work, "max_age", &said.max_age),
        allow_credentials: said.allow_credentials.map(|said| said.value),
        allow_private_network: said.allow_private_network_access.map(|said| said.value),
        enabled_per_million: share(work, "filter_enabled", said.filter_enabled.as_ref())?,
        shadow_per_million: share(work, "shadow_enabled", said.shadow_enabled.as_ref())?,
        forward_not_matching: said.forward_not_matching_preflights.map(|said| said.value),
    }))
}

/// A runtime fraction by its default; `None` outside: a problem was noted.
fn share(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&RuntimeFractionalPercent>,
) -> Option<Option<u32>> {
    let Some(said) = said else { return Some(None) };
    let Some(default) = &said.default_value else {
        work.wrong_at(field, "expected default_value, found none");
        return None;
    };
    value::per_million(work, field, default).map(Some)
}
