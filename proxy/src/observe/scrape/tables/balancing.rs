//! What was chosen from: `lb_*` of clusters whose policy counts.

use std::sync::atomic::{AtomicU64, Ordering};

use remora_model::balance::ZoneCounts;
use remora_model::endpoint::Subsets;

use super::{ClusterRow, ColumnKind, TableOf};
use crate::observe::scrape::Number;

/// `lb_subsets_*`, for clusters that have subsets.
pub(super) fn columns(table: &mut TableOf<ClusterRow>) {
    type Read = fn(&Subsets) -> Number;
    let all: [(&'static str, ColumnKind, Read); 7] = [
        ("lb_subsets_active", ColumnKind::Gauge, |all| {
            Number::Gauge(all.active() as i64)
        }),
        (
            "lb_subsets_single_host_per_subset_duplicate",
            ColumnKind::Gauge,
            |all| Number::Gauge(all.duplicates as i64),
        ),
        ("lb_subsets_created", ColumnKind::Counter, |all| {
            counted(&all.counts.created)
        }),
        ("lb_subsets_removed", ColumnKind::Counter, |all| {
            counted(&all.counts.removed)
        }),
        ("lb_subsets_selected", ColumnKind::Counter, |all| {
            counted(&all.counts.selected)
        }),
        ("lb_subsets_fallback", ColumnKind::Counter, |all| {
            counted(&all.counts.fallback)
        }),
        ("lb_subsets_fallback_panic", ColumnKind::Counter, |all| {
            counted(&all.counts.fallback_panic)
        }),
    ];
    for (name, kind, read) in all {
        table.column(name, kind, move |row| {
            Some(read(row.cluster.as_ref()?.endpoints.subsets.as_deref()?))
        });
    }
}

/// `lb_zone_*`, for clusters whose requests may stay in their zone.
pub(super) fn zone_columns(table: &mut TableOf<ClusterRow>) {
    type Read = fn(&ZoneCounts) -> &AtomicU64;
    let all: [(&'static str, Read); 6] = [
        ("lb_zone_cluster_too_small", |counts| &counts.too_small),
        ("lb_zone_routing_all_directly", |counts| &counts.all_directly),
        ("lb_zone_routing_sampled", |counts| &counts.sampled),
        ("lb_zone_routing_cross_zone", |counts| &counts.cross_zone),
        ("lb_zone_no_capacity_left", |counts| &counts.no_capacity),
        ("lb_local_cluster_not_ok", |counts| &counts.local_not_ok),
    ];
    for (name, read) in all {
        table.column(name, ColumnKind::Counter, move |row| {
            let first = row.cluster.as_ref()?.endpoints.priorities.first()?;
            Some(counted(read(&first.zones.as_ref()?.counts)))
        });
    }
}

fn counted(count: &AtomicU64) -> Number {
    Number::Counter(count.load(Ordering::Relaxed))
}
