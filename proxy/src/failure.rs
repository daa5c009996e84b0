//! Why did this request not get its answer? One [`Failure`], and exactly one exhaustive match that gives it a status, a
//! response flag, `response_code_details`, a body and a plain sentence, in Envoy's words.
//!
//! Holds: no reply that the proxy makes itself is without a cause. What the client reads ([`Said::body`]) and what the
//! operator reads ([`Said::details`], [`Failure::sentence`]) are different texts.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use remora_model::route::TimeLimit;

use crate::exchange::{HeadError, StreamError};

/// How far an exchange came before it failed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The client's head could not be accepted.
    BadRequest(HeadError),
    /// The route configuration has not arrived.
    RoutesNotReady,
    /// No virtual host or no route.
    NoRoute,
    /// The route names a cluster that is not there; answered with the route's code.
    NoCluster(StatusCode),
    /// No endpoint may be used.
    NoHealthyUpstream,
    /// The endpoints were asked for at the cluster's first use and did not come in time.
    EndpointsNotReceived(Duration),
    /// A limit of the cluster is reached.
    Overflow(Limit),
    /// The cluster's circuit breaker is open.
    CircuitOpen,
    /// No connection to the endpoint could be made.
    Connect(ConnectFailure),
    /// The upstream ended the exchange before its head.
    UpstreamReset(StreamError),
    /// The upstream ended the exchange after its head was passed on.
    UpstreamCut(StreamError),
    /// A time limit ran out.
    Timeout(Timer),
    /// The client went away.
    ClientGone(StreamError),
    /// The client broke the protocol within its body.
    ClientProtocol(&'static str),
    /// An upgrade that the configuration does not allow.
    UpgradeRefused,
    /// This process is shutting down.
    Draining,
    /// A filter refused the request.
    Denied(Box<Denial>),
}

/// A filter's answer in the upstream's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Status.
    pub status: StatusCode,
    /// What a gRPC client reads, where it does not follow from the status.
    pub grpc: Option<u16>,
    /// Envoy's response flag.
    pub flag: &'static str,
    /// Envoy's `response_code_details`.
    pub details: Cow<'static, str>,
    /// What the client reads.
    pub body: Cow<'static, str>,
    /// Headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What the client reads in the place of `body`, where it need not be a text.
    pub raw: Option<Bytes>,
    /// Why, where the details do not say it: for people.
    pub because: Option<String>,
}

impl Denial {
    /// One without flag and headers, whose gRPC status follows from the status.
    pub fn new(
        status: StatusCode,
        details: impl Into<Cow<'static, str>>,
        body: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            grpc: None,
            flag: "-",
            details: details.into(),
            body: body.into(),
            headers: Vec::new(),
            raw: None,
            because: None,
        }
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::Denied(Box::new(denial))
    }
}

/// Which limit of a cluster was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `max_connections` of a tunnel.
    Connections,
    /// `max_connections` with no room to wait.
    Pending,
    /// `max_requests`.
    Requests,
}

/// Why no connection could be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The kernel's error, in words: `connection refused`.
    Refused(String),
    /// `connect_timeout` ran out.
    TimedOut(Duration),
    /// The TLS handshake failed; the sentence says which side refused and why.
    Tls(String),
    /// The address is not usable (a name that does not resolve, no original destination).
    Address(&'static str),
}

/// Which time limit ran out; each knows the field that set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// `route.timeout`: the response was not complete in time.
    Response(TimeLimit),
    /// `stream_idle_timeout` or the route's `idle_timeout`.
    StreamIdle(TimeLimit),
    /// `request_timeout`: the request was not received in time.
    Request(TimeLimit),
    /// `max_stream_duration` of the listener or the route.
    StreamDuration(TimeLimit),
    /// `max_stream_duration` of the cluster.
    UpstreamDuration(TimeLimit),
    /// `retry_policy.per_try_timeout`.
    PerTry(TimeLimit),
    /// `retry_policy.per_try_idle_timeout`.
    PerTryIdle(TimeLimit),
}

/// Everything that is said of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Status of the reply, where a head can still be sent.
    pub status: StatusCode,
    /// Envoy's response flag.
    pub flag: &'static str,
    /// Envoy's `response_code_details`.
    pub details: Cow<'static, str>,
    /// What the client reads.
    pub body: Cow<'static, str>,
}

impl Said {
    fn new(
        status: StatusCode,
        flag: &'static str,
        details: impl Into<Cow<'static, str>>,
        body: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            flag,
            details: details.into(),
            body: body.into(),
        }
    }
}

impl Said {
    /// The same of a request that was tried again before.
    pub fn after_retries(mut self) -> Self {
        if self.body.starts_with(RESET_BODY) {
            let latest = "headers. retried and the latest reset reason";
            self.body = self.body.replacen("headers. reset reason", latest, 1).into();
        }
        self
    }
}

/// `response_code_details` of a gRPC-Web request whose text is not base64.
pub const NOT_BASE64: &str = "grpc_base_64_decode_failed";
/// `response_code_details` of the local rate limit.
pub const LOCAL_RATE_LIMITED: &str = "local_rate_limited";

/// Details of a request head that did not come within `request_headers_timeout`.
pub const HEAD_TIMEOUT: &str = "request_header_timeout";

const RESET_BODY: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

impl Failure {
    /// Status, flag, details and body of this failure.
    pub fn said(&self) -> Said {
        use StatusCode as S;
        match self {
            Self::BadRequest(error) => {
                // The codec says what it refuses; the connection manager does not.
                let by_codec = error.details.starts_with("http1.") || error.details.starts_with("http2.");
                let body = if error.details == HEAD_TIMEOUT {
                    "request header timeout"
                } else if by_codec || error.status != S::BAD_REQUEST {
                    error.status.canonical_reason().unwrap_or_default()
                } else {
                    ""
                };
                Said::new(
                    error.status,
                    if by_codec { "DPE" } else { "-" },
                    error.details,
                    body,
                )
            }
            Self::RoutesNotReady => Said::new(S::NOT_FOUND, "NR", "route_configuration_not_ready", ""),
            Self::NoRoute => Said::new(S::NOT_FOUND, "NR", "route_not_found", ""),
            Self::NoCluster(status) => Said::new(*status, "NC", "cluster_not_found", ""),
            Self::NoHealthyUpstream => Said::new(
                S::SERVICE_UNAVAILABLE,
                "UH",
                "no_healthy_upstream",
                "no healthy upstream",
            ),
            Self::EndpointsNotReceived(_) => Said::new(
                S::SERVICE_UNAVAILABLE,
                "UH",
                "no_healthy_upstream{endpoints_not_received}",
                "no healthy upstream",
            ),
            Self::Overflow(_) => {
                let details = "upstream_reset_before_response_started{overflow}";
                over_limit(details, format!("{RESET_BODY}overflow"))
            }
            Self::CircuitOpen => over_limit("circuit_breaker_open", "circuit breaker open"),
            Self::Connect(failure) => failure.said(),
            Self::UpstreamReset(error) => before_head(error),
            Self::UpstreamCut(error) => after_head(error),
            Self::Timeout(timer) => timer.said(),
            Self::ClientGone(_) => Said::new(S::BAD_REQUEST, "DC", "downstream_remote_disconnect", ""),
            Self::ClientProtocol(details @ NOT_BASE64) => Said::new(
                S::BAD_REQUEST,
                "-",
                *details,
                "Bad gRPC-web request, invalid base64 data.",
            ),
            Self::ClientProtocol(details) => Said::new(S::BAD_REQUEST, "DPE", *details, "Bad Request"),
            Self::UpgradeRefused => Said::new(S::FORBIDDEN, "-", "upgrade_failed", ""),
            Self::Draining => Said::new(S::SERVICE_UNAVAILABLE, "DR", "draining", "shutting down"),
            Self::Denied(denial) => Said::new(
                denial.status,
                denial.flag,
                denial.details.clone(),
                denial.body.clone(),
            ),
        }
    }

    /// One sentence for the log and for people.
    pub fn sentence(&self) -> String {
        match self {
            Self::BadRequest(error) => {
                format!("the client's request head is not acceptable: {}", error.details)
            }
            Self::RoutesNotReady => {
                "the control plane has not sent this listener's route configuration".into()
            }
            Self::NoRoute => "no virtual host and route match this request".into(),
            Self::NoCluster(_) => "the route names a cluster that the control plane has not sent".into(),
            Self::NoHealthyUpstream => "the cluster has no endpoint that may be used".into(),
            Self::EndpointsNotReceived(limit) => {
                format!("the control plane sent no endpoints within {limit:?} of the cluster's first use")
            }
            Self::Overflow(Limit::Pending) => {
                "circuit breaker: max_connections and max_pending_requests".into()
            }
            Self::CircuitOpen => "the cluster failed too often, and its circuit breaker is open".into(),
            Self::Overflow(Limit::Connections) => "circuit breaker: max_connections".into(),
            Self::Overflow(Limit::Requests) => "circuit breaker: max_requests".into(),
            Self::Connect(failure) => format!("no connection to the endpoint: {}", failure.reason()),
            Self::UpstreamReset(error) => {
                format!("the upstream ended the exchange before its head: {error:?}")
            }
            Self::UpstreamCut(error) => format!("the upstream ended the exchange within its body: {error:?}"),
            Self::Timeout(timer) => timer.sentence(),
            Self::ClientGone(error) => format!("the client went away: {error:?}"),
            Self::ClientProtocol(details) => {
                format!("the client broke the protocol within its body: {details}")
            }
            Self::UpgradeRefused => "this upgrade is not enabled here".into(),
            Self::Draining => "this process is shutting down".into(),
            Self::Denied(denial) => match &denial.because {
                None => format!("a filter refused the request: {}", denial.details),
                Some(why) => format!("a filter refused the request: {}: {why}", denial.details),
            },
        }
    }

    /// Whether the client's connection cannot be used again.
    pub fn closes_connection(&self) -> bool {
        match self {
            // What is left of the request may never come.
            Self::UpgradeRefused | Self::ClientProtocol(_) | Self::Timeout(Timer::Request(_)) => true,
            Self::BadRequest(error) => {
                ["http1.unexpected_underscore", "path_normalization_failed"].contains(&error.details)
            }
            _ => false,
        }
    }

    /// Whether the flag is for the log alone: Envoy's local rate limit raises it when its answer is made, so that no
    /// header of the answer can show it.
    pub fn raises_flag_late(&self) -> bool {
        matches!(self, Self::Denied(denial) if denial.details == LOCAL_RATE_LIMITED)
    }

    /// Whether the cluster can give no answer: it is open, full, without endpoints, or its endpoint failed.
    pub fn leaves_cluster_unable(&self) -> bool {
        match self {
            Self::NoHealthyUpstream
            | Self::EndpointsNotReceived(_)
            | Self::Overflow(_)
            | Self::CircuitOpen => true,
            _ => self.blames_upstream(),
        }
    }

    /// Whether the endpoint, not the client or we, is to blame.
    pub fn blames_upstream(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::UpstreamReset(_)
                | Self::UpstreamCut(_)
                | Self::Timeout(
                    Timer::Response(_)
                        | Timer::StreamIdle(_)
                        | Timer::PerTry(_)
                        | Timer::PerTryIdle(_)
                        | Timer::UpstreamDuration(_)
                )
        )
    }
}

/// What the kernel says where nobody listens, in Envoy's words.
pub const CONNECTION_REFUSED: &str = "delayed connect error: Connection refused";

impl ConnectFailure {
    /// Whether the address answered, and nobody listens there.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(words) if words == CONNECTION_REFUSED)
    }

    /// What `%UPSTREAM_TRANSPORT_FAILURE_REASON%` says.
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            Self::Refused(words) | Self::Tls(words) => Cow::Borrowed(words),
            Self::TimedOut(limit) => Cow::Owned(format!("connect_timeout of {limit:?} ran out")),
            Self::Address(words) => Cow::Borrowed(words),
        }
    }

    fn said(&self) -> Said {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::TimedOut(_) => Said::new(
                unavailable,
                "UF",
                "upstream_reset_before_response_started{connection_timeout}",
                format!("{RESET_BODY}connection timeout"),
            ),
            Self::Refused(words) => Said::new(
                unavailable,
                "UF",
                format!(
                    "upstream_reset_before_response_started{{remote_connection_failure|{}}}",
                    joined(words)
                ),
                format!("{RESET_BODY}remote connection failure"),
            ),
            // The peer learns that TLS failed, not what we expected of it.
            Self::Tls(words) => Said::new(
                unavailable,
                "UF",
                format!(
                    "upstream_reset_before_response_started{{remote_connection_failure|TLS_error:{}}}",
                    joined(words)
                ),
                format!("{RESET_BODY}remote connection failure, transport failure reason: TLS error"),
            ),
            Self::Address(words) => Said::new(
                unavailable,
                "UH",
                format!("no_healthy_upstream{{{}}}", joined(words)),
                "no healthy upstream",
            ),
        }
    }
}

/// Details are one word: spaces become underscores, as Envoy writes them.
fn joined(words: &str) -> String {
    words.replace(' ', "_")
}

impl Timer {
    fn said(self) -> Said {
        use StatusCode as S;
        match self {
            Self::Response(_) => Said::new(
                S::GATEWAY_TIMEOUT,
                "UT",
                "response_timeout",
                "upstream request timeout",
            ),
            Self::PerTry(_) => Said::new(
                S::GATEWAY_TIMEOUT,
                "UT",
                "upstream_per_try_timeout",
                "upstream request timeout",
            ),
            Self::PerTryIdle(_) => Said::new(
                S::GATEWAY_TIMEOUT,
                "UT",
                "upstream_per_try_idle_timeout",
                "upstream request timeout",
            ),
            Self::StreamIdle(_) => {
                Said::new(S::GATEWAY_TIMEOUT, "SI", "stream_idle_timeout", "stream timeout")
            }
            Self::Request(_) => Said::new(
                S::REQUEST_TIMEOUT,
                "-",
                "request_overall_timeout",
                "request timeout",
            ),
            Self::StreamDuration(_) => Said::new(
                S::GATEWAY_TIMEOUT,
                "-",
                "max_duration_timeout",
                "downstream duration timeout",
            ),
            Self::UpstreamDuration(_) => Said::new(
                S::GATEWAY_TIMEOUT,
                "UMSDR",
                "upstream_max_stream_duration_reached",
                "upstream max stream duration reached",
            ),
        }
    }

    /// The limit, and who set it.
    pub fn limit(self) -> TimeLimit {
        match self {
            Self::Response(limit)
            | Self::StreamIdle(limit)
            | Self::Request(limit)
            | Self::StreamDuration(limit)
            | Self::UpstreamDuration(limit)
            | Self::PerTry(limit)
            | Self::PerTryIdle(limit) => limit,
        }
    }

    fn sentence(self) -> String {
        let what = match self {
            Self::Response(_) => "the response was not complete",
            Self::StreamIdle(_) => "nothing moved",
            Self::Request(_) => "the request was not received",
            Self::StreamDuration(_) | Self::UpstreamDuration(_) => "the exchange was not over",
            Self::PerTry(_) => "the attempt was not answered",
            Self::PerTryIdle(_) => "nothing moved in the attempt",
        };
        let TimeLimit { limit, from } = self.limit();
        format!("{what} within {limit:?} ({})", from.name())
    }
}

/// The cluster takes no more.
fn over_limit(details: &'static str, body: impl Into<Cow<'static, str>>) -> Said {
    Said::new(StatusCode::SERVICE_UNAVAILABLE, "UO", details, body)
}

/// The upstream failed before its head.
fn before_head(error: &StreamError) -> Said {
    let (status, flag, details, reason): (_, _, Cow<'static, str>, _) = match error {
        StreamError::Io(_) | StreamError::Truncated => (
            StatusCode::SERVICE_UNAVAILABLE,
            "UC",
            "connection_termination".into(),
            "connection termination",
        ),
        StreamError::Reset(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "UR",
            "remote_reset".into(),
            "remote reset",
        ),
        StreamError::Refused => (
            StatusCode::SERVICE_UNAVAILABLE,
            "UR",
            "remote_refused_stream_reset".into(),
            "remote refused stream reset",
        ),
        StreamError::Protocol(word) => (
            StatusCode::BAD_GATEWAY,
            "UPE",
            format!("protocol_error|{word}").into(),
            "protocol error",
        ),
    };
    Said::new(
        status,
        flag,
        format!("upstream_reset_before_response_started{{{details}}}"),
        format!("{RESET_BODY}{reason}"),
    )
}

/// The upstream failed after its head was passed on: the status is the upstream's, the message is cut visibly.
fn after_head(error: &StreamError) -> Said {
    let (flag, details) = match error {
        StreamError::Io(_) | StreamError::Truncated => ("UC", "connection_termination"),
        StreamError::Reset(_) | StreamError::Refused => ("UR", "remote_reset"),
        StreamError::Protocol(_) => ("UPE", "protocol_error"),
    };
    Said::new(
        StatusCode::BAD_GATEWAY,
        flag,
        format!("upstream_reset_after_response_started{{{details}}}"),
        "",
    )
}

/// The gRPC status code of a reply that carries this HTTP status (gRPC's `http-grpc-status-mapping.md`).
pub fn grpc_status(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_reads_as_envoys() {
        let said = Failure::Connect(ConnectFailure::Refused(
            "delayed connect error: Connection refused".into(),
        ))
        .said();
        assert_eq!((said.status.as_u16(), said.flag), (503, "UF"));
        assert!(
            said.body
                .starts_with("upstream connect error or disconnect/reset before headers. reset reason: ")
        );
        assert!(!said.details.contains(' '));
    }

    #[test]
    fn what_we_expected_of_a_peer_is_not_told_to_the_client() {
        let failure = Failure::Connect(ConnectFailure::Tls("expected spiffe://a/b".into()));
        assert!(!failure.said().body.contains("spiffe"));
        assert!(failure.sentence().contains("spiffe://a/b"));
    }
}
