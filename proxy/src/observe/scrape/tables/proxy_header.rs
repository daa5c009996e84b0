//! What PROXY headers were met.

use remora_model::snapshot::Snapshot;

use super::{Names, Number, Table, TableOf, Workers, group, rows, taken};
use crate::observe::metrics::{AbsentHeaderCounters, HeaderErrorCounters, HeaderVersionCounters};
use crate::observe::scrape::Series;
use crate::observe::shards::{Observe, ProxyHeaderCells};

/// `proxy_proto.[<stat_prefix>.]*`, where a listener has the filter.
pub(in crate::observe::scrape) fn proxy_headers(observe: &Observe, snapshot: &Snapshot) -> Box<dyn Table> {
    let mut table = TableOf {
        prefix: "",
        family: "envoy_proxy_proto_",
        labels: |name| {
            let prefix = name.strip_prefix("proxy_proto.");
            prefix
                .map(|prefix| ("envoy_proxy_proto_prefix", prefix))
                .into_iter()
                .collect()
        },
        rows: rows(&observe.proxy_headers, Names::of(snapshot).proxy_headers),
        columns: Vec::new(),
        reads: Vec::new(),
        used: |row: &Workers<ProxyHeaderCells>| !row.is_empty(),
        sparse: false,
    };
    group(
        &mut table,
        "",
        AbsentHeaderCounters::FIELDS,
        |row| row,
        |cells: &ProxyHeaderCells| &cells.absent,
    );
    let versions = HeaderVersionCounters::FIELDS;
    group(
        &mut table,
        "versions.v1.",
        versions,
        |row| row,
        |cells: &ProxyHeaderCells| &cells.v1,
    );
    group(
        &mut table,
        "versions.v2.",
        versions,
        |row| row,
        |cells: &ProxyHeaderCells| &cells.v2,
    );
    table.boxed()
}

/// `downstream_cx_proxy_proto_error`, of all listeners together; only where one has the filter.
pub(in crate::observe::scrape) fn proxy_header_errors(observe: &Observe) -> Option<Series> {
    let cells = taken(&observe.proxy_headers);
    if cells.is_empty() {
        return None;
    }
    let errors = |cells: &ProxyHeaderCells| cells.errors.downstream_cx_proxy_proto_error.value();
    let (name, _) = HeaderErrorCounters::FIELDS[0];
    Some(Series {
        name: name.into(),
        family: format!("envoy_{name}"),
        labels: Vec::new(),
        number: Number::Counter(cells.values().flatten().map(|(_, cells)| errors(cells)).sum()),
        line: None,
    })
}

/// Sets all to zero.
pub(super) fn reset(observe: &Observe, zero: &mut dyn FnMut(&'static str, crate::observe::cells::Cell<'_>)) {
    for (_, cells) in taken(&observe.proxy_headers).values().flatten() {
        cells.absent.each(&mut *zero);
        cells.errors.each(&mut *zero);
        cells.v1.each(&mut *zero);
        cells.v2.each(&mut *zero);
    }
}
