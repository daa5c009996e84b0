//! The endpoints of a cluster, grouped by priority and locality, ready to be balanced over.
//!
//! Holds: an [`Assignment`] is what was said, an [`EndpointSet`] is what we do: the same endpoints with their live
//! counts and with the structures that the balancing policy needs, built once per change.

mod build;
mod labels;
mod subsets;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tests_support;
mod zones;

pub use build::{Around, BuildError, BuildOptions, PriorityLoads, Standing};
pub use labels::{LabelValue, Labels};
pub use subsets::{SubsetCounts, Subsets};
pub(crate) use zones::Way;
pub use zones::Zones;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Name;
use crate::balance::{Balancer, Latency, ReportedLoad};
use crate::health::check::CheckTarget;
use crate::health::{EndpointWatch, Flag, Flags, Monitor};

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// IP and port.
    Socket(SocketAddr),
    /// Unix-domain socket.
    Pipe(Name),
    /// A host name still to be resolved (DNS clusters), and a port.
    Host(Name, u16),
}

/// `core.v3.HealthStatus` as far as it matters for choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// UNKNOWN and HEALTHY.
    #[default]
    Healthy,
    /// DEGRADED: used when there are not enough healthy ones.
    Degraded,
    /// UNHEALTHY, TIMEOUT and DRAINING: used only in panic.
    Unhealthy,
}

/// `core.v3.HealthStatus` as it was said; only a session asks for more than [`Health`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthStatus {
    /// Nothing was said.
    #[default]
    Unknown,
    /// HEALTHY.
    Healthy,
    /// UNHEALTHY.
    Unhealthy,
    /// DRAINING: it is about to go.
    Draining,
    /// TIMEOUT.
    Timeout,
    /// DEGRADED.
    Degraded,
}

/// A set of [`HealthStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthStatuses(u8);

impl HealthStatus {
    /// What of it matters for choosing.
    pub fn health(self) -> Health {
        match self {
            Self::Unknown | Self::Healthy => Health::Healthy,
            Self::Degraded => Health::Degraded,
            Self::Unhealthy | Self::Draining | Self::Timeout => Health::Unhealthy,
        }
    }
}

impl HealthStatuses {
    /// Whether it is one of them.
    pub fn has(self, status: HealthStatus) -> bool {
        self.0 & (1 << status as u8) != 0
    }
}

impl FromIterator<HealthStatus> for HealthStatuses {
    fn from_iter<I: IntoIterator<Item = HealthStatus>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |set, status| set | 1 << status as u8))
    }
}

impl Default for HealthStatuses {
    /// `override_host_status` where nothing is said: UNKNOWN, HEALTHY and DEGRADED.
    fn default() -> Self {
        [
            HealthStatus::Unknown,
            HealthStatus::Healthy,
            HealthStatus::Degraded,
        ]
        .into_iter()
        .collect()
    }
}

/// `core.v3.Locality`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// Region.
    pub region: LocalityName,
    /// Zone.
    pub zone: LocalityName,
    /// Sub-zone.
    pub sub_zone: LocalityName,
}

/// One part of a locality: a name that defaults to the empty string.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalityName(pub Name);

impl Default for LocalityName {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

/// One `LbEndpoint` as it was said.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSpec {
    /// Address.
    pub address: EndpointAddress,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// Health as the control plane sees it.
    pub status: HealthStatus,
    /// What else was said; `None`: nothing. Endpoints that say the same share it.
    pub details: Option<Arc<EndpointDetails>>,
}

/// What is said of some endpoints only, and of many in the same words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndpointDetails {
    /// `hostname`, for `auto_host_rewrite`.
    pub hostname: Option<Name>,
    /// Metadata under `envoy.transport_socket_match`.
    pub transport_labels: Labels,
    /// Metadata under `envoy.lb`.
    pub balance_labels: Labels,
    /// `additional_addresses`: tried beside its own.
    pub others: Vec<SocketAddr>,
    /// `health_check_config`.
    pub check: Option<Box<CheckTarget>>,
}

static NO_DETAILS: EndpointDetails = EndpointDetails {
    hostname: None,
    transport_labels: Labels::none(),
    balance_labels: Labels::none(),
    others: Vec::new(),
    check: None,
};

impl EndpointSpec {
    /// A healthy endpoint of weight 1 without a name or labels.
    pub fn at(address: EndpointAddress) -> Self {
        Self {
            address,
            weight: 1,
            status: HealthStatus::Unknown,
            details: None,
        }
    }

    /// What of its status matters for choosing.
    pub fn health(&self) -> Health {
        self.status.health()
    }

    /// Whether it is asked how it is, where its cluster's endpoints are.
    pub fn is_checked(&self) -> bool {
        self.details().check.as_ref().is_none_or(|check| !check.disabled)
    }

    /// Name and labels.
    pub fn details(&self) -> &EndpointDetails {
        self.details.as_deref().unwrap_or(&NO_DETAILS)
    }
}

/// One `LocalityLbEndpoints` as it was said.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalitySpec {
    /// Where.
    pub locality: Locality,
    /// `load_balancing_weight` of the locality; `None`: not said.
    pub weight: Option<u32>,
    /// Priority, 0 first.
    pub priority: u32,
    /// Endpoints.
    pub endpoints: Vec<Arc<EndpointSpec>>,
}

/// One `ClusterLoadAssignment` as it was said.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// `cluster_name`.
    pub name: Name,
    /// Localities.
    pub localities: Vec<LocalitySpec>,
    /// `policy.overprovisioning_factor`, percent; default 140.
    pub overprovisioning: u32,
}

/// An endpoint that can be chosen. One of which the same is said in the next version is the same there.
#[derive(Debug)]
pub struct Endpoint {
    /// What was said.
    pub spec: Arc<EndpointSpec>,
    /// Counts that outlive this version, from the first use on: of the endpoints of a mesh a pod uses few.
    live: OnceLock<Arc<EndpointLive>>,
}

impl Endpoint {
    /// An endpoint that was never used.
    pub fn new(spec: Arc<EndpointSpec>) -> Self {
        Self {
            spec,
            live: OnceLock::new(),
        }
    }

    /// The endpoint `before`, of which something else is said now.
    pub fn renewed(before: &Self, spec: Arc<EndpointSpec>) -> Self {
        Self {
            spec,
            live: OnceLock::from(Arc::clone(before.live())),
        }
    }

    /// Its counts.
    pub fn live(&self) -> &Arc<EndpointLive> {
        self.live.get_or_init(Arc::default)
    }

    /// Its counts, all zero if it was never used; to look at only.
    pub fn counts(&self) -> &EndpointLive {
        static UNUSED: EndpointLive = EndpointLive {
            active: AtomicU32::new(0),
            total: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            connections: AtomicU32::new(0),
            connections_total: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            flags: Flags::none(),
            watch: OnceLock::new(),
        };
        self.live.get().map_or(&UNUSED, |live| live)
    }

    /// Its health now: what the control plane says, unless we found out worse.
    pub fn health(&self) -> Health {
        self.counts().flags.over(self.spec.health())
    }

    /// The same in the words of the control plane, for sessions.
    pub fn status(&self) -> HealthStatus {
        match self.counts().flags.over(Health::Healthy) {
            Health::Unhealthy => HealthStatus::Unhealthy,
            Health::Degraded if self.spec.health() == Health::Healthy => HealthStatus::Degraded,
            _ => self.spec.status,
        }
    }

    /// Whether it is left out where shares of healthy endpoints are counted.
    pub fn does_not_count(&self) -> bool {
        self.spec.status == HealthStatus::Draining || self.counts().flags.does_not_count()
    }

    /// Whether a reason not to use it holds.
    pub fn has(&self, flag: Flag) -> bool {
        self.counts().flags.has(flag)
    }

    /// What it reported of its load, if anything.
    pub fn reported(&self) -> Option<&ReportedLoad> {
        self.counts().watch.get().map(|watch| &watch.load)
    }

    /// How quickly it answers, if that is known.
    pub fn latency(&self) -> Option<&Latency> {
        self.counts().watch.get().map(|watch| &watch.latency)
    }

    /// What outlier detection knows of it, if anything.
    pub fn monitor(&self) -> Option<&Monitor> {
        self.counts().watch.get().map(|watch| &watch.monitor)
    }

    /// Whether both count into the same.
    pub fn shares_counts(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
            || self
                .live
                .get()
                .zip(other.live.get())
                .is_some_and(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// Counts of one endpoint (one address in one cluster), exact across workers, carried over from version to version.
#[derive(Debug, Default)]
pub struct EndpointLive {
    /// Requests (or tunnels) in flight.
    pub active: AtomicU32,
    /// All requests ever sent here.
    pub total: AtomicU64,
    /// Requests that failed (5xx or no response).
    pub errors: AtomicU64,
    /// Connections open.
    pub connections: AtomicU32,
    /// Connections ever opened.
    pub connections_total: AtomicU64,
    /// Connects that failed.
    pub connect_failures: AtomicU64,
    /// The control plane took this endpoint away: idle connections close, no new ones are made.
    pub removed: AtomicBool,
    /// Why it is not used although the control plane would have it used.
    pub flags: Flags,
    watch: OnceLock<Box<EndpointWatch>>,
}

impl EndpointLive {
    /// What is remembered for judging it, made at the first call.
    pub fn watch(&self) -> &EndpointWatch {
        self.watch.get_or_init(Box::default)
    }

    /// It is not used any more, because it was found unfit: connections that it has are not used again.
    pub fn fall(&self) {
        self.watch().falls.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that happened.
    pub fn falls(&self) -> u32 {
        self.watch
            .get()
            .map_or(0, |watch| watch.falls.load(Ordering::Relaxed))
    }

    /// A connection to it was made.
    pub fn connected(&self) {
        if let Some(watch) = self.watch.get() {
            watch.quarantine.connected();
        }
    }
}

/// The endpoints of a cluster, ready to be balanced over.
#[derive(Debug)]
pub struct EndpointSet {
    /// All endpoints of all priorities.
    pub endpoints: Arc<[Arc<Endpoint>]>,
    /// Priorities in order; `priorities[0]` is preferred.
    pub priorities: Vec<Priority>,
    /// Percent.
    pub overprovisioning: u32,
    /// How the load is spread over the priorities.
    pub loads: Arc<PriorityLoads>,
    /// What the balancers were built for.
    pub options: BuildOptions,
    /// What was said; kept so that an equal assignment is recognised.
    pub assignment: Arc<Assignment>,
    /// The subsets, where the policy has some; the priorities are over all endpoints then.
    pub subsets: Option<Box<Subsets>>,
}

/// The endpoints of one priority.
#[derive(Debug)]
pub struct Priority {
    /// How many endpoints are healthy, degraded, and there at all.
    pub healthy: u32,
    /// See `healthy`.
    pub degraded: u32,
    /// See `healthy`.
    pub total: u32,
    /// Those of them that do not count where shares are compared.
    pub excluded: u32,
    /// Over the healthy ones.
    pub over_healthy: Arc<Balancer>,
    /// Over the degraded ones.
    pub over_degraded: Arc<Balancer>,
    /// Over all, for panic; the same as over the healthy ones where that makes no difference.
    pub over_all: Arc<Balancer>,
    /// By zone, where requests may stay in theirs.
    pub zones: Option<Box<Zones>>,
}
