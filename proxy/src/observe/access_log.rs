//! Which exchanges get a line, and what does it say?
//!
//! Holds: a line is rendered into a buffer that the worker keeps and is copied into its sink's buffer; without an access
//! log nothing of this runs. Text and JSON, absent values and number types read as Envoy's (compared with 1.40).
//! Writes no file: [`super::log_sinks`] does.

use std::cell::RefCell;
use std::fmt::Write;

use http::Method;
use remora_model::log::{
    AccessLog, DEFAULT_FORMAT, Format, JsonNode, LogFilter, Operator, Piece, parse_format,
};
use remora_model::route::{HeaderPredicateName, RequestFacts};

use super::ExchangeRecord;
use super::log_sinks::LogSinks;
use super::values::{Value, Values, write_text};

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Longest line kept as the worker's buffer; a longer one gives its memory back.
const KEPT_LINE: usize = 16 << 10;

/// Writes a line of `record` to each log whose filter accepts it.
pub(super) fn log(sinks: &LogSinks, logs: &[AccessLog], record: &ExchangeRecord) {
    let values = Values::of(record);
    for log in logs {
        if log
            .filter
            .as_ref()
            .is_some_and(|filter| !accepts(filter, &values))
        {
            continue;
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            render(&log.format, &values, line);
            sinks.write(&log.sink, line.as_bytes());
            if line.capacity() > KEPT_LINE {
                *line = String::new();
            }
        });
    }
}

/// Appends the line of a format. A text has no newline but its own, a JSON object ends with one.
pub fn render(format: &Format, values: &Values<'_>, out: &mut String) {
    match format {
        Format::Text { pieces, omit_empty } => write_text(pieces, values, absent(*omit_empty), out),
        Format::Json { root, omit_empty } => {
            if !write_json(root, values, *omit_empty, out) {
                out.push_str("{}");
            }
            out.push('\n');
        }
    }
}

/// Envoy's default line, for logs that say no format.
///
/// # Errors
/// Never: a test shows that the default format is readable.
pub fn default_format() -> Result<Format, remora_model::log::FormatError> {
    Ok(Format::Text {
        pieces: parse_format(DEFAULT_FORMAT)?,
        omit_empty: false,
    })
}

fn absent(omit_empty: bool) -> &'static str {
    if omit_empty { "" } else { "-" }
}

/// Appends a node; false: it is left out and nothing was appended.
fn write_json(node: &JsonNode, values: &Values<'_>, omit_empty: bool, out: &mut String) -> bool {
    match node {
        JsonNode::Object(members) => write_object(members, values, omit_empty, out),
        JsonNode::List(elements) => {
            out.push('[');
            let mut first = true;
            for element in elements {
                let before = out.len();
                if !first {
                    out.push(',');
                }
                if write_json(element, values, omit_empty, out) {
                    first = false;
                } else {
                    out.truncate(before);
                }
            }
            out.push(']');
            true
        }
        JsonNode::Text(pieces) => write_json_text(pieces, values, omit_empty, out),
        JsonNode::Constant(text) => {
            if omit_empty && &**text == "null" {
                return false;
            }
            out.push_str(text);
            true
        }
    }
}

fn write_object(
    members: &[(Box<str>, JsonNode)],
    values: &Values<'_>,
    omit_empty: bool,
    out: &mut String,
) -> bool {
    let begin = out.len();
    out.push('{');
    let mut first = true;
    for (key, node) in members {
        let before = out.len();
        if !first {
            out.push(',');
        }
        write_json_string(key, out);
        out.push(':');
        if write_json(node, values, omit_empty, out) {
            first = false;
        } else {
            out.truncate(before);
        }
    }
    if first && omit_empty {
        out.truncate(begin);
        return false;
    }
    out.push('}');
    true
}

/// A single operator keeps its type; anything else is a string in which absent values read as in a text.
fn write_json_text(pieces: &[Piece], values: &Values<'_>, omit_empty: bool, out: &mut String) -> bool {
    if let [Piece::Value(operator, cut)] = pieces {
        return write_typed(operator, *cut, values, omit_empty, out);
    }
    let mut text = String::new();
    write_text(pieces, values, absent(omit_empty), &mut text);
    write_json_string(&text, out);
    true
}

fn write_typed(
    operator: &Operator,
    cut: Option<usize>,
    values: &Values<'_>,
    omit_empty: bool,
    out: &mut String,
) -> bool {
    match values.value(operator) {
        Value::Absent if omit_empty => return false,
        Value::Absent => out.push_str("null"),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        value => {
            let mut text = String::new();
            value.write(cut, &mut text);
            write_json_string(&text, out);
        }
    }
    true
}

/// Appends `text` as a JSON string (RFC 8259 section 7).
pub(crate) fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Whether the filter wants this exchange logged.
pub fn accepts(filter: &LogFilter, values: &Values<'_>) -> bool {
    let record = values.record;
    match filter {
        LogFilter::Status(comparison) => comparison.holds(record.status.unwrap_or(0).into()),
        LogFilter::Duration(comparison) => {
            let millis = record
                .ended
                .unwrap_or_else(|| record.started.elapsed())
                .as_millis();
            comparison.holds(u64::try_from(millis).unwrap_or(u64::MAX))
        }
        LogFilter::Flags(wanted) => {
            let mut flags = record.flags.iter().filter(|flag| **flag != "-");
            flags.any(|flag| wanted.is_empty() || wanted.iter().any(|candidate| **candidate == **flag))
        }
        LogFilter::Header(header) => {
            if header.name == HeaderPredicateName::Status {
                return header.holds(
                    record
                        .status
                        .map(|status| status.to_string())
                        .as_deref()
                        .map(str::as_bytes),
                );
            }
            let none = http::HeaderMap::new();
            header.matches(&facts(values, values.request_headers.unwrap_or(&none)))
        }
        LogFilter::And(filters) => filters.iter().all(|filter| accepts(filter, values)),
        LogFilter::Or(filters) => filters.iter().any(|filter| accepts(filter, values)),
        // There is no health check filter that would mark an exchange.
        LogFilter::NotHealthCheck => !record.health_check,
    }
}

/// The request as a header matcher sees it.
fn facts<'a>(values: &Values<'a>, headers: &'a http::HeaderMap) -> RequestFacts<'a> {
    static GET: Method = Method::GET;
    let record = values.record;
    let path = record.sent_path.as_ref().or(record.path.as_ref());
    let authority = record.sent_authority.as_ref().or(record.authority.as_ref());
    let tls = record.connection.tls.is_some();
    RequestFacts {
        method: if record.version.is_some() {
            &record.method
        } else {
            &GET
        },
        scheme: record
            .scheme
            .as_ref()
            .map_or(if tls { "https" } else { "http" }, |scheme| scheme.as_str()),
        authority: authority.map_or("", |authority| authority.as_str()),
        path_and_query: path.map_or("", |path| path.as_str()),
        headers,
        certificate: record.connection.certificate(),
        internal: false,
        metadata: record.metadata.as_deref(),
    }
}

#[cfg(test)]
mod tests;
