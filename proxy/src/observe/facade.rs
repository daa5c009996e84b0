//! What the control side, the server and the process count for as long as they live: through the `metrics` facade,
//! written by its Prometheus exporter.
//!
//! Holds: a recorder of its own in each [`Facade`], so that several can live in one test; series without labels, each a
//! family of its own, with handles that are resolved once. No histograms (the exporter keeps every sample until it is
//! asked) and no idle timeout (a handle that outlives it counts into nothing).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, Key, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::scrape::{Number, Series, family_name};

const HERE: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Series by their names in `/stats`.
#[derive(Default)]
pub struct Facade(Mutex<State>);

struct State {
    recorder: PrometheusRecorder,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    family: String,
    handle: Handle,
}

enum Handle {
    Counter(Counter),
    Gauge(Gauge),
}

impl Default for State {
    fn default() -> Self {
        Self {
            recorder: PrometheusBuilder::new().build_recorder(),
            entries: BTreeMap::new(),
        }
    }
}

impl std::fmt::Debug for Facade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.locked().entries.keys().cloned().collect();
        f.debug_tuple("Facade").field(&names).finish()
    }
}

impl Facade {
    /// Adds to a counter; 0 shows it.
    pub fn count(&self, name: &str, n: u64) {
        self.locked().counter(name).increment(n);
    }

    /// Lifts a counter that is kept elsewhere to its value there.
    pub fn count_up_to(&self, name: &str, value: u64) {
        self.locked().counter(name).absolute(value);
    }

    /// Sets a gauge.
    pub fn set(&self, name: &str, value: f64) {
        self.locked().gauge(name, || family_name(name)).set(value);
    }

    /// Sets a gauge whose family does not follow from its name.
    pub fn set_family(&self, name: &str, family: &str, value: f64) {
        self.locked().gauge(name, || family.to_owned()).set(value);
    }

    /// Every counter starts from zero again. The exporter's counters only rise, so this is a new recorder.
    pub fn reset_counters(&self) {
        let levels = self.series();
        let mut state = self.locked();
        let before = std::mem::take(&mut *state);
        for (name, entry) in &before.entries {
            match entry.handle {
                Handle::Counter(_) => state.counter(name).increment(0),
                Handle::Gauge(_) => {
                    let level = levels.iter().find(|series| series.name == *name);
                    let value = level.map_or(0.0, |series| match series.number {
                        Number::Gauge(value) => value as f64,
                        Number::Fraction(value) => value,
                        _ => 0.0,
                    });
                    state.gauge(name, || entry.family.clone()).set(value);
                }
            }
        }
    }

    /// All series in the order of their names, each with the line that the exporter wrote for it.
    pub fn series(&self) -> Vec<Series> {
        let state = self.locked();
        let text = state.recorder.handle().render();
        let lines: HashMap<&str, (&str, &str)> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                line.split_once(' ')
                    .map(|(family, value)| (family, (line, value)))
            })
            .collect();
        let of = |(name, entry): (&String, &Entry)| {
            let (line, value) = *lines.get(entry.family.as_str())?;
            let number = match entry.handle {
                Handle::Counter(_) => Number::Counter(value.parse().ok()?),
                Handle::Gauge(_) => level(value.parse().ok()?),
            };
            Some(Series {
                name: name.clone(),
                family: entry.family.clone(),
                labels: Vec::new(),
                number,
                line: Some(line.to_owned()),
            })
        };
        state.entries.iter().filter_map(of).collect()
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn counter(&mut self, name: &str) -> Counter {
        if let Some(entry) = self.entries.get(name) {
            return match &entry.handle {
                Handle::Counter(counter) => counter.clone(),
                Handle::Gauge(_) => Counter::noop(),
            };
        }
        let family = family_name(name);
        let counter = self
            .recorder
            .register_counter(&Key::from_name(family.clone()), &HERE);
        let handle = Handle::Counter(counter.clone());
        self.entries.insert(name.to_owned(), Entry { family, handle });
        counter
    }

    fn gauge(&mut self, name: &str, family: impl FnOnce() -> String) -> Gauge {
        if let Some(entry) = self.entries.get(name) {
            return match &entry.handle {
                Handle::Gauge(gauge) => gauge.clone(),
                Handle::Counter(_) => Gauge::noop(),
            };
        }
        let family = family();
        let gauge = self
            .recorder
            .register_gauge(&Key::from_name(family.clone()), &HERE);
        let handle = Handle::Gauge(gauge.clone());
        self.entries.insert(name.to_owned(), Entry { family, handle });
        gauge
    }
}

/// The exporter knows only fractions; a whole number is shown as one.
fn level(value: f64) -> Number {
    if value.fract() == 0.0 {
        Number::Gauge(value as i64)
    } else {
        Number::Fraction(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(facade: &Facade) -> Vec<(String, String, Number)> {
        let series = facade.series().into_iter();
        series
            .map(|series| (series.name, series.line.unwrap(), series.number))
            .collect()
    }

    #[test]
    fn the_exporter_writes_what_was_counted_under_envoys_families() {
        let (facade, other) = (Facade::default(), Facade::default());
        facade.count("cluster_manager.cluster_added", 2);
        facade.count("cluster_manager.cluster_added", 1);
        facade.set("control_plane.connected_state", 1.0);
        facade.set_family("process.start_time_seconds", "process_start_time_seconds", 1.5);
        other.count("cluster_manager.cluster_added", 9);
        let row = |name: &str, line: &str, number| (name.to_owned(), line.to_owned(), number);
        assert_eq!(
            shown(&facade),
            [
                row(
                    "cluster_manager.cluster_added",
                    "envoy_cluster_manager_cluster_added 3",
                    Number::Counter(3)
                ),
                row(
                    "control_plane.connected_state",
                    "envoy_control_plane_connected_state 1",
                    Number::Gauge(1)
                ),
                row(
                    "process.start_time_seconds",
                    "process_start_time_seconds 1.5",
                    Number::Fraction(1.5)
                ),
            ]
        );
    }

    #[test]
    fn a_reset_takes_counters_to_zero_and_leaves_gauges() {
        let facade = Facade::default();
        facade.count("a", 3);
        facade.set("b", 4.0);
        facade.reset_counters();
        let numbers: Vec<Number> = facade.series().into_iter().map(|series| series.number).collect();
        assert_eq!(numbers, [Number::Counter(0), Number::Gauge(4)]);
        facade.count("a", 1);
        assert_eq!(facade.series()[0].number, Number::Counter(1));
    }
}
