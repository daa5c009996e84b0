//! Envoy's rate limit service.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit, rate_limit::Unit,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::Duration;
use serde_json::{Value as Json, json};
use tonic::{Request, Response, Status};

use super::{Asked, head_of, header, metadata};

/// The service. Words of a script: `over`, `error`, `never`, `headers`, `typed`, `body`, `statuses`, `metadata`.
#[derive(Debug)]
pub(super) struct Limits(pub(super) Arc<Asked>);

#[tonic::async_trait]
impl RateLimitService for Limits {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let mut call = head_of(&request);
        let said = request.into_inner();
        let entries = said.descriptors.iter().flat_map(|descriptor| &descriptor.entries);
        let script = entries
            .filter(|entry| entry.key == "script")
            .map(|entry| entry.value.clone())
            .next()
            .unwrap_or_default();
        let says = |word: &str| script.split(' ').any(|said| said == word);
        if says("never") {
            std::future::pending::<()>().await;
        }
        call["domain"] = said.domain.as_str().into();
        call["hits"] = said.hits_addend.into();
        call["descriptors"] = said.descriptors.iter().map(descriptor).collect();
        self.0.note(call);
        if says("error") {
            return Err(Status::unavailable("as the script says"));
        }
        let mut answer = RateLimitResponse {
            overall_code: if says("over") { Code::OverLimit } else { Code::Ok } as i32,
            ..RateLimitResponse::default()
        };
        if says("headers") {
            answer.response_headers_to_add = vec![header("x-told", "one"), header("X-Told", "two")];
            answer.request_headers_to_add = vec![header("x-passed", "by the service")];
        }
        if says("typed") {
            answer
                .response_headers_to_add
                .push(header("content-type", "application/json"));
        }
        if says("body") {
            answer.raw_body = b"{\"why\": \"too much\"}".to_vec();
        }
        if says("statuses") {
            answer.statuses = statuses(says("over"));
        }
        if says("metadata") {
            answer.dynamic_metadata = Some(metadata());
        }
        Ok(Response::new(answer))
    }
}

fn statuses(over: bool) -> Vec<DescriptorStatus> {
    let limit = |name: &str, requests: u32, unit: Unit| {
        Some(RateLimit {
            name: name.to_owned(),
            requests_per_unit: requests,
            unit: unit as i32,
        })
    };
    let after = |seconds| Some(Duration { seconds, nanos: 5 });
    let status = |limit, remaining, reset| DescriptorStatus {
        code: if over { Code::OverLimit } else { Code::Ok } as i32,
        current_limit: limit,
        limit_remaining: remaining,
        duration_until_reset: after(reset),
        ..DescriptorStatus::default()
    };
    vec![
        status(limit("", 100, Unit::Hour), 40, 90),
        status(limit("first", 5, Unit::Minute), 2, 30),
        status(limit("second", 5, Unit::Week), 2, 60),
        status(None, 0, 7),
    ]
}

fn descriptor(said: &RateLimitDescriptor) -> Json {
    let entries: Vec<[&str; 2]> = said
        .entries
        .iter()
        .map(|entry| [entry.key.as_str(), &entry.value])
        .collect();
    json!({
        "entries": entries,
        "limit": said.limit.as_ref().map(|limit| [limit.requests_per_unit as i64, limit.unit.into()]),
        "hits": said.hits_addend.as_ref().map(|hits| hits.value),
        "gives_back": said.is_negative_hits,
    })
}
