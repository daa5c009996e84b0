//! How is an endpoint asked whether it is well (`envoy.config.core.v3.HealthCheck`), and what does its answer mean?
//!
//! Holds: what is asked and when, and what an answer means, is decided here; asking is the shell's. An endpoint of a
//! cluster that is checked is not used before its first check passed ([`Course`]).
//! Does not: know of events and their sinks, of checks of a custom kind, of the health discovery service.

mod course;
mod grpc;
#[cfg(test)]
mod tests;

pub use course::{Course, Finding, Intervals, Moved, Shortfall, Thresholds};
pub use grpc::says_serving;

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};

use crate::Name;
use crate::endpoint::{EndpointAddress, Labels};
use crate::matching::StringMatcher;
use crate::route::HeaderMutations;

/// Says that a server wants no more requests.
pub const IMMEDIATE_FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");
/// Says that a server would rather have fewer requests.
pub const DEGRADED: HeaderName = HeaderName::from_static("x-envoy-degraded");
/// Names the cluster that a server believes to be in.
const CHECKED_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-upstream-healthchecked-cluster");

/// `Cluster.health_checks`, and what else of the cluster concerns its checks. Equal where the same was said.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// `timeout`: how long one check may take.
    pub timeout: Duration,
    /// When an endpoint is asked.
    pub intervals: Intervals,
    /// How many answers in a row decide.
    pub thresholds: Thresholds,
    /// `reuse_connection`, default true.
    pub reuse_connection: bool,
    /// `always_log_health_check_failures`, `always_log_health_check_success`.
    pub always_log: [bool; 2],
    /// `tls_options.alpn_protocols`; empty: those of the TLS context.
    pub alpn: Vec<Box<[u8]>>,
    /// `transport_socket_match_criteria`, in place of the endpoint's labels.
    pub transport_labels: Option<Labels>,
    /// What is asked.
    pub kind: CheckKind,
    /// `common_lb_config.ignore_new_hosts_until_first_hc`: endpoints that were never checked do not count for panic.
    pub new_do_not_count: bool,
    /// Not `ignore_health_on_host_removal`: an endpoint that is taken away stays as long as it passes.
    pub keeps_passing: bool,
    /// Hash of all that.
    pub fingerprint: u64,
}

impl PartialEq for HealthCheck {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum CheckKind {
    /// `http_health_check`.
    Http(Box<HttpCheck>),
    /// `grpc_health_check`.
    Grpc(Box<GrpcCheck>),
    /// `tcp_health_check`.
    Tcp(TcpCheck),
}

/// `HttpHealthCheck`.
#[derive(Debug, Clone)]
pub struct HttpCheck {
    /// `path`.
    pub path: PathAndQuery,
    /// `host`, default the cluster's name.
    pub host: Option<Name>,
    /// `method`, default GET.
    pub method: Method,
    /// `codec_client_type: HTTP2`.
    pub http2: bool,
    /// `send`.
    pub body: Bytes,
    /// `receive`.
    pub expected_body: Payloads,
    /// `response_buffer_size`, default 1024 bytes; `None`: the whole body.
    pub searched: Option<usize>,
    /// `request_headers_to_add`, `request_headers_to_remove`.
    pub headers: HeaderMutations,
    /// `expected_statuses`, default 200 alone; first and one past the last.
    pub expected: Vec<(u16, u16)>,
    /// `retriable_statuses`.
    pub retriable: Vec<(u16, u16)>,
    /// `service_name_matcher`.
    pub service: Option<StringMatcher>,
}

/// `GrpcHealthCheck`.
#[derive(Debug, Clone)]
pub struct GrpcCheck {
    /// `service_name`, as the encoded `grpc.health.v1.HealthCheckRequest`.
    pub request: Bytes,
    /// `authority`, default the cluster's name.
    pub authority: Option<Name>,
    /// `initial_metadata`.
    pub metadata: HeaderMutations,
}

/// `TcpHealthCheck`.
#[derive(Debug, Clone)]
pub struct TcpCheck {
    /// `send`.
    pub send: Bytes,
    /// `receive`; empty: to be connected is enough.
    pub expected: Payloads,
    /// `proxy_protocol_config`.
    pub header: Option<crate::proxy_protocol::UpstreamHeader>,
}

/// Pieces that are to be found in this order, with anything between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payloads(pub Vec<Bytes>);

impl Payloads {
    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes they are together.
    pub fn length(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether all are there.
    pub fn found_in(&self, mut bytes: &[u8]) -> bool {
        self.0.iter().all(|piece| {
            let at = bytes.windows(piece.len().max(1)).position(|part| part == piece);
            match at {
                Some(at) => {
                    bytes = &bytes[at + piece.len()..];
                    true
                }
                None => piece.is_empty(),
            }
        })
    }
}

impl HttpCheck {
    /// How many bytes of a body are worth keeping; `most` at most.
    pub fn kept(&self, most: usize) -> usize {
        if self.expected_body.is_empty() {
            return 0;
        }
        self.searched.map_or(most, |searched| searched.min(most))
    }

    /// What a whole answer means, in Envoy's order: the body, the status, the name of the cluster.
    pub fn judge(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Judged {
        let within = |ranges: &[(u16, u16)]| ranges.iter().any(|(from, to)| (*from..*to).contains(&status));
        let wrong = |why, retriable| Judged {
            finding: Finding::Failed(Shortfall::Answer { retriable }),
            leaves: headers.contains_key(&IMMEDIATE_FAIL),
            why,
            verified: false,
        };
        if !self.expected_body.found_in(body) {
            return wrong("payload_mismatch", false);
        }
        if !within(&self.expected) {
            return wrong("unexpected_status", within(&self.retriable));
        }
        let passed = Judged {
            finding: Finding::Passed {
                degraded: headers.contains_key(&DEGRADED),
            },
            leaves: false,
            why: "",
            verified: self.service.is_some(),
        };
        let said = headers
            .get(&CHECKED_CLUSTER)
            .map_or(&[][..], |name| name.as_bytes());
        match &self.service {
            Some(service) if !service.matches(said) => Judged {
                finding: Finding::Failed(Shortfall::Answer { retriable: false }),
                why: "service_name_mismatch",
                ..passed
            },
            _ => passed,
        }
    }
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// For the endpoint.
    pub finding: Finding,
    /// It failed and said that it wants no more requests.
    pub leaves: bool,
    /// What is wrong with it, in a word of Envoy's.
    pub why: &'static str,
    /// The cluster's name was compared.
    pub verified: bool,
}

/// `Endpoint.health_check_config`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckTarget {
    /// `disable_active_health_check`: it counts as the control plane says.
    pub disabled: bool,
    /// `address`, in place of the endpoint's own.
    pub address: Option<EndpointAddress>,
    /// `port_value`, in place of the address's own.
    pub port: Option<u16>,
    /// `hostname`, before the check's own.
    pub hostname: Option<Name>,
}

impl CheckTarget {
    /// Where an endpoint is asked that listens at `own`.
    pub fn address(&self, own: &EndpointAddress) -> EndpointAddress {
        let mut address = self.address.as_ref().unwrap_or(own).clone();
        match (&mut address, self.port) {
            (EndpointAddress::Socket(socket), Some(port)) => socket.set_port(port),
            (EndpointAddress::Host(_, own), Some(port)) => *own = port,
            (EndpointAddress::Pipe(_), _) | (_, None) => {}
        }
        address
    }
}
