//! Envoy's access log language: text with `%OPERATOR(ARGUMENT):LENGTH%`, or a JSON tree of such texts.
//!
//! Reads a format once, into pieces; `%%` is a percent sign, `?` separates a header from its alternative. An operator
//! that Envoy does not know is refused with Envoy's words. Writes nothing.

use std::sync::Arc;

use http::HeaderName;

use super::field::{Field, UNSUPPORTED};
use super::time::{TimePiece, parse_time};

/// A compiled format.
#[derive(Debug, Clone)]
pub enum Format {
    /// `text_format`: pieces in order, no newline added.
    Text {
        /// Pieces.
        pieces: Vec<Piece>,
        /// `omit_empty_values`: absent values print as nothing instead of `-`.
        omit_empty: bool,
    },
    /// `json_format`: one object per line.
    Json {
        /// The object.
        root: Arc<JsonNode>,
        /// `omit_empty_values`: absent values are left out instead of `null`.
        omit_empty: bool,
    },
}

/// A node of a JSON format.
#[derive(Debug, Clone)]
pub enum JsonNode {
    /// Keys in sorted order (as Envoy prints them).
    Object(Vec<(Box<str>, JsonNode)>),
    /// Elements in order.
    List(Vec<JsonNode>),
    /// A string with operators; a single operator keeps its type (numbers stay numbers).
    Text(Vec<Piece>),
    /// A constant number, boolean or null, printed as JSON.
    Constant(Box<str>),
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Printed as it is.
    Literal(Box<str>),
    /// Replaced by its value, cut to this many bytes.
    Value(Operator, Option<usize>),
}

/// Where a header operator looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderSource {
    /// `REQ`.
    Request,
    /// `RESP`.
    Response,
    /// `TRAILER`: the response's trailers.
    Trailer,
}

/// The header that an operator names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderField {
    /// `:method`.
    Method,
    /// `:path`, with its query.
    Path,
    /// `:authority` or `host`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// `:status`.
    Status,
    /// `:protocol` (extended CONNECT).
    Protocol,
    /// A header.
    Header(HeaderName),
}

/// What a value operator prints.
#[derive(Debug, Clone, PartialEq)]
pub enum Operator {
    /// `REQ`, `RESP`, `TRAILER`: a header, else its alternative.
    Header {
        /// Of which message.
        source: HeaderSource,
        /// Which one.
        name: HeaderField,
        /// Used where the first is absent.
        alternative: Option<HeaderField>,
    },
    /// `REQ_WITHOUT_QUERY`: as `REQ`, cut at the query.
    RequestWithoutQuery {
        /// Which one.
        name: HeaderField,
        /// Used where the first is absent.
        alternative: Option<HeaderField>,
    },
    /// `START_TIME`: pieces of a time format; empty: ISO 8601 with milliseconds, UTC.
    StartTime(Vec<TimePiece>),
    /// `DYNAMIC_METADATA(namespace:key:...)`.
    DynamicMetadata(Vec<Box<str>>),
    /// `CLUSTER_METADATA(namespace:key:...)`.
    ClusterMetadata(Vec<Box<str>>),
    /// `UPSTREAM_METADATA(namespace:key:...)`.
    UpstreamMetadata(Vec<Box<str>>),
    /// `FILTER_STATE(key:PLAIN)`, or `TYPED`, which is JSON.
    FilterState {
        /// Which object.
        key: Box<str>,
        /// As it is, not as JSON.
        plain: bool,
    },
    /// `ENVIRONMENT(name)`.
    Environment(Box<str>),
    /// `GRPC_STATUS(format)`: `CAMEL_STRING` (default), `SNAKE_STRING`, `NUMBER`.
    GrpcStatus(GrpcStatusForm),
    /// `RESPONSE_FLAGS`.
    ResponseFlags,
    /// `RESPONSE_FLAGS_LONG`.
    ResponseFlagsLong,
    /// An operator without an argument.
    Plain(Field),
    /// One that Envoy knows and we do not (yet): prints as an absent value.
    Unsupported(Box<str>),
}

/// How `GRPC_STATUS` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GrpcStatusForm {
    /// `DeadlineExceeded`.
    #[default]
    Camel,
    /// `DEADLINE_EXCEEDED`.
    Snake,
    /// `4`.
    Number,
}

/// Envoy's default access log line.
pub const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% ",
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" ",
    "\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n",
);

/// What is wrong with a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A `%` that begins no operator.
    #[error("Incorrect configuration: {format}. Couldn't find valid command at position {position}")]
    NoCommand {
        /// The whole format.
        format: String,
        /// Byte position of the `%`.
        position: usize,
    },
    /// An operator that does not exist.
    #[error("Not supported field in StreamInfo: {0}")]
    Unknown(String),
    /// An argument or length where none may be.
    #[error("{0} does not take any parameters or length")]
    NoParameters(String),
    /// A missing argument.
    #[error("{0} requires parameters")]
    NeedsParameters(String),
    /// A length where none may be.
    #[error("{0} does not allow length to be specified.")]
    NoLength(String),
    /// More than one `?`.
    #[error("More than 1 alternative header specified in token: {0}")]
    Alternatives(String),
    /// Not a header name.
    #[error("Invalid header configuration. Format string contains invalid characters.")]
    HeaderName,
    /// A newline in a time format.
    #[error("Invalid header configuration. Format string contains newline.")]
    Newline,
    /// `FILTER_STATE` in an unknown form.
    #[error("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.")]
    FilterState,
    /// `GRPC_STATUS` in an unknown form.
    #[error("GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER.")]
    GrpcStatus,
}

/// Reads a format. Adjacent literals are one piece; an empty format has no pieces.
///
/// # Errors
/// What is wrong with it, in Envoy's words.
pub fn parse_format(format: &str) -> Result<Vec<Piece>, FormatError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        literal.push_str(&rest[..percent]);
        rest = &rest[percent..];
        if let Some(after) = rest.strip_prefix("%%") {
            literal.push('%');
            rest = after;
            continue;
        }
        let position = format.len() - rest.len();
        let command = Command::read(rest).ok_or_else(|| FormatError::NoCommand {
            format: format.into(),
            position,
        })?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
        }
        rest = &rest[command.length..];
        pieces.push(Piece::Value(command.operator()?, command.cut));
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal.into()));
    }
    Ok(pieces)
}

/// One `%NAME(ARGUMENT):CUT%`.
struct Command<'f> {
    name: &'f str,
    argument: Option<&'f str>,
    cut: Option<usize>,
    /// Bytes from `%` to `%`.
    length: usize,
}

impl<'f> Command<'f> {
    /// The command that begins at this `%`.
    fn read(text: &'f str) -> Option<Self> {
        let mut rest = text.get(1..)?;
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let name = &rest[..rest.find(|c| !is_name(c))?];
        rest = &rest[name.len()..];
        let mut argument = None;
        if let Some(open) = rest.strip_prefix('(') {
            let (inside, after) = open.split_once(')')?;
            (argument, rest) = (Some(inside), after);
        }
        let mut cut = None;
        if let Some(after) = rest.strip_prefix(':') {
            let (digits, _) = after.split_once('%')?;
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            cut = Some(digits.parse().ok()?);
            rest = &after[digits.len()..];
        }
        rest = rest.strip_prefix('%')?;
        (!name.is_empty()).then_some(Self {
            name,
            argument,
            cut,
            length: text.len() - rest.len(),
        })
    }

    fn operator(&self) -> Result<Operator, FormatError> {
        let operator = match self.name {
            "REQ" => self.header(HeaderSource::Request)?,
            "RESP" => self.header(HeaderSource::Response)?,
            "TRAILER" => self.header(HeaderSource::Trailer)?,
            "REQ_WITHOUT_QUERY" => {
                let (name, alternative) = self.header_fields()?;
                Operator::RequestWithoutQuery { name, alternative }
            }
            "START_TIME" => {
                self.without_cut()?;
                Operator::StartTime(
                    parse_time(self.argument.unwrap_or_default()).ok_or(FormatError::Newline)?,
                )
            }
            "DYNAMIC_METADATA" => Operator::DynamicMetadata(self.path()?),
            "CLUSTER_METADATA" => Operator::ClusterMetadata(self.path()?),
            "UPSTREAM_METADATA" => Operator::UpstreamMetadata(self.path()?),
            "FILTER_STATE" => self.filter_state()?,
            "ENVIRONMENT" => Operator::Environment(self.required()?.into()),
            "GRPC_STATUS" => {
                self.without_cut()?;
                Operator::GrpcStatus(GrpcStatusForm::named(self.argument.unwrap_or_default())?)
            }
            "RESPONSE_FLAGS" => self.alone(Operator::ResponseFlags)?,
            "RESPONSE_FLAGS_LONG" => self.alone(Operator::ResponseFlagsLong)?,
            "REQUESTED_SERVER_NAME" => Operator::Plain(Field::RequestedServerName),
            "RESPONSE_CODE_DETAILS" => Operator::Plain(Field::ResponseCodeDetails),
            name if UNSUPPORTED.contains(&name) => Operator::Unsupported(name.into()),
            name => {
                let field = Field::named(name).ok_or_else(|| FormatError::Unknown(name.into()))?;
                self.alone(Operator::Plain(field))?
            }
        };
        Ok(operator)
    }

    /// `key:FORM`; a field of an object is one that none of ours has.
    fn filter_state(&self) -> Result<Operator, FormatError> {
        let mut parts = self.required()?.splitn(3, ':');
        let key = parts.next().unwrap_or_default().into();
        match parts.next() {
            None | Some("" | "TYPED") => Ok(Operator::FilterState { key, plain: false }),
            Some("PLAIN") => Ok(Operator::FilterState { key, plain: true }),
            Some("FIELD") => Ok(Operator::Unsupported("FILTER_STATE".into())),
            Some(_) => Err(FormatError::FilterState),
        }
    }

    fn alone(&self, operator: Operator) -> Result<Operator, FormatError> {
        if self.argument.is_some_and(|argument| !argument.is_empty()) || self.cut.is_some() {
            return Err(FormatError::NoParameters(self.name.into()));
        }
        Ok(operator)
    }

    fn without_cut(&self) -> Result<(), FormatError> {
        self.cut
            .map_or(Ok(()), |_| Err(FormatError::NoLength(self.name.into())))
    }

    fn required(&self) -> Result<&'f str, FormatError> {
        match self.argument {
            None | Some("") => Err(FormatError::NeedsParameters(self.name.into())),
            Some(argument) => Ok(argument),
        }
    }

    fn path(&self) -> Result<Vec<Box<str>>, FormatError> {
        Ok(self.required()?.split(':').map(Into::into).collect())
    }

    fn header(&self, source: HeaderSource) -> Result<Operator, FormatError> {
        let (name, alternative) = self.header_fields()?;
        Ok(Operator::Header {
            source,
            name,
            alternative,
        })
    }

    fn header_fields(&self) -> Result<(HeaderField, Option<HeaderField>), FormatError> {
        let argument = self.required()?;
        let (name, alternative) = match argument.split_once('?') {
            Some((_, rest)) if rest.contains('?') => return Err(FormatError::Alternatives(argument.into())),
            Some((name, alternative)) => (name, Some(alternative)),
            None => (argument, None),
        };
        Ok((
            HeaderField::named(name)?,
            alternative.map(HeaderField::named).transpose()?,
        ))
    }
}

impl GrpcStatusForm {
    fn named(name: &str) -> Result<Self, FormatError> {
        match name {
            "" | "CAMEL_STRING" => Ok(Self::Camel),
            "SNAKE_STRING" => Ok(Self::Snake),
            "NUMBER" => Ok(Self::Number),
            _ => Err(FormatError::GrpcStatus),
        }
    }
}

impl HeaderField {
    fn named(name: &str) -> Result<Self, FormatError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":authority" | "host" => Self::Authority,
            ":scheme" => Self::Scheme,
            ":status" => Self::Status,
            ":protocol" => Self::Protocol,
            name => Self::Header(HeaderName::try_from(name).map_err(|_| FormatError::HeaderName)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: HeaderField, alternative: Option<HeaderField>, cut: Option<usize>) -> Piece {
        Piece::Value(
            Operator::Header {
                source: HeaderSource::Request,
                name,
                alternative,
            },
            cut,
        )
    }

    #[test]
    fn pieces_follow_the_text() {
        let path = HeaderField::Header(HeaderName::from_static("x-path"));
        let expected = [
            Piece::Literal("100% ".into()),
            request(path, Some(HeaderField::Path), Some(7)),
            Piece::Literal(" ".into()),
            Piece::Value(Operator::Plain(Field::ResponseCode), None),
            Piece::Literal("\n".into()),
        ];
        assert_eq!(
            parse_format("100%% %REQ(X-PATH?:PATH):7% %RESPONSE_CODE%\n"),
            Ok(expected.into())
        );
        assert_eq!(parse_format(""), Ok(vec![]));
    }

    #[test]
    fn what_envoy_knows_and_we_do_not_is_no_error() {
        let unsupported = Piece::Value(Operator::Unsupported("CEL".into()), None);
        assert_eq!(parse_format("%CEL(request.path)%"), Ok(vec![unsupported]));
        let server_name = Piece::Value(Operator::Plain(Field::RequestedServerName), None);
        assert_eq!(
            parse_format("%REQUESTED_SERVER_NAME(SNI_FIRST)%"),
            Ok(vec![server_name])
        );
    }

    #[test]
    fn the_default_line_is_understood() {
        let pieces = parse_format(DEFAULT_FORMAT).unwrap();
        assert_eq!(
            pieces
                .iter()
                .filter(|piece| matches!(piece, Piece::Value(..)))
                .count(),
            15
        );
    }

    #[test]
    fn arguments_are_read() {
        let metadata = Operator::DynamicMetadata(vec!["com.a".into(), "k".into()]);
        assert_eq!(
            parse_format("%DYNAMIC_METADATA(com.a:k)%"),
            Ok(vec![Piece::Value(metadata, None)])
        );
        let pieces = parse_format("%START_TIME(%Y %3f)%").unwrap();
        let [Piece::Value(Operator::StartTime(time), None)] = &pieces[..] else {
            panic!("{pieces:?}")
        };
        assert_eq!(time.len(), 3);
    }

    #[test]
    fn what_is_wrong_is_said_in_envoys_words() {
        for (format, message) in [
            ("a %UNKNOWN%", "Not supported field in StreamInfo: UNKNOWN"),
            (
                "a %lower%",
                "Incorrect configuration: a %lower%. Couldn't find valid command at position 2",
            ),
            (
                "50%",
                "Incorrect configuration: 50%. Couldn't find valid command at position 2",
            ),
            (
                "%REQ(a%",
                "Incorrect configuration: %REQ(a%. Couldn't find valid command at position 0",
            ),
            ("%REQ%", "REQ requires parameters"),
            (
                "%REQ(a?b?c)%",
                "More than 1 alternative header specified in token: a?b?c",
            ),
            ("%PROTOCOL(x)%", "PROTOCOL does not take any parameters or length"),
            (
                "%GRPC_STATUS:3%",
                "GRPC_STATUS does not allow length to be specified.",
            ),
            (
                "%START_TIME(%Y):3%",
                "START_TIME does not allow length to be specified.",
            ),
        ] {
            assert_eq!(parse_format(format).unwrap_err().to_string(), message);
        }
    }
}
