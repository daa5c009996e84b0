//! May another request be sent now? `RateLimitSettings` of a configuration source: a bucket of tokens, one per request.
//!
//! What holds: a bucket starts full and never holds more than its size. What has to wait stays in the session, where it is
//! merged with what comes after it.

use std::time::{Duration, Instant};

/// `envoy.config.core.v3.RateLimitSettings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests that may leave at once (`max_tokens`); at least 1.
    pub max_tokens: u32,
    /// Until the next one may (1 / `fill_rate`).
    pub fill_interval: Duration,
}

/// The tokens of one client.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: RateLimit,
    /// When it is full again: one fill interval before that, one token is missing, and so on.
    full_at: Option<Instant>,
}

impl Bucket {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, full_at: None }
    }

    /// When the next request may leave; nothing for now.
    pub(crate) fn ready_at(&self, now: Instant) -> Option<Instant> {
        let spare = self
            .limit
            .fill_interval
            .saturating_mul(self.limit.max_tokens.max(1) - 1);
        let at = self.full_at?.checked_sub(spare)?;
        (at > now).then_some(at)
    }

    /// A request leaves.
    pub(crate) fn take(&mut self, now: Instant) {
        let from = self.full_at.map_or(now, |at| at.max(now));
        self.full_at = from.checked_add(self.limit.fill_interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f6_a_burst_and_then_one_per_interval() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::new(RateLimit {
            max_tokens: 3,
            fill_interval: second,
        });
        for _ in 0..3 {
            assert_eq!(bucket.ready_at(start), None);
            bucket.take(start);
        }
        assert_eq!(bucket.ready_at(start), Some(start + second));
        assert_eq!(bucket.ready_at(start + second), None);
        bucket.take(start + second);
        assert_eq!(bucket.ready_at(start + second), Some(start + 2 * second));
        let later = start + 60 * second;
        for _ in 0..3 {
            assert_eq!(bucket.ready_at(later), None, "full again, and not fuller");
            bucket.take(later);
        }
        assert!(bucket.ready_at(later).is_some());
    }
}
