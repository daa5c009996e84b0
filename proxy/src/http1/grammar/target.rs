//! What does a request target mean? The four forms of RFC 9112 section 3.2, and what a host may look like.
//!
//! Holds: a path is ASCII, begins with `/` (or is `*`) and has no fragment; an authority has no userinfo, a host that
//! RFC 3986 section 3.2.2 allows, and a port of digits. HTTP/2's `:path` and `:authority` pass the same two functions.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, StatusCode};

use super::details;
use super::head::{bad, refuse};
use crate::exchange::HeadError;

/// A request target taken apart.
#[derive(Debug)]
pub struct Target {
    /// Of the absolute form.
    pub scheme: Option<Scheme>,
    /// Of the absolute and the authority form.
    pub authority: Option<Authority>,
    /// `/` for the authority form.
    pub path: PathAndQuery,
}

/// Reads a request target.
///
/// # Errors
/// 400 with what is wrong, 414 beyond 64 KiB.
pub fn parse(method: &Method, target: Bytes) -> Result<Target, HeadError> {
    let path_only = |path| Target {
        scheme: None,
        authority: None,
        path,
    };
    if *method == Method::CONNECT {
        // RFC 9112 section 3.2.3; RFC 9110 section 9.3.6: there must be a port.
        let authority = authority(target)
            .filter(has_port)
            .ok_or(bad(details::INVALID_URL))?;
        return Ok(Target {
            scheme: None,
            authority: Some(authority),
            path: PathAndQuery::from_static("/"),
        });
    }
    match &target[..] {
        [b'/', ..] => path(target).map(path_only),
        // RFC 9112 section 3.2.4: the asterisk form is for OPTIONS only.
        b"*" if *method == Method::OPTIONS => Ok(path_only(PathAndQuery::from_static("*"))),
        b"*" => Err(bad(details::INVALID_URL)),
        _ => absolute(method, target),
    }
}

/// The absolute form (RFC 9112 section 3.2.2).
fn absolute(method: &Method, target: Bytes) -> Result<Target, HeadError> {
    let colon = memchr::memmem::find(&target, b"://").ok_or(bad(details::CODEC_ERROR))?;
    let scheme = match &target[..colon] {
        scheme if scheme.eq_ignore_ascii_case(b"http") => Scheme::HTTP,
        scheme if scheme.eq_ignore_ascii_case(b"https") => Scheme::HTTPS,
        _ => return Err(bad(details::INVALID_SCHEME)),
    };
    let rest = target.slice(colon + 3..);
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let authority = authority(rest.slice(..end)).ok_or(bad(details::INVALID_URL))?;
    let path = match &rest[end..] {
        // RFC 9112 section 3.2.4: OPTIONS on an empty path is the asterisk form.
        [] if *method == Method::OPTIONS => PathAndQuery::from_static("*"),
        [] => PathAndQuery::from_static("/"),
        [b'/', ..] => path(rest.slice(end..))?,
        query => path([b"/", query].concat().into())?,
    };
    Ok(Target {
        scheme: Some(scheme),
        authority: Some(authority),
        path,
    })
}

/// A path that begins with `/`, and its query.
///
/// # Errors
/// 400 for a fragment, a byte beyond ASCII or one that no URI has; 414 beyond 64 KiB.
pub fn path(bytes: Bytes) -> Result<PathAndQuery, HeadError> {
    if bytes.len() >= usize::from(u16::MAX) {
        return Err(refuse(StatusCode::URI_TOO_LONG, details::HEADERS_TOO_LARGE));
    }
    if bytes.first() != Some(&b'/') {
        return Err(bad(details::INVALID_URL));
    }
    if !bytes.is_ascii() {
        return Err(bad(details::CODEC_ERROR));
    }
    // A fragment is no part of a request target (RFC 9112 section 3.2); the parser below would drop it silently.
    if memchr::memchr(b'#', &bytes).is_some() {
        return Err(bad(details::PATH_NORMALIZATION));
    }
    PathAndQuery::from_maybe_shared(bytes).map_err(|_| bad(details::CODEC_ERROR))
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2), without userinfo, not empty.
pub fn authority(bytes: Bytes) -> Option<Authority> {
    let host_end = match bytes.first()? {
        b'[' => {
            let end = memchr::memchr(b']', &bytes)?;
            std::str::from_utf8(&bytes[1..end])
                .ok()?
                .parse::<Ipv6Addr>()
                .ok()?;
            end + 1
        }
        _ => {
            let end = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
            (end > 0 && bytes[..end].iter().all(|byte| is_host(*byte))).then_some(end)?
        }
    };
    match &bytes[host_end..] {
        [] | [b':'] => {}
        [b':', port @ ..] if port.len() <= 5 && super::length::decimal(port)? <= 65535 => {}
        _ => return None,
    }
    Authority::from_maybe_shared(bytes).ok()
}

/// `unreserved` and `sub-delims` of RFC 3986; percent-encoding in a host has no use here and is refused.
const fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

fn has_port(authority: &Authority) -> bool {
    authority.port_u16().is_some_and(|port| port > 0)
}
