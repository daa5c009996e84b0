//! Replies that the proxy makes itself: failures, redirects, direct responses.
//!
//! Holds: a gRPC client gets its error as `grpc-status` in a 200 (gRPC over HTTP/2, "Responses"); a HEAD gets no body;
//! a request body that was not read leaves the connection closed or drained by the codec.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::filters::{self, OnResponse, Responding};
use crate::exchange::{BodyLength, Downstream, ResponseHead, StreamError};
use crate::failure::{Failure, Timer, grpc_status};
use crate::observe::ExchangeRecord;

/// Says that a circuit breaker refused a request.
pub const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// gRPC's status of a deadline that is over.
const DEADLINE_EXCEEDED: u16 = 4;

/// A complete reply.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers beyond content type and length.
    pub headers: HeaderMap,
    /// Body, `text/plain`.
    pub body: Bytes,
    /// How the client wants to read it.
    pub reader: Reader,
}

/// How a client reads a reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reader {
    /// By its status and body.
    #[default]
    Http,
    /// As gRPC: by `grpc-status`, this one where the reply's own status does not decide.
    Grpc(Option<u16>),
}

impl Reader {
    /// Of a request with these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        if is_grpc(headers) {
            Self::Grpc(None)
        } else {
            Self::Http
        }
    }
}

impl Reply {
    /// The reply to a failure, as an HTTP client reads it, and as a gRPC client does.
    pub fn to_failure(failure: &Failure, grpc: bool, retried: bool) -> Self {
        let said = failure.said();
        let said = if retried { said.after_retries() } else { said };
        let mut headers = HeaderMap::new();
        if matches!(failure, Failure::Overflow(_)) {
            headers.insert(OVERLOADED, HeaderValue::from_static("true"));
        }
        let mut as_grpc = None;
        let mut body = Bytes::from(said.body.into_owned());
        if let Failure::Timeout(Timer::StreamDuration(_)) = failure {
            as_grpc = Some(DEADLINE_EXCEEDED);
        }
        if let Failure::Denied(denial) = failure {
            as_grpc = denial.grpc;
            headers.extend(denial.headers.iter().cloned());
            body = denial.raw.clone().unwrap_or(body);
        }
        Self {
            status: said.status,
            headers,
            body,
            reader: if grpc { Reader::Grpc(as_grpc) } else { Reader::Http },
        }
    }

    /// The same reply as its client reads it: for gRPC its status and body are `grpc-status` and `grpc-message` of a 200.
    pub fn for_reader(self) -> Self {
        let Reader::Grpc(as_grpc) = self.reader else {
            return self;
        };
        let Self {
            status,
            mut headers,
            body,
            ..
        } = self;
        let as_grpc = as_grpc.unwrap_or_else(|| u16::from(grpc_status(status)));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(as_grpc));
        if !body.is_empty()
            && let Ok(message) = HeaderValue::from_maybe_shared(percent_encoded(&body))
        {
            headers.insert("grpc-message", message);
        }
        Self {
            status: StatusCode::OK,
            headers,
            body: Bytes::new(),
            reader: Reader::Http,
        }
    }

    /// Adds content type and length; HTTP/2 needs no word for an empty body.
    pub fn complete(&mut self, http2: bool) {
        let grpc = self.headers.contains_key("grpc-status");
        if !self.body.is_empty() {
            self.headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
            self.headers
                .entry(header::CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("text/plain"));
        } else if !grpc && !http2 && !self.status.is_informational() && self.status != StatusCode::NO_CONTENT
        {
            self.headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    }

    /// Sends the reply and enters it into the record.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn send<D: Downstream>(
        self,
        downstream: &mut D,
        method: &Method,
        record: &mut ExchangeRecord,
    ) -> Result<(), StreamError> {
        record.status = Some(self.status.as_u16());
        let (mut head, body) = self.into_parts();
        let headless = *method == Method::HEAD || head.body == BodyLength::None;
        if headless {
            head.body = BodyLength::None;
        }
        downstream.send_head(head)?;
        if !headless {
            record.sent += body.len() as u64;
            downstream.send_data(body, true)?;
        }
        Ok(())
    }

    /// Its head and its body. A body without `content-length` is one that a filter changed.
    pub fn into_parts(self) -> (ResponseHead, Bytes) {
        let length = match self.body.len() {
            0 => BodyLength::None,
            length if self.headers.contains_key(header::CONTENT_LENGTH) => BodyLength::Exact(length as u64),
            _ => BodyLength::Unknown,
        };
        let head = ResponseHead {
            status: self.status,
            headers: self.headers,
            body: length,
            version: Version::HTTP_11,
        };
        (head, self.body)
    }

    /// Lets the filters at it.
    ///
    /// # Errors
    /// A filter cannot read the body, which it should have made itself.
    pub fn filtered(
        self,
        filters: &[OnResponse],
        record: &ExchangeRecord,
        request: &HeaderMap,
    ) -> Result<Self, StreamError> {
        if filters.is_empty() {
            return Ok(self);
        }
        let reader = self.reader;
        let (mut head, mut body) = self.into_parts();
        let mut stages = None;
        let responding = Responding {
            head: &mut head,
            body: Some(&mut body),
            stages: &mut stages,
        };
        filters::respond(filters, responding, record, Some(request));
        if let Some(mut stages) = stages {
            (body, _) = stages.pass(body)?;
        }
        Ok(Self {
            status: head.status,
            headers: head.headers,
            body,
            reader,
        })
    }
}

/// Whether the request is gRPC: content type `application/grpc`, alone or with a suffix.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"))
    })
}

/// gRPC's `Percent-Encoded` for `grpc-message`.
pub fn percent_encoded(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len());
    for byte in message {
        match byte {
            b' '..=b'~' if *byte != b'%' => out.push(*byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    Bytes::from(out)
}
