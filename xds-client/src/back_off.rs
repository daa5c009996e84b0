//! How long to wait before the next attempt: jittered exponential back-off, reset by a response.
//!
//! What holds: each wait lies between half of and the whole current interval, so that neither a failing server is hit
//! again at once nor a fleet arrives together. Defaults are Envoy's (`GrpcService.EnvoyGrpc.retry_policy`).

use std::time::Duration;

/// A sequence of waits.
#[derive(Clone, Debug)]
pub struct BackOff {
    base: Duration,
    max: Duration,
    interval: Duration,
    rng: fastrand::Rng,
}

impl BackOff {
    /// Starts at `base` and doubles up to `max`. A `max` below `base` is taken as `base`.
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        let base = base.max(Duration::from_millis(1));
        Self {
            base,
            max: max.max(base),
            interval: base,
            rng: fastrand::Rng::new(),
        }
    }

    /// The same sequence at every run, for tests.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.rng = fastrand::Rng::with_seed(seed);
        self
    }

    /// The wait before the next attempt; the one after that is twice as long.
    pub fn next_wait(&mut self) -> Duration {
        let interval = self.interval;
        self.interval = interval.saturating_mul(2).min(self.max);
        interval.mul_f64(0.5 + 0.5 * self.rng.f64())
    }

    /// The server answered: the next failure starts from the beginning.
    pub fn reset(&mut self) {
        self.interval = self.base;
    }
}

impl Default for BackOff {
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f2_waits_double_up_to_the_limit_and_start_again_after_a_response() {
        let mut back_off = BackOff::default().with_seed(7);
        let mut interval = Duration::from_millis(500);
        for _ in 0..20 {
            let wait = back_off.next_wait();
            assert!(
                wait >= interval / 2 && wait <= interval,
                "{wait:?} outside of the half below {interval:?}"
            );
            interval = (interval * 2).min(Duration::from_secs(30));
        }
        back_off.reset();
        assert!(back_off.next_wait() <= Duration::from_millis(500));
    }
}
