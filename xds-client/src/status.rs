//! What a session knows, for `/config_dump`, client status and metrics. Instants, because a session has no calendar.

use std::sync::Arc;
use std::time::Instant;

use crate::subscription::{Absence, Subscription, WILDCARD};
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
    /// When a response last arrived, whatever became of it.
    pub last_received: Option<Instant>,
    /// When a response was last accepted whole (`update_time`).
    pub last_accepted: Option<Instant>,
    /// The last response that was not.
    pub last_rejected: Option<RejectedResponse>,
    /// How many resources are in which state.
    pub counts: ResourceCounts,
    /// Every resource that is held, wanted by name, rejected or in error, by name. Empty in an overview.
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
    /// What was rejected since: the last one, until one is accepted.
    pub rejected: Option<RejectedResource>,
    /// What the server said instead of sending it, until it arrives.
    pub error: Option<ResourceError>,
}

/// A resource that the caller rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedResource {
    /// The version of what was rejected.
    pub version: Arc<str>,
    /// The caller's reason.
    pub reason: String,
    /// When.
    pub at: Instant,
}

/// `envoy.service.discovery.v3.ResourceError` (xRFC TP3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceError {
    /// A gRPC status code.
    pub code: i32,
    /// The server's words.
    pub message: String,
    /// When.
    pub at: Instant,
}

impl ResourceError {
    /// NOT_FOUND and PERMISSION_DENIED: about the resource itself. Everything else may pass (gRFC A88).
    #[must_use]
    pub fn is_data_error(&self) -> bool {
        matches!(self.code, 5 | 7)
    }
}

/// What is in use of a resource, or why nothing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// Asked for, nothing heard.
    Requested,
    /// The server said so.
    DoesNotExist,
    /// The fetch timeout passed; it may still come.
    TimedOut,
    /// In use.
    Accepted {
        /// Its version.
        version: Arc<str>,
        /// When these bytes were accepted.
        at: Instant,
    },
}

/// `envoy.admin.v3.ClientResourceStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientStatus {
    /// `REQUESTED`
    Requested,
    /// `DOES_NOT_EXIST`
    DoesNotExist,
    /// `ACKED`
    Acked,
    /// `NACKED`: the newest version was rejected; an older one may be in use.
    Nacked,
    /// `RECEIVED_ERROR`: the server sent an error in its place; an older version may be in use.
    ReceivedError,
    /// `TIMEOUT`
    Timeout,
}

impl ResourceStatus {
    /// The one word for it.
    #[must_use]
    pub fn client_status(&self) -> ClientStatus {
        match self {
            Self { error: Some(_), .. } => ClientStatus::ReceivedError,
            Self {
                rejected: Some(_), ..
            } => ClientStatus::Nacked,
            Self { state, .. } => match state {
                ResourceState::Requested => ClientStatus::Requested,
                ResourceState::DoesNotExist => ClientStatus::DoesNotExist,
                ResourceState::TimedOut => ClientStatus::Timeout,
                ResourceState::Accepted { .. } => ClientStatus::Acked,
            },
        }
    }
}

/// Resources of one type by state. One that is in use and has a newer rejected version counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceCounts {
    /// In use.
    pub accepted: usize,
    /// Asked for by name, nothing heard.
    pub requested: usize,
    /// Said not to exist, or not heard of in time.
    pub missing: usize,
    /// Their newest version was rejected.
    pub rejected: usize,
    /// The server sent an error in their place.
    pub errors: usize,
}

/// The stream of a client: one at a time.
#[derive(Clone, Debug, Default)]
pub struct StreamStatus {
    /// Whose stream stands (`control_plane.connected_state`); nobody's between two streams.
    pub connected_to: Option<Arc<str>>,
    /// When it was opened, or when the last one ended.
    pub since: Option<Instant>,
    /// When a message last arrived, on this stream or an earlier one.
    pub last_message: Option<Instant>,
    /// Streams that were opened.
    pub opened: u64,
    /// Attempts that could not connect and streams that ended without a response (`update_failure`).
    pub failures: u64,
    /// How the last stream or attempt ended.
    pub last_end: Option<StreamEnd>,
}

/// The end of a stream, or of an attempt to open one.
#[derive(Clone, Debug)]
pub struct StreamEnd {
    /// The server's name from the configuration.
    pub server: Arc<str>,
    /// Why, in words.
    pub reason: String,
    /// Whether it had a response.
    pub had_response: bool,
    /// When.
    pub at: Instant,
}

/// With every resource, or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Resources,
    CountsOnly,
}

impl TypeStatus {
    pub(crate) fn of(subscription: &Subscription, detail: Detail) -> Self {
        let Subscription { wanted, facts, .. } = subscription;
        let resources = match detail {
            Detail::Resources => resources(subscription),
            Detail::CountsOnly => Vec::new(),
        };
        Self {
            type_url: subscription.type_url.clone(),
            interest: if wanted.len() == 1 && wanted.contains(WILDCARD) {
                Interest::Wildcard
            } else {
                Interest::Names(wanted.clone())
            },
            version: subscription.version.clone(),
            received: facts.received,
            accepted: facts.accepted,
            rejected: facts.rejected,
            fetch_timeouts: facts.fetch_timeouts,
            last_received: facts.last_received,
            last_accepted: facts.last_accepted,
            last_rejected: facts.last_rejected.clone(),
            counts: counts(subscription),
            resources,
        }
    }
}

fn counts(subscription: &Subscription) -> ResourceCounts {
    let Subscription {
        held,
        missing,
        rejected,
        errors,
        wanted,
        ..
    } = subscription;
    let heard = |name: &Arc<str>| {
        held.contains_key(name) || missing.contains_key(name) || rejected.contains_key(name)
    };
    let unheard = |name: &&Arc<str>| &***name != WILDCARD && !heard(name);
    ResourceCounts {
        accepted: held.len(),
        requested: wanted.iter().filter(unheard).count(),
        missing: missing.len(),
        rejected: rejected.len(),
        errors: errors.len(),
    }
}

fn resources(subscription: &Subscription) -> Vec<ResourceStatus> {
    let Subscription {
        held,
        missing,
        rejected,
        errors,
        wanted,
        ..
    } = subscription;
    let known = held.keys().chain(rejected.keys()).chain(errors.keys());
    let mut names: Vec<&Arc<str>> = known.chain(wanted).collect();
    names.sort_unstable();
    names.dedup();
    let state = |name: &Arc<str>| match (held.get(name), missing.get(name)) {
        (Some(held), _) => ResourceState::Accepted {
            version: held.version.clone(),
            at: held.accepted,
        },
        (None, Some(Absence::Told)) => ResourceState::DoesNotExist,
        (None, Some(Absence::TimedOut)) => ResourceState::TimedOut,
        (None, None) => ResourceState::Requested,
    };
    names
        .into_iter()
        .filter(|name| &***name != WILDCARD)
        .map(|name| ResourceStatus {
            name: name.clone(),
            state: state(name),
            rejected: rejected.get(name).cloned(),
            error: errors.get(name).cloned(),
        })
        .collect()
}
