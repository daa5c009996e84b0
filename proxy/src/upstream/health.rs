//! What does the end of an attempt tell of its endpoint?
//!
//! Holds: a cluster without outlier detection is told nothing and pays for nothing; a refused connection is told of
//! wherever it happens.

use std::sync::Arc;
use std::time::Duration;

use remora_model::cluster::{Cluster, Discovery};
use remora_model::endpoint::Endpoint;
use remora_model::health::check::IMMEDIATE_FAIL;
use remora_model::health::{BreakerEnd, Flag, Outcome, Permit, grpc_as_http};

use super::load;
use crate::exchange::ResponseHead;
use crate::failure::{ConnectFailure, Failure, Timer};
use crate::worker::{HealthSignal, Saw, Worker};

/// The endpoint showed this.
pub fn report(worker: &Worker, cluster: &Cluster, endpoint: &Arc<Endpoint>, outcome: Outcome) {
    let settings = cluster.config.health.as_deref();
    let Some(outlier) = settings.and_then(|health| health.outlier.as_ref()) else {
        return;
    };
    let monitor = &endpoint.live().watch().monitor;
    let reached = monitor.report(outlier, outcome, worker.shared.started.elapsed());
    for trip in reached.into_iter().flatten() {
        tell(worker, cluster, endpoint, Saw::Tripped(trip));
    }
}

/// Asks the cluster's circuit breaker whether a request may pass.
///
/// # Errors
/// [`Failure::CircuitOpen`].
pub fn admitted(worker: &Worker, cluster: &Cluster) -> Result<Option<Permit>, Failure> {
    Permit::ask(cluster, worker.shared.started.elapsed()).map_err(|_| Failure::CircuitOpen)
}

/// What the breaker admitted ended with this failure.
pub fn broke(worker: &Worker, permit: &mut Option<Permit>, failure: &Failure) {
    if let Some(permit) = permit.take() {
        let end = outcome_of(failure).map_or(BreakerEnd::Unknown, |_| BreakerEnd::Failed);
        permit.end(end, worker.shared.started.elapsed());
    }
}

/// A response began, so long after its attempt. A gRPC request may have failed by a status of its own in the head.
/// Whether it held a report of the endpoint's load.
pub fn answered(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    response: &ResponseHead,
    is_grpc: impl FnOnce() -> bool,
    (permit, took): (&mut Option<Permit>, Option<Duration>),
) -> bool {
    let grpc = response.headers.get("grpc-status").filter(|_| is_grpc());
    let grpc = grpc.and_then(|status| status.to_str().ok()?.parse().ok());
    let status = grpc.map_or(response.status.as_u16(), grpc_as_http);
    report(worker, cluster, endpoint, Outcome::Answered(status));
    if response.headers.contains_key(&IMMEDIATE_FAIL) && is_checked(cluster) && !endpoint.has(Flag::Leaves) {
        tell(worker, cluster, endpoint, Saw::Leaving);
    }
    if let Some(permit) = permit.take() {
        let end = if (500..600).contains(&status) {
            BreakerEnd::Failed
        } else {
            BreakerEnd::Passed
        };
        permit.end(end, worker.shared.started.elapsed());
    }
    load::answered(
        cluster,
        endpoint,
        &response.headers,
        (took, worker.shared.started.elapsed()),
    )
}

fn is_checked(cluster: &Cluster) -> bool {
    let health = cluster.config.health.as_deref();
    health.is_some_and(|health| health.check.is_some())
}

/// An attempt failed.
pub fn failed(worker: &Worker, cluster: &Cluster, endpoint: &Arc<Endpoint>, failure: &Failure) {
    if let Some(outcome) = outcome_of(failure) {
        report(worker, cluster, endpoint, outcome);
        load::failed(cluster, endpoint, worker.shared.started.elapsed());
    }
}

/// What a failure shows, if the endpoint is to blame.
fn outcome_of(failure: &Failure) -> Option<Outcome> {
    Some(match failure {
        Failure::Connect(_) | Failure::UpstreamReset(_) | Failure::UpstreamCut(_) => Outcome::Reset,
        Failure::Timeout(Timer::Response(_) | Timer::PerTry(_) | Timer::PerTryIdle(_)) => Outcome::TimedOut,
        _ => return None,
    })
}

/// A connection could not be made. Who refuses is left out for a while.
pub fn not_connected(worker: &Worker, cluster: &Cluster, endpoint: &Arc<Endpoint>, failure: &ConnectFailure) {
    let by_client = matches!(cluster.config.discovery, Discovery::OriginalDestination(_));
    let alone = cluster.endpoints.endpoints.len() < 2;
    if failure.is_refusal() && !by_client && !alone && !endpoint.has(Flag::Quarantined) {
        tell(worker, cluster, endpoint, Saw::Refusal);
    }
}

fn tell(worker: &Worker, cluster: &Cluster, endpoint: &Arc<Endpoint>, saw: Saw) {
    if let Some(signals) = worker.shared.health.get() {
        signals.tell(HealthSignal {
            cluster: cluster.config.id,
            endpoint: Arc::clone(endpoint),
            saw,
        });
    }
}
