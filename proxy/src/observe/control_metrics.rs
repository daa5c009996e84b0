//! What does the control side count? Subscriptions, listeners, clusters, the connection to the control plane.
//!
//! Holds: series without labels live as long as the process and go through the `metrics` facade; those of one route
//! configuration, cluster or secret end with it ([`ControlMetrics::forget`]), which the facade cannot do, and stand with
//! what it cannot say (texts, 64 bits) in a registry of our own. One of each per process part, so that several can live
//! in one test. Nothing here is touched by a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh64::xxh64;

use super::facade::Facade;
use super::scrape::{Number, Series};

/// A counter or a gauge of the control side.
#[derive(Debug)]
pub enum ControlCell {
    /// Counts up.
    Counter(AtomicU64),
    /// Is set.
    Gauge(AtomicI64),
    /// A text (`version_text`); `/stats` shows it, Prometheus cannot.
    Text(Mutex<String>),
}

/// Which subscription counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscription<'a> {
    /// `cluster_manager.cds.*`
    Clusters,
    /// `listener_manager.lds.*`
    Listeners,
    /// `http.<stat_prefix>.rds.<route configuration>.*`
    Routes {
        /// The manager's `stat_prefix`.
        manager: &'a str,
        /// `rds.route_config_name`.
        name: &'a str,
    },
    /// `cluster.<name>.*`
    Endpoints {
        /// The cluster's `stat_name`.
        cluster: &'a str,
    },
    /// `sds.<name>.*`
    Secret {
        /// The secret.
        name: &'a str,
    },
}

/// The label that names the route configuration of a series.
const ROUTE_LABEL: &str = "envoy_rds_route_config";

/// One label of a series.
type Label = (&'static str, String);

impl Subscription<'_> {
    fn prefix(&self) -> String {
        match self {
            Self::Clusters => "cluster_manager.cds.".into(),
            Self::Listeners => "listener_manager.lds.".into(),
            Self::Routes { manager, name } => format!("http.{manager}.rds.{name}."),
            Self::Endpoints { cluster } => format!("cluster.{cluster}."),
            Self::Secret { name } => format!("sds.{name}."),
        }
    }

    /// Prometheus family without the last word, and labels, as Envoy's tag rules take them out of the name.
    fn family(&self) -> (&'static str, Vec<Label>) {
        match self {
            Self::Clusters => ("envoy_cluster_manager_cds_", Vec::new()),
            Self::Listeners => ("envoy_listener_manager_lds_", Vec::new()),
            Self::Routes { manager, name } => (
                "envoy_http_rds_",
                vec![
                    (ROUTE_LABEL, (*name).into()),
                    ("envoy_http_conn_manager_prefix", (*manager).into()),
                ],
            ),
            Self::Endpoints { cluster } => {
                ("envoy_cluster_", vec![("envoy_cluster_name", (*cluster).into())])
            }
            Self::Secret { name } => ("envoy_sds_", vec![("envoy_xds_resource_name", (*name).into())]),
        }
    }
}

/// What happened to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update<'a> {
    /// A request was sent, or a response came in: `update_attempt`.
    Attempt,
    /// An update was applied: `update_success`, `update_time`, and `version` / `version_text`.
    Success {
        /// `version_info`.
        version: &'a str,
    },
    /// An update changed something: `config_reload`, and `config_reload_time_ms`.
    Reload,
    /// An update was refused in whole or in part: `update_rejected`.
    Rejected,
    /// The transport failed: `update_failure`.
    Failure,
    /// `initial_fetch_timeout` ran out: `init_fetch_timeout`.
    InitFetchTimeout,
    /// Files that the resource names changed and were of no use: `key_rotation_failed`.
    FilesRefused,
}

#[derive(Debug)]
struct Entry {
    family: String,
    labels: Vec<Label>,
    cell: Arc<ControlCell>,
}

/// All series of the control side.
#[derive(Debug, Default)]
pub struct ControlMetrics {
    /// What lives as long as the process.
    pub(super) facade: Facade,
    series: Mutex<BTreeMap<String, Entry>>,
}

impl ControlMetrics {
    /// Shows the series of a subscription, so that a dashboard sees zeros before the first update.
    pub fn begin(&self, subscription: Subscription<'_>) {
        for word in [
            "update_attempt",
            "update_success",
            "update_rejected",
            "update_failure",
            "init_fetch_timeout",
        ] {
            self.count_word(subscription, word, 0);
        }
        self.of_subscription(subscription, "version", gauge);
    }

    /// Counts what happened to a subscription.
    pub fn update(&self, subscription: Subscription<'_>, update: Update<'_>) {
        let word = match update {
            Update::Attempt => "update_attempt",
            Update::Rejected => "update_rejected",
            Update::Failure => "update_failure",
            Update::InitFetchTimeout => "init_fetch_timeout",
            Update::FilesRefused => "key_rotation_failed",
            Update::Reload => {
                self.of_subscription(subscription, "config_reload_time_ms", gauge)
                    .set(now_ms());
                "config_reload"
            }
            Update::Success { version } => {
                // Envoy's gauge is the xxHash64 of the version, all 64 bits of it.
                let hash = xxh64(version.as_bytes(), 0) as i64;
                self.of_subscription(subscription, "version", gauge).set(hash);
                self.of_subscription(subscription, "version_text", text)
                    .write(version);
                self.of_subscription(subscription, "update_time", gauge)
                    .set(now_ms());
                "update_success"
            }
        };
        self.count_word(subscription, word, 1);
    }

    /// Removes every series of a subscription that ended.
    pub fn forget(&self, subscription: Subscription<'_>) {
        let prefix = subscription.prefix();
        self.locked().retain(|name, _| !name.starts_with(&prefix));
    }

    /// Removes every series of a route configuration that nobody refers to any more, whichever manager used it.
    pub fn forget_routes(&self, name: &str) {
        let of = |(label, value): &Label| *label == ROUTE_LABEL && value == name;
        self.locked().retain(|_, entry| !entry.labels.iter().any(of));
    }

    /// Adds to a counter without labels, by its name in `/stats` (`cluster_manager.cluster_added`).
    pub fn count(&self, name: &str, n: u64) {
        self.facade.count(name, n);
    }

    /// Sets a gauge without labels, by its name in `/stats` (`control_plane.connected_state`).
    pub fn set(&self, name: &str, value: i64) {
        self.facade.set(name, value as f64);
    }

    /// The value of a counter or gauge, by its name in `/stats`; `None` if it was never used.
    pub fn value(&self, name: &str) -> Option<i64> {
        let series = self.series().into_iter().find(|series| series.name == name)?;
        match series.number {
            Number::Counter(value) | Number::Unsigned(value) => i64::try_from(value).ok(),
            Number::Gauge(value) => Some(value),
            Number::Fraction(_) | Number::Histogram(..) | Number::Text(_) => None,
        }
    }

    /// Every counter starts from zero again.
    pub fn reset_counters(&self) {
        self.facade.reset_counters();
        for entry in self.locked().values() {
            if let ControlCell::Counter(value) = &*entry.cell {
                value.store(0, Ordering::Relaxed);
            }
        }
    }

    /// All series in the order of their names.
    pub fn series(&self) -> Vec<Series> {
        let of = |(name, entry): (&String, &Entry)| Series {
            name: name.clone(),
            family: entry.family.clone(),
            labels: entry.labels.clone(),
            number: match &*entry.cell {
                ControlCell::Counter(value) => Number::Counter(value.load(Ordering::Relaxed)),
                // A hash in the version gauge uses all 64 bits.
                ControlCell::Gauge(value) if name.ends_with(".version") => {
                    Number::Unsigned(value.load(Ordering::Relaxed) as u64)
                }
                ControlCell::Gauge(value) => Number::Gauge(value.load(Ordering::Relaxed)),
                ControlCell::Text(text) => {
                    Number::Text(text.lock().unwrap_or_else(PoisonError::into_inner).clone())
                }
            },
            line: None,
        };
        let mut series: Vec<Series> = self.locked().iter().map(of).collect();
        series.extend(self.facade.series());
        series.sort_by(|a, b| a.name.cmp(&b.name));
        series
    }

    fn count_word(&self, of: Subscription<'_>, word: &str, n: u64) {
        match of {
            // There is one of each, for as long as the process lives.
            Subscription::Clusters | Subscription::Listeners => self.facade.count(&(of.prefix() + word), n),
            // The subscription itself was the first attempt.
            Subscription::Routes { .. } | Subscription::Secret { .. } if word == "update_attempt" => {
                self.of_subscription(of, word, begun).add(n);
            }
            Subscription::Routes { .. } | Subscription::Endpoints { .. } | Subscription::Secret { .. } => {
                self.of_subscription(of, word, counter).add(n);
            }
        }
    }

    fn of_subscription(
        &self,
        of: Subscription<'_>,
        word: &str,
        make: fn() -> ControlCell,
    ) -> Arc<ControlCell> {
        let name = of.prefix() + word;
        let mut series = self.locked();
        if let Some(entry) = series.get(&name) {
            return Arc::clone(&entry.cell);
        }
        let (family, labels) = of.family();
        insert(&mut series, name, format!("{family}{word}"), labels, make)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(
    series: &mut BTreeMap<String, Entry>,
    name: String,
    family: String,
    labels: Vec<Label>,
    make: fn() -> ControlCell,
) -> Arc<ControlCell> {
    let cell = Arc::new(make());
    series.insert(
        name,
        Entry {
            family,
            labels,
            cell: Arc::clone(&cell),
        },
    );
    cell
}

/// Milliseconds since 1970, as Envoy's time gauges have them.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn counter() -> ControlCell {
    ControlCell::Counter(AtomicU64::new(0))
}

fn begun() -> ControlCell {
    ControlCell::Counter(AtomicU64::new(1))
}

fn gauge() -> ControlCell {
    ControlCell::Gauge(AtomicI64::new(0))
}

fn text() -> ControlCell {
    ControlCell::Text(Mutex::default())
}

impl ControlCell {
    fn add(&self, n: u64) {
        if let Self::Counter(value) = self {
            value.fetch_add(n, Ordering::Relaxed);
        }
    }

    fn set(&self, value: i64) {
        if let Self::Gauge(gauge) = self {
            gauge.store(value, Ordering::Relaxed);
        }
    }

    fn write(&self, value: &str) {
        if let Self::Text(text) = self {
            value.clone_into(&mut text.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_counts_under_envoys_names_and_can_be_forgotten() {
        let metrics = ControlMetrics::default();
        let routes = Subscription::Routes {
            manager: "ingress",
            name: "local.route",
        };
        metrics.update(routes, Update::Success { version: "v1" });
        metrics.update(routes, Update::Rejected);
        metrics.update(Subscription::Clusters, Update::Attempt);
        assert_eq!(
            metrics.value("http.ingress.rds.local.route.update_success"),
            Some(1)
        );
        assert_eq!(
            metrics.value("http.ingress.rds.local.route.update_rejected"),
            Some(1)
        );
        let series = metrics.series();
        let success = series
            .iter()
            .find(|series| series.name.ends_with("update_success"))
            .unwrap();
        assert_eq!(success.family, "envoy_http_rds_update_success");
        assert_eq!(
            success.labels[0],
            ("envoy_rds_route_config", "local.route".to_owned())
        );
        let other = Subscription::Routes {
            manager: "egress",
            name: "local.route.2",
        };
        metrics.update(other, Update::Attempt);
        let secret = Subscription::Secret { name: "own" };
        metrics.update(secret, Update::Attempt);
        metrics.forget_routes("local.route");
        metrics.forget(secret);
        assert_eq!(
            metrics.value("http.egress.rds.local.route.2.update_attempt"),
            Some(2)
        );
        metrics.forget_routes("local.route.2");
        assert_eq!(metrics.series().len(), 1);
        assert_eq!(metrics.value("cluster_manager.cds.update_attempt"), Some(1));
    }

    #[test]
    fn the_version_gauge_is_envoys_hash() {
        let metrics = ControlMetrics::default();
        metrics.update(Subscription::Listeners, Update::Success { version: "" });
        let version = metrics
            .series()
            .into_iter()
            .find(|series| series.name == "listener_manager.lds.version")
            .unwrap();
        // xxHash64 of nothing.
        assert!(matches!(version.number, Number::Unsigned(0xef46_db37_51d8_e999)));
    }
}
