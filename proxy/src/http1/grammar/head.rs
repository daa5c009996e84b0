//! Where does a head end, and which fields does it have?
//!
//! Holds: every line ends with CRLF (RFC 9112 section 2.2 allows a bare LF; taking it lets two parsers disagree), so a
//! head that passed here has one reading; values share the bytes of the head.
//! Does not: know what a field means.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use httparse::Header;

use super::{Limits, details};
use crate::exchange::HeadError;

/// A refusal.
pub(super) const fn refuse(status: StatusCode, details: &'static str) -> HeadError {
    HeadError { status, details }
}

/// A refusal with 400.
pub(super) const fn bad(details: &'static str) -> HeadError {
    refuse(StatusCode::BAD_REQUEST, details)
}

/// Number of bytes of empty lines before a start line, to be skipped (RFC 9112 section 2.2).
pub fn leading_empty_lines(input: &[u8]) -> usize {
    input.chunks_exact(2).take_while(|line| *line == b"\r\n").count() * 2
}

/// The length of the head at the start of `input`, its final empty line included; `None` while it is incomplete.
/// `scanned` remembers what was looked at, so that a head that arrives byte by byte costs linear time.
///
/// # Errors
/// 400 for a line that does not end with CRLF, 431 beyond the limit, 414 when already the first line is beyond it.
pub fn find_end(input: &[u8], scanned: &mut usize, limits: &Limits) -> Result<Option<usize>, HeadError> {
    let window = &input[..input.len().min(limits.max_head_bytes)];
    let from = *scanned;
    for at in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()).map(|i| i + from) {
        match window[..at] {
            [.., b'\n', b'\r'] | [b'\r'] => return Ok(Some(at + 1)),
            [.., b'\r'] => {}
            _ => return Err(bad(details::CODEC_ERROR)),
        }
    }
    *scanned = window.len();
    if input.len() < limits.max_head_bytes {
        return Ok(None);
    }
    // RFC 9112 section 3: a request target longer than the server wishes to parse is answered with 414.
    let status = match memchr::memchr(b'\n', window) {
        Some(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        None => StatusCode::URI_TOO_LONG,
    };
    Err(refuse(status, details::HEADERS_TOO_LARGE))
}

/// Whether the first bytes of an incomplete head can still become a request line (RFC 9112 section 3: a token, then
/// one space), so that another protocol is answered at once and not by a timeout.
///
/// # Errors
/// 400 when they cannot.
pub fn check_start(input: &[u8]) -> Result<(), HeadError> {
    let start = &input[leading_empty_lines(input)..];
    let method = start.iter().take(MAX_METHOD).position(|byte| !is_token(*byte));
    match method.map(|at| (at, start[at])) {
        None if start.len() < MAX_METHOD => Ok(()),
        Some((1.., b' ')) => Ok(()),
        Some((0, b'\r')) if start.len() == 1 => Ok(()),
        _ => Err(bad(details::CODEC_ERROR)),
    }
}

/// A method that is longer than this is none.
const MAX_METHOD: usize = 64;

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Calls `parse` with room for as many fields as the limit allows: on the stack up to 128.
pub(super) fn with_room<'h, T>(
    limits: &Limits,
    parse: impl FnOnce(&mut [MaybeUninit<Header<'h>>]) -> T,
) -> T {
    if limits.max_headers <= 128 {
        parse(&mut [const { MaybeUninit::uninit() }; 128][..limits.max_headers])
    } else {
        parse(&mut vec![MaybeUninit::uninit(); limits.max_headers])
    }
}

/// The refusal for what httparse found.
pub(super) fn refusal(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => refuse(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            details::TOO_MANY_HEADERS,
        ),
        httparse::Error::HeaderValue => bad(details::INVALID_CHARACTERS),
        httparse::Error::Version => refuse(StatusCode::HTTP_VERSION_NOT_SUPPORTED, details::VERSION),
        _ => bad(details::CODEC_ERROR),
    }
}

/// The fields that decide about framing, routing or the connection, noted while all are collected.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Everything but `Host`.
    pub(super) headers: HeaderMap,
    /// `Host`, not validated.
    pub(super) host: Option<Bytes>,
    /// There was more than one `Host`.
    pub(super) two_hosts: bool,
    /// Which of the deciding fields are there.
    pub(super) has_length: bool,
    pub(super) has_coding: bool,
    pub(super) has_connection: bool,
    pub(super) has_upgrade: bool,
    pub(super) has_expect: bool,
}

/// Room for the fields that a proxy adds: a map that grows is built anew.
const OURS: usize = 6;

impl Fields {
    /// Collects parsed fields; values share the bytes of `head`.
    pub(super) fn collect(head: &Bytes, parsed: &[Header<'_>]) -> Result<Self, HeadError> {
        let too_many = |_| {
            refuse(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                details::TOO_MANY_HEADERS,
            )
        };
        let mut fields = Self {
            headers: HeaderMap::try_with_capacity(parsed.len() + OURS).map_err(too_many)?,
            ..Self::default()
        };
        for field in parsed {
            let name =
                HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad(details::CODEC_ERROR))?;
            let value = if field.value.is_empty() {
                Bytes::new()
            } else {
                head.slice_ref(field.value)
            };
            if name == header::HOST {
                fields.two_hosts |= fields.host.replace(value).is_some();
                continue;
            }
            let value =
                HeaderValue::from_maybe_shared(value).map_err(|_| bad(details::INVALID_CHARACTERS))?;
            fields.note(&name);
            fields.headers.try_append(name, value).map_err(too_many)?;
        }
        Ok(fields)
    }

    fn note(&mut self, name: &HeaderName) {
        if *name == header::CONTENT_LENGTH {
            self.has_length = true;
        } else if *name == header::TRANSFER_ENCODING {
            self.has_coding = true;
        } else if *name == header::CONNECTION {
            self.has_connection = true;
        } else if *name == header::UPGRADE {
            self.has_upgrade = true;
        } else if *name == header::EXPECT {
            self.has_expect = true;
        }
    }

    /// What the `Connection` options say (RFC 9112 section 9.3 and RFC 9110 section 7.6.1).
    pub(super) fn connection(&self) -> Connection {
        let mut connection = Connection::default();
        if !self.has_connection {
            return connection;
        }
        for option in list(&self.headers, &header::CONNECTION) {
            let is = |word: &[u8]| option.eq_ignore_ascii_case(word);
            connection.close |= is(b"close");
            connection.keep_alive |= is(b"keep-alive");
            connection.upgrade |= is(b"upgrade");
            connection.forbidden |= is(b"host") || is(b"content-length") || is(b"transfer-encoding");
        }
        connection
    }
}

/// Options of `Connection`.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Connection {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// A field is named whose removal would change where the message goes or where it ends.
    pub(super) forbidden: bool,
}

/// The elements of a comma-separated list over all lines of a field, trimmed; empty elements too.
pub(super) fn list<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}
