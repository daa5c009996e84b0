//! Counts gRPC calls by method, and lets browsers make them (`envoy.filters.http.grpc_stats`, `grpc_web`).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use remora_model::filter::{GrpcStats, GrpcWeb};

use super::OnResponse;
use crate::data_path::body::grpc::{CountMessages, Direction};
use crate::data_path::body::grpc_web::{FromText, ToWeb};
use crate::data_path::body::{Stages, of_unknown_length};
use crate::data_path::local_reply::{is_grpc, percent_encoded};
use crate::data_path::request::Exchange;
use crate::exchange::{BodyLength, Downstream, RequestHead, ResponseHead};
use crate::failure::grpc_status;
use crate::observe::GrpcCells;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// A call that is counted.
#[derive(Debug)]
pub struct GrpcCall {
    /// Where.
    pub cells: Arc<GrpcCells>,
    /// When its request was complete, if the upstream's time is asked for.
    pub sent: Cell<Option<Instant>>,
    timed: bool,
    /// Messages are counted too, not only how the call ended.
    pub messages: bool,
}

impl GrpcCall {
    /// Counts the end of the call, where these headers or trailers have it.
    pub fn ended(&self, fields: &HeaderMap) {
        let status = fields.get(GRPC_STATUS).and_then(|status| status.to_str().ok());
        let Some(status) = status else { return };
        let counters = &self.cells.calls;
        counters.total.one();
        if status == "0" {
            counters.success.one();
        } else {
            counters.failure.one();
        }
        if let Some(code) = status
            .parse()
            .ok()
            .and_then(|code: usize| self.cells.codes.get(code))
        {
            code.one();
        }
        if let Some(sent) = self.sent.take() {
            counters.upstream_rq_time.record(sent.elapsed());
        }
    }

    /// The request is complete.
    pub fn complete(&self) {
        if self.timed {
            self.sent.set(Some(Instant::now()));
        }
    }
}

impl<D: Downstream> Exchange<'_, D> {
    /// Counts a call into the series of its method.
    pub(super) fn count_call(&mut self, stats: &GrpcStats, head: &RequestHead) {
        if is_grpc(&head.headers) {
            self.count_into(stats, "grpc", head);
        }
    }

    fn count_into(&mut self, stats: &GrpcStats, protocol: &'static str, head: &RequestHead) {
        let Some((service, method)) = stats.series(head.path.path()) else {
            return;
        };
        let Some(cluster) = self.cluster_config(head) else {
            return;
        };
        let counters = &self.context.worker.counters;
        let call = Rc::new(GrpcCall {
            cells: counters.grpc(&cluster.stat_name, [protocol, &service, method]),
            sent: Cell::new(None),
            timed: stats.upstream_stats,
            messages: protocol == "grpc",
        });
        if call.messages && head.body != BodyLength::None {
            let count = CountMessages::new(Rc::clone(&call), Direction::Request);
            self.request_stages.get_or_insert_default().push(Box::new(count));
        }
        self.on_response.push(OnResponse::GrpcCall(call));
    }

    /// Makes a browser's call a call of gRPC.
    pub(super) fn translate_browser(&mut self, head: &mut RequestHead) {
        let Some(web) = GrpcWeb::of(&head.headers) else {
            return;
        };
        // Envoy's filter counts each call by its method.
        let all = GrpcStats {
            all_methods: true,
            ..GrpcStats::default()
        };
        self.on_response.push(OnResponse::GrpcWeb(web));
        // After that: on the way back it counts what the upstream said, before it is made into something else.
        self.count_into(&all, "grpc-web", head);
        let headers = &mut head.headers;
        of_unknown_length(&mut head.body, headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let known = HeaderValue::from_static("identity");
        headers.insert(GRPC_ACCEPT_ENCODING, known);
        if web.request_text && head.body != BodyLength::None {
            let stages = self.request_stages.get_or_insert_default();
            stages.push(Box::<FromText>::default());
        }
    }
}

/// The response of a counted call.
pub(super) fn called(call: &Rc<GrpcCall>, head: &ResponseHead, stages: &mut Option<Box<Stages>>) {
    call.ended(&head.headers);
    if head.body != BodyLength::None && head.status == StatusCode::OK && is_grpc(&head.headers) {
        let count = CountMessages::new(Rc::clone(call), Direction::Response);
        stages.get_or_insert_default().push(Box::new(count));
    }
}

/// The response for a browser. An answer that is not gRPC, such as one of our own, becomes one: its status and what it
/// says as `grpc-status` and `grpc-message`.
pub(super) fn to_browser(
    web: GrpcWeb,
    head: &mut ResponseHead,
    own: Option<&mut Bytes>,
    stages: &mut Option<Box<Stages>>,
) {
    let is_call = is_grpc(&head.headers) || head.headers.contains_key(GRPC_STATUS);
    head.headers.insert(CONTENT_TYPE, web.content_type());
    if is_call {
        if head.body != BodyLength::None {
            of_unknown_length(&mut head.body, &mut head.headers);
            stages
                .get_or_insert_default()
                .push(Box::new(ToWeb::new(web.response_text)));
        }
        return;
    }
    let said = own.map(std::mem::take).unwrap_or_default();
    let status = u16::from(grpc_status(head.status));
    head.headers.insert(GRPC_STATUS, HeaderValue::from(status));
    if let Ok(message) = HeaderValue::from_maybe_shared(percent_encoded(&said)) {
        head.headers.insert(GRPC_MESSAGE, message);
    }
    if head.body != BodyLength::None {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    head.body = BodyLength::None;
}
