//! Is an endpoint so much worse than the others that it is left out for a while?
//!
//! Follows `envoy.config.cluster.v3.OutlierDetection`, with Envoy's order: a run of failures is judged at once, rates at
//! the end of each interval, and an ejected endpoint returns at the end of the first interval after its time.
//! One difference: a failure that all endpoints have in common ejects none. A run is judged against what the others did
//! since it began: if they failed too and none succeeded, or if no other could take the load, the endpoint stays; so it
//! does when its failure percentage is too high and so is that of every other. Envoy ejects up to
//! `max_ejection_percent` then, and the rest gets all the load.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::monitor::Origin;
use super::{Flag, Monitor, Trip, micros};
use crate::endpoint::{Endpoint, EndpointSet};

/// `outlier_detection` of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierDetection {
    /// `consecutive_5xx`, default 5; 0: never, here and in the two below.
    pub consecutive_5xx: u32,
    /// `consecutive_gateway_failure`, default 5.
    pub consecutive_gateway: u32,
    /// `consecutive_local_origin_failure`, default 5.
    pub consecutive_local: u32,
    /// `split_external_local_origin_errors`.
    pub split: bool,
    /// `interval`, default 10 s.
    pub interval: Duration,
    /// `base_ejection_time`, default 30 s.
    pub base: Duration,
    /// `max_ejection_time`, default 300 s or the base time if that is more.
    pub max: Duration,
    /// `max_ejection_time_jitter`, default 0.
    pub jitter: Duration,
    /// `max_ejection_percent`, default 10.
    pub max_percent: u32,
    /// `always_eject_one_host`.
    pub always_one: bool,
    /// `successful_active_health_check_uneject_host`, default true.
    pub check_returns: bool,
    /// `success_rate_*`: the factor is `success_rate_stdev_factor` in thousandths, default 1900.
    pub success_rate: RateRule,
    /// `failure_percentage_*`: the factor is `failure_percentage_threshold`, default 85.
    pub failure_percentage: RateRule,
    /// `enforcing_*`.
    pub enforcing: Enforcing,
}

/// When rates are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateRule {
    /// `*_minimum_hosts`, default 5.
    pub minimum_hosts: u32,
    /// `*_request_volume` in one interval, default 100 and 50.
    pub volume: u32,
    /// How far off is too far.
    pub factor: u32,
}

/// How many percent of what is detected is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enforcing {
    /// `enforcing_consecutive_5xx`, default 100.
    pub consecutive_5xx: u32,
    /// `enforcing_consecutive_gateway_failure`, default 0.
    pub consecutive_gateway: u32,
    /// `enforcing_consecutive_local_origin_failure`, default 100.
    pub consecutive_local: u32,
    /// `enforcing_success_rate`, default 100.
    pub success_rate: u32,
    /// `enforcing_local_origin_success_rate`, default 100.
    pub local_success_rate: u32,
    /// `enforcing_failure_percentage`, default 0.
    pub failure_percentage: u32,
    /// `enforcing_failure_percentage_local_origin`, default 0.
    pub local_failure_percentage: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 5,
            consecutive_local: 5,
            split: false,
            interval: Duration::from_secs(10),
            base: Duration::from_secs(30),
            max: Duration::from_secs(300),
            jitter: Duration::ZERO,
            max_percent: 10,
            always_one: false,
            check_returns: true,
            success_rate: RateRule {
                minimum_hosts: 5,
                volume: 100,
                factor: 1900,
            },
            failure_percentage: RateRule {
                minimum_hosts: 5,
                volume: 50,
                factor: 85,
            },
            enforcing: Enforcing {
                consecutive_5xx: 100,
                consecutive_gateway: 0,
                consecutive_local: 100,
                success_rate: 100,
                local_success_rate: 100,
                failure_percentage: 0,
                local_failure_percentage: 0,
            },
        }
    }
}

/// What becomes of an endpoint that reached a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is ejected.
    Ejected,
    /// It stays: `enforcing_*` says so.
    NotEnforced,
    /// It stays: `max_ejection_percent` of the endpoints are ejected already.
    Overflow,
    /// It stays: the others fail as well, or there is no other.
    Common,
    /// It is ejected already, or not of this cluster any more.
    Gone,
}

/// What an interval's end brought.
#[derive(Debug, Clone)]
pub enum Change {
    /// An endpoint is used again.
    Returned(Arc<Endpoint>),
    /// An endpoint reached a limit.
    Judged(Arc<Endpoint>, Trip, Verdict),
}

impl OutlierDetection {
    /// An endpoint of `set` reached a limit by a run of failures. Marks it if it is ejected.
    pub fn tripped(
        &self,
        set: &EndpointSet,
        endpoint: &Endpoint,
        trip: Trip,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Verdict {
        let Some(monitor) = endpoint.monitor() else {
            return Verdict::Gone;
        };
        let is_member = set.endpoints.iter().any(|member| member.shares_counts(endpoint));
        let verdict = if !is_member || endpoint.has(Flag::Ejected) {
            Verdict::Gone
        } else if is_common(set, endpoint, monitor, trip.origin()) {
            Verdict::Common
        } else {
            self.eject(set, endpoint, trip, now, rng)
        };
        monitor.judged(trip);
        verdict
    }

    /// An interval ended: endpoints return, rates are compared. Marks what is ejected and what returns.
    pub fn interval_ended(&self, set: &EndpointSet, now: Duration, rng: &mut fastrand::Rng) -> Vec<Change> {
        let mut changes = Vec::new();
        for endpoint in set.endpoints.iter() {
            if self.is_over(endpoint, now) {
                bring_back(endpoint, now);
                changes.push(Change::Returned(Arc::clone(endpoint)));
            }
        }
        self.compare(set, Origin::External, &mut changes, now, rng);
        if self.split {
            self.compare(set, Origin::Local, &mut changes, now, rng);
        }
        for endpoint in set.endpoints.iter().filter(|e| !e.has(Flag::Ejected)) {
            self.calm(endpoint, now);
        }
        changes
    }

    /// An interval after its return an endpoint's next ejection becomes shorter again, interval by interval.
    fn calm(&self, endpoint: &Endpoint, now: Duration) {
        let Some(monitor) = endpoint.monitor() else { return };
        let returned = Duration::from_micros(monitor.returned_at.load(Ordering::Relaxed));
        let backoff = monitor.backoff.load(Ordering::Relaxed);
        if backoff > 0 && !returned.is_zero() && now.saturating_sub(returned) >= self.interval {
            monitor.backoff.store(backoff - 1, Ordering::Relaxed);
        }
    }

    /// Whether the time of an ejected endpoint is over.
    fn is_over(&self, endpoint: &Endpoint, now: Duration) -> bool {
        let Some(monitor) = endpoint.monitor().filter(|_| endpoint.has(Flag::Ejected)) else {
            return false;
        };
        let backoff = monitor.backoff.load(Ordering::Relaxed);
        let time = self.base.saturating_mul(backoff).min(self.max.max(self.base));
        let jitter = Duration::from_micros(monitor.jitter.load(Ordering::Relaxed));
        let since = Duration::from_micros(monitor.ejected_at.load(Ordering::Relaxed));
        now.saturating_sub(since) >= time + jitter
    }

    fn eject(
        &self,
        set: &EndpointSet,
        endpoint: &Endpoint,
        trip: Trip,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Verdict {
        let Some(monitor) = endpoint.monitor() else {
            return Verdict::Gone;
        };
        let ejected = ejected(set);
        let percent = 100.0 * (ejected + 1) as f64 / set.endpoints.len() as f64;
        let allowed = percent <= f64::from(self.max_percent) || (self.always_one && ejected == 0);
        if !allowed {
            return Verdict::Overflow;
        }
        if rng.u32(0..100) >= self.enforced(trip) {
            return Verdict::NotEnforced;
        }
        endpoint.live().flags.set(Flag::Ejected, true);
        monitor.ejections.fetch_add(1, Ordering::Relaxed);
        monitor.ejected_at.store(micros(now), Ordering::Relaxed);
        let backoff = monitor.backoff.load(Ordering::Relaxed);
        if self.base.saturating_mul(backoff) < self.max + self.base {
            monitor.backoff.store(backoff + 1, Ordering::Relaxed);
        }
        let most = micros(self.jitter);
        let jitter = if most == 0 { 0 } else { rng.u64(0..=most) };
        monitor.jitter.store(jitter, Ordering::Relaxed);
        Verdict::Ejected
    }

    fn enforced(&self, trip: Trip) -> u32 {
        let enforcing = &self.enforcing;
        match trip {
            Trip::Consecutive5xx => enforcing.consecutive_5xx,
            Trip::ConsecutiveGateway => enforcing.consecutive_gateway,
            Trip::ConsecutiveLocal => enforcing.consecutive_local,
            Trip::SuccessRate => enforcing.success_rate,
            Trip::LocalSuccessRate => enforcing.local_success_rate,
            Trip::FailurePercentage => enforcing.failure_percentage,
            Trip::LocalFailurePercentage => enforcing.local_failure_percentage,
        }
    }

    /// Success rates against their mean, then shares of failures against a fixed one.
    fn compare(
        &self,
        set: &EndpointSet,
        origin: Origin,
        changes: &mut Vec<Change>,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) {
        let (by_rate, by_share) = match origin {
            Origin::External => (Trip::SuccessRate, Trip::FailurePercentage),
            Origin::Local => (Trip::LocalSuccessRate, Trip::LocalFailurePercentage),
        };
        let least = self.success_rate.volume.min(self.failure_percentage.volume);
        let mut rates: Vec<(&Arc<Endpoint>, f64, u32)> = Vec::new();
        for endpoint in set.endpoints.iter() {
            let Some(monitor) = endpoint.monitor() else {
                continue;
            };
            let course = monitor.course(origin);
            let taken = course.take().filter(|_| !endpoint.has(Flag::Ejected));
            let enough = taken.filter(|(_, volume)| *volume >= least);
            course.set_rate(enough.map(|(rate, _)| rate));
            rates.extend(enough.map(|(rate, volume)| (endpoint, rate, volume)));
        }
        let mut judge = |endpoint: &Arc<Endpoint>, trip: Trip, common: bool| {
            let verdict = if endpoint.has(Flag::Ejected) {
                Verdict::Gone
            } else if common {
                Verdict::Common
            } else {
                self.eject(set, endpoint, trip, now, rng)
            };
            changes.push(Change::Judged(Arc::clone(endpoint), trip, verdict));
        };
        let of = |rule: &RateRule| {
            let volume = rule.volume;
            let hosts: Vec<_> = rates.iter().filter(move |rate| rate.2 >= volume).collect();
            (!hosts.is_empty() && hosts.len() >= rule.minimum_hosts as usize).then_some(hosts)
        };
        if let Some(hosts) = of(&self.success_rate) {
            let count = hosts.len() as f64;
            let mean = hosts.iter().map(|rate| rate.1).sum::<f64>() / count;
            let variance = hosts.iter().map(|rate| (rate.1 - mean).powi(2)).sum::<f64>() / count;
            let bound = mean - f64::from(self.success_rate.factor) / 1000.0 * variance.sqrt();
            for (endpoint, _, _) in hosts.iter().filter(|rate| rate.1 < bound) {
                judge(endpoint, by_rate, false);
            }
        }
        if let Some(hosts) = of(&self.failure_percentage) {
            let bound = f64::from(self.failure_percentage.factor);
            let fails = |rate: &f64| 100.0 * (1.0 - rate) >= bound;
            let common = hosts.iter().all(|rate| fails(&rate.1));
            for (endpoint, _, _) in hosts.iter().filter(|rate| fails(&rate.1)) {
                judge(endpoint, by_share, common);
            }
        }
    }
}

/// How many endpoints are ejected.
pub fn ejected(set: &EndpointSet) -> usize {
    set.endpoints.iter().filter(|e| e.has(Flag::Ejected)).count()
}

/// Lets an ejected endpoint be used again.
pub fn bring_back(endpoint: &Endpoint, now: Duration) {
    if !endpoint.has(Flag::Ejected) {
        return;
    }
    endpoint.live().flags.set(Flag::Ejected, false);
    if let Some(monitor) = endpoint.monitor() {
        monitor.forget_runs();
        monitor.returned_at.store(micros(now), Ordering::Relaxed);
    }
}

/// Whether what ails `endpoint` ails the others too: since its run of failures began, others failed and none succeeded.
/// Without any other that could be used instead it is common by definition.
fn is_common(set: &EndpointSet, endpoint: &Endpoint, monitor: &Monitor, origin: Origin) -> bool {
    let began = monitor.course(origin).run_began();
    let (mut others, mut succeeded, mut failed) = (false, false, false);
    for other in set.endpoints.iter() {
        if other.shares_counts(endpoint) {
            continue;
        }
        others |= !other.has(Flag::Ejected);
        if let Some(monitor) = other.monitor() {
            let (well, ill) = monitor.course(origin).since(began);
            succeeded |= well;
            failed |= ill;
        }
    }
    !others || (failed && !succeeded)
}
