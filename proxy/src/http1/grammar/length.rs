//! How long is a body? `Content-Length` and `Transfer-Encoding` (RFC 9112 sections 6.1 to 6.3, RFC 9110 section 8.6).
//!
//! Holds: two ways to read a length are a refusal.

use http::{HeaderMap, HeaderValue, StatusCode, Version, header};

use super::head::{Fields, bad, list, refuse};
use super::{Framing, details};
use crate::exchange::HeadError;

/// What the two fields say together; `None` when neither is there. `Content-Length` is made one value.
pub(super) fn framing(fields: &mut Fields, version: Version) -> Result<Option<Framing>, HeadError> {
    if !fields.has_coding {
        if !fields.has_length {
            return Ok(None);
        }
        return content_length(&mut fields.headers).map(|length| Some(Framing::Length(length)));
    }
    // RFC 9112 section 6.1: Transfer-Encoding in an HTTP/1.0 message is a faulty framing.
    if version == Version::HTTP_10 {
        return Err(bad(details::TRANSFER_ENCODING_NOT_ALLOWED));
    }
    if fields.has_length {
        return Err(bad(details::LENGTH_AND_CODING));
    }
    transfer_coding(&fields.headers).map(|()| Some(Framing::Chunked))
}

/// Accepts exactly one `chunked`. Another coding is not understood: 501 (RFC 9112 section 6.1). Chunked twice, or an
/// empty element, is 400 (RFC 9112 section 7).
fn transfer_coding(headers: &HeaderMap) -> Result<(), HeadError> {
    let mut chunked = 0;
    for coding in list(headers, &header::TRANSFER_ENCODING) {
        if coding.is_empty() {
            return Err(bad(details::INVALID_TRANSFER_ENCODING));
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(refuse(
                StatusCode::NOT_IMPLEMENTED,
                details::INVALID_TRANSFER_ENCODING,
            ));
        }
        chunked += 1;
    }
    if chunked == 1 {
        Ok(())
    } else {
        Err(bad(details::INVALID_TRANSFER_ENCODING))
    }
}

/// The one decimal value of all `Content-Length` lines and list elements; more are accepted when they are identical
/// (RFC 9112 section 6.3, item 5).
fn content_length(headers: &mut HeaderMap) -> Result<u64, HeadError> {
    let mut elements = list(headers, &header::CONTENT_LENGTH);
    let first = elements.next().unwrap_or_default();
    let length = decimal(first).ok_or(bad(details::CODEC_ERROR))?;
    let mut repeated = false;
    for element in elements {
        repeated = true;
        if element != first {
            return Err(bad(details::CODEC_ERROR));
        }
    }
    if repeated {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

/// `1*DIGIT` within 64 bits.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}
