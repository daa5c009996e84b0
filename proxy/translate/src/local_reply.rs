//! `local_reply_config`: how replies of our own look, and formats of bodies.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use remora_model::listener::{LocalReplies, ReplyMapper};
use remora_model::log::{BodyFormat, Format};
use remora_model::route::HeaderMutations;

use crate::access_log::{self, Filtered};
use crate::context::Work;
use crate::pb::envoy::config::core::v3::SubstitutionFormatString;
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3 as api;
use crate::{data_source, header_mutation, value};

pub(crate) fn replies(work: &mut Work<'_, '_>, said: &api::LocalReplyConfig) -> Option<LocalReplies> {
    let mappers = work.each("mappers", &said.mappers, mapper);
    let format = match &said.body_format {
        Some(said) => Some(body_format(work, "body_format", said)?),
        None => None,
    };
    (!mappers.is_empty() || format.is_some()).then_some(LocalReplies { mappers, format })
}

fn mapper(work: &mut Work<'_, '_>, said: &api::ResponseMapper) -> Option<ReplyMapper> {
    let Some(filter) = &said.filter else {
        work.wrong_at("filter", "expected a filter, found none");
        return None;
    };
    let filter = match work.at("filter", |work| access_log::log_filter(work, filter)) {
        Filtered::By(filter) => Some(filter),
        Filtered::Unsupported => {
            work.wrong_at(
                "filter",
                "is not supported: replies told by a filter of this kind",
            );
            None
        }
        Filtered::Wrong => None,
    };
    let status = match said.status_code {
        Some(said) => Some(status(work, said.value)?),
        None => None,
    };
    let body = match &said.body {
        Some(source) => Some(work.at("body", |work| data_source::bytes(work, source, None))?),
        None => None,
    };
    let format = match &said.body_format_override {
        Some(said) => Some(body_format(work, "body_format_override", said)?),
        None => None,
    };
    let add = work.each("headers_to_add", &said.headers_to_add, header_mutation::template);
    Some(ReplyMapper {
        filter: filter?,
        status,
        body: body.map(Bytes::from),
        format,
        headers: HeaderMutations {
            add,
            remove: Vec::new(),
        },
    })
}

fn status(work: &mut Work<'_, '_>, said: u32) -> Option<StatusCode> {
    let status = u16::try_from(said)
        .ok()
        .filter(|status| (200..600).contains(status));
    if status.is_none() {
        work.wrong_at(
            "status_code",
            format!("value must be inside range [200, 600), found {said}"),
        );
    }
    StatusCode::from_u16(status?).ok()
}

/// A format of a body; JSON says that it is JSON, unless it has a type of its own.
pub(crate) fn body_format(
    work: &mut Work<'_, '_>,
    field: &str,
    said: &SubstitutionFormatString,
) -> Option<BodyFormat> {
    let format = access_log::substitution(work, field, said)?;
    let content_type = match (said.content_type.as_str(), &format) {
        ("", Format::Json { .. }) => HeaderValue::from_static("application/json"),
        ("", Format::Text { .. }) => HeaderValue::from_static("text/plain"),
        (own, _) => work.at(field, |work| {
            value::header_value(work, "content_type", own.as_bytes())
        })?,
    };
    Some(BodyFormat { format, content_type })
}
