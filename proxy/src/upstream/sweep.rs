//! The one task per worker that closes idle upstream connections: dead ones when they die, old ones when they expire.
//!
//! Holds: it wakes only after something was put back (at most once a second), when an idle connection dies, or when the
//! next one expires; with no idle connection it sleeps for good.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::worker::Worker;

/// A sweep follows a first use by this much, so that a busy pool is not walked for each request.
const REST: Duration = Duration::from_secs(1);

/// Sweeps for ever.
pub async fn sweep_idle(worker: Rc<Worker>) {
    loop {
        let mut first = true;
        // Sweep once and register for deaths; wake when one dies, when the next expires, or when something came back.
        let mut expiry: Option<std::pin::Pin<Box<tokio::time::Sleep>>> = None;
        poll_fn(|cx| {
            if !first {
                return Poll::Ready(());
            }
            first = false;
            let next = worker.pools.sweep(Instant::now(), cx);
            expiry = next.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
            match expiry.as_mut() {
                Some(sleep) => std::future::Future::poll(sleep.as_mut(), cx),
                None => Poll::Pending,
            }
        })
        .await;
        if worker.pools.touched() {
            tokio::time::sleep(REST).await;
        }
    }
}
