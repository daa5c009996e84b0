//! `envoy.filters.http.ext_authz`, in a chain and at a route: over gRPC.
//!
//! Holds: what would change who is let in and is not carried out is refused.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use remora_model::Name;
use remora_model::filter::{AskedBody, ExternalAuthorization, RouteAuthorization, RouteFilter};
use remora_model::matching::StringMatcher;

use super::global_rate_limit::{share, status};
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::core::v3::ApiVersion;
use crate::pb::envoy::extensions::filters::http::ext_authz::v3::{
    self as api, ExtAuthzPerRoute, ext_authz::Services, ext_authz_per_route::Override,
};
use crate::pb::envoy::r#type::matcher::v3::ListStringMatcher;
use crate::{matcher, metadata, service, value};

pub(super) const KIND: &str = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute";

/// How long the service may take unless it is said otherwise.
const TIMEOUT: Duration = Duration::from_millis(200);

pub(super) fn translate(
    work: &mut Work<'_, '_>,
    extension: &Extension<'_>,
) -> Option<Arc<ExternalAuthorization>> {
    let said: api::ExtAuthz = extension.decode(work)?;
    work.review(&said);
    let version: ApiVersion = value::known(work, "transport_api_version", said.transport_api_version)?;
    if version != ApiVersion::V3 {
        work.wrong_at("transport_api_version", "expected V3");
    }
    let (service, timeout) = match &said.services {
        Some(Services::GrpcService(grpc)) => work.at("grpc_service", |work| {
            let timeout = value::duration(work, "timeout", grpc.timeout.as_ref());
            Some((service::grpc_service(work, grpc)?, timeout.unwrap_or(TIMEOUT)))
        })?,
        Some(Services::HttpService(_)) => {
            work.wrong_at(
                "http_service",
                "is not supported: authorization over HTTP; use grpc_service",
            );
            return None;
        }
        None => {
            work.wrong("expected grpc_service or http_service, found none");
            return None;
        }
    };
    let error = said.status_on_error.as_ref();
    Some(Arc::new(ExternalAuthorization {
        service,
        timeout,
        failure_allows: said.failure_mode_allow,
        tells_failure: said.failure_mode_allow_header_add,
        body: body(work, said.with_request_body.as_ref())?,
        clear_route_cache: said.clear_route_cache,
        status_on_error: status(work, "status_on_error", error, StatusCode::FORBIDDEN)?,
        validates: said.validate_mutations,
        namespaces: said
            .metadata_context_namespaces
            .iter()
            .map(|name| Name::from(name.as_str()))
            .collect(),
        enabled_per_million: share(work, "filter_enabled", said.filter_enabled.as_ref())?,
        enabled_metadata: match &said.filter_enabled_metadata {
            None => None,
            Some(said) => Some(work.at("filter_enabled_metadata", |work| metadata::matcher(work, said))?),
        },
        denies_disabled: said
            .deny_at_disable
            .as_ref()
            .is_some_and(|said| value::bool_or(said.default_value.as_ref(), false)),
        tells_certificate: said.include_peer_certificate,
        tells_session: said.include_tls_session,
        stat_prefix: said.stat_prefix.as_str().into(),
        allowed: names(work, "allowed_headers", said.allowed_headers.as_ref()),
        disallowed: names(work, "disallowed_headers", said.disallowed_headers.as_ref()),
        takes_metadata: value::bool_or(said.enable_dynamic_metadata_ingestion.as_ref(), true),
    }))
}

/// `BufferSettings`.
#[expect(
    clippy::option_option,
    reason = "outside: no problem was noted; inside: there is a body"
)]
fn body(work: &mut Work<'_, '_>, said: Option<&api::BufferSettings>) -> Option<Option<AskedBody>> {
    let Some(said) = said else { return Some(None) };
    work.at("with_request_body", |work| {
        if said.max_request_bytes == 0 {
            work.wrong_at("max_request_bytes", "expected more than 0, found 0");
        }
        if said.allow_partial_message {
            work.wrong_at(
                "allow_partial_message",
                "is not supported: the beginning of a body",
            );
        }
        Some(Some(AskedBody {
            longest: said.max_request_bytes,
            as_bytes: said.pack_as_bytes,
        }))
    })
}

fn names(work: &mut Work<'_, '_>, field: &str, said: Option<&ListStringMatcher>) -> Vec<StringMatcher> {
    let Some(said) = said else { return Vec::new() };
    work.at(field, |work| {
        if said.patterns.is_empty() {
            work.wrong_at("patterns", "expected at least one matcher, found none");
        }
        work.each("patterns", &said.patterns, matcher::string)
    })
}

pub(super) fn per_route(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<RouteFilter> {
    let said: ExtAuthzPerRoute = extension.decode(work)?;
    let settings = match &said.r#override {
        Some(Override::Disabled(true)) => return Some(RouteFilter::Disabled),
        Some(Override::Disabled(false)) => return Some(RouteFilter::Enabled),
        Some(Override::CheckSettings(settings)) => settings,
        None => {
            work.wrong("expected disabled or check_settings, found none");
            return None;
        }
    };
    work.at("check_settings", |work| {
        work.review(settings);
        if settings.disable_request_body_buffering && settings.with_request_body.is_some() {
            work.wrong("Invalid configuration for check_settings. Only one of disable_request_body_buffering or with_request_body can be set.");
        }
        let mut extensions: Vec<(Name, Name)> = settings
            .context_extensions
            .iter()
            .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
            .collect();
        extensions.sort();
        Some(RouteFilter::ExternalAuthorization(Arc::new(RouteAuthorization {
            extensions,
            without_body: settings.disable_request_body_buffering,
            body: body(work, settings.with_request_body.as_ref())?,
        })))
    })
}
