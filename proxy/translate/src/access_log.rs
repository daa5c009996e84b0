//! `AccessLog` to [`AccessLog`]: where lines go, what they say, which exchanges get one.
//!
//! Holds: a sink or a filter of a kind that Envoy knows and we do not support drops that one log and is counted: logs
//! observe, they decide nothing. A kind that nobody knows is a problem, as in Envoy.

use std::sync::Arc;

use remora_model::log::{
    AccessLog, Comparison, ComparisonOperator, DEFAULT_FORMAT, Format, FormatError, JsonNode, LogFilter,
    LogSink, Piece, parse_format,
};

use crate::context::Work;
use crate::data_source;
use crate::extension::{Extension, unknown};
use crate::matcher;
use crate::pb::envoy::config::accesslog::v3::{
    self as api, access_log::ConfigType, access_log_filter::FilterSpecifier,
};
use crate::pb::envoy::config::core::v3::{self as core, substitution_format_string};
use crate::pb::envoy::extensions::access_loggers::{file::v3 as file, stream::v3 as stream};
use crate::pb::google::protobuf::{Struct, Value, value::Kind};
use crate::value;

const LOGGERS: &str = "envoy.extensions.access_loggers.";

/// `ResponseFlagFilter.flags`, as Envoy lists them.
const FLAGS: [&str; 30] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX",
    "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR", "UDO",
];

/// All access logs of one place.
pub(crate) fn access_logs(work: &mut Work<'_, '_>, said: &[api::AccessLog]) -> Vec<AccessLog> {
    work.each("access_log", said, access_log)
}

fn access_log(work: &mut Work<'_, '_>, said: &api::AccessLog) -> Option<AccessLog> {
    let filter = match &said.filter {
        None => None,
        Some(filter) => match work.at("filter", |work| log_filter(work, filter)) {
            Filtered::By(filter) => Some(Arc::new(filter)),
            Filtered::Unsupported => {
                work.ignored("AccessLog.filter");
                return None;
            }
            Filtered::Wrong => return None,
        },
    };
    let Some(ConfigType::TypedConfig(any)) = &said.config_type else {
        work.wrong_at("typed_config", "expected a configuration, found none");
        return None;
    };
    let extension = Extension::open(any);
    let (sink, format) = work.at("typed_config", |work| sink(work, &said.name, &extension))?;
    Some(AccessLog {
        sink,
        format: Arc::new(format?),
        filter,
    })
}

type Sink = (LogSink, Option<Format>);

fn sink(work: &mut Work<'_, '_>, name: &str, extension: &Extension<'_>) -> Option<Sink> {
    match extension.kind.strip_prefix(LOGGERS) {
        Some("file.v3.FileAccessLog") => {
            let said: file::FileAccessLog = extension.decode(work)?;
            let path = value::required(work, "path", &said.path)?;
            Some((
                LogSink::File(path.into()),
                file_format(work, said.access_log_format.as_ref()),
            ))
        }
        Some("stream.v3.StdoutAccessLog") => {
            let said: stream::StdoutAccessLog = extension.decode(work)?;
            let stream::stdout_access_log::AccessLogFormat::LogFormat(format) = match said.access_log_format {
                Some(format) => format,
                None => return Some((LogSink::Stdout, default_format(work))),
            };
            Some((LogSink::Stdout, substitution(work, "log_format", &format)))
        }
        Some("stream.v3.StderrAccessLog") => {
            let said: stream::StderrAccessLog = extension.decode(work)?;
            let stream::stderr_access_log::AccessLogFormat::LogFormat(format) = match said.access_log_format {
                Some(format) => format,
                None => return Some((LogSink::Stderr, default_format(work))),
            };
            Some((LogSink::Stderr, substitution(work, "log_format", &format)))
        }
        Some(_) => {
            work.ignored("AccessLog.typed_config");
            None
        }
        None => {
            work.wrong(unknown(name, &extension.kind));
            None
        }
    }
}

fn file_format(
    work: &mut Work<'_, '_>,
    said: Option<&file::file_access_log::AccessLogFormat>,
) -> Option<Format> {
    use file::file_access_log::AccessLogFormat;
    match said {
        None => default_format(work),
        Some(AccessLogFormat::Format(text)) if text.is_empty() => default_format(work),
        Some(AccessLogFormat::Format(text)) => text_format(work, "format", text, false),
        Some(AccessLogFormat::JsonFormat(root)) => json_format(work, "json_format", root, false),
        Some(AccessLogFormat::TypedJsonFormat(root)) => json_format(work, "typed_json_format", root, false),
        Some(AccessLogFormat::LogFormat(format)) => substitution(work, "log_format", format),
    }
}

fn default_format(work: &mut Work<'_, '_>) -> Option<Format> {
    text_format(work, "format", DEFAULT_FORMAT, false)
}

/// A `SubstitutionFormatString`.
pub(crate) fn substitution(
    work: &mut Work<'_, '_>,
    field: &str,
    said: &core::SubstitutionFormatString,
) -> Option<Format> {
    use substitution_format_string::Format as Form;
    if !said.formatters.is_empty() {
        work.ignored("SubstitutionFormatString.formatters");
    }
    work.at(field, |work| match &said.format {
        Some(Form::TextFormat(text)) => text_format(work, "text_format", text, said.omit_empty_values),
        Some(Form::TextFormatSource(source)) => {
            let bytes = work.at("text_format_source", |work| {
                data_source::bytes(work, source, None)
            })?;
            text_format(
                work,
                "text_format_source",
                &String::from_utf8_lossy(&bytes),
                said.omit_empty_values,
            )
        }
        Some(Form::JsonFormat(root)) => json_format(work, "json_format", root, said.omit_empty_values),
        None => {
            work.wrong("expected text_format, json_format or text_format_source; found none");
            None
        }
    })
}

fn text_format(work: &mut Work<'_, '_>, field: &str, text: &str, omit_empty: bool) -> Option<Format> {
    pieces(work, field, text).map(|pieces| Format::Text { pieces, omit_empty })
}

/// The pieces of a text with operators, or a problem in Envoy's words.
pub(crate) fn pieces(work: &mut Work<'_, '_>, field: &str, text: &str) -> Option<Vec<Piece>> {
    let parsed: Result<_, FormatError> = parse_format(text);
    match parsed {
        Ok(pieces) => Some(pieces),
        Err(error) => {
            work.wrong_at(field, error.to_string());
            None
        }
    }
}

fn json_format(work: &mut Work<'_, '_>, field: &str, root: &Struct, omit_empty: bool) -> Option<Format> {
    let root = work.at(field, |work| object(work, root))?;
    Some(Format::Json {
        root: Arc::new(root),
        omit_empty,
    })
}

fn object(work: &mut Work<'_, '_>, said: &Struct) -> Option<JsonNode> {
    let mut keys: Vec<_> = said.fields.iter().collect();
    keys.sort_by(|a, b| a.0.cmp(b.0));
    let members = keys
        .into_iter()
        .map(|(key, value)| Some((Box::from(key.as_str()), node(work, key, value)?)));
    members.collect::<Option<Vec<_>>>().map(JsonNode::Object)
}

fn node(work: &mut Work<'_, '_>, key: &str, said: &Value) -> Option<JsonNode> {
    let constant = |text: String| Some(JsonNode::Constant(text.into()));
    match said.kind.as_ref() {
        Some(Kind::StringValue(text)) => pieces(work, key, text).map(JsonNode::Text),
        Some(Kind::StructValue(inner)) => work.at(key, |work| object(work, inner)),
        Some(Kind::ListValue(list)) => {
            let items = list.values.iter().map(|value| node(work, key, value));
            items.collect::<Option<Vec<_>>>().map(JsonNode::List)
        }
        Some(Kind::NumberValue(number)) => constant(number.to_string()),
        Some(Kind::BoolValue(truth)) => constant(truth.to_string()),
        Some(Kind::NullValue(_)) | None => constant("null".to_owned()),
    }
}

/// What became of a filter.
pub(crate) enum Filtered {
    By(LogFilter),
    Unsupported,
    Wrong,
}

impl From<Option<LogFilter>> for Filtered {
    fn from(filter: Option<LogFilter>) -> Self {
        filter.map_or(Self::Wrong, Self::By)
    }
}

pub(crate) fn log_filter(work: &mut Work<'_, '_>, said: &api::AccessLogFilter) -> Filtered {
    match &said.filter_specifier {
        Some(FilterSpecifier::StatusCodeFilter(filter)) => {
            comparison(work, "status_code_filter", filter.comparison.as_ref())
                .map(LogFilter::Status)
                .into()
        }
        Some(FilterSpecifier::DurationFilter(filter)) => {
            comparison(work, "duration_filter", filter.comparison.as_ref())
                .map(LogFilter::Duration)
                .into()
        }
        Some(FilterSpecifier::NotHealthCheckFilter(_)) => Filtered::By(LogFilter::NotHealthCheck),
        Some(FilterSpecifier::AndFilter(filter)) => {
            several(work, "and_filter", &filter.filters, LogFilter::And)
        }
        Some(FilterSpecifier::OrFilter(filter)) => several(work, "or_filter", &filter.filters, LogFilter::Or),
        Some(FilterSpecifier::HeaderFilter(filter)) => {
            work.at("header_filter", |work| match &filter.header {
                Some(header) => work
                    .at("header", |work| matcher::header(work, header))
                    .map(LogFilter::Header)
                    .into(),
                None => {
                    work.wrong_at("header", "expected a header matcher, found none");
                    Filtered::Wrong
                }
            })
        }
        Some(FilterSpecifier::ResponseFlagFilter(filter)) => {
            let flags = work.each("response_flag_filter.flags", &filter.flags, |work, flag| {
                if !FLAGS.contains(&flag.as_str()) {
                    work.wrong(format!("expected a response flag, found '{flag}'"));
                    return None;
                }
                Some(Box::from(flag.as_str()))
            });
            Filtered::By(LogFilter::Flags(flags))
        }
        Some(
            FilterSpecifier::TraceableFilter(_)
            | FilterSpecifier::RuntimeFilter(_)
            | FilterSpecifier::GrpcStatusFilter(_)
            | FilterSpecifier::ExtensionFilter(_)
            | FilterSpecifier::MetadataFilter(_)
            | FilterSpecifier::LogTypeFilter(_),
        ) => Filtered::Unsupported,
        None => {
            work.wrong("expected a filter, found none");
            Filtered::Wrong
        }
    }
}

fn several(
    work: &mut Work<'_, '_>,
    field: &str,
    said: &[api::AccessLogFilter],
    make: fn(Vec<LogFilter>) -> LogFilter,
) -> Filtered {
    if said.len() < 2 {
        work.wrong_at(
            field,
            format!("expected at least 2 filters, found {}", said.len()),
        );
    }
    let mut unsupported = false;
    let filters = work.each(&format!("{field}.filters"), said, |work, said| {
        match log_filter(work, said) {
            Filtered::By(filter) => Some(filter),
            Filtered::Unsupported => {
                unsupported = true;
                None
            }
            Filtered::Wrong => None,
        }
    });
    if unsupported {
        Filtered::Unsupported
    } else {
        Filtered::By(make(filters))
    }
}

fn comparison(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&api::ComparisonFilter>,
) -> Option<Comparison> {
    use api::comparison_filter::Op;
    work.at(field, |work| {
        let Some(said) = said else {
            work.wrong_at("comparison", "expected a comparison, found none");
            return None;
        };
        let operator = match value::known(work, "comparison.op", said.op)? {
            Op::Eq => ComparisonOperator::Equal,
            Op::Ge => ComparisonOperator::AtLeast,
            Op::Le => ComparisonOperator::AtMost,
            Op::Ne => ComparisonOperator::NotEqual,
        };
        let Some(right) = &said.value else {
            work.wrong_at("comparison.value", "expected a value, found none");
            return None;
        };
        Some(Comparison {
            operator,
            value: u64::from(right.default_value),
        })
    })
}
