//! Allowances of ours (`remora.filters.http.Quota`), in a chain and at a route: windows, a queue, so many at a time.
//!
//! The configuration is a `TypedStruct` of type URL `remora.dev/remora.filters.http.Quota`; the decisions of the proxy say
//! what may stand in it. Holds: an unknown field is refused; equal settings keep what was taken of them.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use remora_model::filter::{ByDescriptor, Quota, QuotaSettings};
use remora_model::limit::{Queue, Window, WindowKind};

use super::local_rate_limit::Known;
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::google::protobuf::{Struct, value::Kind};

pub(super) const KIND: &str = "remora.filters.http.Quota";
/// The longest that a request may wait in a queue.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<Quota>> {
    let Some(said) = extension.free() else {
        work.wrong("expected a TypedStruct, found a message");
        return None;
    };
    let settings = settings(work, said)?;
    let known = work.claim_limit(|known| match known {
        Known::Quota(quota) if quota.settings == settings => Some(Arc::clone(quota)),
        _ => None,
    });
    Some(known.unwrap_or_else(|| Arc::new(Quota::new(settings))))
}

fn settings(work: &mut Work<'_, '_>, said: &Struct) -> Option<QuotaSettings> {
    let fields = [
        "stat_prefix",
        "status",
        "windows",
        "queue",
        "max_concurrent",
        "by_descriptor",
    ];
    only(work, said, &fields);
    let Some(Kind::StringValue(stat_prefix)) = kind(said, "stat_prefix") else {
        work.wrong_at("stat_prefix", "expected a text, found none");
        return None;
    };
    let status = number(work, said, "status", 400, 599).unwrap_or(429);
    let windows = match kind(said, "windows") {
        Some(Kind::ListValue(list)) => work.each("windows", &list.values, |work, value| match &value.kind {
            Some(Kind::StructValue(said)) => window(work, said),
            _ => {
                work.wrong("expected a window, found another value");
                None
            }
        }),
        _ => Vec::new(),
    };
    let queue = match kind(said, "queue") {
        Some(Kind::StructValue(said)) => Some(work.at("queue", |work| queue(work, said))?),
        _ => None,
    };
    let max_concurrent = number(work, said, "max_concurrent", 1, u32::MAX);
    let by_descriptor = match kind(said, "by_descriptor") {
        Some(Kind::StructValue(said)) => work.at("by_descriptor", |work| {
            only(work, said, &["stage", "max_keys"]);
            let stage = number(work, said, "stage", 0, crate::rate_limits::STAGES).unwrap_or(0);
            Some(ByDescriptor {
                stage: u8::try_from(stage).ok()?,
                max_keys: number(work, said, "max_keys", 1, 1 << 20).unwrap_or(1000) as usize,
            })
        }),
        _ => None,
    };
    if windows.is_empty() && queue.is_none() && max_concurrent.is_none() {
        work.wrong("expected one of windows, queue, max_concurrent; found none");
    }
    Some(QuotaSettings {
        stat_prefix: stat_prefix.as_str().into(),
        status: StatusCode::from_u16(u16::try_from(status).ok()?).ok()?,
        windows,
        queue,
        max_concurrent: max_concurrent.map(u64::from),
        by_descriptor,
    })
}

fn window(work: &mut Work<'_, '_>, said: &Struct) -> Option<Window> {
    only(work, said, &["limit", "per", "kind"]);
    let limit = required(work, said, "limit", 0)?;
    let per = duration(work, said, "per")?;
    let kind = match kind(said, "kind") {
        None => WindowKind::Fixed,
        Some(Kind::StringValue(word)) if word == "fixed" => WindowKind::Fixed,
        Some(Kind::StringValue(word)) if word == "sliding" => WindowKind::Sliding,
        Some(_) => {
            work.wrong_at("kind", "expected fixed or sliding, found another value");
            return None;
        }
    };
    Some(Window { limit, per, kind })
}

fn queue(work: &mut Work<'_, '_>, said: &Struct) -> Option<Queue> {
    only(work, said, &["interval", "length"]);
    let interval = duration(work, said, "interval")?;
    let length = required(work, said, "length", 0)?;
    if interval.saturating_mul(length) > LONGEST_WAIT {
        work.wrong(format!("expected a queue of at most {LONGEST_WAIT:?}"));
        return None;
    }
    Some(Queue { interval, length })
}

/// Refuses every other field.
pub(crate) fn only(work: &mut Work<'_, '_>, said: &Struct, fields: &[&str]) {
    let mut unknown: Vec<&String> = said.fields.keys().collect();
    unknown.retain(|name| !fields.contains(&name.as_str()));
    unknown.sort();
    for name in unknown {
        work.wrong_at(name, "is not supported: no such field");
    }
}

pub(crate) fn kind<'s>(said: &'s Struct, field: &str) -> Option<&'s Kind> {
    said.fields.get(field)?.kind.as_ref()
}

fn required(work: &mut Work<'_, '_>, said: &Struct, field: &str, least: u32) -> Option<u32> {
    if !said.fields.contains_key(field) {
        work.wrong_at(field, "expected a number, found none");
    }
    number(work, said, field, least, u32::MAX)
}

/// A whole number in a range; `None` where nothing was said or a problem was noted.
pub(crate) fn number(
    work: &mut Work<'_, '_>,
    said: &Struct,
    field: &str,
    least: u32,
    most: u32,
) -> Option<u32> {
    let kind = kind(said, field)?;
    match kind {
        Kind::NumberValue(number)
            if number.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(number) =>
        {
            Some(*number as u32)
        }
        _ => {
            work.wrong_at(field, format!("expected a whole number from {least} to {most}"));
            None
        }
    }
}

/// A duration above zero, as `1.5s`.
pub(crate) fn duration(work: &mut Work<'_, '_>, said: &Struct, field: &str) -> Option<Duration> {
    let seconds = match kind(said, field) {
        Some(Kind::StringValue(text)) => text.strip_suffix('s').and_then(|text| text.parse().ok()),
        _ => None,
    };
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let duration = duration.filter(|duration| *duration >= Duration::from_micros(1));
    if duration.is_none() {
        work.wrong_at(field, "expected a duration above 0, such as 1.5s");
    }
    duration
}
