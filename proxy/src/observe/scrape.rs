//! What do the numbers look like from outside: `/stats` in Envoy's names, and Prometheus.
//!
//! Holds: a scrape takes the cells (not their values) of everything that the snapshot still has, so its memory is one
//! entry per cluster, listener and manager; values are read and written piece by piece, one family (Prometheus) or one
//! thing (text) at a time. A family has one `# TYPE` line and one kind. Series of what is gone are not shown.

mod grpc;
mod parts;
mod prometheus;
mod tables;
mod tallies;
mod text;

#[cfg(test)]
mod tests;

pub use prometheus::family_name;
pub use text::{Kind, StatsQuery};

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remora_model::snapshot::Snapshot;

use super::cells::{BUCKETS, CELLS};
use super::process::ProcessFacts;
use super::shards::Observe;
use tables::Table;

/// What a series says.
#[derive(Debug, Clone, PartialEq)]
pub enum Number {
    /// Counts up.
    Counter(u64),
    /// A level.
    Gauge(i64),
    /// A level that needs all 64 bits without sign.
    Unsigned(u64),
    /// A level with a fraction.
    Fraction(f64),
    /// A distribution in milliseconds: counts per bucket and their sum.
    Histogram(Box<[u64; CELLS]>, f64),
    /// A text, which Prometheus has no place for.
    Text(String),
}

/// One series of the control side or of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in `/stats`.
    pub name: String,
    /// Family in Prometheus.
    pub family: String,
    /// Labels in Prometheus.
    pub labels: Vec<(&'static str, String)>,
    /// What it says.
    pub number: Number,
    /// Its line in Prometheus, where the exporter of the `metrics` facade wrote it.
    pub line: Option<String>,
}

/// What only the server itself knows.
#[derive(Debug, Clone, Copy)]
pub struct ServerFacts {
    /// Envoy's `server.state`: 0 live, 1 draining, 2 pre-initialising, 3 initialising.
    pub state: i64,
    /// How long this process has run.
    pub uptime: Duration,
    /// Workers.
    pub concurrency: u32,
    /// Health checks of this server are to pass (`/healthcheck/ok`).
    pub healthy: bool,
}

/// Everything that one scrape shows.
pub struct Scrape {
    tables: Vec<Box<dyn Table>>,
    singles: Vec<Series>,
}

impl std::fmt::Debug for Scrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrape")
            .field("tables", &self.tables.len())
            .field("singles", &self.singles.len())
            .finish()
    }
}

impl Scrape {
    /// A scrape of now. Cells that nobody counts into and that the snapshot does not have are let go first.
    pub fn new(observe: &Observe, snapshot: &Arc<Snapshot>, server: ServerFacts) -> Self {
        observe.retain(snapshot);
        let tables = vec![
            tables::clusters(observe, snapshot),
            tables::outliers(observe, snapshot),
            tables::checks(observe, snapshot),
            tables::breaker_states(snapshot),
            tables::managers(observe, snapshot),
            tables::listeners(observe, snapshot),
            tables::listener_workers(observe, snapshot),
            tables::tcp_proxies(observe, snapshot),
            tables::proxy_headers(observe, snapshot),
            tables::limits(observe, snapshot),
            tables::connection_rates(observe, snapshot),
            tables::connection_limits(observe, snapshot),
            tables::connection_access(observe, snapshot),
            grpc::calls(observe),
            parts::codecs(observe),
            parts::rate_limits(observe),
            parts::authorizations(observe),
            tallies::of_managers(observe),
            tallies::of_connections(observe),
        ];
        let process = ProcessFacts::now();
        ask_server(observe, snapshot, server);
        ask_process(observe, process, server.uptime);
        let mut singles = observe.control.series();
        singles.push(processor_time(process));
        singles.extend(tables::proxy_header_errors(observe));
        singles.sort_by(|a, b| a.name.cmp(&b.name));
        Self { tables, singles }
    }

    /// With series that only the caller knows.
    #[must_use]
    pub fn with(mut self, series: Vec<Series>) -> Self {
        self.singles.extend(series);
        self.singles.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    /// `/stats/prometheus`: pieces of at most one family each. A cluster has series from its first use on: of ten
    /// thousand that a pod may call it calls a few.
    pub fn prometheus(mut self, query: StatsQuery) -> impl Iterator<Item = String> {
        self.tables.iter_mut().for_each(|table| table.leave_out_unused());
        prometheus::pieces(self.tables, self.singles, query)
    }

    /// `/stats` as text.
    pub fn text(self, query: StatsQuery) -> impl Iterator<Item = String> {
        text::lines(self.tables, self.singles, query)
    }

    /// `/stats?format=json`.
    pub fn json(self, query: StatsQuery) -> impl Iterator<Item = String> {
        text::json(self.tables, self.singles, query)
    }
}

/// Every counter and histogram of the data path and the control side starts from zero again.
pub fn reset_counters(observe: &Observe) {
    tables::reset(observe);
    observe.control.reset_counters();
}

/// What is asked of the server at each scrape.
fn ask_server(observe: &Observe, snapshot: &Snapshot, server: ServerFacts) {
    let levels = [
        ("server.state", server.state as f64),
        ("server.live", f64::from(u8::from(server.healthy))),
        ("server.uptime", server.uptime.as_secs() as f64),
        ("server.concurrency", f64::from(server.concurrency)),
        (
            "server.total_connections",
            tables::open_connections(observe) as f64,
        ),
        ("server.parent_connections", 0.0),
        ("server.hot_restart_epoch", 0.0),
        (
            "listener_manager.total_listeners_active",
            snapshot.listeners.len() as f64,
        ),
        ("cluster_manager.active_clusters", snapshot.clusters.len() as f64),
        ("remora.config_generation", snapshot.generation as f64),
    ];
    for (name, value) in levels {
        observe.control.facade.set(name, value);
    }
    let counts = observe.sinks.counts();
    let counters = [
        ("filesystem.write_buffered", &counts.write_buffered),
        ("filesystem.write_completed", &counts.write_completed),
        ("filesystem.write_failed", &counts.write_failed),
        ("filesystem.flushed_by_timer", &counts.flushed_by_timer),
        ("filesystem.reopen_failed", &counts.reopen_failed),
        ("filesystem.lines_dropped", &counts.lines_dropped),
    ];
    for (name, count) in counters {
        let count = count.load(Ordering::Relaxed);
        observe.control.facade.count_up_to(name, count);
    }
}

/// The process, under Envoy's names and under those that Prometheus' own client libraries give it.
fn ask_process(observe: &Observe, process: ProcessFacts, uptime: Duration) {
    let facade = &observe.control.facade;
    for (name, value) in [
        ("server.memory_allocated", process.resident),
        ("server.memory_physical_size", process.resident),
        ("server.memory_heap_size", process.data),
    ] {
        facade.set(name, value as f64);
    }
    let started = SystemTime::now().checked_sub(uptime).unwrap_or(UNIX_EPOCH);
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    for (name, value) in [
        ("resident_memory_bytes", process.resident as f64),
        ("open_fds", process.descriptors as f64),
        ("threads", process.threads as f64),
        ("start_time_seconds", started.as_secs_f64()),
    ] {
        facade.set_family(&format!("process.{name}"), &format!("process_{name}"), value);
    }
}

/// A counter with a fraction, which the facade does not have.
fn processor_time(process: ProcessFacts) -> Series {
    Series {
        name: "process.cpu_seconds_total".into(),
        family: "process_cpu_seconds_total".into(),
        labels: Vec::new(),
        number: Number::Fraction(process.cpu_seconds),
        line: None,
    }
}

/// The value below which `quantile` (0 to 1) of a distribution lies, linear within its bucket; `None` without values.
fn quantile(cells: &[u64; CELLS], quantile: f64) -> Option<f64> {
    let total: u64 = cells.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = quantile * total as f64;
    let (mut below, mut last) = (0u64, 0.0);
    for (index, count) in cells.iter().enumerate() {
        if *count == 0 {
            continue;
        }
        let low = if index == 0 { 0.0 } else { BUCKETS[index - 1] };
        // What is beyond the last bound is as far as we know at it.
        let high = BUCKETS.get(index).copied().unwrap_or(low);
        if (below + count) as f64 >= wanted {
            let share = ((wanted - below as f64) / *count as f64).clamp(0.0, 1.0);
            return Some(low + (high - low) * share);
        }
        below += count;
        last = high;
    }
    Some(last)
}
