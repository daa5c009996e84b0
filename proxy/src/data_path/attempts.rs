//! Is a request to be sent again, after which wait, and to which endpoints not?
//!
//! Holds: the model decides; here stands what a request remembers of its attempts. A request without a retry policy
//! remembers nothing and pays nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};
use remora_model::cluster::{Cluster, RequestPriority};
use remora_model::endpoint::Endpoint;
use remora_model::retry::{
    Again, Bearer, Conditions, Ended, GivenUp, Moment, Not, Reset, RetryPolicy, Tries,
};
use remora_model::route::{Forward, Origin, RequestFacts, TimeLimit};

use crate::failure::{Failure, Limit, Timer};
use crate::observe::ClusterCells;
use crate::observe::time_text::unix_seconds;

/// What a request may say of its retries, where it is trusted to.
const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
const PER_TRY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");

/// What is remembered of the attempts of one request.
#[derive(Debug, Default)]
pub struct Attempts {
    policy: Option<Arc<RetryPolicy>>,
    priority: RequestPriority,
    tries: Tries,
    /// `per_try_timeout` of the route, where the request has a policy of its own.
    route_limit: Option<Option<Duration>>,
    /// Endpoints that were tried, if they are to be avoided.
    tried: Vec<Arc<Endpoint>>,
    /// The last attempt ended by a time limit.
    pub timed_out: bool,
}

impl Attempts {
    /// By the route's policy, and by the request's own headers where `trusted`. Counts the first attempt of a request
    /// that began at `started`.
    pub fn new(
        forward: &Forward,
        facts: &RequestFacts<'_>,
        trusted: bool,
        (cluster, started): (&Cluster, Instant),
    ) -> Self {
        let own = trusted
            .then(|| own_policy(forward.retry.as_deref(), facts.headers))
            .flatten();
        let of_route = || forward.retry.as_ref().and_then(|policy| policy.per_try_timeout);
        let route_limit = own.is_some().then(of_route);
        let policy = own.map(Arc::new).or_else(|| forward.retry.clone());
        let Some(policy) = policy else {
            return Self::default();
        };
        let concerned = policy.request_headers.is_empty()
            || policy.request_headers.iter().any(|header| header.matches(facts));
        let tries = if concerned {
            Tries::new(&policy)
        } else {
            Tries::default()
        };
        if tries.left() > 0 {
            let limit = cluster.thresholds(forward.priority).retries;
            limit.first(&cluster.live, forward.priority, started);
        }
        Self {
            tries,
            policy: Some(policy),
            priority: forward.priority,
            route_limit,
            ..Self::default()
        }
    }

    /// The response flag that says why there is no other attempt, though the policy would have one.
    pub fn flag(&self) -> Option<&'static str> {
        self.tries.given_up().map(|why| match why {
            GivenUp::Exhausted => "URX",
            GivenUp::Overflow => "UO",
        })
    }

    /// Whether the body is worth keeping.
    pub fn may_retry(&self) -> bool {
        self.tries.left() > 0
    }

    /// `per_try_timeout` and `per_try_idle_timeout`.
    pub fn limits(&self) -> (Option<TimeLimit>, Option<TimeLimit>) {
        let Some(policy) = self.policy.as_deref() else {
            return (None, None);
        };
        let by_header = self
            .route_limit
            .is_some_and(|limit| limit != policy.per_try_timeout);
        let from = if by_header {
            Origin::PerTryHeader
        } else {
            Origin::PerTry
        };
        (
            from.sets(policy.per_try_timeout),
            Origin::PerTryIdle.sets(policy.per_try_idle_timeout),
        )
    }

    /// Remembers an endpoint that is tried.
    pub fn tries(&mut self, endpoint: &Arc<Endpoint>) {
        if self.tries.left() > 0
            && self
                .policy
                .as_ref()
                .is_some_and(|policy| policy.avoid_previous_hosts)
        {
            self.tried.push(Arc::clone(endpoint));
        }
    }

    /// How often another endpoint than this may be asked for.
    pub fn other_choices(&self) -> u32 {
        match &self.policy {
            Some(policy) if !self.tried.is_empty() => policy.host_attempts,
            _ => 0,
        }
    }

    /// Whether this endpoint was tried.
    pub fn was_tried(&self, endpoint: &Endpoint) -> bool {
        self.tried
            .iter()
            .any(|tried| tried.spec.address == endpoint.spec.address)
    }

    /// Whether the policy speaks of this end, however many retries are left.
    pub fn covers(&self, ended: &Ended<'_>) -> bool {
        self.policy
            .as_ref()
            .is_some_and(|policy| policy.wants_retry(ended))
    }

    /// The policy, if there is one.
    pub fn policy(&self) -> Option<Arc<RetryPolicy>> {
        self.policy.clone()
    }

    /// There is no other attempt.
    pub fn end(&mut self) {
        self.tries.end();
    }

    /// Whether another attempt is made beside one that is not answered in time, and after which wait.
    pub fn hedge(
        &mut self,
        cluster: &Cluster,
        cells: &ClusterCells,
        rng: &mut fastrand::Rng,
    ) -> Option<Duration> {
        self.timed_out = true;
        let policy = self.policy.as_deref()?;
        let bearer = self.bearer(cluster);
        counted(self.tries.hedge(policy, bearer, Instant::now(), rng), cells)
    }

    fn bearer<'c>(&self, cluster: &'c Cluster) -> Bearer<'c> {
        Bearer {
            limit: cluster.thresholds(self.priority).retries,
            live: &cluster.live,
            priority: self.priority,
        }
    }

    /// Whether an attempt that ended this way is made again, and after which wait. Takes a place in the cluster's
    /// retry limit.
    pub fn again(
        &mut self,
        ended: &Ended<'_>,
        possible: bool,
        cluster: &Cluster,
        cells: &ClusterCells,
        rng: &mut fastrand::Rng,
    ) -> Option<Duration> {
        self.timed_out = matches!(ended, Ended::Reset(Reset::PerTryTimeout));
        let policy = self.policy.as_deref()?;
        let bearer = self.bearer(cluster);
        let clock = || Moment {
            now: Instant::now(),
            unix_seconds: unix_seconds(),
        };
        counted(
            self.tries.again(policy, ended, possible, bearer, clock, rng),
            cells,
        )
    }
}

/// The wait before another attempt, if there is one; counts what was decided.
fn counted(decided: Result<Again, Not>, cells: &ClusterCells) -> Option<Duration> {
    let traffic = &cells.traffic;
    match decided {
        Ok(again) => {
            traffic.upstream_rq_retry.one();
            if again.asked {
                traffic.upstream_rq_retry_backoff_ratelimited.one();
            } else {
                traffic.upstream_rq_retry_backoff_exponential.one();
            }
            return Some(again.wait);
        }
        Err(Not::Covered | Not::Concerned) => {}
        Err(Not::Wanted) => traffic.upstream_rq_retry_withheld.one(),
        Err(Not::Possible) => traffic.retry_or_shadow_abandoned.one(),
        Err(Not::Borne(GivenUp::Exhausted)) => traffic.upstream_rq_retry_limit_exceeded.one(),
        Err(Not::Borne(GivenUp::Overflow)) => traffic.upstream_rq_retry_overflow.one(),
    }
    None
}

/// The policy that a request asks for by its headers, on top of its route's.
fn own_policy(route: Option<&RetryPolicy>, headers: &HeaderMap) -> Option<RetryPolicy> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    let words = text(&RETRY_ON).into_iter().chain(text(&RETRY_GRPC_ON));
    let on = words.fold(Conditions::default(), |on, words| {
        on.with(Conditions::parse(words, |_| {}))
    });
    let per_try = text(&PER_TRY_TIMEOUT).and_then(|limit| limit.parse().ok());
    let retries: Option<u32> = text(&MAX_RETRIES).and_then(|max| max.parse().ok());
    if on.is_empty() && per_try.is_none() && (retries.is_none() || route.is_none()) {
        return None;
    }
    let mut policy = route.cloned().unwrap_or(RetryPolicy {
        retries: 1,
        host_attempts: 1,
        ..RetryPolicy::default()
    });
    policy.on = policy.on.with(on);
    if let Some(codes) = text(&STATUS_CODES) {
        let codes = codes
            .split(',')
            .filter_map(|code| code.trim().parse::<u16>().ok());
        policy.status_codes.extend(codes);
    }
    if let Some(retries) = retries {
        policy.retries = retries;
    }
    if let Some(limit) = per_try {
        policy.per_try_timeout = Some(Duration::from_millis(limit));
    }
    Some(policy)
}

/// How an attempt ended that failed with this, if it can be a reason for another.
pub fn reset_of(failure: &Failure) -> Option<Reset> {
    use crate::exchange::StreamError;
    match failure {
        Failure::Connect(_) => Some(Reset::Connect),
        Failure::UpstreamReset(StreamError::Refused) => Some(Reset::Refused),
        Failure::UpstreamReset(_) | Failure::Timeout(Timer::UpstreamDuration(_)) => Some(Reset::Remote),
        Failure::Timeout(Timer::PerTry(_) | Timer::PerTryIdle(_)) => Some(Reset::PerTryTimeout),
        Failure::Overflow(Limit::Pending | Limit::Requests | Limit::Connections) => Some(Reset::Overflow),
        _ => None,
    }
}
