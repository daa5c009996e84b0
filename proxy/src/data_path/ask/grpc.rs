//! A unary gRPC call (gRPC over HTTP/2): one message there, one message back, a status in the trailers.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use remora_model::endpoint::Labels;
use remora_model::filter::GrpcService;
use remora_model::route::Render;

use super::{Answer, Call, Unanswered, call};
use crate::data_path::forwarded_for;
use crate::data_path::mutation::EXPECTED_TIMEOUT;
use crate::exchange::{BodyLength, RequestHead};
use crate::failure::Failure;
use crate::observe::ConnectionRecord;
use crate::upstream::Protocol;
use crate::worker::Worker;

/// Flag and length in front of a message.
const PREFIX: usize = 5;

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What is called.
#[derive(Debug)]
pub struct Unary<'a> {
    /// The service.
    pub service: &'a GrpcService,
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// The message.
    pub message: Vec<u8>,
    /// Everything within this.
    pub limit: Duration,
}

/// Asks the service for a client on the connection `caller`; `render` prints the values of its metadata.
///
/// # Errors
/// Why there is no message.
pub async fn unary(
    worker: &Rc<Worker>,
    caller: &Rc<ConnectionRecord>,
    wanted: Unary<'_>,
    render: &impl Render,
) -> Result<Bytes, Unanswered> {
    let service = wanted.service;
    let cluster = worker.world().cluster(service.cluster).map(Arc::clone);
    let cluster = cluster.ok_or(Failure::NoCluster(StatusCode::SERVICE_UNAVAILABLE))?;
    let tls = cluster.config.transport.choose(&Labels::none()).tls().is_some();
    let head = RequestHead {
        method: Method::POST,
        scheme: Some(if tls { Scheme::HTTPS } else { Scheme::HTTP }),
        authority: Some(service.authority.clone()),
        path: PathAndQuery::from_static(wanted.path),
        headers: headers(service, caller, wanted.limit, render),
        version: Version::HTTP_2,
        body: BodyLength::Unknown,
        upgrade: None,
        expects_continue: false,
    };
    let protocol = Protocol::towards(cluster.config.http.protocol, true);
    let wanted = Call {
        head,
        body: framed(&wanted.message),
        longest: service.longest.saturating_add(PREFIX),
        limit: wanted.limit,
    };
    let answer = call(worker, &cluster, (caller, protocol), wanted).await?;
    message(answer)
}

fn headers(
    service: &GrpcService,
    caller: &ConnectionRecord,
    limit: Duration,
    render: &impl Render,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Ok(limit) = HeaderValue::try_from(format!("{}m", limit.as_millis())) {
        headers.insert(TIMEOUT, limit);
    }
    for template in &service.metadata {
        template.apply(&mut headers, render);
    }
    if !service.skip_own_headers {
        headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(limit.as_millis() as u64));
        headers.insert(INTERNAL, HeaderValue::from_static("true"));
        forwarded_for::append(&mut headers, caller.local.ip());
    }
    headers
}

/// A message as it goes over the wire, not compressed.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// The one message of an answer whose status is 0.
fn message(answer: Answer) -> Result<Bytes, Unanswered> {
    let Answer {
        head,
        mut body,
        trailers,
    } = answer;
    if head.status != StatusCode::OK {
        return Err(Unanswered::Http(head.status));
    }
    let status = trailers.as_ref().and_then(|fields| fields.get(STATUS));
    let status = status.or_else(|| head.headers.get(STATUS));
    let status = status.and_then(|status| status.to_str().ok()?.parse::<u32>().ok());
    match status {
        Some(0) => {}
        Some(status) => return Err(Unanswered::Grpc(status)),
        None => return Err(Unanswered::Malformed("no grpc-status".into())),
    }
    let length = match body.first_chunk::<PREFIX>() {
        Some([0, length @ ..]) => u32::from_be_bytes(*length) as usize,
        Some(_) => return Err(Unanswered::Malformed("a compressed message".into())),
        None => return Err(Unanswered::Malformed("no message".into())),
    };
    let message = body.split_off(PREFIX);
    if message.len() != length {
        return Err(Unanswered::Malformed("not one message".into()));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::ResponseHead;

    fn answered(status: Option<&'static str>, body: &[u8]) -> Result<Bytes, String> {
        let head = ResponseHead {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: BodyLength::Unknown,
            version: Version::HTTP_2,
        };
        let trailers =
            status.map(|status| HeaderMap::from_iter([(STATUS, HeaderValue::from_static(status))]));
        let body = Bytes::copy_from_slice(body);
        message(Answer { head, body, trailers }).map_err(|why| why.to_string())
    }

    #[test]
    fn a_message_comes_back_as_it_was_framed() {
        assert_eq!(answered(Some("0"), &framed(b"abc")).unwrap(), "abc");
        assert_eq!(answered(Some("0"), &framed(b"")).unwrap(), "");
    }

    #[test]
    fn what_is_not_one_message_with_status_0_is_no_answer() {
        assert_eq!(
            answered(Some("14"), &framed(b"abc")).unwrap_err(),
            "gRPC status 14"
        );
        assert_eq!(answered(None, &framed(b"abc")).unwrap_err(), "no grpc-status");
        assert_eq!(answered(Some("0"), b"").unwrap_err(), "no message");
        assert_eq!(
            answered(Some("0"), &[1, 0, 0, 0, 0]).unwrap_err(),
            "a compressed message"
        );
        let two = [framed(b"a"), framed(b"b")].concat();
        assert_eq!(answered(Some("0"), &two).unwrap_err(), "not one message");
    }
}
