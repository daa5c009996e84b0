//! `/stats` as text and as JSON: counters, gauges and texts by name, then histograms by name.

use std::collections::VecDeque;
use std::fmt::Write;

use super::tables::{ColumnKind, Table};
use super::{Number, Series, quantile};
use crate::observe::access_log::write_json_string;

/// Which series are shown.
#[derive(Debug, Clone, Default)]
pub struct StatsQuery {
    /// `usedonly`: not those that were never counted into.
    pub used_only: bool,
    /// `filter`: those whose name in `/stats` this finds.
    pub filter: Option<regex::Regex>,
    /// `type`.
    pub kind: Kind,
}

/// `type` of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Every one.
    #[default]
    All,
    /// `Counters`.
    Counters,
    /// `Gauges`.
    Gauges,
    /// `Histograms`.
    Histograms,
    /// `TextReadouts`.
    TextReadouts,
}

/// Size from which a piece is handed on.
const PIECE: usize = 32 << 10;

const QUANTILES: [f64; 10] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];

/// Whether the query wants a series. `used`: its row was ever counted into.
pub(super) fn wanted(
    query: &StatsQuery,
    kind: ColumnKind,
    number: &Number,
    used: bool,
    name: impl FnOnce() -> String,
) -> bool {
    let of_kind = match (query.kind, number) {
        (Kind::All, _) => true,
        (Kind::TextReadouts, number) => matches!(number, Number::Text(_)),
        (_, Number::Text(_)) => false,
        (Kind::Counters, _) => kind == ColumnKind::Counter,
        (Kind::Gauges, _) => kind == ColumnKind::Gauge,
        (Kind::Histograms, _) => kind == ColumnKind::Histogram,
    };
    let touched = match number {
        Number::Counter(count) => *count > 0,
        Number::Histogram(cells, _) => cells.iter().any(|count| *count > 0),
        _ => used,
    };
    of_kind
        && (touched || !query.used_only)
        && query
            .filter
            .as_ref()
            .is_none_or(|filter| filter.is_match(&name()))
}

/// Where series come from.
enum Block {
    Row { table: usize, row: usize },
    Single(usize),
}

/// Blocks whose names mix: a row, and what else begins with its name. They are sorted together.
type Group = Vec<Block>;

/// Everything in the order of names: rows of tables and single series.
fn groups(tables: &[Box<dyn Table>], singles: &[Series]) -> VecDeque<Group> {
    let mut keyed: Vec<(String, Block)> = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        for row in 0..table.rows() {
            let key = format!("{}{}.", table.prefix(), table.row_name(row));
            keyed.push((key, Block::Row { table: index, row }));
        }
    }
    for (index, series) in singles.iter().enumerate() {
        keyed.push((series.name.clone(), Block::Single(index)));
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let mut groups: VecDeque<Group> = VecDeque::new();
    let mut first = String::new();
    for (key, block) in keyed {
        match groups.back_mut() {
            Some(group) if first.ends_with('.') && key.starts_with(&first) => group.push(block),
            _ => {
                groups.push_back(vec![block]);
                first = key;
            }
        }
    }
    groups
}

/// Calls `visit` with the name and number of each wanted series of a group, histograms or the others.
fn visit(
    (tables, singles): (&[Box<dyn Table>], &[Series]),
    group: &[Block],
    histograms: bool,
    query: &StatsQuery,
    visit: &mut dyn FnMut(&str, &Number),
) {
    let mut found: Vec<(String, Number)> = Vec::new();
    for block in group {
        match block {
            Block::Single(index) => {
                let series = &singles[*index];
                let kind = kind_of(&series.number);
                let here = (kind == ColumnKind::Histogram) == histograms;
                if here && wanted(query, kind, &series.number, true, || series.name.clone()) {
                    found.push((series.name.clone(), series.number.clone()));
                }
            }
            Block::Row { table, row } => row_series(&*tables[*table], *row, histograms, query, &mut found),
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.iter().for_each(|(name, number)| visit(name, number));
}

fn row_series(
    table: &dyn Table,
    row: usize,
    histograms: bool,
    query: &StatsQuery,
    found: &mut Vec<(String, Number)>,
) {
    for (index, column) in table.columns().iter().enumerate() {
        if (column.kind == ColumnKind::Histogram) != histograms {
            continue;
        }
        let Some(number) = table.read(row, index) else {
            continue;
        };
        let name = format!("{}{}.{}", table.prefix(), table.row_name(row), column.stat);
        if wanted(query, column.kind, &number, table.used(row), || name.clone()) {
            found.push((name, number));
        }
    }
}

fn kind_of(number: &Number) -> ColumnKind {
    match number {
        Number::Counter(_) => ColumnKind::Counter,
        Number::Histogram(..) => ColumnKind::Histogram,
        _ => ColumnKind::Gauge,
    }
}

/// How series are written down.
trait Form {
    /// Before the first series.
    fn begin(&mut self, _out: &mut String) {}
    /// One series.
    fn series(&mut self, name: &str, number: &Number, out: &mut String);
    /// Between the other series and the histograms.
    fn histograms_begin(&mut self, _out: &mut String) {}
    /// After the last one.
    fn end(&mut self, _out: &mut String) {}
}

/// Runs over all blocks twice (first without, then with histograms) and hands on pieces of text.
struct Pieces<F> {
    tables: Vec<Box<dyn Table>>,
    singles: Vec<Series>,
    query: StatsQuery,
    form: F,
    left: VecDeque<Group>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Numbers,
    Histograms,
    Done,
}

impl<F: Form> Iterator for Pieces<F> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = String::new();
        while out.len() < PIECE && self.stage != Stage::Done {
            if let Some(group) = self.left.pop_front() {
                let (form, histograms) = (&mut self.form, self.stage == Stage::Histograms);
                let world = (&*self.tables, &*self.singles);
                visit(world, &group, histograms, &self.query, &mut |name, number| {
                    form.series(name, number, &mut out);
                });
                continue;
            }
            self.stage = match self.stage {
                Stage::Begin => {
                    self.form.begin(&mut out);
                    self.left = groups(&self.tables, &self.singles);
                    Stage::Numbers
                }
                Stage::Numbers => {
                    self.form.histograms_begin(&mut out);
                    self.left = groups(&self.tables, &self.singles);
                    Stage::Histograms
                }
                Stage::Histograms | Stage::Done => {
                    self.form.end(&mut out);
                    Stage::Done
                }
            };
        }
        (!out.is_empty()).then_some(out)
    }
}

fn pieces<F: Form>(
    tables: Vec<Box<dyn Table>>,
    singles: Vec<Series>,
    query: StatsQuery,
    form: F,
) -> Pieces<F> {
    Pieces {
        tables,
        singles,
        query,
        form,
        left: VecDeque::new(),
        stage: Stage::Begin,
    }
}

/// `name: value` lines.
pub(super) fn lines(
    tables: Vec<Box<dyn Table>>,
    singles: Vec<Series>,
    query: StatsQuery,
) -> impl Iterator<Item = String> {
    pieces(tables, singles, query, Lines)
}

/// Envoy's `{"stats": [...]}`.
pub(super) fn json(
    tables: Vec<Box<dyn Table>>,
    singles: Vec<Series>,
    query: StatsQuery,
) -> impl Iterator<Item = String> {
    pieces(tables, singles, query, Json { comma: false })
}

struct Lines;

impl Form for Lines {
    fn series(&mut self, name: &str, number: &Number, out: &mut String) {
        let _ = match number {
            Number::Counter(value) | Number::Unsigned(value) => writeln!(out, "{name}: {value}"),
            Number::Gauge(value) => writeln!(out, "{name}: {value}"),
            Number::Fraction(value) => writeln!(out, "{name}: {value}"),
            Number::Text(text) => writeln!(out, "{name}: \"{text}\""),
            Number::Histogram(cells, _) if cells.iter().all(|count| *count == 0) => {
                writeln!(out, "{name}: No recorded values")
            }
            Number::Histogram(cells, _) => {
                let _ = write!(out, "{name}:");
                // Envoy prints (last interval, since start); we keep no interval.
                for wanted in QUANTILES {
                    let value = quantile(cells, wanted).unwrap_or(f64::NAN);
                    let _ = write!(out, " P{}(nan,{})", percent(wanted), significant(value));
                }
                writeln!(out)
            }
        };
    }
}

struct Json {
    /// Something stands before in the list that is being written.
    comma: bool,
}

impl Form for Json {
    fn begin(&mut self, out: &mut String) {
        out.push_str("{\"stats\":[");
    }

    fn series(&mut self, name: &str, number: &Number, out: &mut String) {
        if std::mem::replace(&mut self.comma, true) {
            out.push(',');
        }
        out.push_str("{\"name\":");
        write_json_string(name, out);
        let _ = match number {
            Number::Counter(value) | Number::Unsigned(value) => write!(out, ",\"value\":{value}}}"),
            Number::Gauge(value) => write!(out, ",\"value\":{value}}}"),
            Number::Fraction(value) => write!(out, ",\"value\":{value}}}"),
            Number::Text(text) => {
                out.push_str(",\"value\":");
                write_json_string(text, out);
                write!(out, "}}")
            }
            Number::Histogram(cells, _) => {
                out.push_str(",\"values\":[");
                for (index, wanted) in QUANTILES.into_iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let value = quantile(cells, wanted).map_or_else(|| "null".to_owned(), significant);
                    let _ = write!(out, "{comma}{{\"cumulative\":{value},\"interval\":null}}");
                }
                write!(out, "]}}")
            }
        };
    }

    fn histograms_begin(&mut self, out: &mut String) {
        if std::mem::replace(&mut self.comma, false) {
            out.push(',');
        }
        out.push_str("{\"histograms\":{\"supported_quantiles\":[0,25,50,75,90,95,99,99.5,99.9,100],");
        out.push_str("\"computed_quantiles\":[");
    }

    fn end(&mut self, out: &mut String) {
        out.push_str("]}}]}");
    }
}

fn percent(quantile: f64) -> f64 {
    (quantile * 1000.0).round() / 10.0
}

/// Six significant digits, as C++ streams print a double.
fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string().to_lowercase();
    }
    let scale = 10f64.powi(5 - value.abs().log10().floor() as i32);
    ((value * scale).round() / scale).to_string()
}
