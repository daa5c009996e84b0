//! How many retries may a cluster bear?
//!
//! Holds: the count is shared by all workers and all routes to the cluster. What the control plane says holds as in
//! Envoy; without a word from it there are two bounds, so that a brown-out is never answered with a multiple of the load,
//! not even by several proxies in a row: a fifth of what is in flight, and a share of the recent first attempts
//! ([`super::RecentAttempts`]).

use std::sync::Arc;
use std::time::Instant;

use crate::cluster::{ClusterLive, RequestPriority, leave_place, take_place};

/// `max_retries` or `retry_budget` of a priority's thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryLimit {
    /// Nothing was said: Envoy's numbers for a budget (Envoy itself has a fixed 3 then), and the share of the recent.
    #[default]
    Unsaid,
    /// `max_retries`: so many at once.
    Fixed(u32),
    /// `retry_budget`: a share of the requests in flight, but at least a floor.
    Budget {
        /// `budget_percent`, in hundredths of a percent.
        share: u32,
        /// `min_retry_concurrency`.
        floor: u32,
    },
}

impl RetryLimit {
    /// How many retries may be in flight with so many requests in flight.
    pub fn bound(self, requests: u32) -> u32 {
        let (share, floor) = match self {
            Self::Fixed(max) => return max,
            Self::Budget { share, floor } => (share, floor),
            Self::Unsaid => (2000, 3),
        };
        let allowed = u64::from(requests) * u64::from(share) / 10_000;
        u32::try_from(allowed).unwrap_or(u32::MAX).max(floor)
    }

    /// Counts the first attempt of a request that could be tried again.
    pub fn first(self, live: &ClusterLive, priority: RequestPriority, now: Instant) {
        if self == Self::Unsaid {
            live.at(priority).recent().first(now);
        }
    }

    /// Takes one of the places, if one is free.
    pub fn take(
        self,
        live: &Arc<ClusterLive>,
        priority: RequestPriority,
        now: Instant,
    ) -> Option<RetryTicket> {
        let occupied = live.at(priority);
        if !take_place(&occupied.retries, occupied.retry_bound(self)) {
            return None;
        }
        let ticket = RetryTicket(Arc::clone(live), priority);
        (self != Self::Unsaid || occupied.recent().retry(now)).then_some(ticket)
    }
}

/// A retry in flight.
#[derive(Debug)]
pub struct RetryTicket(Arc<ClusterLive>, RequestPriority);

impl Drop for RetryTicket {
    fn drop(&mut self) {
        leave_place(&self.0.at(self.1).retries);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    const PRIORITY: RequestPriority = RequestPriority::Default;

    fn taken(limit: RetryLimit, live: &Arc<ClusterLive>, asked: usize) -> Vec<RetryTicket> {
        let now = Instant::now();
        (0..asked)
            .map_while(|_| limit.take(live, PRIORITY, now))
            .collect()
    }

    #[test]
    fn a_budget_is_a_share_of_what_is_in_flight() {
        for limit in [
            RetryLimit::Unsaid,
            RetryLimit::Budget {
                share: 2000,
                floor: 3,
            },
        ] {
            let live = Arc::new(ClusterLive::default());
            let now = Instant::now();
            (0..1000).for_each(|_| limit.first(&live, PRIORITY, now));
            live.at(PRIORITY).requests.store(100, Ordering::Relaxed);
            let held = taken(limit, &live, 40);
            assert_eq!(held.len(), 20);
            assert_eq!(live.at(PRIORITY).retries.load(Ordering::Relaxed), 20);
            drop(held);
            assert_eq!(live.at(PRIORITY).retries.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_floor_holds_when_little_is_in_flight() {
        let live = Arc::new(ClusterLive::default());
        assert_eq!(taken(RetryLimit::Unsaid, &live, 9).len(), 3);
        assert_eq!(taken(RetryLimit::Fixed(5), &live, 9).len(), 5);
        assert_eq!(taken(RetryLimit::Fixed(0), &live, 9).len(), 0);
    }

    #[test]
    fn without_a_word_retries_are_also_a_share_of_the_recent_requests() {
        let live = Arc::new(ClusterLive::default());
        let one_by_one =
            |limit: RetryLimit, asked| (0..asked).filter(|_| !taken(limit, &live, 1).is_empty()).count();
        assert_eq!(one_by_one(RetryLimit::Unsaid, 50), 10);
        assert_eq!(
            live.at(PRIORITY).retries.load(Ordering::Relaxed),
            0,
            "a refused one leaves no trace"
        );
        let said = RetryLimit::Budget {
            share: 2000,
            floor: 3,
        };
        assert_eq!(one_by_one(said, 50), 50, "what is said holds as in Envoy");
    }
}
