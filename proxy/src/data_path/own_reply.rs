//! What does a reply of our own look like, where the connection manager (`local_reply_config`) or a route
//! (`DirectResponseAction.body_format`) has a say?
//!
//! Holds: the first mapper that accepts a reply changes it, then a format prints its body; of which type a body is follows
//! who wrote it last. As in Envoy 1.40.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use remora_model::listener::LocalReplies;
use remora_model::log::{BodyFormat, Format};

use super::local_reply::{Reader, Reply};
use super::mutation::Printer;
use crate::observe::ExchangeRecord;
use crate::observe::access_log::{accepts, render};
use crate::observe::values::Values;

/// Changes a reply to a request with these headers; the record has the reply's status afterwards.
pub fn rewrite(reply: &mut Reply, said: &LocalReplies, record: &mut ExchangeRecord, request: &HeaderMap) {
    record.status = Some(reply.status.as_u16());
    let before = reply.body.clone();
    let mut typed = false;
    let mut mappers = said.mappers.iter();
    let mapper = mappers.find(|mapper| accepts(&mapper.filter, &values(record, request, reply, &before)));
    if let Some(mapper) = mapper {
        if let Some(status) = mapper.status {
            reply.status = status;
            record.status = Some(status.as_u16());
        }
        if let Some(body) = &mapper.body {
            reply.body = body.clone();
        }
        if !mapper.headers.is_empty() {
            let headers = reply.headers.clone();
            let printer = Printer {
                record,
                request: Some(request),
                response: Some(&headers),
            };
            mapper.headers.apply(&mut reply.headers, &printer);
            typed = mapper.headers.add.iter().any(|added| added.name == CONTENT_TYPE);
        }
    }
    let format = mapper
        .and_then(|mapper| mapper.format.as_ref())
        .or(said.format.as_ref());
    let kind = match format {
        Some(format) => {
            let body = reply.body.clone();
            reply.body = print(format, &values(record, request, reply, &body));
            if matches!(
                (&format.format, reply.reader),
                (Format::Json { .. }, Reader::Grpc(_))
            ) {
                // `grpc-message` says what the object says, without the end of its line.
                reply.body.truncate(reply.body.len().saturating_sub(1));
            }
            format.content_type.clone()
        }
        None => HeaderValue::from_static("text/plain"),
    };
    if reply.body != before && !typed {
        reply.headers.insert(CONTENT_TYPE, kind);
    }
}

/// The body of a direct response by its format.
pub fn direct(format: &BodyFormat, body: &Bytes, record: &ExchangeRecord, request: &HeaderMap) -> Bytes {
    let values = Values {
        record,
        request_headers: Some(request),
        response_headers: None,
        response_trailers: None,
        local_body: Some(body),
    };
    print(format, &values)
}

fn print(format: &BodyFormat, values: &Values<'_>) -> Bytes {
    let mut text = String::new();
    render(&format.format, values, &mut text);
    Bytes::from(text)
}

fn values<'a>(
    record: &'a ExchangeRecord,
    request: &'a HeaderMap,
    reply: &'a Reply,
    body: &'a Bytes,
) -> Values<'a> {
    Values {
        record,
        request_headers: Some(request),
        response_headers: Some(&reply.headers),
        response_trailers: None,
        local_body: Some(body),
    }
}
