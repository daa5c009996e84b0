//! Writes heads, chunks and trailers (RFC 9112 sections 3, 4, 5 and 7).
//!
//! Holds: the framing fields come from the message's length and never from its header map; `Connection`, `Keep-Alive`
//! and `Proxy-Connection` are ours; names are lower case because `HeaderName` is.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};

use super::Framing;
use crate::exchange::{BodyLength, RequestHead, ResponseHead};

/// What `Connection` says in a head that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: the version's default is meant.
    Default,
    /// `keep-alive`, for HTTP/1.0.
    KeepAlive,
    /// `close`.
    Close,
}

/// Writes a request head, and says how its body is to be framed.
pub fn request(head: &RequestHead, out: &mut BytesMut) -> Framing {
    let authority = head.authority.as_ref().map_or("", |authority| authority.as_str());
    out.reserve(
        head.method.as_str().len() + head.path.as_str().len() + 2 * authority.len() + size(&head.headers),
    );
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    let target = if head.method == Method::CONNECT {
        authority
    } else {
        head.path.as_str()
    };
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(authority.as_bytes());
    out.extend_from_slice(b"\r\n");
    fields(
        &head.headers,
        |name| *name == header::CONTENT_LENGTH || *name == header::UPGRADE,
        out,
    );
    if let Some(protocol) = &head.upgrade {
        out.extend_from_slice(b"connection: Upgrade\r\nupgrade: ");
        out.extend_from_slice(protocol.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let framing = match head.body {
        BodyLength::Exact(length) => Framing::Length(length),
        BodyLength::Unknown if head.method == Method::CONNECT => Framing::None,
        BodyLength::Unknown => Framing::Chunked,
        BodyLength::None => Framing::None,
    };
    // RFC 9110 section 8.6: a method that gives content a meaning says that there is none.
    let says_zero = framing == Framing::None
        && (matches!(head.method, Method::POST | Method::PUT | Method::PATCH)
            || head.headers.contains_key(header::CONTENT_LENGTH));
    length_field(if says_zero { Framing::Length(0) } else { framing }, out);
    out.extend_from_slice(b"\r\n");
    framing
}

/// How a response to `method` is framed for a client of `version` (RFC 9112 section 6.3).
pub fn response_framing(head: &ResponseHead, method: &Method, version: Version) -> Framing {
    let status = head.status;
    let tunnel = *method == Method::CONNECT && status.is_success();
    if status == StatusCode::SWITCHING_PROTOCOLS || tunnel {
        return Framing::UntilClose;
    }
    if status.is_informational() || matches!(status.as_u16(), 204 | 304) || *method == Method::HEAD {
        return Framing::None;
    }
    match head.body {
        BodyLength::None => Framing::Length(0),
        BodyLength::Exact(length) => Framing::Length(length),
        BodyLength::Unknown if version == Version::HTTP_10 => Framing::UntilClose,
        BodyLength::Unknown => Framing::Chunked,
    }
}

/// Writes a response head for a client of `version`.
pub fn response(
    head: &ResponseHead,
    framing: Framing,
    persistence: Persistence,
    version: Version,
    out: &mut BytesMut,
) {
    let reason = head.status.canonical_reason().unwrap_or("Unknown");
    out.reserve(reason.len() + size(&head.headers));
    out.extend_from_slice(if version == Version::HTTP_10 {
        b"HTTP/1.0 "
    } else {
        b"HTTP/1.1 "
    });
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    // To HEAD and in 304 the length is that of the body that a GET would have had (RFC 9110 section 8.6).
    let keeps_length = framing == Framing::None && !head.status.is_informational() && head.status != 204;
    let omit = |name: &HeaderName| {
        (*name == header::CONTENT_LENGTH && !keeps_length) || (*name == header::UPGRADE && !switching)
    };
    fields(&head.headers, omit, out);
    if switching {
        out.extend_from_slice(b"connection: Upgrade\r\n");
    } else if framing != Framing::UntilClose || persistence == Persistence::Close {
        match head.body {
            BodyLength::Exact(length)
                if keeps_length && !head.headers.contains_key(header::CONTENT_LENGTH) =>
            {
                length_field(Framing::Length(length), out);
            }
            _ => length_field(framing, out),
        }
        match persistence {
            Persistence::Default => {}
            Persistence::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
            Persistence::Close => out.extend_from_slice(b"connection: close\r\n"),
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn length_field(framing: Framing, out: &mut BytesMut) {
    match framing {
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(length, out);
            out.extend_from_slice(b"\r\n");
        }
        Framing::None | Framing::UntilClose => {}
    }
}

/// Room for a map and what we add ourselves.
fn size(headers: &HeaderMap) -> usize {
    let fields: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    fields + 128
}

fn fields(headers: &HeaderMap, omit: impl Fn(&HeaderName) -> bool, out: &mut BytesMut) {
    for (name, value) in headers {
        if *name == header::CONNECTION
            || *name == header::TRANSFER_ENCODING
            || *name == header::HOST
            || omit(name)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        {
            continue;
        }
        field(name, value.as_bytes(), out);
    }
}

fn field(name: &HeaderName, value: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes the line before a chunk of `length` bytes. After the bytes comes [`CHUNK_END`].
pub fn chunk_start(length: usize, out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = [0; 18];
    let mut at = line.len() - 2;
    line[at..].copy_from_slice(b"\r\n");
    let mut rest = length;
    loop {
        at -= 1;
        line[at] = DIGITS[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&line[at..]);
}

/// Ends a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Ends a chunked body with trailers; those that must not come after the content are left out.
pub fn trailers(trailers: &HeaderMap, out: &mut BytesMut) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers
        .iter()
        .filter(|(name, _)| !super::trailers::is_forbidden(name))
    {
        field(name, value.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

fn decimal(value: u64, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
