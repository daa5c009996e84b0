//! How much of a cluster is in use, and how much may be (`circuit_breakers`)?
//!
//! Holds: requests of priority DEFAULT and HIGH are counted and limited apart, as in Envoy; a place is taken by one
//! atomic step, so that no number of workers gets more places than there are.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Cluster, ClusterLive};
use crate::retry::{RecentAttempts, RetryLimit};

/// `RoutingPriority` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum RequestPriority {
    /// `DEFAULT`.
    #[default]
    Default,
    /// `HIGH`.
    High,
}

impl RequestPriority {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Default, Self::High];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::High => "high",
        }
    }
}

/// `circuit_breakers.thresholds` of one priority; Envoy's defaults are 1024, 1024, 1024 and 3 retries;
/// ours for retries is a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Connections of all workers.
    pub max_connections: u32,
    /// `per_host_thresholds.max_connections`: the same for each endpoint.
    pub max_connections_per_host: u32,
    /// Requests waiting for a connection.
    pub max_pending_requests: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Retries in flight.
    pub retries: RetryLimit,
    /// `track_remaining`: what is left is shown as metrics.
    pub track_remaining: bool,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_host: u32::MAX,
            max_pending_requests: 1024,
            max_requests: 1024,
            retries: RetryLimit::default(),
            track_remaining: false,
        }
    }
}

/// What requests of one priority use of a cluster, exact across workers.
#[derive(Debug, Default)]
pub struct Occupied {
    /// Open upstream connections.
    pub connections: AtomicU32,
    /// Requests waiting for a connection.
    pub pending: AtomicU32,
    /// Requests in flight.
    pub requests: AtomicU32,
    /// Retries in flight.
    pub retries: AtomicU32,
    recent: OnceLock<Box<RecentAttempts>>,
}

impl Cluster {
    /// The limits of a priority.
    pub fn thresholds(&self, priority: RequestPriority) -> &Thresholds {
        &self.config.thresholds[priority as usize]
    }
}

impl ClusterLive {
    /// What is in use by a priority.
    pub fn at(&self, priority: RequestPriority) -> &Occupied {
        &self.occupied[priority as usize]
    }

    /// Requests in flight, of both priorities.
    pub fn requests(&self) -> u32 {
        let [default, high] = &self.occupied;
        let count = |of: &Occupied| of.requests.load(Ordering::Relaxed);
        count(default).saturating_add(count(high))
    }
}

impl Occupied {
    /// How many retries may be in flight now.
    pub fn retry_bound(&self, limit: RetryLimit) -> u32 {
        let (requests, pending) = (&self.requests, &self.pending);
        let under_way = requests.load(Ordering::Relaxed);
        limit.bound(under_way.saturating_add(pending.load(Ordering::Relaxed)))
    }

    /// First attempts and retries of the last seconds, counted from the first call on.
    pub fn recent(&self) -> &RecentAttempts {
        self.recent.get_or_init(Box::default)
    }
}

/// Takes one of `most` places, if one is free.
pub fn take_place(taken: &AtomicU32, most: u32) -> bool {
    let more = |count: u32| (count < most).then(|| count + 1);
    taken
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .is_ok()
}

/// Gives a place back.
pub fn leave_place(taken: &AtomicU32) {
    taken.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_run_against_each_other_get_as_many_places_as_there_are() {
        let taken = AtomicU32::new(0);
        let got = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if take_place(&taken, 700) {
                            got.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(got.into_inner(), 700);
        leave_place(&taken);
        assert!(take_place(&taken, 700) && !take_place(&taken, 700));
        assert!(!take_place(&AtomicU32::new(0), 0));
    }
}
