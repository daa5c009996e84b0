//! What else a resource needs, and from where it is to be had.
//!
//! Holds: a subscription is complete: type, name, source and how long its absence may hold back the resource. It opens
//! no stream.

use std::time::Duration;

use remora_model::Name;

use crate::config_source::{Source, config_source};
use crate::context::Work;
use crate::pb::envoy::config::core::v3 as core;

/// One resource that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// Its type.
    pub kind: SubscriptionKind,
    /// Its name.
    pub name: Name,
    /// Where it comes from; `None`: the bootstrap's `static_resources.secrets` (an `SdsSecretConfig` without source).
    pub source: Option<Source>,
    /// How long to wait for it before going on without; `None` waits for ever (`0s`).
    pub initial_fetch_timeout: Option<Duration>,
}

/// The type of a subscribed resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubscriptionKind {
    /// RDS.
    RouteConfiguration,
    /// EDS.
    ClusterLoadAssignment,
    /// SDS.
    Secret,
}

/// Notes a subscription to what `field` says; `None` and a problem where the source cannot be used.
pub(crate) fn subscribe(
    work: &mut Work<'_, '_>,
    kind: SubscriptionKind,
    name: &str,
    field: &str,
    from: Option<&core::ConfigSource>,
) -> Option<()> {
    let Some(from) = from else {
        work.wrong_at(field, "expected a configuration source, found none");
        return None;
    };
    let mut problems = Vec::new();
    let source = config_source(from, field, &mut problems);
    for problem in problems {
        work.wrong_at(
            &problem.path,
            format!("expected {}, found {}", problem.expected, problem.found),
        );
    }
    let source = source?;
    let name = match kind {
        SubscriptionKind::ClusterLoadAssignment => work.cluster_name(name),
        SubscriptionKind::RouteConfiguration | SubscriptionKind::Secret => work.context.repeated.word(name),
    };
    note(
        work,
        Subscription {
            kind,
            name,
            source: Some(source.source),
            initial_fetch_timeout: source.initial_fetch_timeout,
        },
    );
    Some(())
}

/// Notes a complete subscription once.
pub(crate) fn note(work: &mut Work<'_, '_>, subscription: Subscription) {
    if !work.subscriptions.contains(&subscription) {
        work.subscriptions.push(subscription);
    }
}
