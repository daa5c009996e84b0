//! The table of the mesh: what each costs, what that is beside Envoy, and whether our bounds are held.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Side, Variant};

/// What one proxy cost in one variant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Start until the last service answers.
    pub(super) ready_seconds: f64,
    /// CPU from the start until the memory is at rest.
    pub(super) load_cpu_seconds: f64,
    /// Cores used when nothing happens.
    pub(super) idle_cores: f64,
    /// Resident when loaded and at rest.
    pub(super) rest_mib: f64,
    /// Resident at rest after all changes and scrapes.
    pub(super) end_mib: f64,
    /// Resident at the highest.
    pub(super) peak_mib: f64,
    /// CPU per change of one endpoint of one service.
    pub(super) endpoint_change_ms: f64,
    /// CPU per change of one virtual host.
    pub(super) route_change_ms: f64,
    /// CPU per change of one cluster.
    pub(super) cluster_change_ms: f64,
    /// Bytes of a scrape.
    pub(super) scrape_kib: f64,
    /// CPU of a scrape.
    pub(super) scrape_cpu_ms: f64,
}

/// The figures of one proxy in one variant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) side: Side,
    pub(super) variant: Variant,
    pub(super) figures: Figures,
}

/// One line: its title, which figure it shows, and the part of Envoy's that it may be (one divided by this).
struct Measure {
    title: &'static str,
    figure: fn(&Figures) -> f64,
    bound: Option<f64>,
}

/// One line of the table with what was measured.
struct Line {
    variant: Variant,
    measure: Measure,
    envoy: Option<f64>,
    remora: Option<f64>,
}

/// Everything measured.
pub(super) struct Report(Vec<Line>);

fn measures(variant: Variant) -> Vec<Measure> {
    let line = |title, figure: fn(&Figures) -> f64, bound| Measure { title, figure, bound };
    // Only where all clusters are sent again is one of them dear.
    let cluster_bound = (variant == Variant::Sotw).then_some(10.0);
    vec![
        line("resident at rest, MiB", |f| f.rest_mib, Some(12.0)),
        line("resident after all changes, MiB", |f| f.end_mib, None),
        line("resident at peak, MiB", |f| f.peak_mib, None),
        line("CPU to load, s", |f| f.load_cpu_seconds, Some(8.0)),
        line("start to last service, s", |f| f.ready_seconds, None),
        line(
            "cores when nothing happens, thousandths",
            |f| f.idle_cores * 1e3,
            None,
        ),
        line(
            "CPU of one endpoint's change (EDS), ms",
            |f| f.endpoint_change_ms,
            Some(5.0),
        ),
        line(
            "CPU of one virtual host's change (RDS), ms",
            |f| f.route_change_ms,
            Some(20.0),
        ),
        line(
            "CPU of one cluster's change (CDS), ms",
            |f| f.cluster_change_ms,
            cluster_bound,
        ),
        line("a scrape, KiB", |f| f.scrape_kib, Some(50.0)),
        line("CPU of a scrape, ms", |f| f.scrape_cpu_ms, Some(50.0)),
    ]
}

impl Line {
    /// How many times Envoy costs what Remora costs.
    fn times(&self) -> Option<f64> {
        Some(self.envoy? / self.remora.filter(|remora| *remora > 0.0)?)
    }

    /// Whether the bound is held, if there is one and both were measured.
    fn held(&self) -> Option<bool> {
        Some(self.times()? >= self.measure.bound?)
    }
}

impl Report {
    pub(super) fn new(runs: &[Run], variants: &[Variant]) -> Self {
        let mut lines = Vec::new();
        for variant in variants {
            for measure in measures(*variant) {
                let of = |side: Side| {
                    let mut same = runs
                        .iter()
                        .filter(|run| run.variant == *variant && run.side == side);
                    same.next().map(|run| (measure.figure)(&run.figures))
                };
                lines.push(Line {
                    variant: *variant,
                    envoy: of(Side::Envoy),
                    remora: of(Side::Remora),
                    measure,
                });
            }
        }
        Self(lines)
    }

    /// A Markdown table.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::from(
            "\n| | variant | Envoy | Remora | part of Envoy's | at most | |\n|---|---|---|---|---|---|---|\n",
        );
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let part = |times: Option<f64>| times.map_or_else(|| "-".to_owned(), |times| format!("1/{times:.1}"));
        for line in &self.0 {
            let bound = line
                .measure
                .bound
                .map_or_else(String::new, |bound| format!("1/{bound:.0}"));
            let verdict = match line.held() {
                Some(true) => "held",
                Some(false) => "MISSED",
                None => "",
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {bound} | {verdict} |",
                line.measure.title,
                line.variant,
                number(line.envoy),
                number(line.remora),
                part(line.times()),
            );
        }
        text
    }

    /// The same for machines.
    pub(super) fn json(&self) -> Value {
        self.0
            .iter()
            .map(|line| {
                json!({
                    "measure": line.measure.title, "variant": line.variant.to_string(),
                    "envoy": line.envoy, "remora": line.remora, "at_most_one_of": line.measure.bound,
                    "held": line.held(),
                })
            })
            .collect()
    }

    /// The lines whose bound is missed.
    pub(super) fn missed(&self) -> Vec<String> {
        let missed = self.0.iter().filter(|line| line.held() == Some(false));
        missed
            .map(|line| format!("{} ({})", line.measure.title, line.variant))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_part_of_what_envoy_costs() {
        let run = |side, rest_mib, scrape_kib| Run {
            side,
            variant: Variant::Delta,
            figures: Figures {
                rest_mib,
                scrape_kib,
                ..Figures::default()
            },
        };
        let runs = [run(Side::Envoy, 1200.0, 100.0), run(Side::Remora, 100.0, 3.0)];
        let report = Report::new(&runs, &[Variant::Delta]);
        assert_eq!(report.missed(), ["a scrape, KiB (delta)"]);
        assert!(report.markdown().contains("| 1/12.0 | 1/12 | held |"));
        // What only one was asked for has no verdict.
        assert!(Report::new(&runs[1..], &[Variant::Delta]).missed().is_empty());
    }
}
