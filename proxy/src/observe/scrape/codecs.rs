//! The series of compressors and decompressors: `http.<stat_prefix>.compressor.<library>.<coding>.*`.

use std::collections::{BTreeMap, BTreeSet};

use super::Number;
use super::tables::{Column, ColumnKind, Table, Workers, sum, taken};
use crate::observe::metrics::CodecCounters;
use crate::observe::shards::{CodecCells, Observe, PART};

/// A connection manager with its compressors by what follows its name.
struct Row {
    manager: String,
    codecs: BTreeMap<String, Workers<CodecCells>>,
}

struct Codecs {
    rows: Vec<Row>,
    columns: Vec<Column>,
    /// Whose, and which field.
    reads: Vec<(String, usize)>,
}

/// A row for each connection manager that has any.
pub(super) fn codecs(observe: &Observe) -> Box<dyn Table> {
    let mut managers: BTreeMap<String, BTreeMap<String, Workers<CodecCells>>> = BTreeMap::new();
    for (key, workers) in taken(&observe.codecs) {
        let (manager, stat) = key.split_once(PART).unwrap_or((&key, ""));
        let of_manager = managers.entry(manager.to_owned()).or_default();
        of_manager.insert(stat.to_owned(), workers);
    }
    let stats: BTreeSet<String> = managers
        .values()
        .flat_map(|codecs| codecs.keys().cloned())
        .collect();
    let mut table = Codecs {
        rows: managers
            .into_iter()
            .map(|(manager, codecs)| Row { manager, codecs })
            .collect(),
        columns: Vec::new(),
        reads: Vec::new(),
    };
    for stat in stats {
        for (index, (name, _)) in CodecCounters::FIELDS.iter().enumerate() {
            let stat_name = format!("{stat}.{name}");
            let family = stat_name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            table.columns.push(Column {
                family: format!("envoy_http_{family}"),
                stat: stat_name.into(),
                label: None,
                kind: ColumnKind::Counter,
            });
            table.reads.push((stat.clone(), index));
        }
    }
    Box::new(table)
}

impl Table for Codecs {
    fn prefix(&self) -> &'static str {
        "http."
    }

    fn labels(&self, row: usize) -> Vec<(&'static str, &str)> {
        vec![("envoy_http_conn_manager_prefix", &self.rows[row].manager)]
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn row_name(&self, row: usize) -> &str {
        &self.rows[row].manager
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn read(&self, row: usize, column: usize) -> Option<Number> {
        let (stat, field) = &self.reads[column];
        let workers = self.rows[row].codecs.get(stat)?;
        let cells = workers
            .iter()
            .map(|(_, cells)| CodecCounters::FIELDS[*field].1(&cells.codec));
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
