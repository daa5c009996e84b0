//! Reads a request head (RFC 9112 sections 3, 5 and 6).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};

use super::head::{self, Connection, Fields, bad};
use super::{Framing, Limits, details, length, target};
use crate::exchange::{BodyLength, HeadError, RequestHead};

/// A request head, and what it says about its connection.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// Where the body ends; never until close.
    pub framing: Framing,
    /// The client wants to send another request afterwards.
    pub keep_alive: bool,
}

/// Reads one complete head, as [`head::find_end`] found it.
///
/// # Errors
/// The status and the words to refuse it with; the connection cannot be used further.
pub fn parse(head: Bytes, limits: &Limits) -> Result<Request, HeadError> {
    let (method, target, version, mut fields) = head::with_room(limits, |room| split(&head, room))?;
    let target = target::parse(&method, target)?;
    let authority = authority(&mut fields, target.authority, version)?;
    let framing = length::framing(&mut fields, version)?.unwrap_or(Framing::None);
    // RFC 9110 section 9.3.6: a CONNECT request has no content; what follows it is the tunnel.
    if method == Method::CONNECT && !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(bad(details::LENGTH_NOT_ALLOWED));
    }
    let connection = fields.connection();
    if connection.forbidden {
        return Err(bad(details::CONNECTION_REJECTED));
    }
    let body = match framing {
        Framing::None | Framing::Length(0) => BodyLength::None,
        Framing::Length(length) => BodyLength::Exact(length),
        Framing::Chunked | Framing::UntilClose => BodyLength::Unknown,
    };
    // RFC 9112 section 9.3.
    let keep_alive = !connection.close && (version == Version::HTTP_11 || connection.keep_alive);
    let expects_continue =
        fields.has_expect && version == Version::HTTP_11 && expects_continue(&fields.headers);
    Ok(Request {
        head: RequestHead {
            method,
            scheme: target.scheme,
            authority,
            path: target.path,
            version,
            body,
            upgrade: upgrade(&fields, connection, version),
            expects_continue: expects_continue && body != BodyLength::None,
            headers: fields.headers,
        },
        framing,
        keep_alive,
    })
}

fn split<'h>(
    head: &'h Bytes,
    room: &mut [MaybeUninit<httparse::Header<'h>>],
) -> Result<(Method, Bytes, Version, Fields), HeadError> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, room) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(bad(details::CODEC_ERROR)),
        Err(httparse::Error::Version) if !names_a_version(head) => return Err(bad(details::CODEC_ERROR)),
        Err(error) => return Err(head::refusal(error)),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(bad(details::CODEC_ERROR));
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad(details::CODEC_ERROR))?;
    let version = if version == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    Ok((
        method,
        head.slice_ref(target.as_bytes()),
        version,
        Fields::collect(head, request.headers)?,
    ))
}

/// Whether the start line ends with `HTTP/` digit `.` digit: a version, only not ours (505, not 400).
fn names_a_version(head: &[u8]) -> bool {
    let line = &head[..memchr::memchr(b'\r', head).unwrap_or(0)];
    matches!(line, [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit() && !matches!((major, minor), (b'1', b'0' | b'1')))
}

/// The authority: of the target if it has one, else `Host`, which must be there exactly once and valid in any case
/// (RFC 9112 sections 3.2 and 3.2.2).
fn authority(
    fields: &mut Fields,
    of_target: Option<http::uri::Authority>,
    version: Version,
) -> Result<Option<http::uri::Authority>, HeadError> {
    if fields.two_hosts {
        return Err(bad(details::INVALID_AUTHORITY));
    }
    let Some(host) = fields.host.take() else {
        return match version {
            Version::HTTP_10 => Ok(of_target),
            _ => Err(bad(details::MISSING_HOST)),
        };
    };
    let host = target::authority(host).ok_or(bad(details::INVALID_AUTHORITY))?;
    Ok(of_target.or(Some(host)))
}

/// The protocol asked for by `Upgrade`, which counts only when `Connection` names it (RFC 9110 section 7.8) and never
/// in HTTP/1.0. `h2c` is obsolete (RFC 9113 section 3.1) and ignored.
fn upgrade(fields: &Fields, connection: Connection, version: Version) -> Option<Box<str>> {
    if !fields.has_upgrade || !connection.upgrade || version != Version::HTTP_11 {
        return None;
    }
    let token = fields
        .headers
        .get(header::UPGRADE)?
        .to_str()
        .ok()?
        .to_ascii_lowercase();
    (token != "h2c" && !token.is_empty()).then(|| token.into_boxed_str())
}

/// RFC 9110 section 10.1.1.
fn expects_continue(headers: &HeaderMap) -> bool {
    head::list(headers, &header::EXPECT).any(|expectation| expectation.eq_ignore_ascii_case(b"100-continue"))
}

/// The refusal of a head that did not arrive in time (RFC 9110 section 15.5.9).
pub const TIMED_OUT: HeadError = HeadError {
    status: StatusCode::REQUEST_TIMEOUT,
    details: "request_header_timeout",
};
