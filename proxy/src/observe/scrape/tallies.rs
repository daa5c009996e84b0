//! Series whose names are put together from configuration: those of policies with a prefix, and of single policies.

use std::collections::{BTreeMap, BTreeSet};

use super::Number;
use super::tables::{Column, ColumnKind, Table, Workers, sum, taken};
use crate::observe::metrics::Tally;
use crate::observe::shards::{Observe, PART, Shards, TallyCells};

/// What the name of a policy follows.
const POLICY: &str = "rbac.policy.";

struct Tallies {
    prefix: &'static str,
    label: &'static str,
    rows: Vec<(String, BTreeMap<String, Workers<TallyCells>>)>,
    columns: Vec<Column>,
}

/// `http.<stat_prefix>.*`
pub(super) fn of_managers(observe: &Observe) -> Box<dyn Table> {
    let label = "envoy_http_conn_manager_prefix";
    table("http.", "envoy_http_", label, &observe.http_tallies)
}

/// `<stat_prefix>.*` of policies for connections.
pub(super) fn of_connections(observe: &Observe) -> Box<dyn Table> {
    table("", "envoy_", "envoy_rbac_prefix", &observe.connection_tallies)
}

fn table(
    prefix: &'static str,
    family: &str,
    label: &'static str,
    shards: &Shards<TallyCells>,
) -> Box<dyn Table> {
    let mut rows: BTreeMap<String, BTreeMap<String, Workers<TallyCells>>> = BTreeMap::new();
    for (key, workers) in taken(shards) {
        let (row, stat) = key.split_once(PART).unwrap_or((&key, ""));
        let of_row = rows.entry(row.to_owned()).or_default();
        of_row.insert(stat.to_owned(), workers);
    }
    let stats: BTreeSet<String> = rows
        .values()
        .flat_map(|tallies| tallies.keys().cloned())
        .collect();
    let columns = stats.into_iter().map(|stat| {
        let policy = stat.strip_prefix(POLICY).and_then(|rest| rest.rsplit_once('.'));
        let label = policy.map(|(name, _)| ("envoy_rbac_policy_name", name.to_owned()));
        let word = match policy {
            Some((_, field)) => format!("rbac_policy_{field}"),
            None => stat.replace(|c: char| !c.is_ascii_alphanumeric(), "_"),
        };
        Column {
            family: format!("{family}{word}"),
            stat: stat.into(),
            label,
            kind: ColumnKind::Counter,
        }
    });
    Box::new(Tallies {
        prefix,
        label,
        columns: columns.collect(),
        rows: rows.into_iter().collect(),
    })
}

impl Table for Tallies {
    fn prefix(&self) -> &'static str {
        self.prefix
    }

    fn labels(&self, row: usize) -> Vec<(&'static str, &str)> {
        vec![(self.label, &self.rows[row].0)]
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
        let workers = self.rows[row].1.get(&*self.columns[column].stat)?;
        let (_, cell) = Tally::FIELDS[0];
        Some(sum(
            ColumnKind::Counter,
            workers.iter().map(|(_, cells)| cell(&cells.tally)),
        ))
    }

    fn used(&self, _: usize) -> bool {
        true
    }

    fn leave_out_unused(&mut self) {}
}
