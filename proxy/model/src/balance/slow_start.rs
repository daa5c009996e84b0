//! How much of its weight does a new endpoint have?
//!
//! Envoy's rule: `(age / window) ^ (1 / aggression)` of it, at least `min_weight_percent`, and all of it once the window
//! is over. Shares follow these weights exactly: what is drawn by full weights is taken with the probability of its
//! factor, and drawn again by the lower ones otherwise.

use std::time::{Duration, Instant};

use super::BalancePolicy;
use crate::endpoint::Endpoint;

/// `slow_start_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct SlowStart {
    /// Round robin or least request.
    pub inner: BalancePolicy,
    /// `slow_start_window`, above zero.
    pub window: Duration,
    /// `aggression`, above 0; default 1.
    pub aggression: f64,
    /// `min_weight_percent` as a fraction; default 0.1.
    pub least: f64,
}

impl SlowStart {
    /// What counts of the weight of an endpoint of this age; above 0 and at most 1.
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let age = age.max(Duration::from_millis(1));
        let grown = (age.as_secs_f64() / self.window.as_secs_f64()).powf(1.0 / self.aggression);
        grown.max(self.least).clamp(1e-6, 1.0)
    }

    /// The same of an endpoint; one that nobody has seen yet begins now.
    pub(super) fn factor_of(&self, endpoint: &Endpoint, now: Instant) -> f64 {
        let since = endpoint.live().watch().since.or(now);
        self.factor(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::balance::{Balancer, Group};
    use crate::endpoint::tests_support::endpoints;

    const WINDOW: Duration = Duration::from_secs(100);

    fn slow(inner: BalancePolicy, aggression: f64) -> SlowStart {
        SlowStart {
            inner,
            window: WINDOW,
            aggression,
            least: 0.1,
        }
    }

    fn least_request(full_scan: bool) -> BalancePolicy {
        BalancePolicy::LeastRequest {
            choices: 2,
            bias: 1.0,
            full_scan,
        }
    }

    #[test]
    fn weight_grows_with_age_as_in_envoy() {
        let linear = slow(BalancePolicy::RoundRobin, 1.0);
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(
            [0, 5, 10, 50, 100, 900].map(|s| linear.factor(at(s))),
            [0.1, 0.1, 0.1, 0.5, 1.0, 1.0]
        );
        let quick = slow(BalancePolicy::RoundRobin, 2.0);
        assert!((quick.factor(at(25)) - 0.5).abs() < 1e-9);
        let late = slow(BalancePolicy::RoundRobin, 0.5);
        assert!((late.factor(at(50)) - 0.25).abs() < 1e-9);
    }

    /// The shares of endpoints with these weights, the last of which is `age` old and the others are beyond the window.
    /// Requests last: each is in flight until `held` others came after it.
    fn shares(policy: BalancePolicy, weights: &[u32], age: u64, held: usize) -> Vec<f64> {
        let (all, start) = (endpoints(weights), Instant::now());
        let now = start + WINDOW * 2;
        for (n, endpoint) in all.iter().enumerate() {
            let new = n + 1 == all.len();
            let since = if new {
                now - Duration::from_secs(age)
            } else {
                start
            };
            endpoint.live().watch().since.again(since);
        }
        let policy = BalancePolicy::SlowStart(Arc::new(slow(policy, 1.0)));
        let groups = [Group {
            weight: None,
            endpoints: all.iter().collect(),
        }];
        let balancer = Balancer::build(&policy, &groups);
        let mut rng = fastrand::Rng::with_seed(11);
        let (mut counts, mut open) = (vec![0.0; all.len()], std::collections::VecDeque::new());
        for sequence in 0..60_000 {
            let chosen = balancer.pick_warming(sequence, now, &mut rng).unwrap();
            let at = all.iter().position(|e| Arc::ptr_eq(e, chosen)).unwrap();
            counts[at] += 1.0 / 60_000.0;
            all[at].live().active.fetch_add(1, Ordering::Relaxed);
            open.push_back(at);
            if open.len() > held {
                let ended: usize = open.pop_front().unwrap();
                all[ended].live().active.fetch_sub(1, Ordering::Relaxed);
            }
        }
        counts
    }

    #[test]
    fn a_new_endpoint_never_gets_more_than_its_share() {
        for (age, factor) in [(0, 0.1), (30, 0.3), (60, 0.6), (99, 0.99), (100, 1.0)] {
            for weights in [[1, 1, 1, 1], [1, 2, 3, 2]] {
                let sum: u32 = weights[..3].iter().sum();
                let own = f64::from(weights[3]) * factor;
                let share = own / (f64::from(sum) + own);
                let turns = shares(BalancePolicy::RoundRobin, &weights, age, 0);
                assert!((turns[3] - share).abs() < 0.01, "{age} s: {turns:?}, not {share}");
                let idle = shares(least_request(false), &weights, age, 0);
                assert!((idle[3] - share).abs() < 0.01, "{age} s: {idle:?}, not {share}");
                for full_scan in [false, true] {
                    let busy = shares(least_request(full_scan), &weights, age, 40);
                    assert!(busy[3] < share + 0.02, "{age} s: {busy:?}, more than {share}");
                    assert!(busy[3] > share * 0.5, "{age} s: {busy:?}, far below {share}");
                }
            }
        }
    }

    #[test]
    fn an_endpoint_is_new_in_the_version_that_brings_it() {
        use crate::cluster::{PickFacts, tests::config};
        use crate::endpoint::tests_support::address;
        use crate::endpoint::{Assignment, EndpointSpec, Locality, LocalitySpec};
        use crate::snapshot::{Edit, Snapshot};

        let assignment = |count: u8| {
            let endpoint = |n| Arc::new(EndpointSpec::at(address(n)));
            Arc::new(Assignment {
                localities: vec![LocalitySpec {
                    locality: Locality::default(),
                    weight: None,
                    priority: 0,
                    endpoints: (0..count).map(endpoint).collect(),
                }],
                ..Assignment::empty("c".into())
            })
        };
        let policy = BalancePolicy::SlowStart(Arc::new(slow(BalancePolicy::RoundRobin, 1.0)));
        let (config, start) = (config(0, policy, 1), Instant::now());
        let mut edit = Edit::new(&Snapshot::default());
        edit.set_cluster(Arc::clone(&config));
        edit.set_endpoints(config.id, assignment(3));
        let first = edit.finish_at(Some(start));
        let mut edit = Edit::new(&first);
        edit.set_endpoints(config.id, assignment(4));
        let next = edit.finish_at(Some(start + WINDOW * 2));
        let cluster = next.cluster(config.id).unwrap();
        let mut rng = fastrand::Rng::with_seed(5);
        let mut share = |age: Duration| {
            let facts = PickFacts {
                now: Some(start + WINDOW * 2 + age),
                ..PickFacts::default()
            };
            let mut new = || cluster.pick(&facts, &mut rng).unwrap().endpoint.spec.address == address(3);
            (0..20_000).filter(|_| new()).count() as f64 / 20_000.0
        };
        assert!((share(WINDOW / 2) - 0.5 / 3.5).abs() < 0.01);
        assert!((share(WINDOW) - 0.25).abs() < 0.001);
    }

    #[test]
    fn where_all_are_new_they_share_as_if_none_were() {
        let all = endpoints(&[1, 3]);
        let policy = BalancePolicy::SlowStart(Arc::new(slow(BalancePolicy::RoundRobin, 1.0)));
        let groups = [Group {
            weight: None,
            endpoints: all.iter().collect(),
        }];
        let balancer = Balancer::build(&policy, &groups);
        let (mut rng, now) = (fastrand::Rng::with_seed(2), Instant::now());
        let second = |sequence| {
            let chosen = balancer.pick_warming(sequence, now, &mut rng).unwrap();
            Arc::ptr_eq(chosen, &all[1])
        };
        let share = (0..40_000).map(second).filter(|second| *second).count();
        assert!((29_500..30_500).contains(&share), "{share}");
    }
}
