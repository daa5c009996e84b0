//! The heads of checks by HTTP and gRPC, as Envoy sends them.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use remora_model::health::check::{GrpcCheck, HttpCheck};
use remora_model::log::Format;
use remora_model::route::{HeaderMutations, Render};

use super::Ask;
use crate::exchange::{BodyLength, RequestHead};
use crate::observe::values::{self, Values};
use crate::observe::{ConnectionRecord, ExchangeRecord, UpstreamRecord};

/// How servers know checks from requests.
const AGENT: HeaderValue = HeaderValue::from_static("Envoy/HC");
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";
const GRPC_TIMEOUT: &str = "grpc-timeout";

pub(super) fn http(ask: &Ask, check: &HttpCheck) -> RequestHead {
    let body = if check.body.is_empty() {
        BodyLength::None
    } else {
        BodyLength::Exact(check.body.len() as u64)
    };
    let head = head_of(
        ask,
        check.method.clone(),
        check.path.clone(),
        check.host.as_deref(),
    );
    let mut head = RequestHead { body, ..head };
    mutate(&mut head, ask, &check.headers);
    if let BodyLength::Exact(length) = body {
        head.headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    head
}

pub(super) fn grpc(ask: &Ask, check: &GrpcCheck, length: usize) -> RequestHead {
    let path = PathAndQuery::from_static(GRPC_PATH);
    let head = head_of(ask, Method::POST, path, check.authority.as_deref());
    let mut head = RequestHead {
        body: BodyLength::Exact(length as u64),
        version: Version::HTTP_2,
        ..head
    };
    let grpc = HeaderValue::from_static("application/grpc");
    head.headers.insert(header::CONTENT_TYPE, grpc);
    head.headers
        .insert(header::TE, HeaderValue::from_static("trailers"));
    mutate(&mut head, ask, &check.metadata);
    // Eight digits at most (the gRPC protocol over HTTP/2).
    let limit = ask.check.timeout.as_millis().min(99_999_999);
    if let Ok(limit) = HeaderValue::try_from(format!("{limit}m")) {
        head.headers.insert(GRPC_TIMEOUT, limit);
    }
    head
}

fn head_of(ask: &Ask, method: Method, path: PathAndQuery, said: Option<&str>) -> RequestHead {
    let config = &ask.config;
    let details = ask.target.spec.details();
    let own = details
        .check
        .as_deref()
        .and_then(|check| check.hostname.as_deref());
    let host = own.or(said).unwrap_or(&config.name);
    let labels = ask
        .check
        .transport_labels
        .as_ref()
        .unwrap_or(&details.transport_labels);
    let tls = config.transport.choose(labels).tls().is_some();
    RequestHead {
        method,
        scheme: Some(if tls { Scheme::HTTPS } else { Scheme::HTTP }),
        // A cluster may have any name; without a host there would be no request at all.
        authority: Some(host.parse().unwrap_or_else(|_| Authority::from_static("cluster"))),
        path,
        headers: HeaderMap::from_iter([(header::USER_AGENT, AGENT)]),
        version: Version::HTTP_11,
        body: BodyLength::None,
        upgrade: None,
        expects_continue: false,
    }
}

fn mutate(head: &mut RequestHead, ask: &Ask, mutations: &HeaderMutations) {
    if mutations.is_empty() {
        return;
    }
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let connection = ConnectionRecord {
        id: 0,
        accepted: Instant::now(),
        peer: nobody,
        client: nobody,
        header: None,
        local: nobody,
        redirected: false,
        server_name: None,
        listener: "".into(),
        chain: "".into(),
        tls: None,
        multiplexed: false,
        metadata: None,
    };
    let mut record = ExchangeRecord::new(Rc::new(connection), Instant::now());
    record.version = Some(head.version);
    record.cluster = Some(Arc::clone(&ask.config));
    record.upstream = Some(UpstreamRecord {
        local: None,
        endpoint: Arc::clone(&ask.target),
        tls: None,
        reused: false,
    });
    mutations.apply(&mut head.headers, &Printer(&record));
}

/// Operators that speak of a request find none, as in Envoy.
struct Printer<'a>(&'a ExchangeRecord);

impl Render for Printer<'_> {
    fn render(&self, format: &Format) -> Option<HeaderValue> {
        let Format::Text { pieces, omit_empty } = format else {
            return None;
        };
        let values = Values {
            record: self.0,
            request_headers: None,
            response_headers: None,
            response_trailers: None,
            local_body: None,
        };
        HeaderValue::from_str(&values::render_text(pieces, &values, *omit_empty)).ok()
    }
}
