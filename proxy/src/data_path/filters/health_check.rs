//! Answers health checks, or notes what the application answers (`envoy.filters.http.health_check`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{HeaderName, HeaderValue, StatusCode};
use remora_model::filter::{HealthAnswer, HealthCheck, HealthReason, Remembered};

use super::OnResponse;
use crate::data_path::forward::Cut;
use crate::data_path::local_reply::{Reader, Reply};
use crate::data_path::request::{Exchange, facts};
use crate::exchange::{Downstream, RequestHead, ResponseHead};
use crate::observe::metrics::HealthCheckCounters;

const CHECKED_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-upstream-healthchecked-cluster");
const IMMEDIATE_FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");
pub(super) const DEGRADED: HeaderName = HeaderName::from_static("x-envoy-degraded");

/// Keeps what the application answered.
pub(super) fn remember(check: &HealthCheck, head: &ResponseHead) {
    let Some(cache) = &check.cache else { return };
    let answer = Remembered {
        status: head.status,
        degraded: head.headers.contains_key(DEGRADED),
    };
    cache.keep(answer, Instant::now());
}

impl<D: Downstream> Exchange<'_, D> {
    /// Whether the filter answered.
    pub(super) fn check_health(&mut self, check: &Arc<HealthCheck>, head: &RequestHead) -> Result<bool, Cut> {
        let shared = &self.context.worker.shared;
        let failed = shared.unhealthy.load(Ordering::Relaxed);
        if !check.concerns(&facts(head, &self.record)) {
            if failed {
                let told = (IMMEDIATE_FAIL, HeaderValue::from_static("true"));
                self.on_response.push(OnResponse::Set(vec![told]));
            }
            return Ok(false);
        }
        self.record.health_check = true;
        let name = shared.node_cluster.get().cloned();
        let name = name.unwrap_or(HeaderValue::from_static(""));
        self.on_response
            .push(OnResponse::Set(vec![(CHECKED_CLUSTER, name)]));
        let now = Instant::now();
        let world = self.context.worker.world();
        let answer = check.judge(failed, now, |id| world.cluster(id).map(|cluster| &**cluster));
        drop(world);
        let Some(answer) = answer else {
            self.on_response.push(OnResponse::Remember(Arc::clone(check)));
            return Ok(false);
        };
        count(&self.context.cells.health_check, &answer);
        if !answer.status.is_success() {
            self.record.flags.push("LH");
        }
        self.record.details = answer.reason.details().into();
        let mut reply = Reply {
            status: answer.status,
            headers: Default::default(),
            body: Default::default(),
            reader: Reader::Http,
        };
        if answer.degraded {
            reply.headers.insert(DEGRADED, HeaderValue::from_static(""));
        }
        self.reply(reply, head)?;
        Ok(true)
    }
}

fn count(cells: &HealthCheckCounters, answer: &HealthAnswer) {
    cells.request_total.one();
    match answer.reason {
        HealthReason::NoCluster => cells.failed_cluster_not_found.one(),
        HealthReason::ClusterEmpty => cells.failed_cluster_empty.one(),
        HealthReason::ClusterUnhealthy => cells.failed_cluster_unhealthy.one(),
        HealthReason::Cached => cells.cached_response.one(),
        HealthReason::Ok | HealthReason::Failed | HealthReason::ClusterHealthy => {}
    }
    if answer.degraded {
        cells.degraded.one();
    }
    if answer.status == StatusCode::OK {
        cells.ok.one();
    } else {
        cells.failed.one();
    }
}
