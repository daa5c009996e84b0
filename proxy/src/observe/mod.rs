//! What is seen from outside: metrics, access logs, the record of each exchange, the log.
//!
//! Holds: the data path fills one [`ExchangeRecord`] and hands it over once, at the end ([`Observe::log`]). Cells of a
//! listener, manager, TCP proxy or cluster exist per worker from their first use and die with the thing they count;
//! the control side counts into [`ControlMetrics`], most of it through the `metrics` facade. A [`Scrape`] reads both and writes Envoy's names.
//! Decides nothing about traffic.

mod access_facts;
pub mod access_log;
pub mod cells;
pub mod control_metrics;
mod exchange_record;
mod facade;
mod handshakes;
pub mod log_sinks;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod scrape;
mod shards;
#[cfg(test)]
pub(crate) mod test_world;
pub mod time_text;
pub mod values;
pub mod xds_metrics;

pub use control_metrics::ControlMetrics;
pub use exchange_record::{ConnectionRecord, ExchangeRecord, HeaderRecord, LogType, UpstreamRecord};
pub use log_sinks::SinkError;
pub use scrape::Scrape;
pub use shards::{
    ClusterCells, CodecCells, ConnectionAccessCells, ConnectionLimitCells, ConnectionRateLimitCells,
    GrpcCells, HealthCells, HttpCells, LimitCells, ListenerCells, Observe, ProxyHeaderCells, Shards,
    TcpCells, WorkerCounters,
};

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora_model::listener::Listener;
use remora_model::log::AccessLog;
use remora_model::snapshot::Snapshot;

impl Observe {
    /// Writes an exchange that ended to the access logs that want it. Nothing happens without access logs.
    pub fn log(&self, logs: &[AccessLog], record: &ExchangeRecord) {
        if !logs.is_empty() {
            access_log::log(&self.sinks, logs, record);
        }
    }

    /// Writes a connection that no filter chain took to the listener's own access logs.
    pub fn log_unmatched(
        &self,
        listener: &Listener,
        [peer, client, local]: [SocketAddr; 3],
        started: Instant,
    ) {
        if listener.access_logs.is_empty() {
            return;
        }
        let connection = ConnectionRecord {
            id: 0,
            accepted: started,
            peer,
            client,
            header: None,
            local,
            redirected: false,
            server_name: None,
            listener: Arc::clone(&listener.name),
            chain: Arc::from(""),
            tls: None,
            multiplexed: false,
            metadata: None,
        };
        let mut record = ExchangeRecord::new(Rc::new(connection), started);
        record.flags.push("NR");
        record.details = "filter_chain_not_found".into();
        record.log_type = LogType::NotSet;
        record.ended = Some(started.elapsed());
        self.log(&listener.access_logs, &record);
    }

    /// Opens what the access logs of this version write to, closes what none writes to any more, and says what could
    /// not be opened (lines for it are dropped and counted).
    pub fn open_sinks(&self, snapshot: &Snapshot) -> Vec<SinkError> {
        self.sinks.follow(snapshot)
    }

    /// Has the files of access logs opened again, after they were rotated.
    pub fn reopen_logs(&self) {
        self.sinks.reopen();
    }

    /// Waits until every access log line given so far is handed to the system, at most for `limit`.
    pub fn flush_logs(&self, limit: Duration) -> bool {
        self.sinks.flush(limit)
    }
}
