//! What may an operator ask and order? The admin port, with Envoy's paths, parameters and forms.
//!
//! Holds: it runs on the main thread; what changes something is a POST; what it shows comes from the snapshot, from
//! [`crate::observe`], and from the rest of the house through [`Operator`]. Secrets are never shown. Connections, heads
//! and the life of a connection are bounded, and large answers are streamed. HTTP/1 and HTTP/2 without TLS share the
//! port, gRPC included. It trusts whoever reaches it, as Envoy's does: bind it to loopback or to a Unix socket.

mod body;
mod certs;
mod clusters;
mod commands;
mod dump;
mod freshness;
mod grpc;
mod help;
mod listeners;
mod query;
mod router;
mod server;
mod server_info;
mod stats;

#[cfg(test)]
mod tests;

pub use remora_translate::config_dump::{
    AcceptedVersion, BootstrapView, ClientStatus, ResourceKind, ResourceState, ResourceView, UpdateFailure,
};
pub use server::{AdminError, AdminServer};

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remora_model::Name;
use remora_model::listener::ListenAddress;
use remora_model::snapshot::Snapshot;

use crate::observe::Observe;
use crate::observe::logging::Logging;

/// `envoy.admin.v3.ServerInfo.State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Serving.
    Live,
    /// Shutting down, or told to fail health checks.
    Draining,
    /// Waiting for the control plane's first answers.
    PreInitializing,
    /// Waiting for what those answers refer to.
    Initializing,
}

impl ServerState {
    /// Envoy's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }

    /// The value of `server.state`.
    pub fn number(self) -> i64 {
        match self {
            Self::Live => 0,
            Self::Draining => 1,
            Self::PreInitializing => 2,
            Self::Initializing => 3,
        }
    }
}

/// Whether this process is ready for traffic, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// State.
    pub state: ServerState,
    /// Why it is not live, in plain words; if it is, empty or what is to be known all the same.
    pub reason: String,
    /// What is still waited for, by name (`/init_dump`).
    pub waiting_for: Vec<String>,
}

/// What the server knows of itself.
#[derive(Debug, Clone)]
pub struct ServerView {
    /// When the process began.
    pub started: Instant,
    /// Workers.
    pub concurrency: u32,
    /// `envoy.admin.v3.CommandLineOptions` in proto field names.
    pub command_line_options: serde_json::Value,
    /// `core.v3.Node` in proto field names; null if there is none.
    pub node: serde_json::Value,
}

/// A socket that accepts, with the port that the system gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundListener {
    /// The listener's name.
    pub listener: Name,
    /// Where it really is.
    pub address: ListenAddress,
}

/// Where resources come from.
#[derive(Debug, Clone)]
pub struct SourceView {
    /// In words: `ADS`, or the server or file.
    pub name: String,
    /// Its stream.
    pub stream: StreamView,
    /// The types that are asked for there.
    pub types: Vec<TypeView>,
}

/// A stream to a control plane, or the watch of a file.
#[derive(Debug, Clone, Default)]
pub struct StreamView {
    /// The server, while a stream stands.
    pub connected_to: Option<Name>,
    /// Since when it is so.
    pub since: Option<Duration>,
    /// How long ago a message arrived, on this stream or an earlier one.
    pub last_message: Option<Duration>,
    /// Streams that were opened.
    pub opened: u64,
    /// Attempts that could not connect and streams that ended without a response.
    pub failures: u64,
    /// How the last stream or attempt ended.
    pub last_end: Option<StreamEndView>,
}

/// The end of a stream.
#[derive(Debug, Clone)]
pub struct StreamEndView {
    /// The server.
    pub server: Name,
    /// Why, in words.
    pub reason: String,
    /// How long ago.
    pub age: Duration,
}

/// One type of resources from one source.
#[derive(Debug, Clone)]
pub struct TypeView {
    /// The type.
    pub kind: ResourceKind,
    /// Version of the last response that was accepted whole.
    pub version: Name,
    /// How many resources are `acked` (in use), `nacked` (the newest version was refused: one that is in use too counts
    /// twice), `requested`, `missing` (said not to exist, or not heard of in time) and `received_error`.
    pub states: [(&'static str, usize); 5],
    /// Responses received.
    pub received: u64,
    /// Responses accepted whole.
    pub accepted: u64,
    /// Responses refused in whole or in part.
    pub rejected: u64,
    /// Resources that were not heard of in time.
    pub fetch_timeouts: u64,
    /// How long ago a response was accepted whole.
    pub last_update: Option<Duration>,
    /// How long ago one was refused, and its version.
    pub last_rejection: Option<(Duration, Name)>,
}

/// What an operator orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `/drain_listeners`.
    DrainListeners {
        /// Go on accepting for the drain time, telling clients to leave.
        graceful: bool,
        /// Only listeners with `traffic_direction: INBOUND`.
        inbound_only: bool,
        /// Drain connections but never stop the listeners.
        skip_exit: bool,
    },
    /// `/quitquitquit`.
    Quit,
    /// `/healthcheck/fail`.
    HealthcheckFail,
    /// `/healthcheck/ok`.
    HealthcheckOk,
}

/// The rest of the house, as the admin port sees it.
pub trait Operator {
    /// Whether we are ready, and why not.
    fn readiness(&self) -> Readiness;
    /// The newest version of the world.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Every resource of a kind, static and dynamic, accepted, refused and only asked for.
    fn resources(&self, kind: ResourceKind) -> Vec<ResourceView>;
    /// Where dynamic resources come from, and how each source does.
    fn sources(&self) -> Vec<SourceView>;
    /// The clusters (or listeners) that warm, by name, each with what it waits for.
    fn warming(&self, kind: ResourceKind) -> Vec<(Name, String)>;
    /// The names of the clusters that the bootstrap brought.
    fn static_clusters(&self) -> HashSet<Name>;
    /// `version_info` of the newest accepted response of a kind; `None` before the first and with delta.
    fn version(&self, kind: ResourceKind) -> Option<String>;
    /// The encoded `core.v3.Node` that the control plane is told.
    fn encoded_node(&self) -> Bytes;
    /// The bootstrap as it was read.
    fn bootstrap(&self) -> Option<BootstrapView>;
    /// Every socket that accepts now.
    fn bound(&self) -> Vec<BoundListener>;
    /// Facts of the process.
    fn server(&self) -> ServerView;
    /// Whether health checks of this server are to pass.
    fn healthy(&self) -> bool;
    /// Carries out an order; returns before it is finished.
    fn command(&self, command: Command);
}

/// Everything that a request to the admin port may use.
#[derive(Clone)]
pub struct AdminContext {
    /// The rest of the house.
    pub operator: Rc<dyn Operator>,
    /// Metrics and access logs.
    pub observe: Arc<Observe>,
    /// The log.
    pub logging: Logging,
}

impl std::fmt::Debug for AdminContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminContext").finish_non_exhaustive()
    }
}
