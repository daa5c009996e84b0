//! May one more be taken now? A token bucket that all workers share.
//!
//! Holds: within any window of `t` at most `max_tokens` and what flows in within `t` is taken, whoever asks and however
//! many ask at once: the state is one number, changed by compare-and-swap. Tokens flow in continuously
//! (`tokens_per_fill` over `fill_interval`), not in steps, as in Envoy. It reads no clock.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest that one token may take to flow in, as in Envoy.
const SLOWEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Parts of a nanosecond that time is counted in, for buckets that fill fast.
const PARTS: u128 = 16;
/// What a token costs at most, in units of time: together with 2^32 tokens it stays below 2^64.
const DEAREST: u128 = 1 << 31;

/// `envoy.type.v3.TokenBucket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fill {
    /// `max_tokens`: with none, nothing is ever taken.
    pub max_tokens: u32,
    /// `tokens_per_fill`, at least 1.
    pub tokens_per_fill: u32,
    /// `fill_interval`.
    pub interval: Duration,
}

impl Fill {
    /// Tokens per second.
    pub fn rate(&self) -> f64 {
        f64::from(self.tokens_per_fill) / self.interval.as_secs_f64()
    }
}

/// A bucket, full at first.
pub struct TokenBucket {
    fill: Fill,
    /// What time is shifted by to be counted in units.
    coarser: u32,
    /// Units of time in which one token flows in.
    cost: u64,
    /// When it was first asked; units count from here.
    epoch: OnceLock<Instant>,
    /// When it will be full if nothing more is taken, in units.
    full_at: AtomicU64,
}

impl fmt::Debug for TokenBucket {
    /// The settings only: two buckets that are filled alike read alike.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.fill, f)
    }
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(fill: Fill) -> Self {
        let per_fill = u128::from(fill.tokens_per_fill.max(1));
        let interval = fill.interval.as_nanos().max(1) * PARTS;
        let interval = interval.min(SLOWEST.as_nanos() * PARTS * per_fill);
        let mut coarser = 0;
        while (interval >> coarser).div_ceil(per_fill) > DEAREST {
            coarser += 1;
        }
        // Rounded up: never faster than was said.
        let cost = interval.div_ceil(per_fill << coarser).max(1);
        Self {
            fill,
            coarser,
            cost: u64::try_from(cost).unwrap_or(u64::MAX),
            epoch: OnceLock::new(),
            full_at: AtomicU64::new(0),
        }
    }

    /// Its settings.
    pub fn fill(&self) -> Fill {
        self.fill
    }

    /// Takes so many tokens, all or none.
    pub fn take(&self, tokens: u32, now: Instant) -> bool {
        let now = self.units(now);
        let price = u64::from(tokens) * self.cost;
        let deepest = now.saturating_add(self.depth());
        let taken = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let full_at = full_at.max(now).checked_add(price)?;
                (full_at <= deepest).then_some(full_at)
            });
        taken.is_ok()
    }

    /// Whole tokens in it.
    pub fn remaining(&self, now: Instant) -> u32 {
        u32::try_from((self.depth() - self.missing(now)) / self.cost).unwrap_or(u32::MAX)
    }

    /// How long until it has a whole token; zero if it has one, or will never have.
    pub fn next_token(&self, now: Instant) -> Duration {
        let left = self.depth() - self.missing(now);
        if left >= self.cost || self.fill.max_tokens == 0 {
            return Duration::ZERO;
        }
        let nanos = (u128::from(self.cost - left) << self.coarser).div_ceil(PARTS);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Units of time in which an empty bucket gets full.
    fn depth(&self) -> u64 {
        u64::from(self.fill.max_tokens) * self.cost
    }

    fn missing(&self, now: Instant) -> u64 {
        let full_at = self.full_at.load(Ordering::Relaxed);
        full_at.saturating_sub(self.units(now)).min(self.depth())
    }

    fn units(&self, now: Instant) -> u64 {
        let epoch = *self.epoch.get_or_init(|| now);
        let passed = now.saturating_duration_since(epoch).as_nanos() * PARTS;
        u64::try_from(passed >> self.coarser).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    fn bucket(max_tokens: u32, tokens_per_fill: u32, millis: u64) -> TokenBucket {
        TokenBucket::new(Fill {
            max_tokens,
            tokens_per_fill,
            interval: Duration::from_millis(millis),
        })
    }

    #[test]
    fn tokens_flow_in_continuously() {
        let bucket = bucket(4, 2, 1000);
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!((0..6).filter(|_| bucket.take(1, start)).count(), 4);
        assert_eq!(bucket.next_token(start), Duration::from_millis(500));
        assert!(!bucket.take(1, after(499)));
        assert!(
            bucket.take(1, after(500)),
            "half an interval is one of two tokens"
        );
        assert!(!bucket.take(1, after(500)));
        assert_eq!(bucket.remaining(after(60_000)), 4);
        assert_eq!(bucket.next_token(after(60_000)), Duration::ZERO);
    }

    #[test]
    fn several_tokens_are_taken_together_or_not_at_all() {
        let bucket = bucket(5, 1, 60_000);
        let now = Instant::now();
        assert!(bucket.take(3, now));
        assert!(!bucket.take(3, now));
        assert_eq!(bucket.remaining(now), 2);
        assert!(bucket.take(2, now));
    }

    #[test]
    fn the_extremes_hold() {
        let now = Instant::now();
        assert!(!bucket(0, 1, 1000).take(1, now));
        let slow = bucket(u32::MAX, 1, u64::MAX);
        assert!((0..1000).all(|_| slow.take(1_000_000, now)));
        assert_eq!(slow.remaining(now), u32::MAX - 1_000_000_000);
        let fast = bucket(u32::MAX, u32::MAX, 50);
        assert!(fast.take(u32::MAX, now));
        assert!(!fast.take(1, now));
        // A year of 365 days per token is the slowest.
        let never = bucket(1, 1, u64::MAX);
        assert!(never.take(1, now));
        assert!(!never.take(1, now + SLOWEST / 2));
        assert!(never.take(1, now + SLOWEST + Duration::from_secs(1)));
    }

    /// Four threads take at times of their own; gives back when each token was taken, sorted.
    fn storm(bucket: &TokenBucket, start: Instant, steps: &[Vec<u32>]) -> Vec<u64> {
        let taken = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for steps in steps {
                let taken = &taken;
                scope.spawn(move || {
                    let mut micros = 0;
                    for step in steps {
                        micros += u64::from(*step);
                        if bucket.take(1, start + Duration::from_micros(micros)) {
                            taken.lock().unwrap().push(micros);
                        }
                    }
                });
            }
        });
        let mut taken = taken.into_inner().unwrap();
        taken.sort_unstable();
        taken
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Threads do not agree on the time: one that is late sees a bucket that others have filled up to their own
        /// time, so what holds is the bound over the window that all of them span.
        #[test]
        fn no_more_is_taken_than_there_was_and_flowed_in(
            max in 1u32..40,
            per_fill in 1u32..50,
            millis in 50u64..400,
            steps in proptest::collection::vec(proptest::collection::vec(0u32..4000, 100..300), 4),
        ) {
            let bucket = bucket(max, per_fill, millis);
            let start = Instant::now();
            prop_assert!(bucket.take(1, start));
            let taken = storm(&bucket, start, &steps);
            let last = taken.last().copied().unwrap_or(0);
            let flowed = u128::from(last) * u128::from(per_fill) / (u128::from(millis) * 1000);
            prop_assert!((taken.len() + 1) as u128 <= u128::from(max) + flowed);
        }

        /// On one clock the bound holds for every window.
        #[test]
        fn no_window_gets_more_than_its_share(
            max in 1u32..20,
            per_fill in 1u32..50,
            millis in 50u64..400,
            steps in proptest::collection::vec(0u32..4000, 100..400),
        ) {
            let bucket = bucket(max, per_fill, millis);
            let taken = storm(&bucket, Instant::now(), &[steps]);
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let flowed = u128::from(to - from) * u128::from(per_fill) / (u128::from(millis) * 1000);
                    prop_assert!((last - first + 1) as u128 <= u128::from(max) + flowed + 1);
                }
            }
        }
    }

    /// Nothing is lost either: whoever asks often enough gets everything.
    #[test]
    fn four_threads_that_ask_at_once_get_exactly_what_there_is() {
        let bucket = bucket(1000, 1, 3_600_000);
        let taken = storm(&bucket, Instant::now(), &vec![vec![0; 1000]; 4]);
        assert_eq!(taken.len(), 1000);
    }
}
