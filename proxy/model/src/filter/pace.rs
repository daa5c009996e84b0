//! How fast may bytes go (`fault.response_rate_limit`)?
//!
//! Holds: sixteen ticks a second, each worth a sixteenth of the rate; ticks that nobody used are kept for a second. A
//! function of the instants it is given.

use std::time::{Duration, Instant};

const TICKS: u32 = 16;

/// A rate, and what is left of it.
#[derive(Debug)]
pub struct Pace {
    /// Bytes of one tick.
    slice: u64,
    /// Ticks to be had.
    ticks: u32,
    /// When the last tick was counted.
    since: Instant,
}

impl Pace {
    /// So many KiB a second, from `now` on, when one tick may be had.
    pub fn new(kib_per_second: u64, now: Instant) -> Self {
        Self {
            slice: (kib_per_second * 1024 / u64::from(TICKS)).max(1),
            ticks: 1,
            since: now,
        }
    }

    /// How many of `wanted` bytes may go, or until when nothing may.
    pub fn take(&mut self, wanted: u64, now: Instant) -> Result<u64, Instant> {
        let tick = Duration::from_secs(1) / TICKS;
        let passed = now.saturating_duration_since(self.since).as_nanos() / tick.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.since += tick * passed.min(TICKS * 3600);
        self.ticks = self.ticks.saturating_add(passed).min(TICKS);
        if self.ticks == 0 {
            return Err(self.since + tick);
        }
        let needed = u32::try_from(wanted.div_ceil(self.slice)).unwrap_or(u32::MAX);
        let used = needed.min(self.ticks);
        self.ticks -= used;
        Ok(wanted.min(u64::from(used) * self.slice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_the_rate_through() {
        let start = Instant::now();
        let mut pace = Pace::new(16, start);
        let (mut now, mut gone) = (start, 0);
        while now < start + Duration::from_secs(2) {
            match pace.take(100_000, now) {
                Ok(count) => gone += count,
                Err(until) => now = until,
            }
        }
        // One tick at once, then sixteen a second.
        assert_eq!(gone, 2 * 16 * 1024);
    }

    #[test]
    fn what_nobody_used_is_kept_for_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(16, start);
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.take(u64::MAX, later), Ok(16 * 1024));
        let next = pace.take(1, later);
        assert!(next.is_err_and(|until| until > later && until <= later + Duration::from_millis(63)));
    }
}
