//! `circuit_breakers` of a cluster, and the priority of a route: [`Thresholds`].

use remora_model::cluster::{RequestPriority, Thresholds};

use crate::context::Work;
use crate::pb::envoy::config::cluster::v3::{self as api, circuit_breakers};
use crate::pb::envoy::config::core::v3::RoutingPriority;
use crate::{retry, value};

/// The limits of priority DEFAULT and HIGH; the first entry of a priority counts.
pub(crate) fn thresholds(work: &mut Work<'_, '_>, said: Option<&api::CircuitBreakers>) -> [Thresholds; 2] {
    let mut found = [None, None];
    let Some(said) = said else {
        return [Thresholds::default(); 2];
    };
    work.each(
        "circuit_breakers.thresholds",
        &said.thresholds,
        |work, said| -> Option<()> {
            work.review(said);
            let slot = &mut found[priority(work, said.priority)? as usize];
            slot.get_or_insert_with(|| limits(said));
            None
        },
    );
    let mut thresholds = found.map(Option::unwrap_or_default);
    let mut seen = [false; 2];
    work.each(
        "circuit_breakers.per_host_thresholds",
        &said.per_host_thresholds,
        |work, said| -> Option<()> {
            let alone = circuit_breakers::Thresholds {
                priority: said.priority,
                max_connections: said.max_connections,
                ..Default::default()
            };
            if *said != alone {
                work.wrong("Unsupported field in per_host_thresholds");
            }
            let at = priority(work, said.priority)? as usize;
            let max = said.max_connections.as_ref().map_or(u32::MAX, |max| max.value);
            if !std::mem::replace(&mut seen[at], true) {
                thresholds[at].max_connections_per_host = max;
            }
            None
        },
    );
    thresholds
}

/// `RoutingPriority`.
pub(crate) fn priority(work: &mut Work<'_, '_>, said: i32) -> Option<RequestPriority> {
    Some(match value::known(work, "priority", said)? {
        RoutingPriority::Default => RequestPriority::Default,
        RoutingPriority::High => RequestPriority::High,
    })
}

fn limits(said: &circuit_breakers::Thresholds) -> Thresholds {
    let default = Thresholds::default();
    let or = |said: Option<crate::pb::google::protobuf::UInt32Value>, default| {
        said.map_or(default, |max| max.value)
    };
    Thresholds {
        max_connections: or(said.max_connections, default.max_connections),
        max_pending_requests: or(said.max_pending_requests, default.max_pending_requests),
        max_requests: or(said.max_requests, default.max_requests),
        retries: retry::limit(said),
        track_remaining: said.track_remaining,
        ..default
    }
}
