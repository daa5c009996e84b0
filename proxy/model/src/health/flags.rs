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
    /// Its health checks fail, or none was made yet.
    FailedCheck = 1 << 2,
    /// Its health checks pass, and say that it would rather have fewer requests.
    Degraded = 1 << 3,
    /// None was made yet, and until then it does not count for panic.
    Unchecked = 1 << 4,
    /// It said that it wants no more requests, and does not count for panic.
    Leaves = 1 << 5,
    /// Its last health check was not answered in time.
    TimedOut = 1 << 6,
    /// The control plane took it away; it stays as long as its health checks pass.
    Lingers = 1 << 7,
}

/// While one of these holds it is not used.
const UNUSED: u8 = Flag::Ejected as u8 | Flag::Quarantined as u8 | Flag::FailedCheck as u8;

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

    /// The same for several; says whether that changed any.
    pub fn set_all(&self, flags: &[(Flag, bool)]) -> bool {
        let before = self.0.load(Ordering::Relaxed);
        for (flag, holds) in flags {
            self.set(*flag, *holds);
        }
        self.0.load(Ordering::Relaxed) != before
    }

    /// What is left of the health that the control plane gave.
    pub fn over(&self, said: Health) -> Health {
        let now = self.0.load(Ordering::Relaxed);
        if now & UNUSED != 0 {
            Health::Unhealthy
        } else if now & Flag::Degraded as u8 != 0 && said == Health::Healthy {
            Health::Degraded
        } else {
            said
        }
    }

    /// Whether the endpoint is left out where shares of healthy ones are counted.
    pub fn does_not_count(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (Flag::Unchecked as u8 | Flag::Leaves as u8) != 0
    }
}
