//! Is an endpoint that refuses connections asked again at once?
//!
//! A refused connection is proof that nobody listens: the process is gone, and the control plane has not said so yet. Such
//! an endpoint is left out for a moment ([`FIRST`], doubled with each refusal up to [`LONGEST`]), then tried again by
//! traffic. Holds: the last endpoint is never left out, nor so many that the rest of their priority would be in panic;
//! a connection that succeeds forgets all refusals.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::Flag;
use crate::endpoint::{Endpoint, EndpointSet, Health};

/// How long after the first refusal.
pub const FIRST: Duration = Duration::from_millis(500);
/// How long at most.
pub const LONGEST: Duration = Duration::from_secs(8);

/// What is remembered of refusals.
#[derive(Debug, Default)]
pub struct Quarantine {
    /// Refusals in a row that led here.
    refused: AtomicU32,
}

impl Quarantine {
    /// A connection succeeded.
    pub fn connected(&self) {
        if self.refused.load(Ordering::Relaxed) > 0 {
            self.refused.store(0, Ordering::Relaxed);
        }
    }

    /// An endpoint of `set` refused a connection: for how long it is left out, if it is. Marks it.
    pub fn refused(set: &EndpointSet, endpoint: &Endpoint) -> Option<Duration> {
        let is_member = |member: &Endpoint| member.shares_counts(endpoint);
        let threshold = set.options.panic_threshold;
        let priority = set
            .priorities
            .iter()
            .find(|priority| priority.over_all.endpoints().iter().any(|e| is_member(e)))?;
        let members = priority.over_all.endpoints();
        if endpoint.health() == Health::Unhealthy {
            return None;
        }
        let left = members
            .iter()
            .filter(|e| e.health() != Health::Unhealthy && !is_member(e))
            .count();
        let enough = 100 * left >= usize::from(threshold) * members.len();
        let any = set
            .endpoints
            .iter()
            .any(|e| e.health() != Health::Unhealthy && !is_member(e));
        if !enough || !any {
            return None;
        }
        let live = endpoint.live();
        live.flags.set(Flag::Quarantined, true);
        let before = live.watch().quarantine.refused.fetch_add(1, Ordering::Relaxed);
        Some(FIRST.saturating_mul(1 << before.min(10)).min(LONGEST))
    }

    /// The time is over: it is tried again.
    pub fn over(endpoint: &Endpoint) {
        endpoint.live().flags.set(Flag::Quarantined, false);
    }
}
