//! What limits let pass and what they refused.

use remora_model::snapshot::Snapshot;

use super::{Table, TableOf, Workers, group, rows};
use crate::observe::metrics::{ConnectionLimitCounters, ConnectionRateLimitCounters, LimitCounters};
use crate::observe::shards::{ConnectionLimitCells, ConnectionRateLimitCells, LimitCells, Names, Observe};

/// `<stat_prefix>.http_local_rate_limit.*`
pub(in crate::observe::scrape) fn limits(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut table = TableOf {
        prefix: "",
        family: "envoy_",
        labels: |name| vec![("envoy_local_http_ratelimit_prefix", name)],
        rows: rows(&observe.limits, Names::of(snapshot).limits),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |row: &Workers<LimitCells>| !row.is_empty(),
        sparse: false,
    };
    group(
        &mut table,
        "http_local_rate_limit.",
        LimitCounters::FIELDS,
        |row| row,
        |cells: &LimitCells| &cells.http,
    );
    table.boxed()
}

/// `local_rate_limit.<stat_prefix>.*`
pub(in crate::observe::scrape) fn connection_rates(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut table = TableOf {
        prefix: "local_rate_limit.",
        family: "envoy_local_rate_limit_",
        labels: |name| vec![("envoy_local_network_ratelimit_prefix", name)],
        rows: rows(&observe.connection_rates, Names::of(snapshot).connection_rates),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |row: &Workers<ConnectionRateLimitCells>| !row.is_empty(),
        sparse: false,
    };
    group(
        &mut table,
        "",
        ConnectionRateLimitCounters::FIELDS,
        |row| row,
        |cells: &ConnectionRateLimitCells| &cells.limit,
    );
    table.boxed()
}

/// `connection_limit.<stat_prefix>.*`
pub(in crate::observe::scrape) fn connection_limits(
    observe: &Observe,
    snapshot: &Snapshot,
) -> Box<dyn Table> {
    let mut table = TableOf {
        prefix: "connection_limit.",
        family: "envoy_connection_limit_",
        labels: |name| vec![("envoy_connection_limit_prefix", name)],
        rows: rows(&observe.connection_limits, Names::of(snapshot).connection_limits),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |row: &Workers<ConnectionLimitCells>| !row.is_empty(),
        sparse: false,
    };
    group(
        &mut table,
        "",
        ConnectionLimitCounters::FIELDS,
        |row| row,
        |cells: &ConnectionLimitCells| &cells.limit,
    );
    table.boxed()
}
