//! `envoy.filters.http.ratelimit`, in a chain and at a route.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use remora_model::filter::{Concerns, GlobalRateLimit, RouteFilter, RouteRateLimit};

use super::local_rate_limit::additions;
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::core::v3::{ApiVersion, RuntimeFractionalPercent};
use crate::pb::envoy::config::ratelimit::v3::RateLimitServiceConfig;
use crate::pb::envoy::extensions::filters::http::ratelimit::v3::rate_limit::XRateLimitHeadersRfcVersion;
use crate::pb::envoy::extensions::filters::http::ratelimit::v3::rate_limit_per_route::VhRateLimitsOptions;
use crate::pb::envoy::extensions::filters::http::ratelimit::v3::{self as api, RateLimitPerRoute};
use crate::pb::envoy::r#type::v3::HttpStatus;
use crate::pb::google::protobuf::UInt32Value;
use crate::rate_limits::{self, Place};
use crate::{service, value};

pub(super) const KIND: &str = "envoy.extensions.filters.http.ratelimit.v3.RateLimit";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute";

/// How long the service may take unless the filter says otherwise.
const TIMEOUT: Duration = Duration::from_millis(20);
const NAMESPACE: &str = "envoy.filters.http.ratelimit";

const ALL: u32 = 1_000_000;

pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<GlobalRateLimit>> {
    let said: api::RateLimit = extension.decode(work)?;
    work.review(&said);
    let domain = value::required(work, "domain", &said.domain);
    let stage = value::number_or(
        work,
        "stage",
        Some(&UInt32Value { value: said.stage }),
        0,
        0..=rate_limits::STAGES,
    );
    let headers: XRateLimitHeadersRfcVersion = value::known(
        work,
        "enable_x_ratelimit_headers",
        said.enable_x_ratelimit_headers,
    )?;
    let service = work.at("rate_limit_service", |work| {
        service(work, said.rate_limit_service.as_ref())
    });
    let deny = match &said.failure_mode_deny_percent {
        None if said.failure_mode_deny => ALL,
        None => 0,
        Some(percent) => fraction(work, "failure_mode_deny_percent", percent)?,
    };
    Some(Arc::new(GlobalRateLimit {
        domain: domain?.into(),
        stage: u8::try_from(stage).ok()?,
        concerns: concerns(work, &said.request_type)?,
        timeout: value::duration(work, "timeout", said.timeout.as_ref()).unwrap_or(TIMEOUT),
        deny_per_million: deny,
        enabled_per_million: share(work, "filter_enabled", said.filter_enabled.as_ref())?,
        enforced_per_million: share(work, "filter_enforced", said.filter_enforced.as_ref())?,
        status: status(
            work,
            "rate_limited_status",
            said.rate_limited_status.as_ref(),
            StatusCode::TOO_MANY_REQUESTS,
        )?,
        status_on_error: status(
            work,
            "status_on_error",
            said.status_on_error.as_ref(),
            StatusCode::INTERNAL_SERVER_ERROR,
        )?,
        resource_exhausted: said.rate_limited_as_resource_exhausted,
        tells_clients: headers == XRateLimitHeadersRfcVersion::DraftVersion03,
        tells_limited: !said.disable_x_envoy_ratelimited_header,
        tells_when: said.enable_retry_after_header,
        response_headers: additions(work, "response_headers_to_add", &said.response_headers_to_add),
        rules: rate_limits::rules(work, &said.rate_limits, Place::GlobalFilter),
        stat_prefix: said.stat_prefix.as_str().into(),
        namespace: value::or(&said.metadata_namespace, NAMESPACE).into(),
        service: service?,
    }))
}

pub(super) fn per_route(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<RouteFilter> {
    let said: RateLimitPerRoute = extension.decode(work)?;
    work.review(&said);
    let sharing: VhRateLimitsOptions = value::known(work, "vh_rate_limits", said.vh_rate_limits)?;
    use remora_model::limit::VirtualHostLimits as Limits;
    Some(RouteFilter::GlobalRateLimit(Arc::new(RouteRateLimit {
        virtual_host: match sharing {
            VhRateLimitsOptions::Override => Limits::Override,
            VhRateLimitsOptions::Include => Limits::Include,
            VhRateLimitsOptions::Ignore => Limits::Ignore,
        },
        rules: rate_limits::rules(work, &said.rate_limits, Place::GlobalFilter),
        domain: (!said.domain.is_empty()).then(|| said.domain.as_str().into()),
    })))
}

/// `RateLimitServiceConfig`.
fn service(
    work: &mut Work<'_, '_>,
    said: Option<&RateLimitServiceConfig>,
) -> Option<remora_model::filter::GrpcService> {
    let Some(said) = said else {
        work.wrong("expected a service, found none");
        return None;
    };
    let version: ApiVersion = value::known(work, "transport_api_version", said.transport_api_version)?;
    if version != ApiVersion::V3 {
        work.wrong_at("transport_api_version", "expected V3");
    }
    let Some(grpc) = &said.grpc_service else {
        work.wrong_at("grpc_service", "expected a service, found none");
        return None;
    };
    work.at("grpc_service", |work| service::grpc_service(work, grpc))
}

fn concerns(work: &mut Work<'_, '_>, said: &str) -> Option<Concerns> {
    match said {
        "" | "both" => Some(Concerns::All),
        "internal" => Some(Concerns::Internal),
        "external" => Some(Concerns::External),
        other => {
            let found = format!("expected internal, external or both; found '{other}'");
            work.wrong_at("request_type", found);
            None
        }
    }
}

/// A status of at least 400, else the default; one that is none is a problem.
pub(super) fn status(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&HttpStatus>,
    default: StatusCode,
) -> Option<StatusCode> {
    let Some(said) = said else { return Some(default) };
    let status = u16::try_from(said.code).ok().filter(|code| *code < 600);
    match status.map(|code| StatusCode::from_u16(code).unwrap_or(StatusCode::CONTINUE)) {
        Some(status) if status.as_u16() >= 400 => Some(status),
        Some(_) => Some(default),
        None => {
            work.wrong_at(field, format!("expected a status, found {}", said.code));
            None
        }
    }
}

/// A runtime fraction by its default: everybody where nothing is said.
pub(super) fn share(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&RuntimeFractionalPercent>,
) -> Option<u32> {
    said.map_or(Some(ALL), |said| fraction(work, field, said))
}

fn fraction(work: &mut Work<'_, '_>, field: &str, said: &RuntimeFractionalPercent) -> Option<u32> {
    match &said.default_value {
        Some(default) => value::per_million(work, field, default),
        None => {
            work.wrong_at(field, "expected default_value, found none");
            None
        }
    }
}
