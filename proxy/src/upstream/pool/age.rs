//! How old may a shared connection become (`max_connection_duration`)?

use std::pin::pin;
use std::rc::{Rc, Weak};

use super::Pool;
use crate::upstream::lease::SharedHttp2;

impl Pool {
    /// Gives a shared connection to nobody any more.
    pub(super) fn forget(&self, known: &Weak<SharedHttp2>) {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|candidate| !std::ptr::eq(Rc::as_ptr(candidate), known.as_ptr()));
    }

    /// Drives an HTTP/2 connection to its end; past its age no further request gets it, and it ends with the last.
    pub(super) async fn until_too_old<F: Future>(
        &self,
        known: &Weak<SharedHttp2>,
        connection: F,
    ) -> F::Output {
        let limit = self.cluster.borrow().config.http.connection_duration;
        let mut connection = pin!(connection);
        let Some(limit) = limit else {
            return connection.await;
        };
        tokio::select! {
            ended = &mut connection => return ended,
            () = tokio::time::sleep(limit) => {}
        }
        self.cells.traffic.upstream_cx_max_duration_reached.one();
        self.forget(known);
        connection.await
    }
}
