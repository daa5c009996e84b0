//! Whether a connection may be served, by the network filters of its chain, before its first byte is read.
//!
//! Holds: filters are asked in order and the first that refuses decides; what a connection counts as, it counts as to its
//! end. A chain without such filters costs one look at an empty list.

use std::sync::Arc;
use std::time::Instant;

use remora_model::filter::{CountedConnection, NetworkFilter};
use remora_model::listener::FilterChain;

use crate::observe::ConnectionLimitCells;
use crate::worker::Worker;

/// What an admitted connection counts as until this is dropped.
#[derive(Debug, Default)]
pub struct Admitted(Vec<Counted>);

#[derive(Debug)]
struct Counted {
    cells: Arc<ConnectionLimitCells>,
    _connection: CountedConnection,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.cells.limit.active_connections.add(-1);
    }
}

/// Asks the filters of a chain; `None` if the connection is to be closed.
pub async fn admit(worker: &Worker, chain: &FilterChain) -> Option<Admitted> {
    let mut admitted = Admitted::default();
    for filter in &chain.network_filters {
        match filter {
            NetworkFilter::RateLimit(limit) if limit.enabled => {
                if !limit.bucket.take(1, Instant::now()) {
                    let cells = worker.counters.connection_rate_limit(&limit.stat_prefix);
                    cells.limit.rate_limited.one();
                    return None;
                }
            }
            NetworkFilter::ConnectionLimit(limit) if limit.enabled => {
                let cells = worker.counters.connection_limit(&limit.stat_prefix);
                let Some(connection) = limit.begin() else {
                    cells.limit.limited_connections.one();
                    if let Some(delay) = limit.delay {
                        tokio::time::sleep(delay).await;
                    }
                    return None;
                };
                cells.limit.active_connections.add(1);
                admitted.0.push(Counted {
                    cells,
                    _connection: connection,
                });
            }
            // Asked once the peer has shown who it is.
            NetworkFilter::Access(_) => {}
            NetworkFilter::RateLimit(_) | NetworkFilter::ConnectionLimit(_) => {}
        }
    }
    Some(admitted)
}
