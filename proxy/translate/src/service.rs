//! The messages of services that filters ask: what is asked, as bytes, and what the bytes of the answer mean.
//!
//! Holds: what cannot be understood is an error, never half an answer; a header that could not stand in a message is left
//! out. Does not ask anybody: the shell does.

mod authorization;
mod rate_limit;

pub use authorization::{CHECK, Question, Side, authorization, check_request};
pub use rate_limit::{SHOULD_RATE_LIMIT, limit_answer, limit_request};

use http::uri::Authority;
use http::{HeaderName, HeaderValue};
use remora_model::filter::GrpcService;
use remora_model::route::{AppendAction, HeaderTemplate};

use crate::context::Work;
use crate::header_mutation;
use crate::pb::envoy::config::core::v3::{self as core, grpc_service::TargetSpecifier};
use crate::value;

/// The longest answer that is read unless somebody says otherwise, bytes.
const LONGEST: u32 = 1 << 20;

/// A message that is not the one that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not a {message}: {reason}")]
pub struct Garbled {
    message: &'static str,
    reason: String,
}

/// Which service is asked.
pub(crate) fn grpc_service(work: &mut Work<'_, '_>, said: &core::GrpcService) -> Option<GrpcService> {
    if said.retry_policy.is_some() {
        work.ignored("GrpcService.retry_policy");
    }
    let target = match &said.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(target)) => target,
        Some(TargetSpecifier::GoogleGrpc(_)) => {
            work.wrong_at(
                "google_grpc",
                "is not supported: a service without a cluster; use envoy_grpc",
            );
            return None;
        }
        None => {
            work.wrong("expected envoy_grpc, found none");
            return None;
        }
    };
    let metadata = work.each("initial_metadata", &said.initial_metadata, metadata);
    work.at("envoy_grpc", |work| {
        let name = value::required(work, "cluster_name", &target.cluster_name)?;
        let longest = target.max_receive_message_length.as_ref();
        let longest = value::number_or(work, "max_receive_message_length", longest, LONGEST, 0..=u32::MAX);
        let authority = if target.authority.is_empty() {
            authority_of(name)
        } else {
            target.authority.parse().ok()
        };
        if authority.is_none() {
            work.wrong_at("authority", "expected what can stand in :authority");
        }
        Some(GrpcService {
            cluster: work.context.clusters.id(name),
            authority: authority?,
            metadata: metadata.into(),
            skip_own_headers: target.skip_envoy_headers,
            longest: longest as usize,
        })
    })
}

/// The name of a cluster where it can stand in a request, else its host (Istio's `outbound|80||host`), else `localhost`.
fn authority_of(cluster: &str) -> Option<Authority> {
    let host = cluster.rsplit('|').next().unwrap_or_default();
    let named = [cluster, host].into_iter().find_map(|name| name.parse().ok());
    Some(named.unwrap_or(Authority::from_static("localhost")))
}

fn metadata(work: &mut Work<'_, '_>, said: &core::HeaderValue) -> Option<HeaderTemplate> {
    let name = value::header_name(work, "key", &said.key);
    let value = if said.raw_value.is_empty() {
        header_mutation::text(work, "value", &said.value)
    } else {
        let raw = value::header_value(work, "raw_value", &said.raw_value);
        raw.map(remora_model::route::HeaderValueTemplate::Constant)
    };
    Some(HeaderTemplate {
        name: name?,
        value: value?,
        action: AppendAction::AppendIfExistsOrAdd,
        keep_empty: false,
    })
}

/// A header of an answer, if it can stand in a message.
fn header(said: &core::HeaderValue) -> Option<(HeaderName, HeaderValue)> {
    let value = if said.raw_value.is_empty() {
        said.value.as_bytes()
    } else {
        &said.raw_value
    };
    let name = HeaderName::from_bytes(said.key.as_bytes()).ok()?;
    Some((name, HeaderValue::from_bytes(value).ok()?))
}
