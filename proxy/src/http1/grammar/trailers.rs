//! Reads the trailer section of a chunked message (RFC 9112 section 7.1.2, RFC 9110 section 6.5).

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Limits, head};
use crate::exchange::{HeadError, StreamError};

/// Takes a complete trailer section from the front of `input`; `None` while it is incomplete.
pub(super) fn take(
    input: &mut BytesMut,
    scanned: &mut usize,
    limits: &Limits,
) -> Result<Option<HeaderMap>, StreamError> {
    let refused = |error: HeadError| StreamError::Protocol(error.details);
    let Some(end) = head::find_end(input, scanned, limits).map_err(refused)? else {
        return Ok(None);
    };
    let section = input.split_to(end).freeze();
    if section.len() == 2 {
        return Ok(Some(HeaderMap::new()));
    }
    let mut room = vec![httparse::EMPTY_HEADER; limits.max_headers];
    match httparse::parse_headers(&section, &mut room) {
        Ok(httparse::Status::Complete((_, parsed))) => {
            let mut trailers = HeaderMap::new();
            for field in parsed {
                let name = HeaderName::from_bytes(field.name.as_bytes());
                let value = HeaderValue::from_bytes(field.value);
                let (Ok(name), Ok(value)) = (name, value) else {
                    return Err(StreamError::Protocol(super::details::CODEC_ERROR));
                };
                if !is_forbidden(&name) && trailers.try_append(name, value).is_err() {
                    return Err(StreamError::Protocol(super::details::TOO_MANY_HEADERS));
                }
            }
            Ok(Some(trailers))
        }
        Ok(httparse::Status::Partial) => Err(StreamError::Protocol(super::details::CODEC_ERROR)),
        Err(error) => Err(refused(head::refusal(error))),
    }
}

/// Fields that frame, route, authenticate, control or describe the content, and so must not come after it
/// (RFC 9110 section 6.5.1).
pub(crate) fn is_forbidden(name: &HeaderName) -> bool {
    const FORBIDDEN: [HeaderName; 30] = [
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::HOST,
        header::CONNECTION,
        header::TRAILER,
        header::TE,
        header::UPGRADE,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
        header::AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::WWW_AUTHENTICATE,
        header::COOKIE,
        header::SET_COOKIE,
        header::CACHE_CONTROL,
        header::EXPECT,
        header::MAX_FORWARDS,
        header::PRAGMA,
        header::RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::AGE,
        header::EXPIRES,
        header::LOCATION,
        header::RETRY_AFTER,
    ];
    FORBIDDEN.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
