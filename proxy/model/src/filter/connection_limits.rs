//! May a new connection be served? The network filters that count connections.
//!
//! Holds: the counts belong to the settings and are shared by all workers, so they are exact; settings that did not
//! change keep their counts from version to version (see `translate`). What becomes of a refused connection is
//! carried out by the shell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::TokenBucket;
use crate::Name;

/// `envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit`: a token for each connection.
#[derive(Debug)]
pub struct ConnectionRateLimit {
    /// `stat_prefix`.
    pub stat_prefix: Name,
    /// `runtime_enabled` by its default value.
    pub enabled: bool,
    /// `token_bucket`; filters with the same `share_key` and settings have the same one.
    pub bucket: Arc<TokenBucket>,
    /// Hash of the settings as received; equal means unchanged.
    pub fingerprint: u64,
}

/// `envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit`.
#[derive(Debug)]
pub struct ConnectionLimit {
    /// `stat_prefix`.
    pub stat_prefix: Name,
    /// `runtime_enabled` by its default value.
    pub enabled: bool,
    /// `max_connections`, at least 1.
    pub max: u64,
    /// `delay`: how long a refused connection stays open.
    pub delay: Option<Duration>,
    /// Connections that count now.
    pub active: Arc<AtomicU64>,
    /// Hash of the settings as received; equal means unchanged.
    pub fingerprint: u64,
}

impl ConnectionLimit {
    /// Counts one more connection until the guard is dropped; `None` where there is no room.
    pub fn begin(&self) -> Option<CountedConnection> {
        CountedConnection::within(&self.active, self.max)
    }
}

/// A connection, or a request, that counts.
#[derive(Debug)]
pub struct CountedConnection(Arc<AtomicU64>);

impl CountedConnection {
    /// Counts one more, where `active` is below `max`.
    pub fn within(active: &Arc<AtomicU64>, max: u64) -> Option<Self> {
        let counted = active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |active| {
            (active < max).then_some(active + 1)
        });
        counted.ok().map(|_| Self(Arc::clone(active)))
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(max: u64) -> ConnectionLimit {
        ConnectionLimit {
            stat_prefix: "c".into(),
            enabled: true,
            max,
            delay: None,
            active: Arc::default(),
            fingerprint: 0,
        }
    }

    #[test]
    fn a_connection_counts_as_long_as_it_lives() {
        let limit = limit(2);
        let first = limit.begin().unwrap();
        let _second = limit.begin().unwrap();
        assert!(limit.begin().is_none());
        drop(first);
        assert!(limit.begin().is_some());
    }

    #[test]
    fn four_threads_never_exceed_it() {
        let limit = limit(5);
        let most = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let held: Vec<_> = (0..3).filter_map(|_| limit.begin()).collect();
                        most.fetch_max(limit.active.load(Ordering::Relaxed), Ordering::Relaxed);
                        drop(held);
                    }
                });
            }
        });
        assert!(most.load(Ordering::Relaxed) <= 5);
        assert_eq!(limit.active.load(Ordering::Relaxed), 0);
    }
}
