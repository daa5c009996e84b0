//! `envoy.service.ratelimit.v3`.

use std::time::Duration;

use prost::Message;
use remora_model::limit::{CurrentLimit, Descriptor, DescriptorStatus, LimitAnswer, Unit};

use super::{Garbled, header};
use crate::endpoint;
use crate::pb::envoy::extensions::common::ratelimit::v3::{
    RateLimitDescriptor,
    rate_limit_descriptor::{Entry, RateLimitOverride},
};
use crate::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus as SaidStatus, rate_limit::Unit as SaidUnit,
};
use crate::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use crate::pb::envoy::r#type::v3::RateLimitUnit;
use crate::pb::google::protobuf::UInt64Value;

/// The path of the call.
pub const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What is asked: `RateLimitRequest`. Without hits a request is one.
pub fn limit_request(domain: &str, descriptors: &[Descriptor], hits: u32) -> Vec<u8> {
    let request = RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: descriptors.iter().map(descriptor).collect(),
        hits_addend: hits,
    };
    request.encode_to_vec()
}

fn descriptor(from: &Descriptor) -> RateLimitDescriptor {
    let entries = from.entries.iter().map(|entry| Entry {
        key: entry.key.to_string(),
        value: entry.value.to_string(),
    });
    RateLimitDescriptor {
        entries: entries.collect(),
        limit: from.limit.map(|limit| RateLimitOverride {
            requests_per_unit: limit.requests,
            unit: unit_of_override(limit.unit) as i32,
        }),
        hits_addend: from.hits.map(|value| UInt64Value { value }),
        is_negative_hits: from.gives_back,
    }
}

/// What was answered: `RateLimitResponse`.
///
/// # Errors
/// The bytes are none.
pub fn limit_answer(bytes: &[u8]) -> Result<LimitAnswer, Garbled> {
    let said = RateLimitResponse::decode(bytes).map_err(|error| Garbled {
        message: "RateLimitResponse",
        reason: error.to_string(),
    })?;
    Ok(LimitAnswer {
        over: said.overall_code == Code::OverLimit as i32,
        statuses: said.statuses.iter().map(status).collect(),
        request_headers: said.request_headers_to_add.iter().filter_map(header).collect(),
        response_headers: said.response_headers_to_add.iter().filter_map(header).collect(),
        body: said.raw_body.into(),
        metadata: said
            .dynamic_metadata
            .as_ref()
            .map(endpoint::labels)
            .unwrap_or_default(),
    })
}

fn status(said: &SaidStatus) -> DescriptorStatus {
    let limit = said.current_limit.as_ref().map(|limit| CurrentLimit {
        name: limit.name.as_str().into(),
        requests: limit.requests_per_unit,
        unit: unit(SaidUnit::try_from(limit.unit).unwrap_or(SaidUnit::Unknown)),
    });
    let seconds = said
        .duration_until_reset
        .as_ref()
        .map_or(0, |reset| reset.seconds);
    DescriptorStatus {
        over: said.code == Code::OverLimit as i32,
        limit,
        remaining: said.limit_remaining,
        until_reset: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
    }
}

fn unit(said: SaidUnit) -> Unit {
    match said {
        SaidUnit::Unknown => Unit::Unknown,
        SaidUnit::Second => Unit::Second,
        SaidUnit::Minute => Unit::Minute,
        SaidUnit::Hour => Unit::Hour,
        SaidUnit::Day => Unit::Day,
        SaidUnit::Week => Unit::Week,
        SaidUnit::Month => Unit::Month,
        SaidUnit::Year => Unit::Year,
    }
}

fn unit_of_override(unit: Unit) -> RateLimitUnit {
    match unit {
        Unit::Unknown => RateLimitUnit::Unknown,
        Unit::Second => RateLimitUnit::Second,
        Unit::Minute => RateLimitUnit::Minute,
        Unit::Hour => RateLimitUnit::Hour,
        Unit::Day => RateLimitUnit::Day,
        // `envoy.type.v3.RateLimitUnit` has none, so no override is one.
        Unit::Week => RateLimitUnit::Unknown,
        Unit::Month => RateLimitUnit::Month,
        Unit::Year => RateLimitUnit::Year,
    }
}
