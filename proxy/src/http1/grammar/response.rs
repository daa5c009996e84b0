//! Reads a response head (RFC 9112 sections 4, 5 and 6).
//!
//! Holds: what cannot be read in one way is a [`StreamError::Protocol`]; it never reaches a client.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{StatusCode, Version};

use super::head::{self, Fields, bad};
use super::{Framing, Limits, details, length};
use crate::exchange::{BodyLength, HeadError, ResponseHead, StreamError};

/// What of the request decides how its response is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: no body whatever the head says.
    Head,
    /// CONNECT: 2xx is a tunnel.
    Connect,
    /// An upgrade: 101 switches the protocol.
    Upgrade,
    /// Anything else.
    Other,
}

/// A response head, and what it says about its connection.
#[derive(Debug)]
pub struct Response {
    /// The head.
    pub head: ResponseHead,
    /// Where the body ends.
    pub framing: Framing,
    /// The connection may carry another request afterwards.
    pub keep_alive: bool,
    /// The connection now carries another protocol: raw bytes in both directions.
    pub switched: bool,
}

/// Reads one complete head, as [`head::find_end`] found it.
///
/// # Errors
/// [`StreamError::Protocol`] with the word for it.
pub fn parse(head: Bytes, asked: Asked, limits: &Limits) -> Result<Response, StreamError> {
    let refused = |error: HeadError| StreamError::Protocol(error.details);
    let (status, version, mut fields) =
        head::with_room(limits, |room| split(&head, room)).map_err(refused)?;
    let declared = length::framing(&mut fields, version).map_err(refused)?;
    let switched = match status {
        StatusCode::SWITCHING_PROTOCOLS if asked != Asked::Upgrade => {
            return Err(StreamError::Protocol(details::CODEC_ERROR));
        }
        StatusCode::SWITCHING_PROTOCOLS => true,
        status => asked == Asked::Connect && status.is_success(),
    };
    let (framing, body) = framing(status, asked, switched, declared);
    let connection = fields.connection();
    let persistent = !connection.close && (version == Version::HTTP_11 || connection.keep_alive);
    Ok(Response {
        head: ResponseHead {
            status,
            headers: fields.headers,
            body,
            version,
        },
        framing,
        keep_alive: persistent && framing != Framing::UntilClose,
        switched,
    })
}

/// Whether the first bytes of an incomplete head can still become a status line of HTTP/1.
///
/// # Errors
/// [`StreamError::Protocol`] when they cannot: HTTP/0.9, another protocol, or empty lines.
pub fn check_start(input: &[u8]) -> Result<(), StreamError> {
    const START: &[u8] = b"HTTP/1.";
    let length = input.len().min(START.len());
    if input[..length] == START[..length] {
        Ok(())
    } else {
        Err(StreamError::Protocol(details::CODEC_ERROR))
    }
}

fn split<'h>(
    head: &'h Bytes,
    room: &mut [MaybeUninit<httparse::Header<'h>>],
) -> Result<(StatusCode, Version, Fields), HeadError> {
    let mut response = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, room) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(bad(details::CODEC_ERROR)),
        Err(error) => return Err(head::refusal(error)),
    }
    let (Some(code), Some(version)) = (response.code, response.version) else {
        return Err(bad(details::CODEC_ERROR));
    };
    // RFC 9110 section 15: the first digit is a class from 1 to 5.
    let status = match code {
        100..=599 => StatusCode::from_u16(code).map_err(|_| bad(details::CODEC_ERROR))?,
        _ => return Err(bad(details::CODEC_ERROR)),
    };
    let version = if version == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    // `Host` has no meaning in a response: what was collected of it is dropped.
    Ok((status, version, Fields::collect(head, response.headers)?))
}

/// RFC 9112 section 6.3, in its order.
fn framing(
    status: StatusCode,
    asked: Asked,
    switched: bool,
    declared: Option<Framing>,
) -> (Framing, BodyLength) {
    if switched {
        return (Framing::UntilClose, BodyLength::Unknown);
    }
    let bodiless = status.is_informational() || matches!(status.as_u16(), 204 | 304);
    if bodiless || asked == Asked::Head {
        return (Framing::None, BodyLength::None);
    }
    match declared {
        Some(Framing::Length(0)) => (Framing::None, BodyLength::None),
        Some(Framing::Length(length)) => (Framing::Length(length), BodyLength::Exact(length)),
        Some(framing) => (framing, BodyLength::Unknown),
        None => (Framing::UntilClose, BodyLength::Unknown),
    }
}
