//! May an endpoint be used, beyond what the control plane says of it?
//!
//! Holds: what was found out about an endpoint (it was ejected, it refuses connections) is a set of [`Flags`] in its live
//! counts, so it outlives every version of the world and is shared by all workers. Workers only report ([`Monitor`]);
//! flags are set by the control thread alone, which builds the cluster's endpoint set anew, so that picking, panic and
//! priorities see one health. Time is a [`Duration`] since the start of the process, always an argument.
//! Does not decide how requests are spread ([`crate::balance`]) or tried again ([`crate::retry`]).

mod breaker;
pub mod check;
mod flags;
mod monitor;
mod outlier;
mod quarantine;
#[cfg(test)]
mod tests;

pub use breaker::{
    Breaker, BreakerEnd, BreakerOpen, BreakerSettings, BreakerState, MOST, Permit, breaker_of,
};
pub use check::HealthCheck;
pub use flags::{Flag, Flags};
pub use monitor::{Monitor, Outcome, Trip, grpc_as_http};
pub use outlier::{Change, Enforcing, OutlierDetection, RateRule, Verdict, bring_back, ejected};
pub use quarantine::Quarantine;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::balance::{Latency, LoadWatch, ReportedLoad};

/// What a cluster's configuration says of the health of its endpoints; most clusters say nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HealthSettings {
    /// `outlier_detection`.
    pub outlier: Option<OutlierDetection>,
    /// `remora.circuit_breaker` of the cluster's metadata.
    pub breaker: Option<BreakerSettings>,
    /// `health_checks`.
    pub check: Option<Arc<HealthCheck>>,
    /// What the balancing policy wants to know of every answer.
    pub load: Option<LoadWatch>,
    /// `close_connections_on_host_health_failure`: tunnels to an endpoint that falls end.
    pub close_on_failure: bool,
}

impl HealthSettings {
    /// Nothing at all if nothing was said.
    pub fn said(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// What is remembered of one endpoint, from the first report on.
#[derive(Debug, Default)]
pub struct EndpointWatch {
    /// For outlier detection.
    pub monitor: Monitor,
    /// For quarantine.
    pub quarantine: Quarantine,
    /// Since when it is there, where slow start asks for that.
    pub since: Since,
    /// How often it was found unfit: connections from before are not used again.
    pub falls: AtomicU32,
    /// What it reports, where the balancing policy asks for that.
    pub load: ReportedLoad,
    /// How quickly it answers, likewise.
    pub latency: Latency,
}

/// A time that is noted once, and may move on.
#[derive(Debug, Default)]
pub struct Since {
    noted: OnceLock<Instant>,
    /// Microseconds after that.
    moved: AtomicU64,
}

impl Since {
    /// The time; `now` where none was noted yet.
    pub fn or(&self, now: Instant) -> Instant {
        let noted = *self.noted.get_or_init(|| now);
        noted + Duration::from_micros(self.moved.load(Ordering::Relaxed))
    }

    /// It is `now` from here on.
    pub fn again(&self, now: Instant) {
        let noted = *self.noted.get_or_init(|| now);
        let moved = micros(now.saturating_duration_since(noted));
        self.moved.store(moved, Ordering::Relaxed);
    }
}

/// Whole microseconds.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
