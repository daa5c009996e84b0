//! What is left out, and which limits are reached.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use remora_model::cluster::Cluster;
use remora_model::health::ejected;
use remora_model::snapshot::Snapshot;

use super::{ClusterRow, ColumnKind, Number, Table, TableOf, Workers, group, taken};
use crate::observe::metrics::OutlierCounters;
use crate::observe::shards::{HealthCells, Observe};

struct HealthRow {
    workers: Workers<HealthCells>,
    cluster: Arc<Cluster>,
}

/// `cluster.<name>.outlier_detection.*`, of clusters that have it.
pub(in crate::observe::scrape) fn outliers(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut cells = taken(&observe.health);
    let watched = snapshot.clusters.iter().filter(|(_, cluster)| {
        let health = cluster.config.health.as_deref();
        health.is_some_and(|health| health.outlier.is_some())
    });
    let rows = watched.map(|(_, cluster)| {
        let name = &cluster.config.stat_name;
        let row = HealthRow {
            workers: cells.remove(name).unwrap_or_default(),
            cluster: Arc::clone(cluster),
        };
        (name.to_string(), row)
    });
    let mut table = TableOf {
        prefix: "cluster.",
        family: "envoy_cluster_",
        labels: |name| vec![("envoy_cluster_name", name)],
        rows: rows.collect(),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |_: &HealthRow| true,
        sparse: false,
    };
    let prefix = "outlier_detection.";
    group(
        &mut table,
        prefix,
        OutlierCounters::FIELDS,
        |row| &row.workers,
        |cells: &HealthCells| &cells.outlier,
    );
    let active = "outlier_detection.ejections_active";
    table.column(active, ColumnKind::Gauge, |row| {
        Some(Number::Gauge(ejected(&row.cluster.endpoints) as i64))
    });
    table.boxed()
}

/// `circuit_breakers.default.*_open`: 1 where the limit of priority DEFAULT is reached.
pub(super) fn breakers(table: &mut TableOf<ClusterRow>) {
    type Reached = fn(&Cluster) -> bool;
    let open: [(&'static str, Reached); 4] = [
        ("circuit_breakers.default.cx_open", |cluster| {
            cluster.live.connections.load(Ordering::Relaxed) >= cluster.config.thresholds[0].max_connections
        }),
        ("circuit_breakers.default.rq_pending_open", |cluster| {
            cluster.live.pending.load(Ordering::Relaxed) >= cluster.config.thresholds[0].max_pending_requests
        }),
        ("circuit_breakers.default.rq_open", |cluster| {
            cluster.live.requests.load(Ordering::Relaxed) >= cluster.config.thresholds[0].max_requests
        }),
        ("circuit_breakers.default.rq_retry_open", |cluster| {
            let requests = cluster.live.requests.load(Ordering::Relaxed);
            cluster.live.retries.load(Ordering::Relaxed)
                >= cluster.config.thresholds[0].retries.bound(requests)
        }),
    ];
    for (name, reached) in open {
        table.column(name, ColumnKind::Gauge, move |row| {
            Some(Number::Gauge(i64::from(
                row.cluster.as_ref().is_some_and(|cluster| reached(cluster)),
            )))
        });
    }
}
