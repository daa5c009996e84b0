//! Which time limits does a request have, and who set each of them?
//!
//! Holds: a limit never stands alone: it carries the field or header that its value comes from, so that it can name
//! itself when it runs out. Follows Envoy's `HttpConnectionManager` and `RouteAction` in which word holds.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::Forward;
use crate::listener::HttpTimeouts;

/// `x-envoy-upstream-rq-timeout-ms`.
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A time limit and where its value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimit {
    /// How long.
    pub limit: Duration,
    /// Who says so.
    pub from: Origin,
}

/// The field or header that set a time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Envoy's default of `route.timeout`, 15 s.
    RouteDefault,
    /// `route.timeout`.
    Route,
    /// `route.max_grpc_timeout`, deprecated.
    RouteGrpc,
    /// `x-envoy-upstream-rq-timeout-ms` of the request.
    TimeoutHeader,
    /// `retry_policy.per_try_timeout`.
    PerTry,
    /// `x-envoy-upstream-rq-per-try-timeout-ms` of the request.
    PerTryHeader,
    /// `retry_policy.per_try_idle_timeout`.
    PerTryIdle,
    /// `route.idle_timeout`.
    RouteIdle,
    /// `stream_idle_timeout` of the connection manager.
    StreamIdle,
    /// Its default, 5 min.
    StreamIdleDefault,
    /// `request_timeout` of the connection manager.
    Request,
    /// `route.max_stream_duration.max_stream_duration`.
    RouteDuration,
    /// `grpc-timeout` of the request.
    GrpcTimeout,
    /// `route.max_stream_duration.grpc_timeout_header_max`: the request's was longer.
    GrpcTimeoutMax,
    /// `common_http_protocol_options.max_stream_duration` of the connection manager.
    Duration,
    /// `common_http_protocol_options.max_stream_duration` of the cluster.
    ClusterDuration,
}

impl Origin {
    /// The name of the field or header.
    pub fn name(self) -> &'static str {
        match self {
            Self::RouteDefault => "route.timeout, by default",
            Self::Route => "route.timeout",
            Self::RouteGrpc => "route.max_grpc_timeout",
            Self::TimeoutHeader => "the request's x-envoy-upstream-rq-timeout-ms",
            Self::PerTry => "retry_policy.per_try_timeout",
            Self::PerTryHeader => "the request's x-envoy-upstream-rq-per-try-timeout-ms",
            Self::PerTryIdle => "retry_policy.per_try_idle_timeout",
            Self::RouteIdle => "route.idle_timeout",
            Self::StreamIdle => "stream_idle_timeout",
            Self::StreamIdleDefault => "stream_idle_timeout, by default",
            Self::Request => "request_timeout",
            Self::RouteDuration => "route.max_stream_duration",
            Self::GrpcTimeout => "the request's grpc-timeout",
            Self::GrpcTimeoutMax => "route.max_stream_duration.grpc_timeout_header_max",
            Self::Duration => "common_http_protocol_options.max_stream_duration of the listener",
            Self::ClusterDuration => "common_http_protocol_options.max_stream_duration of the cluster",
        }
    }

    /// A limit of this origin, if there is one.
    pub fn sets(self, limit: Option<Duration>) -> Option<TimeLimit> {
        limit.map(|limit| TimeLimit { limit, from: self })
    }
}

/// The time limits of a routed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// Until the request is received.
    pub request: Option<TimeLimit>,
    /// From the request's end until the response is complete.
    pub response: Option<TimeLimit>,
    /// From the request's first byte until everything is over.
    pub stream: Option<TimeLimit>,
    /// Without a byte in either direction.
    pub idle: Option<TimeLimit>,
}

impl TimeLimits {
    /// Those of every request of a connection manager.
    pub fn of_manager(manager: &HttpTimeouts) -> Self {
        let idle = if manager.stream_idle_said {
            Origin::StreamIdle
        } else {
            Origin::StreamIdleDefault
        };
        Self {
            request: Origin::Request.sets(manager.request),
            response: None,
            stream: Origin::Duration.sets(manager.stream_duration),
            idle: idle.sets(manager.stream_idle),
        }
    }
}

impl Forward {
    /// The limits of a request with these headers; it is taken at its word where it is `trusted`.
    pub fn time_limits(&self, manager: &HttpTimeouts, headers: &HeaderMap, trusted: bool) -> TimeLimits {
        let mut limits = TimeLimits::of_manager(manager);
        limits.response = self.response_limit(headers, trusted);
        if self.stream_duration.is_some() {
            limits.stream = self.stream_limit(headers);
        }
        if let Some(said) = self.idle_timeout {
            limits.idle = Origin::RouteIdle.sets(said);
        }
        limits
    }

    fn response_limit(&self, headers: &HeaderMap, trusted: bool) -> Option<TimeLimit> {
        if trusted
            && let Some(said) = headers.get(&TIMEOUT_HEADER)
            && let Some(millis) = said.to_str().ok().and_then(|said| said.parse().ok())
        {
            let limit = Some(Duration::from_millis(millis)).filter(|limit| !limit.is_zero());
            return Origin::TimeoutHeader.sets(limit);
        }
        let from = if self.timeout_said {
            Origin::Route
        } else {
            Origin::RouteDefault
        };
        from.sets(self.timeout)
    }

    /// `max_stream_duration` of a route, which holds instead of the connection manager's, also where it sets nothing: a
    /// gRPC deadline within its maximum, else the fixed one.
    fn stream_limit(&self, headers: &HeaderMap) -> Option<TimeLimit> {
        let said = self.stream_duration.as_deref()?;
        if let Some(max) = said.grpc_timeout_max
            && let Some(asked) = grpc_timeout(headers)
        {
            let (bounded, from) = if max.is_zero() || asked <= max {
                (asked, Origin::GrpcTimeout)
            } else {
                (max, Origin::GrpcTimeoutMax)
            };
            return from.sets(Some(bounded.saturating_sub(said.grpc_timeout_offset)));
        }
        Origin::RouteDuration.sets(said.max.filter(|limit| !limit.is_zero()))
    }
}

/// `grpc-timeout` (gRPC over HTTP/2, "Timeout"): at most eight digits and a unit.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(&GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_timeout_has_digits_and_a_unit() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_static(text));
            grpc_timeout(&headers)
        };
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(
            (of("123456789S"), of("S"), of("5x"), of("")),
            (None, None, None, None)
        );
    }
}
