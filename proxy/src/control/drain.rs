//! Graceful shutdown: stop accepting, tell the connections that are there, leave when they are gone or when the drain time
//! is over.
//!
//! ```text
//! Live --SIGTERM, SIGINT, /quitquitquit--> Draining --idle or drain time--> closed --> exit
//! Live --/drain_listeners--> Live without listeners
//! ```

use std::time::{Duration, Instant};

use remora_model::listener::{ListenAddress, TrafficDirection};

use super::readiness::Phase;
use super::{Control, SharedControl};
use crate::worker::Command;

/// How often a drain looks whether everything is idle.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// No new connections, existing ones are told, exit when idle or when the drain time is over.
pub async fn shut_down(control: &SharedControl, drain_time: Duration) {
    control.borrow_mut().drain_listeners(false);
    control.borrow_mut().phase = Phase::Draining;
    let deadline = Instant::now() + drain_time;
    tracing::info!(?drain_time, "draining");
    loop {
        let open = control.borrow().shared.open_connections();
        if open == 0 {
            break;
        }
        if Instant::now() >= deadline {
            tracing::warn!(open, "drain time is over; closing what is left");
            break;
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    let mut control = control.borrow_mut();
    for worker in &control.workers {
        worker.tell(Command::Drain { hard: true });
        worker.tell(Command::Stop);
    }
    for worker in &mut control.workers {
        worker.join();
    }
}

impl Control {
    /// Stops accepting, and lets the connections that are there end.
    pub(super) fn drain_listeners(&mut self, inbound_only: bool) {
        let world = self.shared.current();
        let kept = |address: &ListenAddress| {
            inbound_only
                && world
                    .listeners
                    .bound(address)
                    .is_some_and(|listener| listener.traffic_direction != TrafficDirection::Inbound)
        };
        self.sockets.keep_only(kept, &self.workers);
        if !inbound_only {
            for worker in &self.workers {
                worker.tell(Command::Drain { hard: false });
            }
        }
    }
}
