//! `Cluster.health_checks` to [`HealthCheck`].
//!
//! Holds: defaults are Envoy's; what Envoy refuses is refused. Does not: take more than one check of a cluster (Envoy
//! needs a name for each then, which our version of the API does not have).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::uri::PathAndQuery;
use prost::Message;
use remora_model::Name;
use remora_model::cluster::UpstreamProtocol;
use remora_model::endpoint::EndpointAddress;
use remora_model::health::check::{
    CheckKind, CheckTarget, GrpcCheck, HttpCheck, Intervals, Payloads, TcpCheck, Thresholds,
};
use remora_model::health::{HealthCheck, HealthSettings};

use crate::context::Work;
use crate::pb::envoy::config::cluster::v3::Cluster;
use crate::pb::envoy::config::core::v3::health_check::payload::Payload as Said;
use crate::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck,
};
use crate::pb::envoy::config::core::v3::{self as core, RequestMethod};
use crate::pb::envoy::config::endpoint::v3::endpoint::HealthCheckConfig;
use crate::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use crate::pb::google::protobuf::UInt32Value;
use crate::value::Place;
use crate::{endpoint, fingerprint, header_mutation, matcher, proxy_protocol, value};

/// `no_traffic_interval` where none is said.
const UNUSED: Duration = Duration::from_secs(60);
/// `response_buffer_size` where none is said, bytes.
const SEARCHED: u64 = 1024;
/// The number of `Cluster.health_checks`.
const FIELD: u32 = 8;

/// The check of a cluster, if it has one; `bytes`: the cluster as received.
pub(crate) fn of(work: &mut Work<'_, '_>, said: &Cluster, bytes: &[u8]) -> Option<Arc<HealthCheck>> {
    if said.health_checks.len() > 1 {
        let found = said.health_checks.len();
        work.wrong_at(
            "health_checks",
            format!("is not supported: more than one check, found {found}"),
        );
        return None;
    }
    let common = said.common_lb_config.as_ref();
    let new_do_not_count = common.is_some_and(|common| common.ignore_new_hosts_until_first_hc);
    let keeps_passing = !said.ignore_health_on_host_removal;
    let raw = fingerprint::fields(bytes, FIELD).next();
    let fingerprint = fingerprint::of((raw, new_do_not_count, keeps_passing));
    let mut checks = work.each("health_checks", &said.health_checks, |work, said| {
        let check = check(work, said)?;
        Some(Arc::new(HealthCheck {
            new_do_not_count,
            keeps_passing,
            fingerprint,
            ..check
        }))
    });
    checks.pop()
}

/// gRPC needs HTTP/2, as in Envoy.
pub(crate) fn fits(
    work: &mut Work<'_, '_>,
    name: &str,
    settings: Option<&HealthSettings>,
    protocol: UpstreamProtocol,
) {
    let check = settings.and_then(|settings| settings.check.as_ref());
    let grpc = check.is_some_and(|check| matches!(check.kind, CheckKind::Grpc(_)));
    if grpc && protocol == UpstreamProtocol::Http1 {
        work.wrong_at(
            "health_checks",
            format!("{name} cluster must support HTTP/2 for gRPC healthchecking"),
        );
    }
}

fn check(work: &mut Work<'_, '_>, said: &core::HealthCheck) -> Option<HealthCheck> {
    work.review(said);
    let timeout = required_time(work, "timeout", said.timeout.as_ref());
    let intervals = intervals(work, said);
    let thresholds = (
        threshold(work, "unhealthy_threshold", said.unhealthy_threshold.as_ref()),
        threshold(work, "healthy_threshold", said.healthy_threshold.as_ref()),
    );
    let kind = match &said.health_checker {
        Some(HealthChecker::HttpHealthCheck(said)) => work
            .at("http_health_check", |work| http(work, said))
            .map(Box::new)
            .map(CheckKind::Http),
        Some(HealthChecker::GrpcHealthCheck(said)) => {
            let check = work.at("grpc_health_check", |work| grpc(work, said));
            Some(CheckKind::Grpc(Box::new(check)))
        }
        Some(HealthChecker::TcpHealthCheck(said)) => work
            .at("tcp_health_check", |work| tcp(work, said))
            .map(CheckKind::Tcp),
        Some(HealthChecker::CustomHealthCheck(_)) => {
            work.ignored("HealthCheck.custom_health_check");
            return None;
        }
        None => {
            work.wrong("expected http_health_check, tcp_health_check or grpc_health_check, found none");
            return None;
        }
    };
    let alpn = said.tls_options.as_ref().map(|said| {
        work.review(said);
        said.alpn_protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect()
    });
    Some(HealthCheck {
        timeout: timeout?,
        intervals: intervals?,
        thresholds: Thresholds {
            unhealthy: thresholds.0?,
            healthy: thresholds.1?,
        },
        reuse_connection: value::bool_or(said.reuse_connection.as_ref(), true),
        always_log: [
            said.always_log_health_check_failures,
            said.always_log_health_check_success,
        ],
        alpn: alpn.unwrap_or_default(),
        transport_labels: said
            .transport_socket_match_criteria
            .as_ref()
            .map(endpoint::labels),
        kind: kind?,
        new_do_not_count: false,
        keeps_passing: true,
        fingerprint: 0,
    })
}

fn intervals(work: &mut Work<'_, '_>, said: &core::HealthCheck) -> Option<Intervals> {
    let usual = required_time(work, "interval", said.interval.as_ref());
    let fallback = usual.unwrap_or(UNUSED);
    let mut or = |field, said: &Option<_>, fallback| value::positive(work, field, said.as_ref(), fallback);
    let unused = or("no_traffic_interval", &said.no_traffic_interval, UNUSED);
    let unused_healthy = or(
        "no_traffic_healthy_interval",
        &said.no_traffic_healthy_interval,
        unused,
    );
    let unhealthy = or("unhealthy_interval", &said.unhealthy_interval, fallback);
    let unhealthy_edge = or(
        "unhealthy_edge_interval",
        &said.unhealthy_edge_interval,
        unhealthy,
    );
    let healthy_edge = or("healthy_edge_interval", &said.healthy_edge_interval, fallback);
    let first = value::duration(work, "initial_jitter", said.initial_jitter.as_ref());
    let jitter = value::duration(work, "interval_jitter", said.interval_jitter.as_ref());
    Some(Intervals {
        usual: usual?,
        unused,
        unused_healthy,
        unhealthy,
        unhealthy_edge,
        healthy_edge,
        initial_jitter: first.unwrap_or_default(),
        jitter: jitter.unwrap_or_default(),
        jitter_percent: said.interval_jitter_percent,
    })
}

fn required_time(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&crate::pb::google::protobuf::Duration>,
) -> Option<Duration> {
    if said.is_none() {
        work.wrong_at(field, "expected a duration above 0, found none");
        return None;
    }
    Some(value::positive(work, field, said, UNUSED))
}

fn threshold(work: &mut Work<'_, '_>, field: &str, said: Option<&UInt32Value>) -> Option<u32> {
    if said.is_none() {
        work.wrong_at(field, "expected a number, found none");
    }
    said.map(|said| said.value)
}

fn http(work: &mut Work<'_, '_>, said: &HttpHealthCheck) -> Option<HttpCheck> {
    work.review(said);
    let path = value::required(work, "path", &said.path).and_then(|path| path_of(work, path));
    let method = method(work, said.method);
    let body = body(work, said, method.as_ref());
    let (expected_body, searched) = searched(work, said);
    let mut expected = work.each("expected_statuses", &said.expected_statuses, range);
    if said.expected_statuses.is_empty() {
        expected.push((200, 201));
    }
    let http2 = match value::known(work, "codec_client_type", said.codec_client_type)? {
        CodecClientType::Http1 => false,
        CodecClientType::Http2 => true,
        CodecClientType::Http3 => {
            work.wrong_at("codec_client_type", "is not supported: HTTP/3");
            return None;
        }
    };
    let service = said
        .service_name_matcher
        .as_ref()
        .map(|said| work.at("service_name_matcher", |work| matcher::string(work, said)));
    Some(HttpCheck {
        path: path?,
        host: authority(work, "host", &said.host),
        method: method?,
        http2,
        body: body.unwrap_or_default(),
        expected_body,
        searched,
        headers: header_mutation::mutations(
            work,
            ("request_headers_to_add", &said.request_headers_to_add),
            &said.request_headers_to_remove,
        ),
        expected,
        retriable: work.each("retriable_statuses", &said.retriable_statuses, range),
        service: match service {
            Some(service) => Some(service?),
            None => None,
        },
    })
}

/// `send`, for a method that takes a body.
fn body(work: &mut Work<'_, '_>, said: &HttpHealthCheck, method: Option<&Method>) -> Option<Bytes> {
    let body = said
        .send
        .as_ref()
        .and_then(|send| work.at("send", |work| payload(work, send)));
    let takes_body =
        |method: &Method| [Method::POST, Method::PUT, Method::PATCH, Method::OPTIONS].contains(method);
    if let (Some(_), Some(method)) = (&said.send, method)
        && !takes_body(method)
    {
        work.wrong_at(
            "send",
            format!(
                "HTTP health check cannot specify a request payload with method '{method}'. Only methods that \
                 support a request body (POST, PUT, PATCH, OPTIONS) can be used with payload."
            ),
        );
    }
    body
}

/// `receive`, and how much of a body is searched for it; `None`: all.
fn searched(work: &mut Work<'_, '_>, said: &HttpHealthCheck) -> (Payloads, Option<usize>) {
    let expected_body = Payloads(work.each("receive", &said.receive, payload));
    let searched = said
        .response_buffer_size
        .as_ref()
        .map_or(SEARCHED, |size| size.value);
    let searched = usize::try_from(searched).ok().filter(|searched| *searched > 0);
    if let Some(searched) = searched.filter(|searched| expected_body.length() > *searched) {
        let length = expected_body.length();
        work.wrong_at(
            "receive",
            format!(
                "The expected response length '{length}' is over than http health response buffer size '{searched}'"
            ),
        );
    }
    (expected_body, searched)
}

fn path_of(work: &mut Work<'_, '_>, said: &str) -> Option<PathAndQuery> {
    let path = said
        .parse::<PathAndQuery>()
        .ok()
        .filter(|_| said.starts_with('/'));
    if path.is_none() {
        work.wrong_at(
            "path",
            format!("expected a path like /healthz, found '{}'", said.escape_default()),
        );
    }
    path
}

/// Who is asked for, if that was said.
fn authority(work: &mut Work<'_, '_>, field: &str, said: &str) -> Option<Name> {
    if said.is_empty() {
        return None;
    }
    if said.parse::<http::uri::Authority>().is_err() {
        work.wrong_at(
            field,
            format!("expected a host, found '{}'", said.escape_default()),
        );
    }
    Some(said.into())
}

fn method(work: &mut Work<'_, '_>, said: i32) -> Option<Method> {
    Some(match value::known(work, "method", said)? {
        RequestMethod::MethodUnspecified | RequestMethod::Get => Method::GET,
        RequestMethod::Head => Method::HEAD,
        RequestMethod::Post => Method::POST,
        RequestMethod::Put => Method::PUT,
        RequestMethod::Delete => Method::DELETE,
        RequestMethod::Options => Method::OPTIONS,
        RequestMethod::Trace => Method::TRACE,
        RequestMethod::Patch => Method::PATCH,
        RequestMethod::Connect => {
            work.wrong_at("method", "expected another method than CONNECT");
            return None;
        }
    })
}

fn range(work: &mut Work<'_, '_>, said: &Int64Range) -> Option<(u16, u16)> {
    let (start, end) = (said.start, said.end);
    let found = format!("found start={start} and end={end}");
    match (u16::try_from(start), u16::try_from(end)) {
        _ if start >= end => work.wrong(format!("expecting start < end, but {found}")),
        (Ok(start), Ok(end)) if start >= 100 && end <= 600 => return Some((start, end)),
        _ => work.wrong(format!("expecting start >= 100 and end <= 600, but {found}")),
    }
    None
}

fn payload(work: &mut Work<'_, '_>, said: &Payload) -> Option<Bytes> {
    match &said.payload {
        Some(Said::Binary(bytes)) => Some(Bytes::copy_from_slice(bytes)),
        Some(Said::Text(text)) => {
            let bytes = hexadecimal(text).filter(|bytes| !bytes.is_empty());
            if bytes.is_none() {
                work.wrong_at("text", format!("invalid hex string '{}'", text.escape_default()));
            }
            bytes.map(Bytes::from)
        }
        None => {
            work.wrong("expected text or binary, found none");
            None
        }
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

fn grpc(work: &mut Work<'_, '_>, said: &GrpcHealthCheck) -> GrpcCheck {
    work.review(said);
    let request = CheckRequest {
        service: said.service_name.clone(),
    };
    GrpcCheck {
        request: request.encode_to_vec().into(),
        authority: authority(work, "authority", &said.authority),
        metadata: header_mutation::mutations(work, ("initial_metadata", &said.initial_metadata), &[]),
    }
}

fn tcp(work: &mut Work<'_, '_>, said: &TcpHealthCheck) -> Option<TcpCheck> {
    work.review(said);
    let send = said
        .send
        .as_ref()
        .map(|said| work.at("send", |work| payload(work, said)));
    let header = said.proxy_protocol_config.as_ref().map(|said| {
        work.at("proxy_protocol_config", |work| {
            proxy_protocol::header(work, Some(said))
        })
    });
    Some(TcpCheck {
        send: match send {
            Some(send) => send?,
            None => Bytes::new(),
        },
        expected: Payloads(work.each("receive", &said.receive, payload)),
        header: match header {
            Some(header) => Some(header?),
            None => None,
        },
    })
}

/// `Endpoint.health_check_config`.
pub(crate) fn target(work: &mut Work<'_, '_>, said: &HealthCheckConfig) -> Option<Box<CheckTarget>> {
    work.review(said);
    let address = said.address.as_ref().and_then(|address| {
        work.at("address", |work| match value::address(work, Some(address))? {
            Place::Socket(address) => Some(EndpointAddress::Socket(address)),
            Place::Pipe(path) => Some(EndpointAddress::Pipe(path.into())),
            Place::Host(host, _) => {
                work.wrong_at(
                    "socket_address.address",
                    format!("expected an IP address, found '{host}'"),
                );
                None
            }
        })
    });
    let target = CheckTarget {
        disabled: said.disable_active_health_check,
        address,
        port: value::port(work, "port_value", said.port_value).filter(|port| *port != 0),
        hostname: authority(work, "hostname", &said.hostname),
    };
    (target != CheckTarget::default()).then(|| Box::new(target))
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_as_envoy_reads_them() {
        assert_eq!(hexadecimal("00fFa1"), Some(vec![0, 255, 161]));
        assert_eq!(
            hexadecimal("xy").or(hexadecimal("000")).or(hexadecimal("é0")),
            None
        );
    }

    #[test]
    fn the_message_of_grpc_names_the_service() {
        let request = CheckRequest {
            service: "a.B".into(),
        };
        assert_eq!(request.encode_to_vec(), *b"\x0a\x03a.B");
    }
}
