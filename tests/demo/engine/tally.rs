//! What became of the traffic? Counts by phase, protocol and version, and everything that went wrong.
//!
//! An exchange belongs to the phase in which it began, so a shift of the weights does not blur the shares.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::control::Weights;

/// Of how many exchanges the latencies are kept.
const KEPT: usize = 4096;

/// The versions of the application.
pub(crate) const VERSIONS: [&str; 2] = ["v1", "v2"];

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Requests over HTTP/1.1 with keep-alive.
    Http1,
    /// Unary calls.
    Grpc,
    /// Connections with several lines each.
    Tcp,
}

/// All protocols, in the order of [`Phase::shares`].
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Grpc, Protocol::Tcp];

/// What one protocol did in one phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Share {
    /// Exchanges answered by each version.
    pub(crate) answered: [u64; 2],
    /// Exchanges that failed.
    pub(crate) failed: u64,
    latencies: VecDeque<Duration>,
}

/// The time between two shifts.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    /// What was asked for.
    pub(crate) weights: Weights,
    /// What came, by protocol.
    pub(crate) shares: [Share; 3],
}

/// The one stream that stays open from the start to the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct LongStream {
    /// Messages that came back.
    pub(crate) messages: u64,
    /// Times that it broke.
    pub(crate) broken: u64,
    /// Who answers.
    pub(crate) version: String,
}

/// Everything so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// The phases so far; the last one runs.
    pub(crate) phases: Vec<Phase>,
    /// The long stream.
    pub(crate) stream: LongStream,
    /// The callers that the application saw, and in how many answers.
    pub(crate) callers: BTreeMap<String, u64>,
    /// What went wrong, in words; at most a hundred.
    pub(crate) failures: Vec<String>,
}

/// The tally, shared by the workers and whoever looks at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Tally>>);

/// One exchange that went well.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Who answered.
    pub(crate) version: String,
    /// Whom the application saw calling; `None` where the protocol has no place for it.
    pub(crate) caller: Option<String>,
}

impl Protocol {
    /// Its name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Http1 => "HTTP/1.1",
            Protocol::Grpc => "gRPC",
            Protocol::Tcp => "TCP",
        }
    }
}

impl Share {
    /// Exchanges with an answer.
    pub(crate) fn total(&self) -> u64 {
        self.answered.iter().sum()
    }

    /// The part that the second version answered, 0 to 1; `None` before the first answer.
    #[expect(clippy::cast_precision_loss, reason = "counts of a demo")]
    pub(crate) fn of_second(&self) -> Option<f64> {
        (self.total() > 0).then(|| self.answered[1] as f64 / self.total() as f64)
    }

    /// The latency below which `percent` of the last few thousand exchanges lie.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted: Vec<Duration> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let index = sorted.len().saturating_sub(1) * percent / 100;
        sorted.get(index).copied().unwrap_or_default()
    }
}

impl Tally {
    /// Exchanges that failed, and breaks of the long stream.
    pub(crate) fn failed(&self) -> u64 {
        let shares = self.phases.iter().flat_map(|phase| &phase.shares);
        shares.map(|share| share.failed).sum::<u64>() + self.stream.broken
    }

    /// All exchanges, and all messages of the long stream.
    pub(crate) fn total(&self) -> u64 {
        let shares = self.phases.iter().flat_map(|phase| &phase.shares);
        shares.map(|share| share.total() + share.failed).sum::<u64>()
            + self.stream.messages
            + self.stream.broken
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything so far.
    pub(crate) fn tally(&self) -> Tally {
        self.lock().clone()
    }

    /// Opens the next phase.
    pub(crate) fn begin(&self, weights: Weights) {
        let shares = Default::default();
        self.lock().phases.push(Phase { weights, shares });
    }

    /// The number of the phase that runs.
    pub(crate) fn phase(&self) -> usize {
        self.lock().phases.len().saturating_sub(1)
    }

    /// Counts one exchange that began in `phase`.
    pub(crate) fn count(
        &self,
        phase: usize,
        protocol: Protocol,
        outcome: anyhow::Result<Answer>,
        took: Duration,
    ) {
        let mut tally = self.lock();
        let outcome = outcome.and_then(|answer| {
            let index = VERSIONS.iter().position(|version| *version == answer.version);
            let index = index.ok_or_else(|| anyhow::anyhow!("'{}' is no version", answer.version))?;
            Ok((index, answer.caller))
        });
        let (index, caller) = match outcome {
            Ok(answered) => answered,
            Err(error) => {
                tally.fail(format!("{}: {error:#}", protocol.name()));
                if let Some(phase) = tally.phases.get_mut(phase) {
                    phase.shares[protocol as usize].failed += 1;
                }
                return;
            }
        };
        if let Some(caller) = caller {
            *tally.callers.entry(caller).or_default() += 1;
        }
        if let Some(phase) = tally.phases.get_mut(phase) {
            let share = &mut phase.shares[protocol as usize];
            share.answered[index] += 1;
            share.latencies.push_back(took);
            if share.latencies.len() > KEPT {
                share.latencies.pop_front();
            }
        }
    }

    /// Notes what the long stream did.
    pub(crate) fn stream(&self, change: impl FnOnce(&mut LongStream)) {
        change(&mut self.lock().stream);
    }

    /// Notes that the long stream broke.
    pub(crate) fn stream_broke(&self, error: &anyhow::Error) {
        let mut tally = self.lock();
        tally.stream.broken += 1;
        tally.fail(format!("the long stream: {error:#}"));
    }
}

impl Tally {
    fn fail(&mut self, words: String) {
        if self.failures.len() < 100 {
            self.failures.push(words);
        }
    }
}
