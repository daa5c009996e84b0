//! The grammar of HTTP/1 messages (RFC 9112) as pure functions over bytes: nothing here reads, writes or waits.
//!
//! Order of use: [`head::find_end`] says where a head ends, [`request::parse`] or [`response::parse`] read it,
//! [`body::Decoder`] reads the body, [`encode`] writes all of it.
//!
//! Holds: any split of the input gives the same result; no input panics; every buffer has a bound in [`Limits`].

pub mod body;
pub mod encode;
pub mod head;
pub mod length;
pub mod request;
pub mod response;
pub mod target;
mod trailers;

pub(crate) use trailers::is_forbidden as is_forbidden_trailer;

#[cfg(test)]
mod tests;

/// Bounds on what a peer may send in one head or trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, start line and final empty line included, and of a trailer section.
    /// `max_request_headers_kb`, Envoy's default 60 KiB.
    pub max_head_bytes: usize,
    /// Fields of a head or trailer section. `max_headers_count`, Envoy's default 100.
    pub max_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head_bytes: 60 << 10,
            max_headers: 100,
        }
    }
}

/// How the end of a message body is known (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// Everything until the peer closes: responses, and both directions after a switch of protocols.
    UntilClose,
}

/// Words of `response_code_details`, as Envoy 1.40 prints them where it refuses the same thing.
pub mod details {
    /// A head that is not HTTP/1.
    pub const CODEC_ERROR: &str = "http1.codec_error";
    /// NUL, CR or another control character in a field value.
    pub const INVALID_CHARACTERS: &str = "http1.invalid_characters";
    /// More fields than allowed.
    pub const TOO_MANY_HEADERS: &str = "http1.too_many_headers";
    /// A head with more bytes than allowed.
    pub const HEADERS_TOO_LARGE: &str = "http1.headers_too_large";
    /// A request target that is no URI.
    pub const INVALID_URL: &str = "http1.invalid_url";
    /// An absolute-form target with a scheme other than http and https.
    pub const INVALID_SCHEME: &str = "http1.invalid_scheme";
    /// `Content-Length` beside `Transfer-Encoding`.
    pub const LENGTH_AND_CODING: &str = "http1.content_length_and_chunked_not_allowed";
    /// A transfer coding other than chunked, or chunked twice.
    pub const INVALID_TRANSFER_ENCODING: &str = "http1.invalid_transfer_encoding";
    /// `Transfer-Encoding` where it must not be.
    pub const TRANSFER_ENCODING_NOT_ALLOWED: &str = "http1.transfer_encoding_not_allowed";
    /// A body where there must be none.
    pub const LENGTH_NOT_ALLOWED: &str = "http1.content_length_not_allowed";
    /// `Connection` names a field that frames or routes the message.
    pub const CONNECTION_REJECTED: &str = "http1.connection_header_rejected";
    /// More body than the head announced.
    pub const BODY_DISALLOWED: &str = "http1.body_disallowed";
    /// No `Host`.
    pub const MISSING_HOST: &str = "missing_host_header";
    /// A `Host` or authority that is none, or more than one.
    pub const INVALID_AUTHORITY: &str = "http.invalid_authority";
    /// A version that is not HTTP/1.0 or HTTP/1.1.
    pub const VERSION: &str = "low_version";
    /// A fragment in the path.
    pub const PATH_NORMALIZATION: &str = "path_normalization_failed";
}
