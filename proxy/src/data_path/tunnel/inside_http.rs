//! `tunneling_config`: a tunnel inside a request, CONNECT or POST, to an endpoint that speaks HTTP.
//!
//! Holds: not a byte of the client leaves before the endpoint accepted with a 2xx; anything else is a failed attempt.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, Version};
use remora_model::balance::Bringing;
use remora_model::cluster::{Cluster, PickFacts, RequestPriority, UpstreamProtocol};
use remora_model::endpoint::Labels;
use remora_model::listener::{TcpProxy, Tunneling};
use remora_model::route::{HeaderValueTemplate, Render, source_hash};

use super::dial::{at_limit, back_off};
use crate::data_path::mutation::Printer;
use crate::data_path::target;
use crate::exchange::{BodyLength, RequestHead, ResponseEvent, Upstream};
use crate::failure::{ConnectFailure, Failure};
use crate::observe::{ExchangeRecord, UpstreamRecord};
use crate::upstream::{Acquire, Protocol, UpstreamExchange};
use crate::worker::Worker;

/// How long an endpoint may take to accept, where the tunnel has no idle limit.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Opens the request, trying again at another endpoint as often as configured.
///
/// # Errors
/// No endpoint, or what the last attempt died of.
pub(super) async fn open(
    worker: &Rc<Worker>,
    proxy: &TcpProxy,
    tunneling: &Tunneling,
    (cluster, labels): (&Arc<Cluster>, Option<&Labels>),
    record: &mut ExchangeRecord,
) -> Result<UpstreamExchange, Failure> {
    let cells = worker.counters.cluster(&cluster.config);
    at_limit(cluster, &cells)?;
    let head = head(tunneling, record)?;
    loop {
        let outcome = attempt(worker, proxy, (cluster, labels), &head, record).await;
        let failure = match outcome {
            Ok(exchange) => return Ok(exchange),
            Err(Failure::Connect(failure)) => failure,
            Err(other) => return Err(other),
        };
        record.transport_failure = Some(failure.reason().into_owned());
        if record.attempts >= proxy.connect_attempts.max(1) {
            cells.traffic.upstream_cx_connect_attempts_exceeded.one();
            return Err(Failure::Connect(failure));
        }
        back_off(worker, proxy, record.attempts).await;
    }
}

async fn attempt(
    worker: &Rc<Worker>,
    proxy: &TcpProxy,
    (cluster, labels): (&Arc<Cluster>, Option<&Labels>),
    head: &RequestHead,
    record: &mut ExchangeRecord,
) -> Result<UpstreamExchange, Failure> {
    let member = target::member_of(worker, cluster)?;
    let cluster = member.as_ref().map_or(cluster, |(member, _)| member);
    let facts = PickFacts {
        level: member.as_ref().map(|(_, level)| *level),
        hash: proxy.hash_source_address.then(|| source_hash(record.client.ip())),
        labels,
        ..PickFacts::default()
    };
    let endpoint = target::endpoint_of(
        worker,
        cluster,
        &facts,
        record.connection.original_destination(),
        &Bringing::default(),
    )?;
    record.attempts += 1;
    record.upstream = Some(UpstreamRecord {
        local: None,
        endpoint: Arc::clone(&endpoint),
        tls: None,
        reused: false,
    });
    let wanted = Acquire {
        cluster,
        endpoint: &endpoint,
        priority: RequestPriority::Default,
        protocol: match cluster.config.http.protocol {
            UpstreamProtocol::Http2 => Protocol::Http2,
            UpstreamProtocol::Alpn => Protocol::Alpn,
            UpstreamProtocol::Http1 | UpstreamProtocol::Downstream => Protocol::Http1,
        },
        server_name: None,
        alpn: None,
        caller: Some(&record.connection),
        fresh: true,
    };
    let lease = worker.pools.acquire(worker, wanted).await?;
    record.upstream = Some(lease.0.record().clone());
    let begun = UpstreamExchange::begin(worker, cluster, lease, head);
    let mut exchange = begun.map_err(|(error, _)| refused(format!("{error:?}")))?;
    let answered = tokio::time::timeout(proxy.idle_timeout.unwrap_or(PATIENCE), accepted(&mut exchange));
    match answered.await {
        Ok(Ok(())) => Ok(exchange),
        Ok(Err(failure)) => {
            exchange.discard(0);
            Err(failure)
        }
        Err(_) => {
            exchange.discard(0);
            Err(refused("no answer within the idle timeout".into()))
        }
    }
}

/// Waits for the final head.
async fn accepted(exchange: &mut UpstreamExchange) -> Result<(), Failure> {
    loop {
        let event = poll_fn(|cx| {
            let event = exchange.poll_response(cx);
            if event.is_pending() {
                // The head waits to be written with what follows it; nothing does before the answer.
                let _ = crate::exchange::Transmit::poll_flush(exchange, cx);
            }
            event
        });
        match event.await {
            Ok(ResponseEvent::Informational(_)) => {}
            Ok(ResponseEvent::Head(head)) if head.status.is_success() => return Ok(()),
            Ok(ResponseEvent::Head(head)) => {
                return Err(refused(format!("tunnel response:{}", head.status.as_u16())));
            }
            Err(error) => return Err(refused(format!("{error:?}"))),
        }
    }
}

fn refused(words: String) -> Failure {
    Failure::Connect(ConnectFailure::Refused(words))
}

/// The head of the request.
fn head(tunneling: &Tunneling, record: &ExchangeRecord) -> Result<RequestHead, Failure> {
    let printer = Printer {
        record,
        request: None,
        response: None,
    };
    let hostname = match &tunneling.hostname {
        HeaderValueTemplate::Constant(value) => Some(value.clone()),
        HeaderValueTemplate::Format(format) => printer.render(format),
    };
    let authority = hostname
        .and_then(|value| Authority::try_from(value.as_bytes()).ok())
        .ok_or_else(|| refused("tunneling_config.hostname is no authority here".into()))?;
    let mut headers = HeaderMap::new();
    tunneling.headers.apply(&mut headers, &printer);
    let (method, path) = match &tunneling.post {
        Some(path) => (Method::POST, path.clone()),
        None => (Method::CONNECT, PathAndQuery::from_static("/")),
    };
    Ok(RequestHead {
        scheme: tunneling.post.is_some().then_some(http::uri::Scheme::HTTP),
        method,
        authority: Some(authority),
        path,
        headers,
        version: Version::HTTP_11,
        body: BodyLength::Unknown,
        upgrade: None,
        expects_continue: false,
    })
}
