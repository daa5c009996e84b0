//! A request meets a cluster whose endpoints nobody asked the control plane for yet: how does the control thread learn
//! of it, and when may the request go on?
//!
//! Holds: only what would fail for want of endpoints comes here; the answer comes after the world that has them was
//! published; a full queue is no reason to wait.

use remora_model::Name;
use tokio::sync::{mpsc, oneshot};

/// Asks that may wait for the control thread.
const ASKS: usize = 4096;

/// The way to the control thread.
#[derive(Debug)]
pub struct OnDemand(mpsc::Sender<Ask>);

/// A request that waits for a cluster's endpoints.
#[derive(Debug)]
pub struct Ask {
    /// Which cluster.
    pub cluster: Name,
    /// Told, or dropped, when waiting longer is of no use.
    pub answer: oneshot::Sender<()>,
}

impl OnDemand {
    /// The way, and its other end.
    pub fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (to, asks) = mpsc::channel(ASKS);
        (Self(to), asks)
    }

    /// Waits until the control thread has published what there is to know; at once where it cannot be asked.
    pub async fn ask(&self, cluster: Name) {
        let (answer, answered) = oneshot::channel();
        if self.0.try_send(Ask { cluster, answer }).is_ok() {
            // Told or dropped: both end the waiting.
            let _ = answered.await;
        }
    }
}
