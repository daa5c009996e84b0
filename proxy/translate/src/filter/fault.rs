//! `envoy.filters.http.fault`, in a chain and at a route.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use http::StatusCode;
use remora_model::filter::{AbortKind, Fault, Portion, Trigger};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::extensions::filters::common::fault::v3::{
    FaultDelay, FaultRateLimit, fault_delay::FaultDelaySecifier, fault_rate_limit::LimitType,
};
use crate::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};
use crate::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use crate::{matcher, value};

pub(super) const KIND: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<Fault>> {
    let said: HttpFault = extension.decode(work)?;
    work.review(&said);
    let delay = match &said.delay {
        Some(said) => Some(work.at("delay", |work| delay(work, said))?),
        None => None,
    };
    let abort = match &said.abort {
        Some(said) => Some(work.at("abort", |work| abort(work, said))?),
        None => None,
    };
    let response_limit = match &said.response_rate_limit {
        Some(said) => Some(work.at("response_rate_limit", |work| response_limit(work, said))?),
        None => None,
    };
    Some(Arc::new(Fault {
        delay,
        abort,
        response_limit,
        upstream_cluster: (!said.upstream_cluster.is_empty()).then(|| said.upstream_cluster.as_str().into()),
        headers: work.each("headers", &said.headers, matcher::header),
        downstream_nodes: said
            .downstream_nodes
            .iter()
            .map(|node| node.as_str().into())
            .collect(),
        max_active: said.max_active_faults.as_ref().map(|max| max.value),
        active: AtomicU32::new(0),
    }))
}

fn delay(work: &mut Work<'_, '_>, said: &FaultDelay) -> Option<(Trigger<Duration>, Portion)> {
    let trigger = match &said.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(delay)) => {
            let delay = value::positive(work, "fixed_delay", Some(delay), Duration::ZERO);
            Trigger::Fixed(delay)
        }
        Some(FaultDelaySecifier::HeaderDelay(_)) => Trigger::Header,
        None => {
            work.wrong("expected one of fixed_delay, header_delay; found none");
            return None;
        }
    };
    Some((trigger, portion(work, said.percentage.as_ref())?))
}

fn response_limit(work: &mut Work<'_, '_>, said: &FaultRateLimit) -> Option<(Trigger<u64>, Portion)> {
    let trigger = match &said.limit_type {
        Some(LimitType::FixedLimit(limit)) if limit.limit_kbps == 0 => {
            work.wrong_at("fixed_limit.limit_kbps", "expected a number above 0, found 0");
            return None;
        }
        Some(LimitType::FixedLimit(limit)) => Trigger::Fixed(limit.limit_kbps),
        Some(LimitType::HeaderLimit(_)) => Trigger::Header,
        None => {
            work.wrong("expected one of fixed_limit, header_limit; found none");
            return None;
        }
    };
    Some((trigger, portion(work, said.percentage.as_ref())?))
}

fn abort(work: &mut Work<'_, '_>, said: &FaultAbort) -> Option<(Trigger<AbortKind>, Portion)> {
    let trigger = match &said.error_type {
        Some(ErrorType::HttpStatus(status)) => {
            let known = u16::try_from(*status)
                .ok()
                .filter(|status| (200..600).contains(status));
            let Some(known) = known.and_then(|status| StatusCode::from_u16(status).ok()) else {
                work.wrong_at("http_status", format!("expected 200 to 599, found {status}"));
                return None;
            };
            Trigger::Fixed(AbortKind::Http(known))
        }
        Some(ErrorType::GrpcStatus(status)) => {
            let Ok(status) = u16::try_from(*status) else {
                work.wrong_at("grpc_status", format!("expected a gRPC status, found {status}"));
                return None;
            };
            Trigger::Fixed(AbortKind::Grpc(status))
        }
        Some(ErrorType::HeaderAbort(_)) => Trigger::Header,
        None => {
            work.wrong("expected one of http_status, grpc_status, header_abort; found none");
            return None;
        }
    };
    Some((trigger, portion(work, said.percentage.as_ref())?))
}

/// A share that was not said is none, as in Envoy.
fn portion(work: &mut Work<'_, '_>, said: Option<&FractionalPercent>) -> Option<Portion> {
    let Some(said) = said else {
        return Some(Portion {
            per_million: 0,
            denominator: 100,
        });
    };
    let denominator = match value::known(work, "percentage.denominator", said.denominator)? {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    };
    Some(Portion {
        per_million: value::per_million(work, "percentage", said)?,
        denominator,
    })
}
