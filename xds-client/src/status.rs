//! What a session knows, for `/config_dump`, client status and metrics. Instants, because a session has no calendar.

use std::sync::Arc;
use std::time::Instant;

use crate::subscription::{Subscription, WILDCARD};
use crate::update::{Interest, Rejection};

/// One subscribed type.
#[derive(Clone, Debug)]
pub struct TypeStatus {
    /// The type.
    pub type_url: Arc<str>,
    /// What is wanted.
    pub interest: Interest,
    /// The version of the last response that was accepted whole; empty before the first.
    pub version: Arc<str>,
    /// Responses received (`update_attempt`).
    pub received: u64,
    /// Responses accepted whole (`update_success`).
    pub accepted: u64,
    /// Responses refused whole or in part (`update_rejected`).
    pub rejected: u64,
    /// Names, or wildcards, that nothing was heard of in time (`init_fetch_timeout`).
    pub fetch_timeouts: u64,
    /// When a response was last accepted whole (`update_time`).
    pub last_accepted: Option<Instant>,
    /// The last response that was not.
    pub last_rejected: Option<RejectedResponse>,
    /// Every resource that is held, wanted by name or rejected, by name.
    pub resources: Vec<ResourceStatus>,
}

/// A response that was answered by a NACK.
#[derive(Clone, Debug)]
pub struct RejectedResponse {
    /// Its version.
    pub version: Arc<str>,
    /// What was wrong.
    pub rejections: Vec<Rejection>,
    /// When the verdict was given.
    pub at: Instant,
}

/// One resource.
#[derive(Clone, Debug)]
pub struct ResourceStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Where it stands.
    pub state: ResourceState,
    /// The version in a later response that was rejected, and why.
    pub rejected: Option<(Arc<str>, Rejection)>,
}

/// `envoy.admin.v3.ClientResourceStatus`, as far as the protocol knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// Asked for, nothing heard.
    Requested,
    /// The server said so, or the fetch timeout passed.
    DoesNotExist,
    /// In use.
    Accepted {
        /// Its version.
        version: Arc<str>,
        /// When these bytes were accepted.
        at: Instant,
    },
}

impl TypeStatus {
    pub(crate) fn of(subscription: &Subscription) -> Self {
        let Subscription {
            held,
            missing,
            rejected,
            wanted,
            facts,
            ..
        } = subscription;
        let wildcard = wanted.contains(WILDCARD);
        let mut names: Vec<&Arc<str>> = held.keys().chain(rejected.keys()).chain(wanted).collect();
        names.sort_unstable();
        names.dedup();
        let resource = |name: &Arc<str>| ResourceStatus {
            name: name.clone(),
            state: match held.get(name) {
                Some(held) => ResourceState::Accepted {
                    version: held.version.clone(),
                    at: held.accepted,
                },
                None if missing.contains(name) => ResourceState::DoesNotExist,
                None => ResourceState::Requested,
            },
            rejected: rejected
                .get(name)
                .map(|(rejection, version)| (version.clone(), rejection.clone())),
        };
        Self {
            type_url: subscription.type_url.clone(),
            interest: if wildcard {
                Interest::Wildcard
            } else {
                Interest::Names(wanted.clone())
            },
            version: subscription.version.clone(),
            received: facts.received,
            accepted: facts.accepted,
            rejected: facts.rejected,
            fetch_timeouts: facts.fetch_timeouts,
            last_accepted: facts.last_accepted,
            last_rejected: facts.last_rejected.clone(),
            resources: names
                .into_iter()
                .filter(|name| &***name != WILDCARD)
                .map(resource)
                .collect(),
        }
    }
}
