//! Heads, trailers and errors between h2 and the shape of `exchange`.
//!
//! Holds: what RFC 9113 sections 8.2 and 8.3 forbid and h2 lets pass is refused here; connection-specific fields never
//! leave.

use bytes::Bytes;
use h2::ext::Protocol;
use http::uri::{self, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};

use super::details;
use crate::exchange::{BodyLength, RequestHead, ResponseHead, StreamError};
use crate::http1::grammar::{length, target};

/// The error of a stream.
pub(super) fn failure(error: h2::Error) -> StreamError {
    let reason = error.reason();
    if let Some(io) = error.get_io() {
        return StreamError::Io(io.kind());
    }
    match reason {
        // h2 gives a GOAWAY of the peer as the error of exactly those streams that the GOAWAY disowns, and of new ones.
        _ if error.is_remote() && error.is_go_away() => StreamError::Refused,
        Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => StreamError::Refused,
        Some(h2::Reason::PROTOCOL_ERROR) if error.is_library() => StreamError::Protocol(details::VIOLATION),
        Some(h2::Reason::ENHANCE_YOUR_CALM) if error.is_library() => StreamError::Protocol(details::FLOOD),
        Some(reason) => StreamError::Reset(reason),
        None => StreamError::Reset(h2::Reason::STREAM_CLOSED),
    }
}

/// How a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is malformed: `RST_STREAM` with `PROTOCOL_ERROR` (RFC 9113 section 8.1.1).
    Malformed,
    /// It has too many fields: 431.
    TooManyFields,
}

/// Reads a request head. `ended` when there is no body.
pub(super) fn request(request: Request<()>, ended: bool, max_headers: usize) -> Result<RequestHead, Refusal> {
    let (parts, ()) = request.into_parts();
    let uri::Parts {
        scheme,
        authority,
        path_and_query,
        ..
    } = parts.uri.into_parts();
    let mut headers = parts.headers;
    check_values(&headers).map_err(|()| Refusal::Malformed)?;
    join_cookies(&mut headers);
    if headers.len() > max_headers {
        return Err(Refusal::TooManyFields);
    }
    let authority = self::authority(authority, &mut headers)?;
    let protocol = parts.extensions.get::<Protocol>();
    let tunnel = parts.method == Method::CONNECT;
    let path = match path_and_query {
        _ if tunnel && protocol.is_none() => uri::PathAndQuery::from_static("/"),
        Some(path) if path == "*" && parts.method == Method::OPTIONS => path,
        Some(path) if path.as_str().starts_with('/') && path.as_str().is_ascii() => path,
        _ => return Err(Refusal::Malformed),
    };
    if scheme
        .as_ref()
        .is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS)
    {
        return Err(Refusal::Malformed);
    }
    if tunnel && authority.is_none() {
        return Err(Refusal::Malformed);
    }
    let body = if tunnel {
        BodyLength::None
    } else {
        body(&headers, ended)
    };
    Ok(RequestHead {
        // RFC 8441: an extended CONNECT is to HTTP/2 what an upgrade of a GET is to HTTP/1.
        method: if protocol.is_some() {
            Method::GET
        } else {
            parts.method
        },
        scheme,
        authority,
        path,
        upgrade: protocol.map(|protocol| protocol.as_str().to_ascii_lowercase().into_boxed_str()),
        expects_continue: body != BodyLength::None && expects_continue(&headers),
        headers,
        version: Version::HTTP_2,
        body,
    })
}

/// `:authority`, else `Host`; both must name the same and be valid (RFC 9113 section 8.3.1).
fn authority(
    pseudo: Option<uri::Authority>,
    headers: &mut HeaderMap,
) -> Result<Option<uri::Authority>, Refusal> {
    if let Some(authority) = &pseudo
        && target::authority(Bytes::copy_from_slice(authority.as_str().as_bytes())).is_none()
    {
        return Err(Refusal::Malformed);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        // None is fine, two are not.
        return if headers.contains_key(header::HOST) {
            Err(Refusal::Malformed)
        } else {
            Ok(pseudo)
        };
    };
    let host = target::authority(Bytes::copy_from_slice(host.as_bytes())).ok_or(Refusal::Malformed)?;
    headers.remove(header::HOST);
    match pseudo {
        Some(authority) if authority != host => Err(Refusal::Malformed),
        _ => Ok(Some(host)),
    }
}

/// RFC 9113 section 8.2.1: a value has no space at either end.
fn check_values(headers: &HeaderMap) -> Result<(), ()> {
    let bad = |value: &HeaderValue| matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    if headers.values().any(bad) {
        Err(())
    } else {
        Ok(())
    }
}

/// RFC 9113 section 8.2.3: crumbs become one value for whoever is not HTTP/2.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(crumbs.join(&b"; "[..]))) {
        headers.insert(header::COOKIE, joined);
    }
}

fn body(headers: &HeaderMap, ended: bool) -> BodyLength {
    if ended {
        return BodyLength::None;
    }
    match headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| length::decimal(value.as_bytes()))
    {
        Some(length) => BodyLength::Exact(length),
        None => BodyLength::Unknown,
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Reads a response head; `switches` when the request was an extended CONNECT or a CONNECT.
pub(super) fn response(
    response: Response<()>,
    ended: bool,
    upgrade: Option<&str>,
) -> Result<ResponseHead, StreamError> {
    let (parts, ()) = response.into_parts();
    // RFC 9113 section 8.6: there is no 101; RFC 9110 section 15: classes are 1 to 5.
    if parts.status == StatusCode::SWITCHING_PROTOCOLS || parts.status.as_u16() > 599 {
        return Err(StreamError::Protocol(details::VIOLATION));
    }
    check_values(&parts.headers).map_err(|()| StreamError::Protocol(details::INVALID_FIELD))?;
    let mut head = ResponseHead {
        status: parts.status,
        body: body(&parts.headers, ended),
        headers: parts.headers,
        version: Version::HTTP_2,
    };
    if let Some(protocol) = upgrade.filter(|_| head.status.is_success()) {
        head.status = StatusCode::SWITCHING_PROTOCOLS;
        head.body = BodyLength::Unknown;
        if let Ok(value) = HeaderValue::from_str(protocol) {
            head.headers.insert(header::UPGRADE, value);
        }
    }
    Ok(head)
}

/// Trailers that were received, without what must not come after the content; `None` when nothing is left.
pub(super) fn trailers(mut trailers: HeaderMap) -> Result<Option<HeaderMap>, StreamError> {
    check_values(&trailers).map_err(|()| StreamError::Protocol(details::INVALID_FIELD))?;
    if trailers.keys().any(crate::http1::grammar::is_forbidden_trailer) {
        let forbidden: Vec<HeaderName> = trailers
            .keys()
            .filter(|name| crate::http1::grammar::is_forbidden_trailer(name))
            .cloned()
            .collect();
        for name in forbidden {
            trailers.remove(name);
        }
    }
    Ok((!trailers.is_empty()).then_some(trailers))
}

/// Writes a response head.
pub(super) fn to_response(head: ResponseHead) -> Response<()> {
    let mut response = Response::new(());
    // An upgrade is answered with 200 (RFC 8441 section 5.1).
    *response.status_mut() = if head.status == StatusCode::SWITCHING_PROTOCOLS {
        StatusCode::OK
    } else {
        head.status
    };
    *response.headers_mut() = head.headers;
    sanitize(response.headers_mut(), head.body);
    response
}

/// Writes a request head.
pub(super) fn to_request(head: RequestHead) -> Result<Request<()>, StreamError> {
    let malformed = |_| StreamError::Protocol(details::VIOLATION);
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    let mut parts = uri::Parts::default();
    if head.method == Method::CONNECT {
        parts.authority = head.authority;
    } else if head.authority.is_some() {
        parts.scheme = Some(head.scheme.unwrap_or(Scheme::HTTP));
        parts.authority = head.authority;
        parts.path_and_query = Some(head.path);
    } else {
        // h2 takes a request without an authority only as one that is passed on from HTTP/1.
        *request.version_mut() = Version::HTTP_11;
        parts.path_and_query = Some(head.path);
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(malformed)?;
    *request.headers_mut() = head.headers;
    sanitize(request.headers_mut(), head.body);
    request.headers_mut().remove(header::HOST);
    keep_te_trailers(request.headers_mut());
    *request.method_mut() = match head.upgrade {
        Some(protocol) => {
            request.extensions_mut().insert(Protocol::from(&*protocol));
            Method::CONNECT
        }
        None => head.method,
    };
    Ok(request)
}

/// RFC 9113 section 8.2.2: connection-specific fields must not leave; the length says what the body is.
fn sanitize(headers: &mut HeaderMap, body: BodyLength) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
    match body {
        BodyLength::Exact(length) if !headers.contains_key(header::CONTENT_LENGTH) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        BodyLength::Unknown => {
            headers.remove(header::CONTENT_LENGTH);
        }
        BodyLength::Exact(_) | BodyLength::None => {}
    }
}

/// RFC 9113 section 8.2.2: of `TE` only `trailers` may pass.
fn keep_te_trailers(headers: &mut HeaderMap) {
    let Some(value) = headers.get(header::TE) else {
        return;
    };
    if value == "trailers" {
        return;
    }
    let listed = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    if headers.get_all(header::TE).iter().any(listed) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(header::TE);
    }
}
