//! What is left out, and which limits are reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use remora_model::cluster::{Cluster, Occupied, RequestPriority, Thresholds};
use remora_model::health::{Breaker, BreakerState, Flag, HealthSettings, breaker_of, ejected};
use remora_model::snapshot::Snapshot;

use super::{ClusterRow, ColumnKind, Number, Table, TableOf, Workers, group, taken};
use crate::observe::metrics::{ActiveCheckCounters, OutlierCounters};
use crate::observe::shards::{HealthCells, Observe};

struct HealthRow {
    workers: Workers<HealthCells>,
    cluster: Arc<Cluster>,
}

/// A table of the clusters whose settings say so, without columns.
fn table_of(
    observe: &Observe,
    snapshot: &Snapshot,
    wanted: impl Fn(&HealthSettings) -> bool,
) -> TableOf<HealthRow> {
    let mut cells = taken(&observe.health);
    let watched = snapshot
        .clusters
        .iter()
        .filter(|(_, cluster)| cluster.config.health.as_deref().is_some_and(&wanted));
    let rows = watched.map(|(_, cluster)| {
        let name = &cluster.config.stat_name;
        let row = HealthRow {
            workers: cells.remove(name).unwrap_or_default(),
            cluster: Arc::clone(cluster),
        };
        (name.to_string(), row)
    });
    TableOf {
        prefix: "cluster.",
        family: "envoy_cluster_",
        labels: |name| vec![("envoy_cluster_name", name)],
        rows: rows.collect(),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |_: &HealthRow| true,
        sparse: false,
    }
}

/// `cluster.<name>.outlier_detection.*`, of clusters that have it.
pub(in crate::observe::scrape) fn outliers(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut table = table_of(observe, snapshot, |health| health.outlier.is_some());
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

/// `cluster.<name>.health_check.*`, of clusters whose endpoints are checked.
pub(in crate::observe::scrape) fn checks(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut table = table_of(observe, snapshot, |health| health.check.is_some());
    group(
        &mut table,
        "health_check.",
        ActiveCheckCounters::FIELDS,
        |row| &row.workers,
        |cells: &HealthCells| &cells.check,
    );
    let levels = [
        ("health_check.healthy", Flag::FailedCheck, false),
        ("health_check.degraded", Flag::Degraded, true),
    ];
    for (name, flag, holds) in levels {
        table.column(name, ColumnKind::Gauge, move |row| {
            let all = row.cluster.endpoints.endpoints.iter();
            let such = all.filter(|endpoint| endpoint.spec.is_checked() && endpoint.has(flag) == holds);
            Some(Number::Gauge(such.count() as i64))
        });
    }
    table.boxed()
}

fn load(count: &AtomicU32) -> u32 {
    count.load(Ordering::Relaxed)
}

/// `circuit_breakers.<priority>.*_open`: 1 where a limit is reached; `remaining_*`: what is left, where the cluster wants
/// it tracked.
pub(super) fn breakers(table: &mut TableOf<ClusterRow>) {
    type Left = fn(&Occupied, &Thresholds) -> u32;
    let left: [(&'static str, &'static str, Left); 4] = [
        ("cx_open", "remaining_cx", |now, most| {
            most.max_connections.saturating_sub(load(&now.connections))
        }),
        ("rq_pending_open", "remaining_pending", |now, most| {
            most.max_pending_requests.saturating_sub(load(&now.pending))
        }),
        ("rq_open", "remaining_rq", |now, most| {
            most.max_requests.saturating_sub(load(&now.requests))
        }),
        ("rq_retry_open", "remaining_retries", |now, most| {
            now.retry_bound(most.retries).saturating_sub(load(&now.retries))
        }),
    ];
    for priority in RequestPriority::ALL {
        let name = |part: &str| format!("circuit_breakers.{}.{part}", priority.name());
        for (open, remaining, left) in left {
            let of = move |row: &ClusterRow| {
                let cluster = row.cluster.as_ref()?;
                let limits = cluster.thresholds(priority);
                Some((left(cluster.live.at(priority), limits), limits.track_remaining))
            };
            table.column(name(open), ColumnKind::Gauge, move |row| {
                Some(Number::Gauge(of(row).map_or(0, |(left, _)| i64::from(left == 0))))
            });
            table.column(name(remaining), ColumnKind::Gauge, move |row| {
                let left = of(row).filter(|(_, tracked)| *tracked)?.0;
                Some(Number::Gauge(left.into()))
            });
        }
    }
}

/// `cluster.<name>.remora_circuit_breaker.*`, of clusters that have one; `state`: 0 closed, 1 open, 2 half open.
pub(in crate::observe::scrape) fn breaker_states(snapshot: &Snapshot) -> Box<dyn Table> {
    type Count = fn(&Breaker) -> &AtomicU64;
    let rows = snapshot.clusters.iter();
    let rows = rows.filter(|(_, cluster)| breaker_of(&cluster.config).is_some());
    let mut table = TableOf {
        prefix: "cluster.",
        family: "envoy_cluster_",
        labels: |name| vec![("envoy_cluster_name", name)],
        rows: rows
            .map(|(_, cluster)| (cluster.config.stat_name.to_string(), Arc::clone(cluster)))
            .collect(),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |_: &Arc<Cluster>| true,
        sparse: false,
    };
    let counts: [(&'static str, Count); 4] = [
        ("remora_circuit_breaker.opened", |breaker| &breaker.opened),
        ("remora_circuit_breaker.half_opened", |breaker| {
            &breaker.half_opened
        }),
        ("remora_circuit_breaker.closed", |breaker| &breaker.closed),
        ("remora_circuit_breaker.rejected", |breaker| &breaker.rejected),
    ];
    for (name, count) in counts {
        table.column(name, ColumnKind::Counter, move |cluster| {
            Some(Number::Counter(
                count(cluster.live.breaker()).load(Ordering::Relaxed),
            ))
        });
    }
    table.column("remora_circuit_breaker.state", ColumnKind::Gauge, |cluster| {
        Some(Number::Gauge(match cluster.live.breaker().state() {
            BreakerState::Closed { .. } => 0,
            BreakerState::Open { .. } => 1,
            BreakerState::HalfOpen { .. } => 2,
        }))
    });
    table.boxed()
}
