//! How many first attempts and how many retries were there lately?
//!
//! Holds: in any ten whole seconds the retries are at most [`SHARE`] in a hundred of the first attempts, or [`FLOOR`] if
//! that is more, whatever the workers do at the same time; late by at most one retry per worker where a second begins.
//! Three proxies in a row that each keep to it send at most 1.06 * 1.06 * 1.06 = 1.19 times what came in.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Retries in a hundred first attempts.
const SHARE: u64 = 6;
/// Retries that are always allowed in the ten seconds.
const FLOOR: u64 = 10;
/// Seconds that are remembered.
const SECONDS: u64 = 10;

/// Bits of a second's word: retries, first attempts, and which second it is.
const RETRY_BITS: u32 = 16;
const FIRST_BITS: u32 = 22;
const MOST_RETRIES: u64 = (1 << RETRY_BITS) - 1;
const MOST_FIRST: u64 = (1 << FIRST_BITS) - 1;
const LAST_SECOND: u64 = (1 << (64 - RETRY_BITS - FIRST_BITS)) - 1;

/// Counts of the last ten seconds, one word each, for all workers.
#[derive(Debug, Default)]
pub struct RecentAttempts {
    epoch: OnceLock<Instant>,
    seconds: [AtomicU64; SECONDS as usize],
}

/// What one word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Second {
    number: u64,
    first: u64,
    retries: u64,
}

impl RecentAttempts {
    /// Counts the first attempt of a request.
    pub fn first(&self, now: Instant) {
        let number = self.number(now);
        let more = |word| {
            let mut second = Second::read(word).at(number);
            second.first = (second.first + 1).min(MOST_FIRST);
            Some(second.write())
        };
        // Always succeeds: there is always a next value.
        let _ = self
            .slot(number)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Counts a retry if it is within the share.
    pub fn retry(&self, now: Instant) -> bool {
        let number = self.number(now);
        let slot = self.slot(number);
        let mut word = slot.load(Ordering::Relaxed);
        loop {
            let mut second = Second::read(word).at(number);
            let (first, retries) = self.sums(number);
            if retries >= FLOOR.max(first * SHARE / 100) || second.retries == MOST_RETRIES {
                return false;
            }
            second.retries += 1;
            match slot.compare_exchange_weak(word, second.write(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(changed) => word = changed,
            }
        }
    }

    fn number(&self, now: Instant) -> u64 {
        let epoch = *self.epoch.get_or_init(|| now);
        // Not zero, which is what an unused word says.
        (now.saturating_duration_since(epoch).as_secs() + SECONDS) & LAST_SECOND
    }

    fn slot(&self, number: u64) -> &AtomicU64 {
        &self.seconds[(number % SECONDS) as usize]
    }

    /// First attempts and retries of the ten seconds that end with `number`.
    fn sums(&self, number: u64) -> (u64, u64) {
        let seconds = self
            .seconds
            .iter()
            .map(|word| Second::read(word.load(Ordering::Relaxed)));
        seconds
            .filter(|second| number.wrapping_sub(second.number) & LAST_SECOND < SECONDS)
            .fold((0, 0), |(first, retries), second| {
                (first + second.first, retries + second.retries)
            })
    }
}

impl Second {
    fn read(word: u64) -> Self {
        Self {
            number: word >> (RETRY_BITS + FIRST_BITS),
            first: (word >> RETRY_BITS) & MOST_FIRST,
            retries: word & MOST_RETRIES,
        }
    }

    fn write(self) -> u64 {
        self.number << (RETRY_BITS + FIRST_BITS) | self.first << RETRY_BITS | self.retries
    }

    /// The same word for a second: empty if it was of an older one. Who is late counts with the others.
    fn at(self, number: u64) -> Self {
        let age = number.wrapping_sub(self.number) & LAST_SECOND;
        if age == 0 || age > LAST_SECOND / 2 {
            return self;
        }
        Self {
            number,
            first: 0,
            retries: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn taken(recent: &RecentAttempts, now: Instant, asked: usize) -> usize {
        (0..asked).filter(|_| recent.retry(now)).count()
    }

    #[test]
    fn a_share_of_what_came_in_the_last_seconds_and_a_floor() {
        let recent = RecentAttempts::default();
        let start = Instant::now();
        assert_eq!(taken(&recent, start, 50), 10, "the floor");
        (0..1000).for_each(|_| recent.first(start));
        assert_eq!(
            taken(&recent, start, 1000),
            50,
            "six in a hundred, with the ten before"
        );
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(taken(&recent, at(9), 1000), 0, "still the same ten seconds");
        assert_eq!(
            taken(&recent, at(10), 1000),
            10,
            "what is older counts for nothing"
        );
        (0..500).for_each(|_| recent.first(at(12)));
        assert_eq!(taken(&recent, at(12), 1000), 20);
        // A worker that is late changes nothing of what came after.
        (0..500).for_each(|_| recent.first(at(2)));
        assert_eq!(taken(&recent, at(12), 1000), 30);
    }

    #[test]
    fn workers_that_ask_at_once_get_no_more_than_the_share() {
        let recent = RecentAttempts::default();
        let now = Instant::now();
        (0..10_000).for_each(|_| recent.first(now));
        let got: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| taken(&recent, now, 1000)))
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(got, 600);
    }

    proptest! {
        #[test]
        fn no_ten_seconds_see_more(steps in prop::collection::vec((0u64..4, 0u64..400, 0usize..60), 1..60)) {
            let recent = RecentAttempts::default();
            let start = Instant::now();
            let (mut at, mut all) = (0, Vec::new());
            for (later, first, asked) in steps {
                at += later;
                let now = start + Duration::from_secs(at);
                (0..first).for_each(|_| recent.first(now));
                all.push((at, first, taken(&recent, now, asked) as u64));
                let window = all.iter().filter(|(then, ..)| at - then < SECONDS);
                let (first, retries) = window.fold((0, 0), |(f, r), (_, first, taken)| (f + first, r + taken));
                // Where none was taken now, requests that left the window may have made the share smaller since.
                prop_assert!(retries <= FLOOR.max(first * SHARE / 100) || all.last().unwrap().2 == 0);
            }
        }
    }
}
