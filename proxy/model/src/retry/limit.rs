//! How many retries may a cluster bear at once?
//!
//! Holds: the count is shared by all workers and all routes to the cluster. Without a word from the control plane it is
//! a budget, so that a brown-out is never answered with a multiple of the load.

use std::sync::Arc;

use crate::cluster::{ClusterLive, RequestPriority, leave_place, take_place};

/// `max_retries` or `retry_budget` of a priority's thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryLimit {
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

impl Default for RetryLimit {
    /// Envoy's numbers for a budget; Envoy itself has a fixed 3 unless told otherwise.
    fn default() -> Self {
        Self::Budget {
            share: 2000,
            floor: 3,
        }
    }
}

impl RetryLimit {
    /// How many retries may be in flight with so many requests in flight.
    pub fn bound(self, requests: u32) -> u32 {
        match self {
            Self::Fixed(max) => max,
            Self::Budget { share, floor } => {
                let allowed = u64::from(requests) * u64::from(share) / 10_000;
                u32::try_from(allowed).unwrap_or(u32::MAX).max(floor)
            }
        }
    }

    /// Takes one of the places, if one is free.
    pub fn take(self, live: &Arc<ClusterLive>, priority: RequestPriority) -> Option<RetryTicket> {
        let occupied = live.at(priority);
        let taken = take_place(&occupied.retries, occupied.retry_bound(self));
        taken.then(|| RetryTicket(Arc::clone(live), priority))
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

    #[test]
    fn a_budget_is_a_share_of_what_is_in_flight() {
        let live = Arc::new(ClusterLive::default());
        live.at(PRIORITY).requests.store(100, Ordering::Relaxed);
        let held: Vec<_> = (0..40)
            .map_while(|_| RetryLimit::default().take(&live, PRIORITY))
            .collect();
        assert_eq!(held.len(), 20);
        assert_eq!(live.at(PRIORITY).retries.load(Ordering::Relaxed), 20);
        drop(held);
        assert_eq!(live.at(PRIORITY).retries.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_floor_holds_when_little_is_in_flight() {
        let live = Arc::new(ClusterLive::default());
        let taken = |limit: RetryLimit| {
            (0..9)
                .map_while(|_| limit.take(&live, PRIORITY))
                .collect::<Vec<_>>()
                .len()
        };
        assert_eq!(taken(RetryLimit::default()), 3);
        assert_eq!(taken(RetryLimit::Fixed(5)), 5);
        assert_eq!(taken(RetryLimit::Fixed(0)), 0);
    }
}
