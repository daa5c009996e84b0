//! What a route falls back to: `remora.fallback` in its metadata, an extension of ours.
//!
//! Holds: an unknown field is refused. The decisions of the proxy say what may stand there.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use remora_model::route::{Fallback, FallbackResponse, Stale};

use crate::context::Work;
use crate::filter::quota::{duration, kind, number, only};
use crate::pb::envoy::config::route::v3 as api;
use crate::pb::google::protobuf::{Struct, value::Kind};
use crate::value;

/// Where a route's metadata speaks of it.
const NAME: &str = "remora.fallback";
/// The longest body of a last good answer.
const MAX_BYTES: u32 = 16 << 20;
/// And where nothing is said.
const BYTES: u32 = 1 << 20;

/// What a route falls back to.
pub(crate) fn of_route(work: &mut Work<'_, '_>, said: &api::Route) -> Option<Box<Fallback>> {
    let forwards = matches!(said.action, Some(api::route::Action::Route(_)));
    let said = said.metadata.as_ref()?.filter_metadata.get(NAME)?;
    work.at(&format!("metadata.filter_metadata[{NAME}]"), |work| {
        only(work, said, &["cluster", "stale", "response"]);
        let cluster = text(work, said, "cluster").map(|name| work.routed_cluster("fallback cluster", name));
        let stale = part(work, said, "stale", stale);
        let response = part(work, said, "response", response);
        if said.fields.is_empty() {
            work.wrong("expected one of cluster, stale, response; found none");
        }
        if !forwards {
            work.wrong("expected a route to a cluster, found another action");
        }
        Some(Box::new(Fallback {
            cluster,
            stale,
            response,
        }))
    })
}

fn part<T>(
    work: &mut Work<'_, '_>,
    said: &Struct,
    field: &str,
    read: impl FnOnce(&mut Work<'_, '_>, &Struct) -> Option<T>,
) -> Option<T> {
    match kind(said, field)? {
        Kind::StructValue(said) => work.at(field, |work| read(work, said)),
        _ => {
            work.wrong_at(field, "expected fields, found another value");
            None
        }
    }
}

fn text<'s>(work: &mut Work<'_, '_>, said: &'s Struct, field: &str) -> Option<&'s str> {
    match kind(said, field)? {
        Kind::StringValue(text) if !text.is_empty() => Some(text),
        _ => {
            work.wrong_at(field, "expected a text, found another value");
            None
        }
    }
}

fn stale(work: &mut Work<'_, '_>, said: &Struct) -> Option<Stale> {
    only(work, said, &["max_age", "max_bytes"]);
    let max_age = duration(work, said, "max_age")?;
    let max_bytes = number(work, said, "max_bytes", 1, MAX_BYTES).unwrap_or(BYTES);
    Some(Stale {
        max_age,
        max_bytes: u64::from(max_bytes),
    })
}

fn response(work: &mut Work<'_, '_>, said: &Struct) -> Option<FallbackResponse> {
    only(work, said, &["status", "headers", "body"]);
    let status = number(work, said, "status", 200, 599).unwrap_or(200);
    let mut headers = HeaderMap::new();
    if let Some(Kind::StructValue(fields)) = kind(said, "headers") {
        for name in fields.fields.keys() {
            let value = text(work, fields, name).unwrap_or_default();
            let value = value::header_value(work, name, value.as_bytes());
            let name = value::header_name(work, name, name);
            headers.insert(name?, value?);
        }
    }
    let body = text(work, said, "body").unwrap_or_default().to_owned();
    Some(FallbackResponse {
        status: StatusCode::from_u16(u16::try_from(status).ok()?).ok()?,
        headers,
        body: Bytes::from(body),
    })
}
