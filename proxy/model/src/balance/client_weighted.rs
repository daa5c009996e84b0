//! What weight has an endpoint by what it reports of its load (`client_side_weighted_round_robin`, gRFC A58)?
//!
//! `weight = rps / (utilization + eps / rps * penalty)`. Holds: workers only note reports; the control thread turns them
//! into weights once in `update_period` and the endpoints are built anew with them, so the schedule is exact and a pick
//! costs what a round robin's does. An endpoint without a valid weight gets the median of the others, as in Envoy.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::LoadReport;
use crate::endpoint::Endpoint;

/// `ClientSideWeightedRoundRobin`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientWeighted {
    /// `blackout_period`: so long an endpoint must have reported; default 10 s.
    pub blackout: Duration,
    /// `weight_expiration_period`: so old a report may be; default 3 min.
    pub expiration: Duration,
    /// `weight_update_period`, default 1 s, at least 100 ms.
    pub update_period: Duration,
    /// `error_utilization_penalty`, default 1.
    pub error_penalty: f64,
    /// `metric_names_for_computing_utilization`: the greatest of these counts before all others.
    pub metrics: Vec<Box<str>>,
}

/// What is known of one endpoint. Times are since the start of the process, in microseconds and one more: 0 is never.
#[derive(Debug, Default)]
pub struct ReportedLoad {
    weight: AtomicU32,
    since: AtomicU64,
    last: AtomicU64,
    /// What it is balanced with; 0: its reports do not count now.
    used: AtomicU32,
}

impl ClientWeighted {
    /// The weight by a report; `None` where it says too little.
    pub fn weight(&self, report: &LoadReport) -> Option<u32> {
        let at = |name: &str| report.at(name).unwrap_or(0.0);
        let requests = at("rps_fractional");
        if requests <= 0.0 {
            return None;
        }
        let named = self.metrics.iter().map(|name| at(name)).fold(0.0, f64::max);
        let utilization = [named, at("application_utilization"), at("cpu_utilization")]
            .into_iter()
            .find(|utilization| *utilization > 0.0)
            .unwrap_or(0.0);
        let utilization = utilization + self.error_penalty * at("eps") / requests;
        // Converting cuts what is too large.
        (utilization > 0.0).then(|| (requests / utilization) as u32)
    }

    /// Brings the weights of these endpoints up to date; whether one is another now.
    pub fn update<'e>(&self, endpoints: impl Iterator<Item = &'e Endpoint>, now: Duration) -> bool {
        let mut changed = false;
        for load in endpoints.filter_map(Endpoint::reported) {
            let weight = load.valid(self, now);
            changed |= load.used.swap(weight, Ordering::Relaxed) != weight;
        }
        changed
    }
}

impl ReportedLoad {
    /// A report came that makes this weight.
    pub fn note(&self, weight: u32, now: Duration) {
        let now = stamp(now);
        self.weight.store(weight, Ordering::Relaxed);
        self.last.fetch_max(now, Ordering::Relaxed);
        let _ = self
            .since
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What it is balanced with, if its reports count.
    pub fn used(&self) -> Option<u32> {
        Some(self.used.load(Ordering::Relaxed)).filter(|weight| *weight > 0)
    }

    /// The weight that counts now, or 0. After a report that is too old the blackout begins anew.
    fn valid(&self, settings: &ClientWeighted, now: Duration) -> u32 {
        let now = stamp(now);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (since, last) = (
            self.since.load(Ordering::Relaxed),
            self.last.load(Ordering::Relaxed),
        );
        if since == 0 {
            return 0;
        }
        if now.saturating_sub(last) > micros(settings.expiration) {
            self.since.store(0, Ordering::Relaxed);
            return 0;
        }
        if now.saturating_sub(since) < micros(settings.blackout) {
            return 0;
        }
        self.weight.load(Ordering::Relaxed)
    }
}

fn stamp(now: Duration) -> u64 {
    u64::try_from(now.as_micros())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

/// The weights that endpoints are balanced with.
pub(super) fn weights<'e>(endpoints: impl Iterator<Item = &'e Endpoint>) -> Vec<u32> {
    let said: Vec<Option<u32>> = endpoints
        .map(|endpoint| endpoint.reported().and_then(ReportedLoad::used))
        .collect();
    let mut valid: Vec<u32> = said.iter().copied().flatten().collect();
    let default = median(&mut valid);
    said.into_iter().map(|weight| weight.unwrap_or(default)).collect()
}

fn median(weights: &mut [u32]) -> u32 {
    weights.sort_unstable();
    let middle = weights.len() / 2;
    match (weights.get(middle.wrapping_sub(1)), weights.get(middle)) {
        (_, None) => 1,
        (Some(below), Some(above)) if weights.len().is_multiple_of(2) => {
            ((u64::from(*below) + u64::from(*above)) / 2) as u32
        }
        (_, Some(middle)) => *middle,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::balance::{BalancePolicy, Balancer, Group};
    use crate::endpoint::tests_support::endpoints;

    fn settings() -> ClientWeighted {
        ClientWeighted {
            blackout: Duration::from_secs(10),
            expiration: Duration::from_secs(180),
            update_period: Duration::from_secs(1),
            error_penalty: 1.0,
            metrics: vec!["named_metrics.queue".into(), "mem_utilization".into()],
        }
    }

    fn weight(text: &str) -> Option<u32> {
        settings().weight(&LoadReport::from_text(text).unwrap())
    }

    #[test]
    fn weights_are_envoys() {
        assert_eq!(weight("cpu_utilization=0.5,rps_fractional=100"), Some(200));
        assert_eq!(
            weight("cpu_utilization=0.5,application_utilization=0.25,rps_fractional=100"),
            Some(400)
        );
        // The named ones first, and of those the greatest.
        assert_eq!(
            weight(
                "application_utilization=0.25,mem_utilization=0.4,named_metrics.queue=0.8,rps_fractional=100"
            ),
            Some(125)
        );
        assert_eq!(weight("named_metrics.other=0.5,rps_fractional=100"), None);
        assert_eq!(weight("cpu_utilization=0.5,rps_fractional=100,eps=50"), Some(100));
        assert_eq!(weight("cpu_utilization=0.5"), None);
        assert_eq!(weight("rps_fractional=5"), None);
        assert_eq!(
            weight("cpu_utilization=1e-300,rps_fractional=1e300"),
            Some(u32::MAX)
        );
    }

    #[test]
    fn a_weight_counts_after_the_blackout_and_until_it_is_too_old() {
        let (load, settings) = (ReportedLoad::default(), settings());
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(load.valid(&settings, at(0)), 0);
        load.note(7, at(100));
        assert_eq!(load.valid(&settings, at(109)), 0);
        load.note(8, at(109));
        assert_eq!(load.valid(&settings, at(110)), 8);
        assert_eq!(load.valid(&settings, at(289)), 8);
        assert_eq!(load.valid(&settings, at(290)), 0, "too old");
        load.note(9, at(300));
        assert_eq!(load.valid(&settings, at(305)), 0, "the blackout holds again");
        assert_eq!(load.valid(&settings, at(310)), 9);
    }

    #[test]
    fn who_says_nothing_gets_the_median() {
        assert_eq!(median(&mut []), 1);
        assert_eq!(median(&mut [9]), 9);
        assert_eq!(median(&mut [1, 100, 4]), 4);
        assert_eq!(median(&mut [1, 100, 4, 8]), 6);
        assert_eq!(median(&mut [u32::MAX, u32::MAX]), u32::MAX);
    }

    #[test]
    fn shares_follow_the_reports_exactly_and_an_update_without_news_changes_nothing() {
        let (all, settings) = (endpoints(&[9, 1, 1, 1]), settings());
        let policy = BalancePolicy::ClientWeighted(Arc::new(settings.clone()));
        let shares = || {
            let groups = [Group {
                weight: None,
                endpoints: all.iter().collect(),
            }];
            let balancer = Balancer::build(&policy, &groups);
            let (mut rng, mut counts) = (fastrand::Rng::with_seed(1), [0; 4]);
            for sequence in 0..800 {
                let chosen = balancer.pick(sequence, None, &mut rng).unwrap();
                counts[all.iter().position(|e| Arc::ptr_eq(e, chosen)).unwrap()] += 1;
            }
            counts
        };
        // Without reports the weights of EDS do not count.
        assert_eq!(shares(), [200; 4]);
        for (endpoint, weight) in all.iter().zip([100, 200, 300]) {
            endpoint.live().watch().load.note(weight, Duration::ZERO);
        }
        let update = |seconds| settings.update(all.iter().map(Arc::as_ref), Duration::from_secs(seconds));
        assert!(!update(5));
        assert_eq!(shares(), [200; 4]);
        assert!(update(10));
        assert!(!update(11));
        assert_eq!(shares(), [100, 200, 300, 200]);
        assert!(update(200), "all reports are too old");
        assert_eq!(shares(), [200; 4]);
    }
}
