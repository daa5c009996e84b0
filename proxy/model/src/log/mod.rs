//! What an access log line says, and which exchanges get one. Reading a format string happens here, once; writing the
//! line is the shell's part.

mod field;
mod format;
mod time;

pub use field::Field;
pub use format::{
    DEFAULT_FORMAT, Format, FormatError, GrpcStatusForm, HeaderField, HeaderSource, JsonNode, Operator,
    Piece, parse_format,
};
pub use time::TimePiece;

use std::sync::Arc;

use http::HeaderValue;

use crate::Name;

/// One `envoy.config.accesslog.v3.AccessLog`.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: LogSink,
    /// What a line says.
    pub format: Arc<Format>,
    /// Which exchanges get a line; `None`: all.
    pub filter: Option<Arc<LogFilter>>,
}

/// `SubstitutionFormatString` of a body.
#[derive(Debug, Clone)]
pub struct BodyFormat {
    /// What the body says; `LOCAL_REPLY_BODY` is the body before.
    pub format: Format,
    /// `content_type`, or the one that goes with the format.
    pub content_type: HeaderValue,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogSink {
    /// A file, opened for appending.
    File(Name),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// `AccessLogFilter`.
#[derive(Debug)]
pub enum LogFilter {
    /// `status_code_filter`.
    Status(Comparison),
    /// `duration_filter`, milliseconds.
    Duration(Comparison),
    /// `response_flag_filter`; empty: any flag.
    Flags(Vec<Box<str>>),
    /// `header_filter`.
    Header(crate::route::HeaderMatch),
    /// `and_filter`.
    And(Vec<LogFilter>),
    /// `or_filter`.
    Or(Vec<LogFilter>),
    /// `not_health_check_filter`.
    NotHealthCheck,
}

/// `ComparisonFilter`.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// Operator.
    pub operator: ComparisonOperator,
    /// Right-hand side.
    pub value: u64,
}

/// `ComparisonFilter.Op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComparisonOperator {
    /// `EQ`.
    Equal,
    /// `GE`.
    AtLeast,
    /// `LE`.
    AtMost,
    /// `NE`.
    NotEqual,
}

impl Comparison {
    /// Whether the left-hand side satisfies it.
    pub fn holds(self, left: u64) -> bool {
        match self.operator {
            ComparisonOperator::Equal => left == self.value,
            ComparisonOperator::AtLeast => left >= self.value,
            ComparisonOperator::AtMost => left <= self.value,
            ComparisonOperator::NotEqual => left != self.value,
        }
    }
}
