//! How many requests in which time? Windows that are counted together, and a queue that lets requests out one by one.
//!
//! Holds: a request is taken by every window or by none, and never are more than `limit` taken within a window, whoever
//! asks: all windows of a key are behind one lock, held for a few additions. A fixed window begins where the one before
//! it ended; the first begins with the first request. A sliding window forgets in steps of a 256th of its length, always
//! late, never early. The queue is one number, changed by compare-and-swap. It reads no clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Steps of a sliding window.
const STEPS: u64 = 256;
/// Steps that are remembered: the one that is leaving counts until all of it is too old.
const RING: u64 = STEPS + 1;

/// A window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Requests that it takes.
    pub limit: u32,
    /// Its length.
    pub per: Duration,
    /// Whether it slides.
    pub kind: WindowKind,
}

/// How a window goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    /// The next begins where it ends, empty.
    Fixed,
    /// It ends now, always.
    Sliding,
}

/// A leaky bucket: requests leave it evenly, and wait in it in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Time between two requests that leave.
    pub interval: Duration,
    /// How many may wait.
    pub length: u32,
}

/// What the windows of one key have counted.
#[derive(Debug)]
pub struct Windows {
    epoch: OnceLock<Instant>,
    counts: Mutex<Box<[Count]>>,
}

#[derive(Debug)]
enum Count {
    Fixed {
        window: Window,
        number: u64,
        taken: u32,
    },
    Sliding {
        window: Window,
        step: u64,
        taken: u64,
        steps: Box<[u32]>,
    },
}

impl Windows {
    /// Nothing counted yet.
    pub fn new(windows: &[Window]) -> Self {
        let counts = windows.iter().map(|window| match window.kind {
            WindowKind::Fixed => Count::Fixed {
                window: *window,
                number: 0,
                taken: 0,
            },
            WindowKind::Sliding => Count::Sliding {
                window: *window,
                step: 0,
                taken: 0,
                steps: vec![0; RING as usize].into(),
            },
        });
        Self {
            epoch: OnceLock::new(),
            counts: Mutex::new(counts.collect()),
        }
    }

    /// Takes one request.
    ///
    /// # Errors
    /// There is no room in some window: how long until there may be in all of them.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let epoch = *self.epoch.get_or_init(|| now);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // A worker that is late counts at the time of the others: time never goes back inside a window.
        let now = now.saturating_duration_since(epoch).as_nanos();
        let wait = counts.iter_mut().filter_map(|count| count.wait(now)).max();
        if let Some(wait) = wait {
            return Err(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)));
        }
        for count in counts.iter_mut() {
            count.add();
        }
        Ok(())
    }

    /// Takes the last request back, as far as it has not left a window yet.
    pub fn give_back(&self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for count in counts.iter_mut() {
            match count {
                Count::Fixed { taken, .. } => *taken = taken.saturating_sub(1),
                Count::Sliding {
                    step, taken, steps, ..
                } => {
                    let newest = &mut steps[(*step % RING) as usize];
                    if *newest > 0 {
                        *newest -= 1;
                        *taken -= 1;
                    }
                }
            }
        }
    }
}

impl Count {
    /// Goes on to `now`, and says how long it has no room from there; `None`: it has.
    fn wait(&mut self, now: u128) -> Option<u128> {
        match self {
            Self::Fixed {
                window,
                number,
                taken,
            } => {
                let per = window.per.as_nanos().max(1);
                let current = u64::try_from(now / per).unwrap_or(u64::MAX);
                if current > *number {
                    (*number, *taken) = (current, 0);
                }
                (*taken >= window.limit).then(|| ((u128::from(*number) + 1) * per).saturating_sub(now))
            }
            Self::Sliding {
                window,
                step,
                taken,
                steps,
            } => {
                let length = (window.per.as_nanos() / u128::from(STEPS)).max(1);
                let current = u64::try_from(now / length).unwrap_or(u64::MAX);
                while *step < current {
                    if current - *step > RING {
                        *step = current - RING;
                    }
                    *step += 1;
                    let oldest = &mut steps[(*step % RING) as usize];
                    *taken -= u64::from(*oldest);
                    *oldest = 0;
                }
                if *taken < u64::from(window.limit) {
                    return None;
                }
                let ages = (1..=RING).find(|ahead| steps[((*step + ahead) % RING) as usize] > 0);
                let frees = u128::from(*step + ages.unwrap_or(RING)) * length;
                Some(frees.saturating_sub(now))
            }
        }
    }

    fn add(&mut self) {
        match self {
            Self::Fixed { taken, .. } => *taken += 1,
            Self::Sliding {
                step, taken, steps, ..
            } => {
                *taken += 1;
                steps[(*step % RING) as usize] += 1;
            }
        }
    }
}

/// Who waits in a queue.
#[derive(Debug, Default)]
pub struct Queued {
    epoch: OnceLock<Instant>,
    /// When the next request may leave, in nanoseconds after `epoch`.
    next: AtomicU64,
}

impl Queued {
    /// How long one more request waits; it has its place then. A request that gives up waiting leaves its place empty.
    ///
    /// # Errors
    /// The queue is full: how long until it has room.
    pub fn join(&self, queue: &Queue, now: Instant) -> Result<Duration, Duration> {
        let epoch = *self.epoch.get_or_init(|| now);
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(epoch));
        let interval = nanos(queue.interval).max(1);
        let longest = interval.saturating_mul(u64::from(queue.length));
        let mut wait = 0;
        let joined = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                let leaves = next.max(now);
                wait = leaves - now;
                (wait <= longest).then(|| leaves.saturating_add(interval))
            });
        match joined {
            Ok(_) => Ok(Duration::from_nanos(wait)),
            Err(_) => Err(Duration::from_nanos(wait - longest)),
        }
    }
}

#[cfg(test)]
mod tests;
