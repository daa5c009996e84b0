//! A set of reasons why an endpoint is not used.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::endpoint::Health;

/// One reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Flag {
    /// Outlier detection ejected it.
    Ejected = 1,
    /// It refused a connection a moment ago.
    Quarantined = 1 << 1,
}

/// The reasons that hold now.
#[derive(Debug, Default)]
pub struct Flags(AtomicU8);

impl Flags {
    /// None.
    pub const fn none() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Whether this one holds.
    pub fn has(&self, flag: Flag) -> bool {
        self.0.load(Ordering::Relaxed) & flag as u8 != 0
    }

    /// Lets it hold, or not. The control thread alone does this.
    pub fn set(&self, flag: Flag, holds: bool) {
        if holds {
            self.0.fetch_or(flag as u8, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!(flag as u8), Ordering::Relaxed);
        }
    }

    /// What is left of the health that the control plane gave.
    pub fn over(&self, said: Health) -> Health {
        if self.0.load(Ordering::Relaxed) == 0 {
            said
        } else {
            Health::Unhealthy
        }
    }
}
