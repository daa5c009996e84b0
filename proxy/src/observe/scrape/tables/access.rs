//! What policies for connections let pass and what they refused.

use remora_model::snapshot::Snapshot;

use super::{Table, TableOf, Workers, group, rows, taken};
use crate::observe::cells::Cell;
use crate::observe::metrics::ConnectionAccessCounters;
use crate::observe::shards::{ConnectionAccessCells, Names, Observe};

/// `<stat_prefix>.rbac.*`
pub(in crate::observe::scrape) fn connection_access(
    observe: &Observe,
    snapshot: &Snapshot,
) -> Box<dyn Table> {
    let mut table = TableOf {
        prefix: "",
        family: "envoy_",
        labels: |name| vec![("envoy_rbac_prefix", name)],
        rows: rows(&observe.connection_access, Names::of(snapshot).connection_access),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |row: &Workers<ConnectionAccessCells>| !row.is_empty(),
        sparse: false,
    };
    group(
        &mut table,
        "rbac.",
        ConnectionAccessCounters::FIELDS,
        |row| row,
        |cells: &ConnectionAccessCells| &cells.access,
    );
    table.boxed()
}

/// Sets all to zero.
pub(super) fn reset(observe: &Observe, zero: &mut dyn FnMut(&'static str, Cell<'_>)) {
    for (_, cells) in taken(&observe.connection_access).values().flatten() {
        cells.access.each(&mut *zero);
    }
    for shards in [&observe.http_tallies, &observe.connection_tallies] {
        for (_, cells) in taken(shards).values().flatten() {
            cells.tally.each(&mut *zero);
        }
    }
}
