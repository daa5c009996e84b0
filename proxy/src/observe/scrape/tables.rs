//! Tables of series: a row for each thing, a column for each of its metrics.

mod access;
mod balancing;
mod health;
mod limits;
mod proxy_header;

pub(super) use access::connection_access;
use health::breakers;
pub(super) use health::{breaker_states, checks, outliers};
pub(super) use limits::{connection_limits, connection_rates, limits};
pub(super) use proxy_header::{proxy_header_errors, proxy_headers};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use remora_model::Name;
use remora_model::cluster::Cluster;
use remora_model::endpoint::Health;
use remora_model::snapshot::Snapshot;

use super::Number;
use crate::observe::cells::{CELLS, Cell, Counter};
use crate::observe::metrics::{
    AccessCounters, ClusterCounters, CorsCounters, FaultCounters, HealthCheckCounters, HttpCounters,
    ListenerCounters, TcpCounters, TlsCounters,
};
use crate::observe::shards::{ClusterCells, HttpCells, ListenerCells, Names, Observe, Shards, TcpCells};

/// What kind of numbers a column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ColumnKind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric of all rows.
#[derive(Debug)]
pub(super) struct Column {
    /// Last part of the name in `/stats`: `upstream_cx_total`, `ssl.handshake`.
    pub(super) stat: Cow<'static, str>,
    /// Prometheus family.
    pub(super) family: String,
    /// A label beside that of the row: the class or code of a response.
    pub(super) label: Option<(&'static str, String)>,
    pub(super) kind: ColumnKind,
}

/// A table, whatever its rows are.
pub(super) trait Table {
    /// Begins the name of each series in `/stats`: `cluster.`.
    fn prefix(&self) -> &'static str;
    /// The labels that name a row, from its name.
    fn labels(&self, row: usize) -> Vec<(&'static str, &str)>;
    fn rows(&self) -> usize;
    fn row_name(&self, row: usize) -> &str;
    fn columns(&self) -> &[Column];
    /// What the row says; `None`: it has no such series (yet).
    fn read(&self, row: usize, column: usize) -> Option<Number>;
    /// Whether the row was ever counted into.
    fn used(&self, row: usize) -> bool;
    /// Forgets the rows that were never counted into, where a row has no series before its first use.
    fn leave_out_unused(&mut self);
}

type Read<R> = Box<dyn Fn(&R) -> Option<Number>>;

struct TableOf<R> {
    prefix: &'static str,
    family: &'static str,
    labels: fn(&str) -> Vec<(&'static str, &str)>,
    rows: Vec<(String, R)>,
    columns: Vec<Column>,
    reads: Vec<Read<R>>,
    used: fn(&R) -> bool,
    /// There may be thousands of rows, most of them never used.
    sparse: bool,
}

impl<R> Table for TableOf<R> {
    fn prefix(&self) -> &'static str {
        self.prefix
    }
    fn labels(&self, row: usize) -> Vec<(&'static str, &str)> {
        (self.labels)(&self.rows[row].0)
    }
    fn rows(&self) -> usize {
        self.rows.len()
    }
    fn row_name(&self, row: usize) -> &str {
        &self.rows[row].0
    }
    fn columns(&self) -> &[Column] {
        &self.columns
    }
    fn read(&self, row: usize, column: usize) -> Option<Number> {
        (self.reads[column])(&self.rows[row].1)
    }
    fn used(&self, row: usize) -> bool {
        (self.used)(&self.rows[row].1)
    }
    fn leave_out_unused(&mut self) {
        if self.sparse {
            self.rows.retain(|(_, row)| (self.used)(row));
        }
    }
}

impl<R: 'static> TableOf<R> {
    fn column(
        &mut self,
        stat: impl Into<Cow<'static, str>>,
        kind: ColumnKind,
        read: impl Fn(&R) -> Option<Number> + 'static,
    ) {
        let stat = stat.into();
        let (word, label) = class_label(&stat);
        let family = format!("{}{}", self.family, word.replace('.', "_"));
        self.columns.push(Column {
            stat,
            family,
            label,
            kind,
        });
        self.reads.push(Box::new(read));
    }

    /// Columns by name, as `/stats` shows them.
    fn boxed(mut self) -> Box<dyn Table> {
        let mut order: Vec<usize> = (0..self.columns.len()).collect();
        order.sort_by(|a, b| self.columns[*a].stat.cmp(&self.columns[*b].stat));
        let mut columns: Vec<Option<(Column, Read<R>)>> =
            self.columns.into_iter().zip(self.reads).map(Some).collect();
        let sorted = order.into_iter().filter_map(|index| columns[index].take());
        (self.columns, self.reads) = sorted.unzip();
        self.rows.sort_by(|a, b| a.0.cmp(&b.0));
        Box::new(self)
    }
}

/// `downstream_rq_2xx` is class 2 of the family `downstream_rq_xx`, `upstream_rq_200` is code 200 of `upstream_rq`.
fn class_label(stat: &str) -> (Cow<'_, str>, Option<(&'static str, String)>) {
    if let Some((head, last)) = stat.rsplit_once('_') {
        if let Some(class) = last.strip_suffix("xx").filter(|class| class.len() == 1) {
            return (
                Cow::Owned(format!("{head}_xx")),
                Some(("envoy_response_code_class", class.into())),
            );
        }
        if last.len() == 3 && last.bytes().all(|byte| byte.is_ascii_digit()) {
            return (
                Cow::Owned(head.into()),
                Some(("envoy_response_code", last.into())),
            );
        }
    }
    (Cow::Borrowed(stat), None)
}

/// The cells of all workers that count into one thing.
pub(super) type Workers<C> = Vec<(usize, Arc<C>)>;

/// Takes the cells of everything, by name.
pub(super) fn taken<C>(shards: &Shards<C>) -> BTreeMap<Name, Workers<C>> {
    let shards = shards.lock().unwrap_or_else(PoisonError::into_inner);
    shards
        .iter()
        .map(|(name, workers)| (Arc::clone(name), workers.clone()))
        .collect()
}

/// Sums one cell over workers; without workers it is zero of its kind.
pub(super) fn sum<'c>(kind: ColumnKind, cells: impl Iterator<Item = Cell<'c>>) -> Number {
    let (mut count, mut level, mut buckets, mut total) = (0u64, 0i64, [0u64; CELLS], 0.0);
    for cell in cells {
        match cell {
            Cell::Counter(cell) => count = count.wrapping_add(cell.value()),
            Cell::Gauge(cell) => level = level.wrapping_add(cell.value()),
            Cell::Histogram(cell) => {
                let (read, sum) = cell.read();
                buckets
                    .iter_mut()
                    .zip(read)
                    .for_each(|(bucket, read)| *bucket += read);
                total += sum;
            }
        }
    }
    match kind {
        ColumnKind::Counter => Number::Counter(count),
        ColumnKind::Gauge => Number::Gauge(level),
        ColumnKind::Histogram => Number::Histogram(Box::new(buckets), total),
    }
}

fn kind_of(cell: Cell<'_>) -> ColumnKind {
    match cell {
        Cell::Counter(_) => ColumnKind::Counter,
        Cell::Gauge(_) => ColumnKind::Gauge,
        Cell::Histogram(_) => ColumnKind::Histogram,
    }
}

/// Adds a column for each field of a group that lies within a worker's cells.
fn group<R: 'static, C: 'static, G: Default + 'static>(
    table: &mut TableOf<R>,
    prefix: &'static str,
    fields: &'static [(&'static str, crate::observe::metrics::CellOf<G>)],
    workers: fn(&R) -> &Workers<C>,
    within: fn(&C) -> &G,
) {
    let blank = G::default();
    for (name, cell) in fields {
        let kind = kind_of(cell(&blank));
        let stat = if prefix.is_empty() {
            Cow::Borrowed(*name)
        } else {
            Cow::Owned(format!("{prefix}{name}"))
        };
        let read = move |row: &R| {
            Some(sum(
                kind,
                workers(row).iter().map(|(_, cells)| cell(within(cells))),
            ))
        };
        table.column(stat, kind, read);
    }
}

struct ClusterRow {
    workers: Workers<ClusterCells>,
    cluster: Option<Arc<Cluster>>,
}

impl ClusterRow {
    fn members(&self, counted: impl Fn(Health) -> bool) -> Option<Number> {
        let endpoints = &self.cluster.as_ref()?.endpoints.endpoints;
        Some(Number::Gauge(
            endpoints
                .iter()
                .filter(|endpoint| counted(endpoint.health()))
                .count() as i64,
        ))
    }
}

/// `cluster.<name>.*`, every cluster of the snapshot.
pub(super) fn clusters(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut cells = taken(&observe.clusters);
    let mut rows: BTreeMap<Name, ClusterRow> = BTreeMap::new();
    for (_, cluster) in snapshot.clusters.iter() {
        let name = &cluster.config.stat_name;
        let workers = cells.remove(name).unwrap_or_default();
        rows.entry(Arc::clone(name)).or_insert(ClusterRow {
            workers,
            cluster: Some(Arc::clone(cluster)),
        });
    }
    let mut table = TableOf {
        prefix: "cluster.",
        family: "envoy_cluster_",
        labels: |name| vec![("envoy_cluster_name", name)],
        rows: rows
            .into_iter()
            .map(|(name, row)| (name.to_string(), row))
            .collect(),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |row: &ClusterRow| !row.workers.is_empty(),
        sparse: true,
    };
    group(
        &mut table,
        "",
        ClusterCounters::FIELDS,
        |row| &row.workers,
        |cells: &ClusterCells| &cells.traffic,
    );
    group(
        &mut table,
        "ssl.",
        TlsCounters::FIELDS,
        |row| &row.workers,
        |cells: &ClusterCells| &cells.tls,
    );
    table.column("membership_total", ColumnKind::Gauge, |row| row.members(|_| true));
    table.column("membership_healthy", ColumnKind::Gauge, |row| {
        row.members(|health| health == Health::Healthy)
    });
    table.column("membership_degraded", ColumnKind::Gauge, |row| {
        row.members(|health| health == Health::Degraded)
    });
    table.column("membership_excluded", ColumnKind::Gauge, |row| {
        let cluster = row.cluster.as_ref()?;
        let all = cluster.endpoints.endpoints.iter();
        let excluded = all.filter(|endpoint| endpoint.does_not_count()).count();
        Some(Number::Gauge(excluded as i64))
    });
    balancing::columns(&mut table);
    balancing::zone_columns(&mut table);
    breakers(&mut table);
    codes(&mut table);
    table.boxed()
}

/// `upstream_rq_<code>`, for codes that some cluster has seen.
fn codes(table: &mut TableOf<ClusterRow>) {
    let codes: std::collections::BTreeSet<u16> = table
        .rows
        .iter()
        .flat_map(|(_, row)| &row.workers)
        .flat_map(|(_, cells)| cells.codes.seen().map(|(code, _)| code))
        .collect();
    for code in codes {
        table.column(format!("upstream_rq_{code}"), ColumnKind::Counter, move |row| {
            let seen = row.workers.iter().flat_map(|(_, cells)| cells.codes.seen());
            let count = seen
                .filter(|(seen, _)| *seen == code)
                .map(|(_, count)| count)
                .sum();
            (count > 0).then_some(Number::Counter(count))
        });
    }
}

/// Rows for every name of the snapshot, and for what is gone from it but still counted into.
fn rows<C>(shards: &Shards<C>, names: impl IntoIterator<Item = Name>) -> Vec<(String, Workers<C>)> {
    let mut cells = taken(shards);
    for name in names {
        cells.entry(name).or_default();
    }
    cells
        .into_iter()
        .map(|(name, workers)| (name.to_string(), workers))
        .collect()
}

/// `http.<stat_prefix>.*`
pub(super) fn managers(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut table = TableOf {
        prefix: "http.",
        family: "envoy_http_",
        labels: |name| vec![("envoy_http_conn_manager_prefix", name)],
        rows: rows(&observe.managers, Names::of(snapshot).managers),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |row: &Workers<HttpCells>| !row.is_empty(),
        sparse: false,
    };
    group(
        &mut table,
        "",
        HttpCounters::FIELDS,
        |row| row,
        |cells: &HttpCells| &cells.http,
    );
    group(
        &mut table,
        "fault.",
        FaultCounters::FIELDS,
        |row| row,
        |cells: &HttpCells| &cells.fault,
    );
    group(
        &mut table,
        "cors.",
        CorsCounters::FIELDS,
        |row| row,
        |cells: &HttpCells| &cells.cors,
    );
    group(
        &mut table,
        "health_check.",
        HealthCheckCounters::FIELDS,
        |row| row,
        |cells: &HttpCells| &cells.health_check,
    );
    group(
        &mut table,
        "rbac.",
        AccessCounters::FIELDS,
        |row| row,
        |cells: &HttpCells| &cells.access,
    );
    table.boxed()
}

/// `listener.<address>.*`
pub(super) fn listeners(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut table = TableOf {
        prefix: "listener.",
        family: "envoy_listener_",
        labels: |name| vec![("envoy_listener_address", name)],
        rows: rows(&observe.listeners, Names::of(snapshot).listeners),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |row: &Workers<ListenerCells>| !row.is_empty(),
        sparse: false,
    };
    group(
        &mut table,
        "",
        ListenerCounters::FIELDS,
        |row| row,
        |cells: &ListenerCells| &cells.connections,
    );
    group(
        &mut table,
        "ssl.",
        TlsCounters::FIELDS,
        |row| row,
        |cells: &ListenerCells| &cells.tls,
    );
    table.boxed()
}

/// `listener.<address>.worker_<n>.*`: how evenly the workers are used.
pub(super) fn listener_workers(observe: &Observe, _: &Snapshot) -> Box<dyn Table> {
    let of_worker = |(listener, workers): (Name, Workers<ListenerCells>)| {
        workers
            .into_iter()
            .map(move |(index, cells)| (format!("{listener}.worker_{index}"), cells))
    };
    let mut table = TableOf {
        prefix: "listener.",
        family: "envoy_listener_worker_",
        labels: |name| {
            let (listener, worker) = name.rsplit_once(".worker_").unwrap_or((name, ""));
            vec![("envoy_worker_id", worker), ("envoy_listener_address", listener)]
        },
        rows: taken(&observe.listeners)
            .into_iter()
            .flat_map(of_worker)
            .collect(),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |_: &Arc<ListenerCells>| true,
        sparse: false,
    };
    table.column("downstream_cx_total", ColumnKind::Counter, |cells| {
        Some(Number::Counter(cells.connections.downstream_cx_total.value()))
    });
    table.column("downstream_cx_active", ColumnKind::Gauge, |cells| {
        Some(Number::Gauge(cells.connections.downstream_cx_active.value()))
    });
    table.boxed()
}

/// `tcp.<stat_prefix>.*`
pub(super) fn tcp_proxies(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut table = TableOf {
        prefix: "tcp.",
        family: "envoy_tcp_",
        labels: |name| vec![("envoy_tcp_prefix", name)],
        rows: rows(&observe.tcp_proxies, Names::of(snapshot).tcp_proxies),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |row: &Workers<TcpCells>| !row.is_empty(),
        sparse: false,
    };
    group(
        &mut table,
        "",
        TcpCounters::FIELDS,
        |row| row,
        |cells: &TcpCells| &cells.tcp,
    );
    table.boxed()
}

/// Downstream connections open now, over all listeners.
pub(super) fn open_connections(observe: &Observe) -> i64 {
    let listeners = observe.listeners.lock().unwrap_or_else(PoisonError::into_inner);
    listeners
        .values()
        .flatten()
        .map(|(_, cells)| cells.connections.downstream_cx_active.value())
        .sum()
}

/// Sets every counter and histogram to zero.
pub(super) fn reset(observe: &Observe) {
    let mut zero = |_: &'static str, cell: Cell<'_>| match cell {
        Cell::Counter(cell) => cell.reset(),
        Cell::Histogram(cell) => cell.reset(),
        Cell::Gauge(_) => {}
    };
    for cells in taken(&observe.listeners).values().flatten() {
        cells.1.connections.each(&mut zero);
        cells.1.tls.each(&mut zero);
    }
    for cells in taken(&observe.managers).values().flatten() {
        cells.1.http.each(&mut zero);
        cells.1.access.each(&mut zero);
    }
    for cells in taken(&observe.tcp_proxies).values().flatten() {
        cells.1.tcp.each(&mut zero);
    }
    proxy_header::reset(observe, &mut zero);
    for cells in taken(&observe.limits).values().flatten() {
        cells.1.http.each(&mut zero);
    }
    for cells in taken(&observe.connection_rates).values().flatten() {
        cells.1.limit.each(&mut zero);
    }
    for cells in taken(&observe.connection_limits).values().flatten() {
        cells.1.limit.each(&mut zero);
    }
    access::reset(observe, &mut zero);
    for cells in taken(&observe.health).values().flatten() {
        cells.1.outlier.each(&mut zero);
    }
    for cells in taken(&observe.codecs).values().flatten() {
        cells.1.codec.each(&mut zero);
    }
    for cells in taken(&observe.services).values().flatten() {
        cells.1.limit.each(&mut zero);
        cells.1.authorization.each(&mut zero);
    }
    for cells in taken(&observe.grpc).values().flatten() {
        cells.1.calls.each(&mut zero);
        cells.1.codes.iter().for_each(Counter::reset);
    }
    for cells in taken(&observe.clusters).values().flatten() {
        cells.1.traffic.each(&mut zero);
        cells.1.tls.each(&mut zero);
        cells.1.codes.reset();
    }
}
