//! The table: medians over the rounds, with the range of the one steady figure, and the ratios to Envoy of this run.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::Scenario;
use crate::peer::Peer;

/// One run of one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) peer: Peer,
    /// CPU microseconds per request of the proxy's processes; `None` for no proxy.
    pub(crate) cpu_us: Option<f64>,
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) rest_mib: f64,
    pub(crate) peak_mib: f64,
    pub(crate) failures: u64,
}

/// All rounds of one peer in one scenario.
struct Line {
    peer: Peer,
    cpu: Vec<f64>,
    median: Run,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

fn lines(runs: &[Run], scenario: Scenario) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for run in runs.iter().filter(|run| run.scenario == scenario) {
        if lines.iter().any(|line| line.peer == run.peer) {
            continue;
        }
        let same: Vec<&Run> = runs
            .iter()
            .filter(|r| r.scenario == scenario && r.peer == run.peer)
            .collect();
        let of = |value: fn(&Run) -> f64| median(same.iter().map(|run| value(run)).collect());
        let cpu: Vec<f64> = same.iter().filter_map(|run| run.cpu_us).collect();
        let median = Run {
            cpu_us: (!cpu.is_empty()).then(|| median(cpu.clone())),
            rate: of(|run| run.rate),
            p50_us: of(|run| run.p50_us),
            p99_us: of(|run| run.p99_us),
            rest_mib: of(|run| run.rest_mib),
            peak_mib: of(|run| run.peak_mib),
            failures: same.iter().map(|run| run.failures).sum(),
            ..*run
        };
        lines.push(Line {
            peer: run.peer,
            cpu,
            median,
        });
    }
    lines
}

fn ratio(value: Option<f64>, base: Option<f64>) -> String {
    match (value, base) {
        (Some(value), Some(base)) if base > 0.0 => format!("{:.2}", value / base),
        _ => "-".to_owned(),
    }
}

/// The Markdown table of all scenarios.
pub(crate) fn markdown(runs: &[Run], scenarios: &[Scenario]) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        let lines = lines(runs, *scenario);
        let envoy = lines
            .iter()
            .find(|line| line.peer == Peer::Envoy)
            .map(|line| line.median);
        let _ = writeln!(text, "\n### {}\n", scenario.title());
        text.push_str(
            "| peer | CPU us/request (range) | to Envoy | requests/s | to Envoy | p50 us | p99 us | ",
        );
        text.push_str("MiB at rest | to Envoy | MiB at peak | failed |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
        for line in &lines {
            let run = line.median;
            let low = line.cpu.iter().copied().fold(f64::INFINITY, f64::min);
            let high = line.cpu.iter().copied().fold(0.0, f64::max);
            let cpu = run
                .cpu_us
                .map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1} ({low:.1}-{high:.1})"));
            let rest = run.cpu_us.map(|_| run.rest_mib);
            let memory = |value: f64| rest.map_or_else(|| "-".to_owned(), |_| format!("{value:.1}"));
            let _ = writeln!(
                text,
                "| {} | {cpu} | {} | {:.0} | {} | {:.0} | {:.0} | {} | {} | {} | {} |",
                run.peer.name(),
                ratio(run.cpu_us, envoy.and_then(|envoy| envoy.cpu_us)),
                run.rate,
                ratio(Some(run.rate), envoy.map(|envoy| envoy.rate)),
                run.p50_us,
                run.p99_us,
                memory(run.rest_mib),
                ratio(rest, envoy.map(|envoy| envoy.rest_mib)),
                memory(run.peak_mib),
                run.failures,
            );
        }
    }
    text
}

/// Every single run.
pub(crate) fn json(runs: &[Run]) -> Value {
    runs.iter()
        .map(|run| {
            json!({
                "scenario": run.scenario.name(), "peer": run.peer.name(), "cpu_us_per_request": run.cpu_us,
                "requests_per_second": run.rate, "p50_us": run.p50_us, "p99_us": run.p99_us,
                "mib_at_rest": run.rest_mib, "mib_at_peak": run.peak_mib, "failures": run.failures,
            })
        })
        .collect()
}
