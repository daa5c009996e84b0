//! Is a cluster that fails asked at all?
//!
//! The classical circuit breaker, an extension beside Envoy's limits: closed until so many failures, then open for a
//! while, then half open: so many requests are let through as probes, and when all of them pass it closes.
//!
//! ```text
//! closed --failures--> open --open_for--> half open --probes pass--> closed
//!                       ^--------------- one fails ---'
//! ```
//! Holds: all workers share one state, changed by one atomic step; a probe without a result is made up for by another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cluster::{Cluster, ClusterConfig, ClusterLive};

/// The largest count that a state holds.
pub const MOST: u32 = (1 << COUNT) - 1;

const COUNT: u32 = 20;
const TIME: u32 = 42;

/// Settings under `remora.circuit_breaker` in a cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// `failures`: so many open it; 1 to [`MOST`].
    pub failures: u32,
    /// `window`: within this time of the first; `None`: in a row.
    pub window: Option<Duration>,
    /// `open_for`, default 30 s.
    pub open_for: Duration,
    /// `probes`, default 1; 1 to [`MOST`].
    pub probes: u32,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything passes.
    Closed {
        /// Failures so far.
        failures: u32,
        /// Milliseconds at the first of them.
        since: u64,
    },
    /// Nothing passes.
    Open {
        /// Milliseconds when it opened.
        since: u64,
    },
    /// Probes pass.
    HalfOpen {
        /// Probes under way or passed.
        admitted: u32,
        /// Probes that passed.
        passed: u32,
    },
}

use BreakerState::{Closed, HalfOpen, Open};

impl BreakerState {
    fn packed(self) -> u64 {
        let word = |phase: u64, count: u32, rest: u64| {
            (phase << (COUNT + TIME)) | (u64::from(count.min(MOST)) << TIME) | (rest & ((1 << TIME) - 1))
        };
        match self {
            Closed { failures, since } => word(0, failures, since),
            Open { since } => word(1, 0, since),
            HalfOpen { admitted, passed } => word(2, admitted, passed.into()),
        }
    }

    fn unpacked(word: u64) -> Self {
        let rest = word & ((1 << TIME) - 1);
        let count = ((word >> TIME) as u32) & MOST;
        match word >> (COUNT + TIME) {
            0 => Closed {
                failures: count,
                since: rest,
            },
            1 => Open { since: rest },
            _ => HalfOpen {
                admitted: count,
                passed: rest as u32,
            },
        }
    }

    /// May a request pass, and as what?
    fn admit(self, settings: &BreakerSettings, now: u64) -> (Self, Admission) {
        match self {
            Closed { .. } => (self, Admission::Plain),
            Open { since } if now.saturating_sub(since) < millis(settings.open_for) => {
                (self, Admission::Refused)
            }
            Open { .. } => {
                let state = HalfOpen {
                    admitted: 1,
                    passed: 0,
                };
                (state, Admission::Probe)
            }
            HalfOpen { admitted, .. } if admitted >= settings.probes => (self, Admission::Refused),
            HalfOpen { admitted, passed } => {
                let admitted = admitted + 1;
                (HalfOpen { admitted, passed }, Admission::Probe)
            }
        }
    }

    /// What a request that was admitted as this one brought.
    fn ended(self, settings: &BreakerSettings, probe: bool, end: BreakerEnd, now: u64) -> Self {
        match (self, probe, end) {
            (Closed { .. }, false, BreakerEnd::Failed) => self.failed(settings, now),
            (Closed { .. }, false, BreakerEnd::Passed) if settings.window.is_none() => CLOSED,
            (HalfOpen { .. }, true, BreakerEnd::Failed) => Open { since: now },
            (HalfOpen { admitted, passed }, true, BreakerEnd::Passed) => {
                let passed = passed + 1;
                if passed >= settings.probes {
                    CLOSED
                } else {
                    HalfOpen { admitted, passed }
                }
            }
            (HalfOpen { admitted, passed }, true, BreakerEnd::Unknown) => HalfOpen {
                admitted: admitted.saturating_sub(1).max(passed),
                passed,
            },
            // What began before the breaker changed says nothing of how it stands now.
            _ => self,
        }
    }

    fn failed(self, settings: &BreakerSettings, now: u64) -> Self {
        let Closed { failures, since } = self else {
            return self;
        };
        let over = settings
            .window
            .is_some_and(|window| now.saturating_sub(since) > millis(window));
        let (failures, since) = if failures == 0 || over {
            (1, now)
        } else {
            (failures + 1, since)
        };
        if failures >= settings.failures {
            Open { since: now }
        } else {
            Closed { failures, since }
        }
    }
}

const CLOSED: BreakerState = Closed {
    failures: 0,
    since: 0,
};

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Plain,
    Probe,
    Refused,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerEnd {
    /// With an answer that is no 5xx.
    Passed,
    /// With a 5xx, or without an answer.
    Failed,
    /// By no doing of the cluster.
    Unknown,
}

/// One cluster's breaker, with what it counted.
#[derive(Debug, Default)]
pub struct Breaker {
    /// A packed [`BreakerState`]; 0 is closed.
    word: AtomicU64,
    /// Times that it opened.
    pub opened: AtomicU64,
    /// Times that it became half open.
    pub half_opened: AtomicU64,
    /// Times that it closed.
    pub closed: AtomicU64,
    /// Requests refused.
    pub rejected: AtomicU64,
}

impl Breaker {
    /// Where it stands.
    pub fn state(&self) -> BreakerState {
        BreakerState::unpacked(self.word.load(Ordering::Relaxed))
    }

    fn admit(&self, settings: &BreakerSettings, now: Duration) -> Admission {
        let mut admission = Admission::Plain;
        self.change(|state| {
            let (next, made) = state.admit(settings, millis(now));
            admission = made;
            next
        });
        if admission == Admission::Refused {
            self.rejected.fetch_add(1, Ordering::Relaxed);
        }
        admission
    }

    fn ended(&self, settings: &BreakerSettings, probe: bool, end: BreakerEnd, now: Duration) {
        self.change(|state| state.ended(settings, probe, end, millis(now)));
    }

    fn change(&self, mut step: impl FnMut(BreakerState) -> BreakerState) {
        let mut before = self.word.load(Ordering::Relaxed);
        loop {
            let (from, to) = {
                let from = BreakerState::unpacked(before);
                (from, step(from))
            };
            let exchanged =
                self.word
                    .compare_exchange_weak(before, to.packed(), Ordering::Relaxed, Ordering::Relaxed);
            match exchanged {
                Ok(_) => return self.count(from, to),
                Err(now) => before = now,
            }
        }
    }

    fn count(&self, from: BreakerState, to: BreakerState) {
        let counter = match (from, to) {
            (Closed { .. } | HalfOpen { .. }, Open { .. }) => &self.opened,
            (Open { .. }, HalfOpen { .. }) => &self.half_opened,
            (HalfOpen { .. }, Closed { .. }) => &self.closed,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request that passed a breaker. Dropped without a word it counts as [`BreakerEnd::Unknown`].
#[derive(Debug)]
pub struct Permit {
    live: Arc<ClusterLive>,
    config: Arc<ClusterConfig>,
    probe: bool,
    ended: bool,
}

/// The breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker of the cluster is open")]
pub struct BreakerOpen;

impl Permit {
    /// Asks the cluster's breaker; `None` where it has none.
    ///
    /// # Errors
    /// It is open, or all of its probes are under way.
    pub fn ask(cluster: &Cluster, now: Duration) -> Result<Option<Self>, BreakerOpen> {
        let Some(settings) = breaker_of(&cluster.config) else {
            return Ok(None);
        };
        match cluster.live.breaker().admit(settings, now) {
            Admission::Refused => Err(BreakerOpen),
            admission => Ok(Some(Self {
                live: Arc::clone(&cluster.live),
                config: Arc::clone(&cluster.config),
                probe: admission == Admission::Probe,
                ended: false,
            })),
        }
    }

    /// The request ended so.
    pub fn end(mut self, end: BreakerEnd, now: Duration) {
        self.tell(end, now);
    }

    fn tell(&mut self, end: BreakerEnd, now: Duration) {
        self.ended = true;
        if let Some(settings) = breaker_of(&self.config) {
            self.live.breaker().ended(settings, self.probe, end, now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.ended {
            // The time does not matter for an end of which nothing is known.
            self.tell(BreakerEnd::Unknown, Duration::ZERO);
        }
    }
}

/// The settings of a cluster's breaker.
pub fn breaker_of(config: &ClusterConfig) -> Option<&BreakerSettings> {
    config.health.as_deref()?.breaker.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn settings() -> BreakerSettings {
        BreakerSettings {
            failures: 3,
            window: None,
            open_for: seconds(10),
            probes: 2,
        }
    }

    /// Sends requests that end so; says which were refused.
    fn send(breaker: &Breaker, settings: &BreakerSettings, at: u64, ends: &[BreakerEnd]) -> Vec<bool> {
        let mut refused = Vec::new();
        for end in ends {
            let admission = breaker.admit(settings, seconds(at));
            refused.push(admission == Admission::Refused);
            if admission != Admission::Refused {
                breaker.ended(settings, admission == Admission::Probe, *end, seconds(at));
            }
        }
        refused
    }

    use BreakerEnd::{Failed, Passed, Unknown};

    #[test]
    fn every_state_survives_packing() {
        for state in [
            CLOSED,
            Closed {
                failures: MOST,
                since: (1 << TIME) - 1,
            },
            Open { since: 77 },
            HalfOpen {
                admitted: MOST,
                passed: MOST,
            },
        ] {
            assert_eq!(BreakerState::unpacked(state.packed()), state);
        }
        assert_eq!(CLOSED.packed(), 0);
    }

    #[test]
    fn the_way_round_and_every_way_back() {
        let (breaker, settings) = (Breaker::default(), settings());
        // A success in between begins the count anew.
        send(
            &breaker,
            &settings,
            0,
            &[Failed, Failed, Passed, Failed, Unknown, Failed],
        );
        assert_eq!(
            breaker.state(),
            Closed {
                failures: 2,
                since: 0
            }
        );
        send(&breaker, &settings, 1, &[Failed]);
        assert_eq!(breaker.state(), Open { since: 1000 });
        assert_eq!(send(&breaker, &settings, 10, &[Passed, Failed]), [true, true]);
        // Half open: the first probe fails, and it is open again from now on.
        assert_eq!(send(&breaker, &settings, 11, &[Failed, Passed]), [false, true]);
        assert_eq!(breaker.state(), Open { since: 11_000 });
        // One passes, one says nothing, one passes: closed.
        assert_eq!(send(&breaker, &settings, 21, &[Passed, Unknown]), [false, false]);
        assert_eq!(
            breaker.state(),
            HalfOpen {
                admitted: 1,
                passed: 1
            }
        );
        send(&breaker, &settings, 22, &[Passed]);
        assert_eq!(breaker.state(), CLOSED);
        let counts = [
            &breaker.opened,
            &breaker.half_opened,
            &breaker.closed,
            &breaker.rejected,
        ];
        assert_eq!(counts.map(|count| count.load(Ordering::Relaxed)), [2, 2, 1, 3]);
    }

    #[test]
    fn no_more_probes_than_wanted_are_under_way() {
        let (breaker, settings) = (Breaker::default(), settings());
        send(&breaker, &settings, 0, &[Failed; 3]);
        let admitted = [(); 5].map(|()| breaker.admit(&settings, seconds(10)));
        assert_eq!(
            admitted.map(|admission| admission == Admission::Probe),
            [true, true, false, false, false]
        );
        // What began while it was closed changes nothing now.
        breaker.ended(&settings, false, Failed, seconds(10));
        breaker.ended(&settings, false, Passed, seconds(10));
        assert_eq!(
            breaker.state(),
            HalfOpen {
                admitted: 2,
                passed: 0
            }
        );
        breaker.ended(&settings, true, Unknown, seconds(10));
        assert_eq!(breaker.admit(&settings, seconds(10)), Admission::Probe);
        // A probe of an earlier round finds it open, and changes nothing.
        breaker.ended(&settings, true, Failed, seconds(12));
        breaker.ended(&settings, true, Passed, seconds(13));
        assert_eq!(breaker.state(), Open { since: 12_000 });
    }

    #[test]
    fn with_a_window_failures_need_not_be_in_a_row() {
        let settings = BreakerSettings {
            window: Some(seconds(5)),
            ..settings()
        };
        let breaker = Breaker::default();
        send(&breaker, &settings, 1, &[Failed, Passed, Failed, Passed]);
        // The window is over: counted from here.
        send(&breaker, &settings, 7, &[Failed, Failed, Passed]);
        assert_eq!(
            breaker.state(),
            Closed {
                failures: 2,
                since: 7000
            }
        );
        send(&breaker, &settings, 12, &[Failed]);
        assert_eq!(breaker.state(), Open { since: 12_000 });
    }
}
