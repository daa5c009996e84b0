//! `envoy.filters.http.health_check`: who answers a load balancer that asks whether this pod is well?
//!
//! Holds: the answer is a function of what the operator said (`/healthcheck/fail`), of the last answer of the
//! application within `cache_time`, and of the clusters of the world; nothing here reads a clock.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::cluster::Cluster;
use crate::route::{HeaderMatch, RequestFacts};
use crate::snapshot::ClusterId;

/// The filter in a chain.
#[derive(Debug)]
pub struct HealthCheck {
    /// `pass_through_mode`: the application is asked; else the filter answers.
    pub pass_through: bool,
    /// `cache_time`, only with `pass_through`.
    pub cache: Option<HealthCache>,
    /// `cluster_min_healthy_percentages`, only without `pass_through`; by name, so that the answer is always the same.
    pub clusters: Vec<(ClusterId, f64)>,
    /// `headers`: all of them match a health check. Without any every request is one, as in Envoy.
    pub headers: Vec<HeaderMatch>,
}

/// The last answer of the application, for as long as it counts.
#[derive(Debug)]
pub struct HealthCache {
    time: Duration,
    last: Mutex<Option<(Instant, Remembered)>>,
}

/// What the application answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Its status.
    pub status: StatusCode,
    /// It said `x-envoy-degraded`.
    pub degraded: bool,
}

/// The filter's own answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthAnswer {
    /// Status.
    pub status: StatusCode,
    /// Answered with `x-envoy-degraded`.
    pub degraded: bool,
    /// Why, in Envoy's word.
    pub reason: HealthReason,
}

/// Why a health check was answered as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthReason {
    /// Nothing speaks against it.
    Ok,
    /// The application answered so before.
    Cached,
    /// The operator says no.
    Failed,
    /// Every named cluster has enough endpoints.
    ClusterHealthy,
    /// A named cluster is not there.
    NoCluster,
    /// A named cluster has no endpoints.
    ClusterEmpty,
    /// A named cluster has too few endpoints that are well.
    ClusterUnhealthy,
}

impl HealthReason {
    /// `response_code_details`.
    pub fn details(self) -> &'static str {
        match self {
            Self::Ok => "health_check_ok",
            Self::Cached => "health_check_cached",
            Self::Failed => "health_check_failed",
            Self::ClusterHealthy => "health_check_ok_cluster_healthy",
            Self::NoCluster => "health_check_failed_no_cluster_found",
            Self::ClusterEmpty => "health_check_failed_cluster_empty",
            Self::ClusterUnhealthy => "health_check_failed_cluster_unhealthy",
        }
    }
}

impl HealthCache {
    /// Answers count for `time`.
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            last: Mutex::new(None),
        }
    }

    /// Keeps an answer that came at `now`.
    pub fn keep(&self, answer: Remembered, now: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, answer));
    }

    /// The answer that still counts.
    pub fn get(&self, now: Instant) -> Option<Remembered> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = last?;
        (now.saturating_duration_since(at) < self.time).then_some(answer)
    }
}

impl HealthCheck {
    /// Whether a request is a health check.
    pub fn concerns(&self, facts: &RequestFacts<'_>) -> bool {
        self.headers.iter().all(|header| header.matches(facts))
    }

    /// The answer of the filter itself; `None`: the application is asked. `failed` is the operator's word, `cluster`
    /// finds one in the world.
    pub fn judge<'w>(
        &self,
        failed: bool,
        now: Instant,
        cluster: impl Fn(ClusterId) -> Option<&'w Cluster>,
    ) -> Option<HealthAnswer> {
        if failed {
            return Some(refused(HealthReason::Failed));
        }
        let remembered = self.cache.as_ref().and_then(|cache| cache.get(now));
        if self.pass_through {
            return remembered.map(|last| HealthAnswer {
                status: last.status,
                degraded: last.degraded,
                reason: HealthReason::Cached,
            });
        }
        let mut reason = HealthReason::Ok;
        for (id, percent) in &self.clusters {
            reason = match cluster(*id) {
                None => return Some(refused(HealthReason::NoCluster)),
                Some(cluster) => share(cluster, *percent),
            };
            if reason != HealthReason::ClusterHealthy {
                return Some(refused(reason));
            }
        }
        Some(HealthAnswer {
            status: StatusCode::OK,
            degraded: false,
            reason,
        })
    }
}

fn refused(reason: HealthReason) -> HealthAnswer {
    HealthAnswer {
        status: StatusCode::SERVICE_UNAVAILABLE,
        degraded: false,
        reason,
    }
}

/// Envoy counts whole percents, and endpoints that are healthy or degraded.
fn share(cluster: &Cluster, percent: f64) -> HealthReason {
    let percent = percent as u64;
    let priorities = &cluster.endpoints.priorities;
    let total: u64 = priorities.iter().map(|priority| u64::from(priority.total)).sum();
    let well: u64 = priorities
        .iter()
        .map(|priority| u64::from(priority.healthy) + u64::from(priority.degraded))
        .sum();
    match total {
        0 if percent > 0 => HealthReason::ClusterEmpty,
        _ if 100 * well < total * percent => HealthReason::ClusterUnhealthy,
        _ => HealthReason::ClusterHealthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(pass_through: bool, cache: Option<Duration>) -> HealthCheck {
        HealthCheck {
            pass_through,
            cache: cache.map(HealthCache::new),
            clusters: Vec::new(),
            headers: Vec::new(),
        }
    }

    #[test]
    fn the_operator_has_the_first_word() {
        for pass_through in [false, true] {
            let answer = filter(pass_through, None).judge(true, Instant::now(), |_| None);
            assert_eq!(answer, Some(refused(HealthReason::Failed)));
        }
    }

    #[test]
    fn the_filter_answers_unless_it_passes_through() {
        let now = Instant::now();
        let answer = filter(false, None).judge(false, now, |_| None).unwrap();
        assert_eq!((answer.status, answer.reason), (StatusCode::OK, HealthReason::Ok));
        assert_eq!(filter(true, None).judge(false, now, |_| None), None);
    }

    #[test]
    fn an_answer_of_the_application_counts_for_the_time_given() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let filter = filter(true, Some(second));
        assert_eq!(filter.judge(false, now, |_| None), None);
        let said = Remembered {
            status: StatusCode::IM_A_TEAPOT,
            degraded: true,
        };
        filter.cache.as_ref().unwrap().keep(said, now);
        let answer = filter
            .judge(false, now + Duration::from_millis(999), |_| None)
            .unwrap();
        assert_eq!((answer.status, answer.degraded), (StatusCode::IM_A_TEAPOT, true));
        assert_eq!(filter.judge(false, now + second, |_| None), None);
    }

    #[test]
    fn a_cluster_that_is_not_there_is_not_well() {
        let mut filter = filter(false, None);
        filter.clusters = vec![(ClusterId::from_index(0), 0.0)];
        let answer = filter.judge(false, Instant::now(), |_| None);
        assert_eq!(answer, Some(refused(HealthReason::NoCluster)));
    }
}
