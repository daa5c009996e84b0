//! The quicker of two endpoints drawn at random, by the time that they took to answer (peak EWMA).
//!
//! An endpoint costs its remembered time times the requests that it would have in flight, divided by its weight. What is
//! remembered jumps to a slower answer at once and moves to quicker ones with the decay time (as in Finagle and linkerd).
//! Holds: one word per endpoint for all workers; an endpoint of which no answer is known counts as slow as the one beside
//! it, so it gets its share by requests in flight and no flood; only an idle endpoint is forgiven with time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::weights::Cumulative;
use crate::endpoint::Endpoint;

/// What a failed attempt counts at most.
const LONGEST: f32 = 60.0;

/// `envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma`.
#[derive(Debug, Clone, PartialEq)]
pub struct PeakEwma {
    /// `decay_time`, default 10 s.
    pub decay: Duration,
    /// `default_rtt`, default 10 ms: where no endpoint has answered yet.
    pub default: Duration,
}

/// How quickly an endpoint answers: seconds as a float in the upper half, milliseconds since the start of the process
/// when that was noted in the lower; 0: never.
#[derive(Debug, Default)]
pub struct Latency(AtomicU64);

impl PeakEwma {
    /// An attempt took so long to its answer.
    pub fn answered(&self, latency: &Latency, took: Duration, now: Duration) {
        self.note(latency, now, |_| took.as_secs_f32());
    }

    /// An attempt had no answer: that must not look quick.
    pub fn failed(&self, latency: &Latency, now: Duration) {
        let default = self.default.as_secs_f32();
        self.note(latency, now, |before| (2.0 * before.max(default)).min(LONGEST));
    }

    fn note(&self, latency: &Latency, now: Duration, sample: impl Fn(f32) -> f32) {
        let stamp = millis(now);
        let noted = |word| {
            let (before, since) = unpacked(word);
            let sample = sample(before).max(1e-6);
            let left = self.left(since, stamp);
            let after = if word == 0 || sample > before {
                sample
            } else {
                before * left + sample * (1.0 - left)
            };
            Some(packed(after, stamp))
        };
        // Never fails: a new word is made each time.
        let _ = latency
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, noted);
    }

    /// What is remembered, in seconds; `None`: nothing. It fades only while nothing is in flight, so that one request
    /// asks how an endpoint is now, and not all at once.
    fn remembered(&self, endpoint: &Endpoint, active: u32, now: u32) -> Option<f32> {
        let word = endpoint.latency()?.0.load(Ordering::Relaxed);
        if word == 0 {
            return None;
        }
        let (seconds, since) = unpacked(word);
        Some(if active == 0 {
            seconds * self.left(since, now)
        } else {
            seconds
        })
    }

    /// How much of what was noted at `since` is left.
    fn left(&self, since: u32, now: u32) -> f32 {
        // A stamp of another worker may be a little ahead.
        let passed = now.wrapping_sub(since);
        let passed = if passed > u32::MAX / 2 { 0 } else { passed };
        let decay = self.decay.as_secs_f32().max(1e-3);
        (-(passed as f32) / 1000.0 / decay).exp()
    }
}

fn millis(now: Duration) -> u32 {
    // Wraps after 49 days, and so do differences.
    now.as_millis() as u32
}

fn packed(seconds: f32, stamp: u32) -> u64 {
    u64::from(seconds.to_bits()) << 32 | u64::from(stamp)
}

fn unpacked(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// One group, drawn from by time and load.
#[derive(Debug, Clone)]
pub(super) struct Quickest {
    weights: Cumulative,
    settings: Arc<PeakEwma>,
}

impl Quickest {
    pub(super) fn new(weights: &[u32], settings: &Arc<PeakEwma>) -> Self {
        Self {
            weights: Cumulative::new(weights),
            settings: Arc::clone(settings),
        }
    }

    /// The cheaper of two positions in `endpoints`, the first drawn where they cost the same.
    pub(super) fn pick(
        &self,
        endpoints: &[Arc<Endpoint>],
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let first = self.weights.random(rng)?;
        if endpoints.len() == 1 {
            return Some(first);
        }
        let second = self.weights.another(first, rng)?;
        let now = millis(now);
        let look = |at: usize| {
            let endpoint = endpoints.get(at)?;
            let active = endpoint.counts().active.load(Ordering::Relaxed);
            let load = f64::from(active + 1) / f64::from(self.weights.weight(at).max(1));
            Some((self.settings.remembered(endpoint, active, now), load))
        };
        let ((one, one_load), (other, other_load)) = (look(first)?, look(second)?);
        let beside = one.or(other).unwrap_or(self.settings.default.as_secs_f32());
        let cost = |seconds: Option<f32>, load: f64| f64::from(seconds.unwrap_or(beside)) * load;
        let better = cost(other, other_load) < cost(one, one_load);
        Some(if better { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BinaryHeap;

    use super::*;
    use crate::endpoint::tests_support::endpoints;

    fn settings() -> Arc<PeakEwma> {
        Arc::new(PeakEwma {
            decay: Duration::from_secs(10),
            default: Duration::from_millis(10),
        })
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_with_time() {
        let (settings, all) = (settings(), endpoints(&[1]));
        let latency = &all[0].live().watch().latency;
        let at = |active, now| settings.remembered(&all[0], active, now).unwrap();
        assert_eq!(settings.remembered(&all[0], 0, 5), None);
        settings.answered(latency, millis(100), millis(1_000));
        assert_eq!(at(1, 1_000), 0.1);
        settings.answered(latency, millis(900), millis(2_000));
        assert_eq!(at(1, 2_000), 0.9, "the peak");
        settings.answered(latency, millis(100), millis(12_000));
        assert!((at(1, 12_000) - (0.1 + 0.8 / std::f32::consts::E)).abs() < 1e-4);
        // Idle, it fades; with a request in flight it does not.
        assert!(at(0, 42_000) < 0.03 && at(1, 42_000) > 0.39);
        let before = at(1, 42_000);
        settings.failed(latency, millis(42_000));
        assert!((at(1, 42_000) - 2.0 * before).abs() < 1e-4);
        (0..50).for_each(|_| settings.failed(latency, millis(42_000)));
        assert_eq!(at(1, 42_000), LONGEST);
    }

    /// A simulation: requests arrive every `gap`, endpoint `n` takes `times[n]` for each; how many each has got, and the
    /// most that the last one had in flight in its first second.
    fn run(times: &[u64], weights: &[u32], gap: u64, late: Option<u64>) -> (Vec<u32>, u32) {
        let (settings, all) = (settings(), endpoints(weights));
        let mut rng = fastrand::Rng::with_seed(5);
        let mut open: BinaryHeap<std::cmp::Reverse<(u64, usize, u64)>> = BinaryHeap::new();
        let (mut counts, mut flood) = (vec![0; times.len()], 0);
        let whole = Quickest::new(weights, &settings);
        let early = Quickest::new(&weights[..weights.len() - 1], &settings);
        for number in 0..60_000 {
            let now = number * gap;
            while let Some(std::cmp::Reverse((end, at, begun))) = open.peek().copied()
                && end <= now
            {
                open.pop();
                all[at].live().active.fetch_sub(1, Ordering::Relaxed);
                let took = Duration::from_micros(end - begun);
                settings.answered(&all[at].live().watch().latency, took, Duration::from_micros(end));
            }
            let there = late.is_none_or(|late| now >= late);
            let balancer = if there { &whole } else { &early };
            let among = if there { &all[..] } else { &all[..all.len() - 1] };
            let at = balancer
                .pick(among, Duration::from_micros(now), &mut rng)
                .unwrap();
            all[at].live().active.fetch_add(1, Ordering::Relaxed);
            counts[at] += 1;
            open.push(std::cmp::Reverse((now + times[at], at, now)));
            if late.is_some_and(|late| now < late + 1_000_000) {
                flood = flood.max(all[times.len() - 1].live().active.load(Ordering::Relaxed));
            }
        }
        (counts, flood)
    }

    #[test]
    fn equal_endpoints_share_evenly_and_by_weight() {
        let (counts, _) = run(&[5_000; 4], &[1; 4], 100, None);
        assert!(counts.iter().all(|n| (14_000..16_000).contains(n)), "{counts:?}");
        let (counts, _) = run(&[5_000; 3], &[1, 1, 2], 100, None);
        assert!((28_000..32_000).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn a_slow_endpoint_gets_little_and_still_something() {
        // Ten times as slow as the others; by requests in flight alone it would get a tenth of a share.
        let (counts, _) = run(&[5_000, 5_000, 5_000, 50_000], &[1; 4], 100, None);
        assert!((50..1_000).contains(&counts[3]), "{counts:?}");
    }

    #[test]
    fn a_new_endpoint_is_not_flooded_before_it_answers() {
        // 10,000 requests per second over endpoints that take 400 ms: 1,000 in flight on each of four, 800 on five.
        let (counts, flood) = run(&[400_000; 5], &[1; 5], 100, Some(2_000_000));
        assert!(flood < 1_100, "{flood} at once on the new one: {counts:?}");
        assert!(counts[4] > 6_000, "{counts:?}");
    }
}
