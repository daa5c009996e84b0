//! Which fault does a request suffer?
//!
//! Follows `envoy.extensions.filters.http.fault.v3.HTTPFault`: a request that matches the filter's criteria is delayed,
//! then aborted, each by its own share. Decides only; the shell waits and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::Name;
use crate::chance;
use crate::route::{HeaderMatch, RequestFacts};

/// A share of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// Out of a million.
    pub per_million: u32,
    /// What 100 % are in the unit that was said (100, 10,000 or 1,000,000): headers that override speak in it.
    pub denominator: u32,
}

impl Portion {
    /// Draws.
    pub fn hits(self, rng: &mut fastrand::Rng) -> bool {
        chance::falls(self.per_million, rng)
    }

    /// At most what a header says, in the portion's own unit.
    fn limited_by(self, headers: &HeaderMap, name: &str) -> Self {
        let Some(said) = number(headers, name) else {
            return self;
        };
        let per_million = said.saturating_mul(u64::from(1_000_000 / self.denominator.max(1)));
        Self {
            per_million: u32::try_from(per_million)
                .unwrap_or(u32::MAX)
                .min(self.per_million),
            ..self
        }
    }
}

/// A delay or an abort: what, or that a header of the request says what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger<T> {
    /// By configuration.
    Fixed(T),
    /// By `x-envoy-fault-*` headers.
    Header,
}

/// With what a request is aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortKind {
    /// `http_status`.
    Http(StatusCode),
    /// `grpc_status`.
    Grpc(u16),
}

/// The abort of a plan.
pub type Abort = AbortKind;

/// `HTTPFault`, at a filter or at a route.
#[derive(Debug, Default)]
pub struct Fault {
    /// `delay` and its share.
    pub delay: Option<(Trigger<Duration>, Portion)>,
    /// `abort` and its share.
    pub abort: Option<(Trigger<AbortKind>, Portion)>,
    /// `response_rate_limit`, KiB a second, and its share.
    pub response_limit: Option<(Trigger<u64>, Portion)>,
    /// `upstream_cluster`: only requests to it.
    pub upstream_cluster: Option<Name>,
    /// `headers`: only requests that match all.
    pub headers: Vec<HeaderMatch>,
    /// `downstream_nodes`: only requests whose `x-envoy-downstream-service-node` is one of these.
    pub downstream_nodes: Vec<Box<str>>,
    /// `max_active_faults`: above this many delayed at once nobody is; `None` is without bound.
    pub max_active: Option<u32>,
    /// Faults that are being suffered, of all workers.
    pub active: AtomicU32,
}

/// A fault that is being suffered.
#[derive(Debug)]
pub struct ActiveFault(Arc<Fault>);

impl Drop for ActiveFault {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultPlan {
    /// It waits.
    pub delay: Option<Duration>,
    /// It is answered.
    pub abort: Option<Abort>,
    /// Its response is slowed down to so many KiB a second.
    pub response_limit: Option<u64>,
}

impl Fault {
    /// Whether nothing can happen.
    pub fn is_idle(&self) -> bool {
        self.delay.is_none() && self.abort.is_none() && self.response_limit.is_none()
    }

    /// The fault of a request to `cluster`.
    pub fn plan(&self, facts: &RequestFacts<'_>, cluster: &str, rng: &mut fastrand::Rng) -> FaultPlan {
        if self.is_idle() || !self.concerns(facts, cluster) {
            return FaultPlan::default();
        }
        let headers = facts.headers;
        let delay = self.delay.as_ref().and_then(|(trigger, portion)| {
            let delay = match trigger {
                Trigger::Fixed(delay) => *delay,
                Trigger::Header => Duration::from_millis(number(headers, "x-envoy-fault-delay-request")?),
            };
            let portion = match trigger {
                Trigger::Fixed(_) => *portion,
                Trigger::Header => portion.limited_by(headers, "x-envoy-fault-delay-request-percentage"),
            };
            (portion.hits(rng) && !delay.is_zero()).then_some(delay)
        });
        let abort = self.abort.as_ref().and_then(|(trigger, portion)| {
            let (abort, portion) = match trigger {
                Trigger::Fixed(abort) => (*abort, *portion),
                Trigger::Header => (
                    asked_abort(headers)?,
                    portion.limited_by(headers, "x-envoy-fault-abort-request-percentage"),
                ),
            };
            portion.hits(rng).then_some(abort)
        });
        let response_limit = self.response_limit.as_ref().and_then(|(trigger, portion)| {
            let (limit, portion) = match trigger {
                Trigger::Fixed(limit) => (*limit, *portion),
                Trigger::Header => (
                    number(headers, "x-envoy-fault-throughput-response").filter(|limit| *limit > 0)?,
                    portion.limited_by(headers, "x-envoy-fault-throughput-response-percentage"),
                ),
            };
            portion.hits(rng).then_some(limit)
        });
        FaultPlan {
            delay,
            abort,
            response_limit,
        }
    }

    /// Counts one more fault, unless there are `max_active_faults` of them.
    pub fn begin(self: &Arc<Self>) -> Option<ActiveFault> {
        let before = self.active.fetch_add(1, Ordering::Relaxed);
        let begun = ActiveFault(Arc::clone(self));
        self.max_active.is_none_or(|max| before < max).then_some(begun)
    }

    fn concerns(&self, facts: &RequestFacts<'_>, cluster: &str) -> bool {
        let node = || facts.headers.get("x-envoy-downstream-service-node");
        self.upstream_cluster
            .as_deref()
            .is_none_or(|wanted| wanted == cluster)
            && self.headers.iter().all(|header| header.matches(facts))
            && (self.downstream_nodes.is_empty()
                || node().is_some_and(|node| {
                    self.downstream_nodes
                        .iter()
                        .any(|wanted| wanted.as_bytes() == node.as_bytes())
                }))
    }
}

/// `x-envoy-fault-abort-request` is a status, `x-envoy-fault-abort-grpc-request` a gRPC status.
fn asked_abort(headers: &HeaderMap) -> Option<AbortKind> {
    let http = number(headers, "x-envoy-fault-abort-request")
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (200..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok());
    let grpc =
        || number(headers, "x-envoy-fault-abort-grpc-request").and_then(|status| u16::try_from(status).ok());
    http.map(AbortKind::Http).or_else(|| grpc().map(AbortKind::Grpc))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;

    const ALWAYS: Portion = Portion {
        per_million: 1_000_000,
        denominator: 100,
    };

    fn plan(fault: &Fault, headers: &[(&'static str, &'static str)], cluster: &str) -> FaultPlan {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        let facts = RequestFacts {
            method: &Method::GET,
            scheme: "http",
            authority: "a",
            path_and_query: "/",
            headers: &headers,
            certificate: Default::default(),
            internal: false,
            metadata: None,
        };
        fault.plan(&facts, cluster, &mut fastrand::Rng::with_seed(7))
    }

    #[test]
    fn only_requests_that_match_suffer() {
        let fault = Fault {
            abort: Some((Trigger::Fixed(AbortKind::Http(StatusCode::IM_A_TEAPOT)), ALWAYS)),
            upstream_cluster: Some("c".into()),
            downstream_nodes: vec!["n".into()],
            ..Fault::default()
        };
        let node = ("x-envoy-downstream-service-node", "n");
        let abort = Some(AbortKind::Http(StatusCode::IM_A_TEAPOT));
        assert_eq!(plan(&fault, &[node], "c").abort, abort);
        assert_eq!(plan(&fault, &[node], "d"), FaultPlan::default());
        assert_eq!(plan(&fault, &[], "c"), FaultPlan::default());
    }

    #[test]
    fn headers_say_what_happens_and_lower_the_share_only() {
        let fault = Fault {
            delay: Some((Trigger::Header, ALWAYS)),
            abort: Some((Trigger::Header, ALWAYS)),
            ..Fault::default()
        };
        let asked = [
            ("x-envoy-fault-delay-request", "20"),
            ("x-envoy-fault-abort-grpc-request", "14"),
        ];
        let expected = FaultPlan {
            delay: Some(Duration::from_millis(20)),
            abort: Some(AbortKind::Grpc(14)),
            response_limit: None,
        };
        assert_eq!(plan(&fault, &asked, ""), expected);
        let never = [asked[0], ("x-envoy-fault-delay-request-percentage", "0")];
        assert_eq!(plan(&fault, &never, ""), FaultPlan::default());
        let none = Fault {
            delay: Some((
                Trigger::Header,
                Portion {
                    per_million: 0,
                    denominator: 100,
                },
            )),
            ..Fault::default()
        };
        let more = [asked[0], ("x-envoy-fault-delay-request-percentage", "100")];
        assert_eq!(plan(&none, &more, "").delay, None);
    }

    #[test]
    fn a_share_is_kept_within_a_percent() {
        let portion = Portion {
            per_million: 250_000,
            denominator: 100,
        };
        let mut rng = fastrand::Rng::with_seed(1);
        let hits = (0..100_000).filter(|_| portion.hits(&mut rng)).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
    }

    #[test]
    fn a_response_is_slowed_down_as_the_header_says() {
        let fault = Fault {
            response_limit: Some((Trigger::Header, ALWAYS)),
            ..Fault::default()
        };
        let slowed = |fields: &[(&'static str, &'static str)]| plan(&fault, fields, "").response_limit;
        assert_eq!(slowed(&[]), None);
        assert_eq!(slowed(&[("x-envoy-fault-throughput-response", "0")]), None);
        assert_eq!(slowed(&[("x-envoy-fault-throughput-response", "8")]), Some(8));
        let never = ("x-envoy-fault-throughput-response-percentage", "0");
        assert_eq!(slowed(&[("x-envoy-fault-throughput-response", "8"), never]), None);
    }
}
