//! What do the ends of requests say about one endpoint?
//!
//! Follows Envoy's outlier detection: an answer counts by its status, a failure without an answer as the status that the
//! client gets (503, 504), or apart from answers where `split_external_local_origin_errors` wants it.
//! Holds: workers count without locks; a run of failures is told of once, until the control thread has looked at it.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{OutlierDetection, micros};

/// What an attempt showed of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status (that of gRPC translated to HTTP's).
    Answered(u16),
    /// A connection; what is sent over it is judged by its answers.
    Connected,
    /// A connection whose bytes nobody judges: a tunnel.
    ConnectedForGood,
    /// No answer: no connection, or it ended.
    Reset,
    /// No answer in time.
    TimedOut,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    /// `consecutive_5xx`.
    Consecutive5xx,
    /// `consecutive_gateway_failure`.
    ConsecutiveGateway,
    /// `consecutive_local_origin_failure`.
    ConsecutiveLocal,
    /// The success rate is too far below that of the others.
    SuccessRate,
    /// The same of failures without an answer.
    LocalSuccessRate,
    /// The share of failures is too large.
    FailurePercentage,
    /// The same of failures without an answer.
    LocalFailurePercentage,
}

/// Who failed: the server with its answer, or the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    External,
    Local,
}

impl Trip {
    /// Whose failures it counts.
    pub(super) fn origin(self) -> Origin {
        match self {
            Self::ConsecutiveLocal | Self::LocalSuccessRate | Self::LocalFailurePercentage => Origin::Local,
            Self::Consecutive5xx | Self::ConsecutiveGateway | Self::SuccessRate | Self::FailurePercentage => {
                Origin::External
            }
        }
    }
}

/// Failures of one origin.
#[derive(Debug, Default)]
pub(super) struct Course {
    total: AtomicU32,
    succeeded: AtomicU32,
    /// Time of the last success, of the last failure, and of the first failure after the last success; 0: never.
    last_success: AtomicU64,
    last_failure: AtomicU64,
    run_began: AtomicU64,
    /// Success rate of the last whole interval in hundredths of a percent plus 1; 0: too few requests.
    rate: AtomicU32,
}

impl Course {
    fn succeed(&self, now: u64) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        self.last_success.store(now, Ordering::Relaxed);
    }

    fn fail(&self, now: u64) {
        self.total.fetch_add(1, Ordering::Relaxed);
        if self.last_failure.load(Ordering::Relaxed) <= self.last_success.load(Ordering::Relaxed) {
            self.run_began.store(now, Ordering::Relaxed);
        }
        self.last_failure.store(now, Ordering::Relaxed);
    }

    /// When the failures began that have not been followed by a success.
    pub(super) fn run_began(&self) -> u64 {
        self.run_began.load(Ordering::Relaxed)
    }

    /// Whether there was a success, and whether there was a failure, from this time on.
    pub(super) fn since(&self, time: u64) -> (bool, bool) {
        let from = |at: &AtomicU64| {
            let at = at.load(Ordering::Relaxed);
            at != 0 && at >= time
        };
        (from(&self.last_success), from(&self.last_failure))
    }

    /// Ends an interval: share of successes (0 to 1) and requests in it, if there were any.
    pub(super) fn take(&self) -> Option<(f64, u32)> {
        let succeeded = self.succeeded.swap(0, Ordering::Relaxed);
        let total = self.total.swap(0, Ordering::Relaxed);
        (total > 0).then(|| (f64::from(succeeded.min(total)) / f64::from(total), total))
    }

    pub(super) fn set_rate(&self, rate: Option<f64>) {
        let stored = rate.map_or(0, |rate| (rate * 10_000.0).round() as u32 + 1);
        self.rate.store(stored, Ordering::Relaxed);
    }
}

/// Everything that outlier detection knows of an endpoint.
#[derive(Debug, Default)]
pub struct Monitor {
    server_errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    /// Trips that the control thread was told of and has not judged.
    told: AtomicU8,
    external: Course,
    local: Course,
    pub(super) backoff: AtomicU32,
    pub(super) ejections: AtomicU32,
    pub(super) ejected_at: AtomicU64,
    pub(super) jitter: AtomicU64,
    pub(super) returned_at: AtomicU64,
}

impl Monitor {
    /// Takes an outcome in; says which limits it reached, as far as the control thread is to be told now.
    pub fn report(&self, settings: &OutlierDetection, outcome: Outcome, now: Duration) -> [Option<Trip>; 2] {
        // 0 is "never".
        let now = micros(now).max(1);
        match (outcome, settings.split) {
            (Outcome::Answered(status), _) => self.answered(settings, status, now),
            (Outcome::Connected, false) => [None; 2],
            (Outcome::ConnectedForGood, false) => self.answered(settings, 200, now),
            (Outcome::Reset, false) => self.answered(settings, 503, now),
            (Outcome::TimedOut, false) => self.answered(settings, 504, now),
            (Outcome::Connected | Outcome::ConnectedForGood, true) => {
                self.local_failures.store(0, Ordering::Relaxed);
                self.local.succeed(now);
                [None; 2]
            }
            (Outcome::Reset | Outcome::TimedOut, true) => {
                self.local.fail(now);
                let run = self.local_failures.fetch_add(1, Ordering::Relaxed) + 1;
                let trip = self.tell(run, settings.consecutive_local, Trip::ConsecutiveLocal);
                [trip, None]
            }
        }
    }

    fn answered(&self, settings: &OutlierDetection, status: u16, now: u64) -> [Option<Trip>; 2] {
        if !(500..600).contains(&status) {
            self.server_errors.store(0, Ordering::Relaxed);
            self.gateway_errors.store(0, Ordering::Relaxed);
            self.external.succeed(now);
            return [None; 2];
        }
        self.external.fail(now);
        let gateway = if (502..=504).contains(&status) {
            let run = self.gateway_errors.fetch_add(1, Ordering::Relaxed) + 1;
            self.tell(run, settings.consecutive_gateway, Trip::ConsecutiveGateway)
        } else {
            self.gateway_errors.store(0, Ordering::Relaxed);
            None
        };
        let run = self.server_errors.fetch_add(1, Ordering::Relaxed) + 1;
        [
            gateway,
            self.tell(run, settings.consecutive_5xx, Trip::Consecutive5xx),
        ]
    }

    fn tell(&self, run: u32, limit: u32, trip: Trip) -> Option<Trip> {
        let reached = limit > 0 && run >= limit;
        let first = reached && self.told.fetch_or(bit(trip), Ordering::Relaxed) & bit(trip) == 0;
        first.then_some(trip)
    }

    /// The control thread has judged this run of failures: the next one counts from zero.
    pub(super) fn judged(&self, trip: Trip) {
        match trip {
            Trip::Consecutive5xx => self.server_errors.store(0, Ordering::Relaxed),
            Trip::ConsecutiveGateway => self.gateway_errors.store(0, Ordering::Relaxed),
            Trip::ConsecutiveLocal => self.local_failures.store(0, Ordering::Relaxed),
            Trip::SuccessRate
            | Trip::LocalSuccessRate
            | Trip::FailurePercentage
            | Trip::LocalFailurePercentage => {}
        }
        self.told.fetch_and(!bit(trip), Ordering::Relaxed);
    }

    /// All runs count from zero.
    pub(super) fn forget_runs(&self) {
        for trip in [
            Trip::Consecutive5xx,
            Trip::ConsecutiveGateway,
            Trip::ConsecutiveLocal,
        ] {
            self.judged(trip);
        }
    }

    pub(super) fn course(&self, origin: Origin) -> &Course {
        match origin {
            Origin::External => &self.external,
            Origin::Local => &self.local,
        }
    }

    /// Success rates of the last interval in percent, by answers and by connections; `None`: too few requests.
    pub fn success_rates(&self) -> [Option<f64>; 2] {
        [&self.external, &self.local].map(|course| {
            let stored = course.rate.load(Ordering::Relaxed);
            stored.checked_sub(1).map(|rate| f64::from(rate) / 100.0)
        })
    }
}

fn bit(trip: Trip) -> u8 {
    1 << trip as u8
}

/// The HTTP status that stands for a gRPC status (gRPC's and Envoy's `grpcToHttpStatus`).
pub fn grpc_as_http(status: u32) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
