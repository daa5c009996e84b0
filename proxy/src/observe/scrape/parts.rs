//! The series of things that have several parts of one kind, told apart by what follows their name:
//! `http.<stat_prefix>.compressor.<library>.<coding>.*`, `cluster.<name>.ratelimit[.<stat_prefix>].*`.

use std::collections::{BTreeMap, BTreeSet};

use super::Number;
use super::tables::{Column, ColumnKind, Table, Workers, sum, taken};
use crate::observe::cells::Cell;
use crate::observe::metrics::{AuthorizationCounters, CellOf, CodecCounters, RateLimitCounters};
use crate::observe::shards::{CodecCells, Observe, PART, ServiceCells, Shards};

/// What the rows of a table have in common.
struct Whose {
    /// Begins their names.
    prefix: &'static str,
    /// Begins their families.
    family: &'static str,
    /// Names a row.
    label: &'static str,
}

const CLUSTERS: Whose = Whose {
    prefix: "cluster.",
    family: "envoy_cluster",
    label: "envoy_cluster_name",
};

/// A thing with its parts by what follows its name.
struct Row<C> {
    name: String,
    parts: BTreeMap<String, Workers<C>>,
}

struct Parts<C, G: 'static> {
    whose: Whose,
    fields: &'static [(&'static str, CellOf<G>)],
    within: fn(&C) -> &G,
    rows: Vec<Row<C>>,
    columns: Vec<Column>,
    /// Whose, and which field.
    reads: Vec<(String, usize)>,
}

/// A row for each connection manager that has compressors or decompressors.
pub(super) fn codecs(observe: &Observe) -> Box<dyn Table> {
    let whose = Whose {
        prefix: "http.",
        family: "envoy_http",
        label: "envoy_http_conn_manager_prefix",
    };
    table(
        whose,
        &observe.codecs,
        |_| true,
        CodecCounters::FIELDS,
        |cells: &CodecCells| &cells.codec,
    )
}

/// A row for each cluster whose requests a rate limit service was asked about.
pub(super) fn rate_limits(observe: &Observe) -> Box<dyn Table> {
    let of_limits = |stat: &str| stat.starts_with("ratelimit");
    table(
        CLUSTERS,
        &observe.services,
        of_limits,
        RateLimitCounters::FIELDS,
        |cells: &ServiceCells| &cells.limit,
    )
}

/// A row for each cluster whose requests an authorization service was asked about.
pub(super) fn authorizations(observe: &Observe) -> Box<dyn Table> {
    let of_authorizations = |stat: &str| stat.starts_with("ext_authz");
    table(
        CLUSTERS,
        &observe.services,
        of_authorizations,
        AuthorizationCounters::FIELDS,
        |cells: &ServiceCells| &cells.authorization,
    )
}

fn table<C: 'static, G: 'static>(
    whose: Whose,
    shards: &Shards<C>,
    wanted: fn(&str) -> bool,
    fields: &'static [(&'static str, CellOf<G>)],
    within: fn(&C) -> &G,
) -> Box<dyn Table> {
    let mut rows: BTreeMap<String, BTreeMap<String, Workers<C>>> = BTreeMap::new();
    for (key, workers) in taken(shards) {
        let (name, stat) = key.split_once(PART).unwrap_or((&key, ""));
        if wanted(stat) {
            let of_name = rows.entry(name.to_owned()).or_default();
            of_name.insert(stat.to_owned(), workers);
        }
    }
    let stats: BTreeSet<String> = rows.values().flat_map(|parts| parts.keys().cloned()).collect();
    let rows = rows.into_iter().map(|(name, parts)| Row { name, parts });
    let mut table = Parts {
        fields,
        within,
        rows: rows.collect(),
        columns: Vec::new(),
        reads: Vec::new(),
        whose,
    };
    for stat in stats {
        for (index, (name, _)) in fields.iter().enumerate() {
            let stat_name = format!("{stat}.{name}");
            let family = stat_name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            table.columns.push(Column {
                family: format!("{}_{family}", table.whose.family),
                stat: stat_name.into(),
                label: None,
                kind: ColumnKind::Counter,
            });
            table.reads.push((stat.clone(), index));
        }
    }
    Box::new(table)
}

impl<C, G> Table for Parts<C, G> {
    fn prefix(&self) -> &'static str {
        self.whose.prefix
    }

    fn labels(&self, row: usize) -> Vec<(&'static str, &str)> {
        vec![(self.whose.label, &self.rows[row].name)]
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn row_name(&self, row: usize) -> &str {
        &self.rows[row].name
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn read(&self, row: usize, column: usize) -> Option<Number> {
        let (stat, field) = &self.reads[column];
        let workers = self.rows[row].parts.get(stat)?;
        let cells = workers
            .iter()
            .map(|(_, cells)| -> Cell<'_> { self.fields[*field].1((self.within)(cells)) });
        match sum(ColumnKind::Counter, cells) {
            Number::Counter(0) => None,
            number => Some(number),
        }
    }

    fn used(&self, _: usize) -> bool {
        true
    }

    fn leave_out_unused(&mut self) {}
}
