//! Does a request pass an allowance of ours: several windows at once, a queue, so many at a time?
//!
//! Holds: the counts belong to the settings and are shared by all workers; settings that did not change keep them from
//! version to version (see `translate`). A request that is refused has taken nothing, of any window.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::CountedConnection;
use crate::Name;
use crate::limit::{Entry, Queue, Queued, Recent, Window, Windows};

/// What an allowance says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaSettings {
    /// `stat_prefix`.
    pub stat_prefix: Name,
    /// `status` of a refusal.
    pub status: StatusCode,
    /// `windows`: taken together or not at all.
    pub windows: Vec<Window>,
    /// `queue`.
    pub queue: Option<Queue>,
    /// `max_concurrent`: requests at a time.
    pub max_concurrent: Option<u64>,
    /// `by_descriptor`: each descriptor has an allowance of its own.
    pub by_descriptor: Option<ByDescriptor>,
}

/// Which descriptors have allowances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByDescriptor {
    /// `stage` of the `rate_limits` that give them.
    pub stage: u8,
    /// `max_keys`: how many at a time.
    pub max_keys: usize,
}

/// An allowance with what was taken of it.
#[derive(Debug)]
pub struct Quota {
    /// What it says.
    pub settings: QuotaSettings,
    whole: Taken,
    keyed: Option<Recent<Taken>>,
}

#[derive(Debug)]
struct Taken {
    windows: Windows,
    queued: Queued,
    active: Arc<AtomicU64>,
}

/// What an allowance says of a request.
#[derive(Debug)]
pub enum QuotaVerdict {
    /// It passes, after a wait.
    Pass {
        /// How long it waits for its turn.
        wait: Duration,
        /// Counts it until it ends.
        held: Option<CountedConnection>,
    },
    /// It does not; another may, after this time.
    Refused(Duration),
}

impl Quota {
    /// Nothing taken yet.
    pub fn new(settings: QuotaSettings) -> Self {
        Self {
            whole: Taken::new(&settings),
            keyed: settings.by_descriptor.map(|by| Recent::new(by.max_keys)),
            settings,
        }
    }

    /// Takes a request, of the allowance of its key where there is one.
    pub fn take(&self, key: Option<&[Entry]>, now: Instant) -> QuotaVerdict {
        match (&self.keyed, key) {
            (Some(keyed), Some(key)) => keyed
                .of(key, || Taken::new(&self.settings))
                .take(&self.settings, now),
            _ => self.whole.take(&self.settings, now),
        }
    }
}

impl Taken {
    fn new(settings: &QuotaSettings) -> Self {
        Self {
            windows: Windows::new(&settings.windows),
            queued: Queued::default(),
            active: Arc::default(),
        }
    }

    fn take(&self, settings: &QuotaSettings, now: Instant) -> QuotaVerdict {
        let held = match settings.max_concurrent {
            Some(max) => match CountedConnection::within(&self.active, max) {
                Some(held) => Some(held),
                None => return QuotaVerdict::Refused(Duration::ZERO),
            },
            None => None,
        };
        // A place in the queue cannot be given back, so it is asked for once the windows have room; what they took of a
        // request that finds the queue full is given back.
        if let Err(again) = self.windows.take(now) {
            return QuotaVerdict::Refused(again);
        }
        match &settings.queue {
            None => QuotaVerdict::Pass {
                wait: Duration::ZERO,
                held,
            },
            Some(queue) => match self.queued.join(queue, now) {
                Ok(wait) => QuotaVerdict::Pass { wait, held },
                Err(again) => {
                    self.windows.give_back();
                    QuotaVerdict::Refused(again)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::WindowKind;

    fn settings() -> QuotaSettings {
        QuotaSettings {
            stat_prefix: "q".into(),
            status: StatusCode::TOO_MANY_REQUESTS,
            windows: Vec::new(),
            queue: None,
            max_concurrent: None,
            by_descriptor: None,
        }
    }

    fn passes(verdict: &QuotaVerdict) -> bool {
        matches!(verdict, QuotaVerdict::Pass { .. })
    }

    #[test]
    fn so_many_at_a_time() {
        let quota = Quota::new(QuotaSettings {
            max_concurrent: Some(1),
            ..settings()
        });
        let now = Instant::now();
        let first = quota.take(None, now);
        assert!(passes(&first) && !passes(&quota.take(None, now)));
        drop(first);
        assert!(passes(&quota.take(None, now)));
    }

    #[test]
    fn each_key_has_an_allowance_of_its_own() {
        let hour = Duration::from_secs(3600);
        let quota = Quota::new(QuotaSettings {
            windows: vec![Window {
                limit: 1,
                per: hour,
                kind: WindowKind::Fixed,
            }],
            by_descriptor: Some(ByDescriptor {
                stage: 0,
                max_keys: 10,
            }),
            ..settings()
        });
        let now = Instant::now();
        let (a, b) = ([Entry::new("user", "a")], [Entry::new("user", "b")]);
        assert!(passes(&quota.take(Some(&a), now)) && passes(&quota.take(Some(&b), now)));
        assert!(!passes(&quota.take(Some(&a), now)) && !passes(&quota.take(Some(&b), now)));
    }

    #[test]
    fn a_full_queue_takes_nothing_of_the_windows() {
        let second = Duration::from_secs(1);
        let quota = Quota::new(QuotaSettings {
            windows: vec![Window {
                limit: 2,
                per: 100 * second,
                kind: WindowKind::Fixed,
            }],
            queue: Some(Queue {
                interval: second,
                length: 0,
            }),
            ..settings()
        });
        let now = Instant::now();
        assert!(passes(&quota.take(None, now)));
        assert!(!passes(&quota.take(None, now)), "the queue is full");
        assert!(
            passes(&quota.take(None, now + second)),
            "the window still has room for one"
        );
        assert!(
            !passes(&quota.take(None, now + 2 * second)),
            "and now it has none"
        );
    }
}
