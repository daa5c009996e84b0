//! What was chosen from: `lb_*` of clusters whose policy counts.

use std::sync::atomic::{AtomicU64, Ordering};

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

fn counted(count: &AtomicU64) -> Number {
    Number::Counter(count.load(Ordering::Relaxed))
}
