//! `*_headers_to_add` and `*_headers_to_remove` of every level.
//!
//! Holds: pseudo-headers and `host` are never touched this way, as in Envoy; a value is a constant unless it has
//! operators.

use std::sync::Arc;

use http::HeaderName;
use remora_model::log::{Format, Piece};
use remora_model::route::{
    AppendAction, HeaderMutationPair, HeaderMutations, HeaderTemplate, HeaderValueTemplate,
};

use crate::access_log::pieces;
use crate::context::Work;
use crate::pb::envoy::config::core::v3::{HeaderValueOption, header_value_option::HeaderAppendAction};
use crate::value;

/// The four lists that every level has.
pub(crate) struct Lists<'a> {
    pub(crate) request_add: &'a [HeaderValueOption],
    pub(crate) request_remove: &'a [String],
    pub(crate) response_add: &'a [HeaderValueOption],
    pub(crate) response_remove: &'a [String],
}

/// The lists of a message that has all four under their usual names.
macro_rules! header_lists {
    ($message:expr) => {
        $crate::header_mutation::Lists {
            request_add: &$message.request_headers_to_add,
            request_remove: &$message.request_headers_to_remove,
            response_add: &$message.response_headers_to_add,
            response_remove: &$message.response_headers_to_remove,
        }
    };
}
pub(crate) use header_lists;

pub(crate) fn pair(work: &mut Work<'_, '_>, lists: &Lists<'_>) -> HeaderMutationPair {
    HeaderMutationPair::new(
        mutations(
            work,
            ("request_headers_to_add", lists.request_add),
            lists.request_remove,
        ),
        HeaderMutations {
            add: work.each("response_headers_to_add", lists.response_add, template),
            remove: work.each("response_headers_to_remove", lists.response_remove, removal),
        },
    )
}

/// Those of requests alone; with the name of the field of additions.
pub(crate) fn mutations(
    work: &mut Work<'_, '_>,
    (field, add): (&str, &[HeaderValueOption]),
    remove: &[String],
) -> HeaderMutations {
    HeaderMutations {
        add: work.each(field, add, template),
        remove: work.each("request_headers_to_remove", remove, removal),
    }
}

fn removal(work: &mut Work<'_, '_>, name: &String) -> Option<HeaderName> {
    if fixed(name) {
        work.wrong(format!(
            ":-prefixed or host headers may not be removed, found '{name}'"
        ));
        return None;
    }
    let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
    if parsed.is_none() {
        work.wrong(format!(
            "expected a header name, found '{}'",
            name.escape_default()
        ));
    }
    parsed
}

fn fixed(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

pub(crate) fn template(work: &mut Work<'_, '_>, said: &HeaderValueOption) -> Option<HeaderTemplate> {
    let Some(header) = &said.header else {
        work.wrong_at("header", "expected a header, found none");
        return None;
    };
    if fixed(&header.key) {
        work.wrong_at(
            "header.key",
            format!(
                ":-prefixed or host headers may not be modified, found '{}'",
                header.key
            ),
        );
        return None;
    }
    let name = value::header_name(work, "header.key", &header.key);
    let template = if header.value.is_empty() && !header.raw_value.is_empty() {
        value::header_value(work, "header.raw_value", &header.raw_value).map(HeaderValueTemplate::Constant)
    } else {
        text(work, "header.value", &header.value)
    };
    let action = match (
        &said.append,
        value::known(work, "append_action", said.append_action)?,
    ) {
        (Some(_), action) if action != HeaderAppendAction::AppendIfExistsOrAdd => {
            work.wrong("Both append and append_action are set and it's not allowed");
            return None;
        }
        (Some(append), _) if !append.value => AppendAction::OverwriteIfExistsOrAdd,
        (_, HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
        (_, HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
        (_, HeaderAppendAction::OverwriteIfExistsOrAdd) => AppendAction::OverwriteIfExistsOrAdd,
        (_, HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
    };
    Some(HeaderTemplate {
        name: name?,
        value: template?,
        action,
        keep_empty: said.keep_empty_value,
    })
}

/// A value with operators, or without.
pub(crate) fn text(work: &mut Work<'_, '_>, field: &str, said: &str) -> Option<HeaderValueTemplate> {
    if !said.contains('%') {
        return value::header_value(work, field, said.as_bytes()).map(HeaderValueTemplate::Constant);
    }
    let pieces = pieces(work, field, said)?;
    let mut literals = String::new();
    for piece in &pieces {
        let Piece::Literal(literal) = piece else {
            return Some(HeaderValueTemplate::Format(Arc::new(Format::Text {
                pieces,
                omit_empty: true,
            })));
        };
        literals.push_str(literal);
    }
    value::header_value(work, field, literals.as_bytes()).map(HeaderValueTemplate::Constant)
}
