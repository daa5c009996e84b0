//! The series of gRPC calls: `cluster.<name>.grpc.<service>.<method>.*`, by service and method as labels in Prometheus.

use std::collections::BTreeSet;

use super::Number;
use super::tables::{Column, ColumnKind, Table, Workers, sum, taken};
use crate::observe::cells::Cell;
use crate::observe::metrics::GrpcCounters;
use crate::observe::shards::{GrpcCells, Observe, PART};

/// A method, or all that are not told apart.
struct Row {
    cluster: String,
    /// `grpc` or `grpc-web`.
    protocol: String,
    service: String,
    method: String,
    /// As `/stats` writes it.
    name: String,
    workers: Workers<GrpcCells>,
}

/// What a column reads.
#[derive(Clone, Copy)]
enum Read {
    Field(usize),
    Code(usize),
}

struct Calls {
    rows: Vec<Row>,
    columns: Vec<Column>,
    reads: Vec<(Read, &'static str)>,
}

/// A row for each method that was called.
pub(super) fn calls(observe: &Observe) -> Box<dyn Table> {
    let rows: Vec<Row> = taken(&observe.grpc)
        .into_iter()
        .map(|(key, workers)| {
            let mut parts = key.split(PART).map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            let (cluster, protocol, service, method) = (part(), part(), part(), part());
            let of_method = if method.is_empty() {
                String::new()
            } else {
                format!(".{service}.{method}")
            };
            let name = format!("{cluster}.{protocol}{of_method}");
            Row {
                cluster,
                protocol,
                service,
                method,
                name,
                workers,
            }
        })
        .collect();
    let codes: BTreeSet<usize> = rows
        .iter()
        .flat_map(|row| &row.workers)
        .flat_map(|(_, cells)| cells.codes.iter().enumerate())
        .filter(|(_, count)| count.value() > 0)
        .map(|(code, _)| code)
        .collect();
    let fields = GrpcCounters::FIELDS.iter().enumerate();
    let fields = fields.map(|(index, (name, _))| (Read::Field(index), (*name).to_owned()));
    let codes = codes.into_iter().map(|code| (Read::Code(code), code.to_string()));
    let reads: Vec<_> = codes.chain(fields).collect();
    let mut table = Calls {
        rows,
        columns: Vec::new(),
        reads: Vec::new(),
    };
    for (protocol, family) in [("grpc", "grpc"), ("grpc-web", "grpc_web")] {
        for (read, name) in &reads {
            table.columns.push(Column {
                family: format!("envoy_cluster_{family}_{name}"),
                stat: name.clone().into(),
                label: None,
                kind: if name == "upstream_rq_time" {
                    ColumnKind::Histogram
                } else {
                    ColumnKind::Counter
                },
            });
            table.reads.push((*read, protocol));
        }
    }
    Box::new(table)
}

impl Table for Calls {
    fn prefix(&self) -> &'static str {
        "cluster."
    }

    fn labels(&self, row: usize) -> Vec<(&'static str, &str)> {
        let row = &self.rows[row];
        let mut labels = Vec::with_capacity(3);
        if !row.method.is_empty() {
            labels.push(("envoy_grpc_bridge_method", row.method.as_str()));
            labels.push(("envoy_grpc_bridge_service", row.service.as_str()));
        }
        labels.push(("envoy_cluster_name", row.cluster.as_str()));
        labels
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
        let row = &self.rows[row];
        let (read, protocol) = self.reads[column];
        if row.protocol != protocol {
            return None;
        }
        let kind = self.columns[column].kind;
        let cells = row.workers.iter().map(|(_, cells)| &**cells);
        let number = match read {
            Read::Field(index) => sum(
                kind,
                cells.map(|cells| GrpcCounters::FIELDS[index].1(&cells.calls)),
            ),
            Read::Code(code) => sum(kind, cells.map(|cells| Cell::from(&cells.codes[code]))),
        };
        match number {
            Number::Counter(0) => None,
            Number::Histogram(buckets, _) if buckets.iter().all(|count| *count == 0) => None,
            number => Some(number),
        }
    }

    fn used(&self, _: usize) -> bool {
        true
    }

    fn leave_out_unused(&mut self) {}
}
