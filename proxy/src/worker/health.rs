//! How does the control thread, which alone decides which endpoints are left out, learn what the workers saw?
//!
//! Holds: an endpoint is told of once per run of failures, so what waits here is bounded by the endpoints in use.

use std::sync::Arc;

use remora_model::endpoint::Endpoint;
use remora_model::health::Trip;
use remora_model::snapshot::ClusterId;
use tokio::sync::mpsc;

/// What a worker saw.
#[derive(Debug)]
pub struct HealthSignal {
    /// In which cluster.
    pub cluster: ClusterId,
    /// Of which endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What.
    pub saw: Saw,
}

/// What there is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saw {
    /// A limit of outlier detection was reached.
    Tripped(Trip),
    /// It refused a connection.
    Refusal,
    /// It said in an answer that it wants no more requests.
    Leaving,
}

/// The way to the control thread.
#[derive(Debug)]
pub struct HealthSignals(mpsc::UnboundedSender<HealthSignal>);

impl HealthSignals {
    /// The way, and its other end.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<HealthSignal>) {
        let (to, signals) = mpsc::unbounded_channel();
        (Self(to), signals)
    }

    /// Tells; after the end nobody listens.
    pub fn tell(&self, signal: HealthSignal) {
        let _ = self.0.send(signal);
    }
}
