//! `envoy.filters.http.health_check`.

use std::sync::Arc;

use remora_model::filter::{HealthCache, HealthCheck};

use crate::context::Work;
use crate::extension::Extension;
use crate::matcher;
use crate::pb::envoy::extensions::filters::http::health_check::v3 as api;
use crate::value;

pub(super) const KIND: &str = "envoy.extensions.filters.http.health_check.v3.HealthCheck";

pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<HealthCheck>> {
    let said: api::HealthCheck = extension.decode(work)?;
    let Some(pass_through) = said.pass_through_mode.as_ref().map(|said| said.value) else {
        work.wrong_at("pass_through_mode", "expected a value, found none");
        return None;
    };
    let cache = value::limit(work, "cache_time", said.cache_time.as_ref());
    if !pass_through && said.cache_time.is_some() {
        work.wrong_at(
            "cache_time",
            "cache_time_ms must not be set when path_through_mode is disabled",
        );
    }
    if pass_through && !said.cluster_min_healthy_percentages.is_empty() {
        work.wrong_at(
            "cluster_min_healthy_percentages",
            "cluster_min_healthy_percentages must not be set when path_through_mode is enabled",
        );
    }
    let mut clusters: Vec<_> = said.cluster_min_healthy_percentages.iter().collect();
    clusters.sort_by(|a, b| a.0.cmp(b.0));
    for (name, percent) in &clusters {
        if !(0.0..=100.0).contains(&percent.value) {
            work.wrong_at(
                &format!("cluster_min_healthy_percentages[{name:?}]"),
                format!("expected 0 to 100, found {}", percent.value),
            );
        }
    }
    Some(Arc::new(HealthCheck {
        pass_through,
        cache: cache.map(HealthCache::new),
        clusters: clusters
            .into_iter()
            .map(|(name, percent)| (work.context.clusters.id(name), percent.value))
            .collect(),
        headers: work.each("headers", &said.headers, matcher::header),
    }))
}
