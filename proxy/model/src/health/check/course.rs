//! Is an endpoint used, after what its checks found so far, and when is it asked again?
//!
//! ```text
//!  unchecked --passed--> passing --answer fails, or the threshold of silent failures in a row--> failing
//!      |                    ^                                                                      |
//!      |                    +------------- the threshold of passes in a row ----------------------+
//!      +--failed--> failing
//! ```
//! Follows Envoy: an answer that is wrong decides at once; no connection, no answer in time and a `retriable` status
//! count towards `unhealthy_threshold`. A threshold of 0 is never reached.

use std::time::Duration;

use crate::health::{Flag, Flags, micros};

/// `unhealthy_threshold` and `healthy_threshold`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures in a row.
    pub unhealthy: u32,
    /// Passes in a row.
    pub healthy: u32,
}

/// What one check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The endpoint is well.
    Passed {
        /// It would rather have fewer requests.
        degraded: bool,
    },
    /// It is not.
    Failed(Shortfall),
}

/// Why a check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// A wrong answer.
    Answer {
        /// One that counts towards the threshold.
        retriable: bool,
    },
    /// No connection, or it ended.
    Network,
    /// No answer in time.
    TimedOut,
    /// It said in an answer to a request that it wants no more.
    Passive,
}

impl Shortfall {
    /// Whether the network is to blame.
    pub fn is_network(self) -> bool {
        matches!(self, Self::Network | Self::TimedOut)
    }

    fn counts(self) -> bool {
        self.is_network() || self == Self::Answer { retriable: true }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unchecked,
    Passing { failures: u32 },
    Failing { passes: u32 },
}

/// What the checks of one endpoint found so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    state: State,
    degraded: bool,
    timed_out: bool,
    leaves: bool,
    /// Until its first check it does not count for panic.
    does_not_count: bool,
}

/// What a finding changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// Nothing.
    Nothing,
    /// Nothing yet: the threshold is not reached.
    Pending,
    /// It is used from now on.
    Up,
    /// It is not used from now on.
    Down,
}

impl Course {
    /// Of an endpoint that was never asked.
    pub fn new(new_do_not_count: bool) -> Self {
        Self {
            state: State::Unchecked,
            degraded: false,
            timed_out: false,
            leaves: false,
            does_not_count: new_do_not_count,
        }
    }

    /// Whether nothing was found yet.
    pub fn is_unchecked(&self) -> bool {
        self.state == State::Unchecked
    }

    /// Whether the endpoint is used.
    pub fn is_passing(&self) -> bool {
        matches!(self.state, State::Passing { .. })
    }

    /// Takes a finding in; `leaves`: the endpoint failed and said that it wants no more requests.
    pub fn find(&mut self, thresholds: Thresholds, finding: Finding, leaves: bool) -> Moved {
        let moved = match finding {
            Finding::Passed { degraded } => {
                self.degraded = degraded;
                self.pass(thresholds.healthy)
            }
            Finding::Failed(shortfall) => {
                self.leaves |= leaves;
                self.fail(thresholds.unhealthy, shortfall)
            }
        };
        let counted = !std::mem::take(&mut self.does_not_count);
        if moved == Moved::Pending && !counted {
            Moved::Nothing
        } else {
            moved
        }
    }

    fn pass(&mut self, threshold: u32) -> Moved {
        let passes = match self.state {
            State::Passing { .. } => {
                self.leaves = false;
                self.state = State::Passing { failures: 0 };
                return Moved::Nothing;
            }
            State::Unchecked => threshold,
            State::Failing { passes } => passes.saturating_add(1),
        };
        if passes != threshold {
            self.state = State::Failing { passes };
            return Moved::Pending;
        }
        self.state = State::Passing { failures: 0 };
        self.timed_out = false;
        self.leaves = false;
        Moved::Up
    }

    fn fail(&mut self, threshold: u32, shortfall: Shortfall) -> Moved {
        let moved = match self.state {
            State::Unchecked | State::Failing { .. } => {
                self.state = State::Failing { passes: 0 };
                Moved::Nothing
            }
            State::Passing { failures } => {
                let failures = failures.saturating_add(1);
                if shortfall.counts() && failures != threshold {
                    self.state = State::Passing { failures };
                    Moved::Pending
                } else {
                    self.state = State::Failing { passes: 0 };
                    Moved::Down
                }
            }
        };
        self.timed_out = shortfall == Shortfall::TimedOut && !self.is_passing();
        moved
    }

    /// Shows in the flags of the endpoint what was found; says whether they are others now.
    pub fn show(&self, flags: &Flags) -> bool {
        let holds = [
            (Flag::FailedCheck, !self.is_passing()),
            (Flag::Degraded, self.degraded),
            (Flag::Unchecked, self.does_not_count),
            (Flag::Leaves, self.leaves),
            (Flag::TimedOut, self.timed_out),
        ];
        flags.set_all(&holds)
    }

    /// Shows that the endpoint is not checked.
    pub fn hide(flags: &Flags) -> bool {
        let checked = [
            Flag::FailedCheck,
            Flag::Degraded,
            Flag::Unchecked,
            Flag::Leaves,
            Flag::TimedOut,
            Flag::Lingers,
        ];
        flags.set_all(&checked.map(|flag| (flag, false)))
    }
}

/// When an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervals {
    /// `interval`.
    pub usual: Duration,
    /// `no_traffic_interval`, default 60 s: while the cluster never had a connection.
    pub unused: Duration,
    /// `no_traffic_healthy_interval`, default the same: then, where the last check passed.
    pub unused_healthy: Duration,
    /// `unhealthy_interval`, default `interval`: after a check that failed.
    pub unhealthy: Duration,
    /// `unhealthy_edge_interval`, default that: after one that failed before the threshold.
    pub unhealthy_edge: Duration,
    /// `healthy_edge_interval`, default `interval`: after one that passed before the threshold.
    pub healthy_edge: Duration,
    /// `initial_jitter`.
    pub initial_jitter: Duration,
    /// `interval_jitter`.
    pub jitter: Duration,
    /// `interval_jitter_percent`.
    pub jitter_percent: u32,
}

/// No two checks follow closer.
const LEAST: Duration = Duration::from_millis(1);

impl Intervals {
    /// How long to wait for the first check.
    pub fn first(&self, rng: &mut fastrand::Rng) -> Duration {
        below(self.initial_jitter, rng)
    }

    /// How long to wait after this finding; `used`: the cluster had a connection.
    pub fn next(&self, finding: Finding, moved: Moved, used: bool, rng: &mut fastrand::Rng) -> Duration {
        let passed = matches!(finding, Finding::Passed { .. });
        let base = match (used, passed, moved == Moved::Pending) {
            (false, true, false) => self.unused_healthy,
            (false, ..) => self.unused,
            (true, true, true) => self.healthy_edge,
            (true, true, false) => self.usual,
            (true, false, true) => self.unhealthy_edge,
            (true, false, false) => self.unhealthy,
        };
        let share = base.saturating_mul(self.jitter_percent) / 100;
        let wait = base
            .saturating_add(below(share, rng))
            .saturating_add(below(self.jitter, rng));
        wait.max(LEAST)
    }
}

/// A random time below `bound`, which may be zero.
fn below(bound: Duration, rng: &mut fastrand::Rng) -> Duration {
    match micros(bound) {
        0 => Duration::ZERO,
        bound => Duration::from_micros(rng.u64(..bound)),
    }
}
