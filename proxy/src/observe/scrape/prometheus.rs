//! The Prometheus text format (version 0.0.4), with the families and labels of Envoy.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::tables::{ColumnKind, Table};
use super::text::{StatsQuery, wanted};
use super::{Number, Series};
use crate::observe::cells::BUCKETS;

/// Where a family's series come from.
enum Source {
    Column { table: usize, column: usize },
    Single(usize),
}

/// The family of a series without labels: `cluster_manager.cds.update_success` is
/// `envoy_cluster_manager_cds_update_success`. What is ours alone (`remora.*`) does not claim to be Envoy's.
pub fn family_name(name: &str) -> String {
    let mut family = String::from(if name.starts_with("remora.") { "" } else { "envoy_" });
    family.extend(name.chars().map(|c| {
        if c.is_ascii_alphanumeric() || c == '_' || c == ':' {
            c
        } else {
            '_'
        }
    }));
    family
}

/// Pieces of the answer, one family each: counters, then gauges, then histograms, each by name (Envoy's order).
pub(super) fn pieces(
    tables: Vec<Box<dyn Table>>,
    singles: Vec<Series>,
    query: StatsQuery,
) -> impl Iterator<Item = String> {
    let mut families: BTreeMap<(ColumnKind, String), Vec<Source>> = BTreeMap::new();
    for (table, entry) in tables.iter().enumerate() {
        for (column, of) in entry.columns().iter().enumerate() {
            families
                .entry((of.kind, of.family.clone()))
                .or_default()
                .push(Source::Column { table, column });
        }
    }
    for (index, series) in singles.iter().enumerate() {
        let kind = match series.number {
            Number::Counter(_) => ColumnKind::Counter,
            Number::Fraction(_) if series.family.ends_with("_total") => ColumnKind::Counter,
            Number::Gauge(_) | Number::Unsigned(_) | Number::Fraction(_) => ColumnKind::Gauge,
            Number::Histogram(..) => ColumnKind::Histogram,
            Number::Text(_) => continue,
        };
        families
            .entry((kind, series.family.clone()))
            .or_default()
            .push(Source::Single(index));
    }
    families.into_iter().filter_map(move |((kind, family), sources)| {
        let mut out = String::new();
        for source in sources {
            match source {
                Source::Single(index) => {
                    let series = &singles[index];
                    if !wanted(&query, kind, &series.number, true, || series.name.clone()) {
                        continue;
                    }
                    if let Some(line) = &series.line {
                        out.push_str(line);
                        out.push('\n');
                    } else {
                        let labels = series.labels.iter().map(|(name, value)| (*name, value.as_str()));
                        sample(&family, &label_text(labels), &series.number, &mut out);
                    }
                }
                Source::Column { table, column } => rows(&*tables[table], column, &query, &mut out),
            }
        }
        let word = match kind {
            ColumnKind::Counter => "counter",
            ColumnKind::Gauge => "gauge",
            ColumnKind::Histogram => "histogram",
        };
        (!out.is_empty()).then(|| format!("# TYPE {family} {word}\n{out}"))
    })
}

/// Writes one column of a table.
fn rows(table: &dyn Table, column: usize, query: &StatsQuery, out: &mut String) {
    let of = &table.columns()[column];
    for row in 0..table.rows() {
        let Some(number) = table.read(row, column) else {
            continue;
        };
        let name = || format!("{}{}.{}", table.prefix(), table.row_name(row), of.stat);
        if !wanted(query, of.kind, &number, table.used(row), name) {
            continue;
        }
        let extra = of.label.iter().map(|(name, value)| (*name, value.as_str()));
        sample(
            &of.family,
            &label_text(extra.chain(table.labels(row))),
            &number,
            out,
        );
    }
}

/// `a="x",b="y"`, with the escapes of the format.
fn label_text<'a>(labels: impl Iterator<Item = (&'static str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{name}=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

fn sample(family: &str, labels: &str, number: &Number, out: &mut String) {
    let _ = match number {
        Number::Counter(value) | Number::Unsigned(value) => writeln!(out, "{family}{{{labels}}} {value}"),
        Number::Gauge(value) => writeln!(out, "{family}{{{labels}}} {value}"),
        Number::Fraction(value) => writeln!(out, "{family}{{{labels}}} {value}"),
        Number::Text(_) => Ok(()),
        Number::Histogram(cells, sum) => {
            let comma = if labels.is_empty() { "" } else { "," };
            let mut total = 0;
            for (index, count) in cells.iter().enumerate() {
                total += count;
                let _ = match BUCKETS.get(index) {
                    Some(bound) => writeln!(out, "{family}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}"),
                    None => writeln!(out, "{family}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}"),
                };
            }
            writeln!(
                out,
                "{family}_sum{{{labels}}} {sum}\n{family}_count{{{labels}}} {total}"
            )
        }
    };
}
