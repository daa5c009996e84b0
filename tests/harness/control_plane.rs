//! Who tells the proxy what to do? An xDS v3 server inside the test.
//!
//! It holds one [`World`] of resources. Every open stream (ADS or the service of one type, state of the world or delta)
//! is told what changed of what it asked for, clusters before endpoints before listeners before routes. A change
//! made by one [`ControlPlane::push`] leaves as one response per type. Every request is kept, so a test can say what
//! was acknowledged, what was refused and with which words. It never checks what it serves: bad resources are a
//! test's business.

mod resources;
mod services;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use resources::ResourceReader;

/// `envoy.config.listener.v3.Listener`.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// `envoy.config.cluster.v3.Cluster`.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// `envoy.config.route.v3.RouteConfiguration`.
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// `envoy.extensions.transport_sockets.tls.v3.Secret`.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// One resource as it goes over the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its message, with the type URL.
    pub body: Any,
}

/// All resources that the control plane knows, each with the version of its last change.
#[derive(Clone, Debug, Default)]
pub struct World {
    version: u64,
    types: BTreeMap<String, BTreeMap<String, Versioned>>,
    /// What changed of each type, with its version, oldest first: a push costs what it changes, however much there is.
    changed: BTreeMap<String, Vec<(u64, String)>>,
}

/// A resource with the version at which it became what it is.
#[derive(Clone, Debug)]
struct Versioned {
    version: u64,
    body: Any,
}

/// What a request meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A first request or a change of what is subscribed to, without a nonce.
    Subscribe,
    /// The response with this nonce was taken.
    Ack,
    /// The response with this nonce was refused.
    Nack,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Which stream, from 0.
    pub stream: u64,
    /// True for delta, false for state of the world.
    pub delta: bool,
    /// True on an aggregated stream.
    pub aggregated: bool,
    /// The type asked for.
    pub type_url: String,
    /// What it meant.
    pub kind: Kind,
    /// `version_info` (state of the world only).
    pub version: String,
    /// `response_nonce`.
    pub nonce: String,
    /// `resource_names`, or for delta `resource_names_subscribe`.
    pub names: Vec<String>,
    /// `resource_names_unsubscribe`.
    pub unsubscribed: Vec<String>,
    /// `initial_resource_versions`.
    pub initial_versions: BTreeMap<String, String>,
    /// The message of `error_detail`, empty when there is none.
    pub error: String,
    /// The node's id, if the request carried a node.
    pub node: Option<String>,
    /// The text values of that node's metadata.
    pub labels: BTreeMap<String, String>,
}

/// The running server. Dropping it closes its port and its streams.
#[derive(Debug)]
pub struct ControlPlane {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What all streams share.
#[derive(Debug)]
struct Shared {
    world: watch::Sender<World>,
    /// Every stream ends when this changes.
    epoch: watch::Sender<u64>,
    requests: watch::Sender<Vec<Recorded>>,
    streams: AtomicU64,
    open: Mutex<u64>,
    /// State of the world: what may be left out because it did not change is left out.
    only_changes: AtomicBool,
}

impl Resource {
    /// A resource of a generated type.
    pub fn new<M: Message + Name>(name: &str, message: &M) -> Self {
        let body = Any {
            type_url: M::type_url(),
            value: message.encode_to_vec(),
        };
        Self {
            name: name.to_owned(),
            body,
        }
    }
}

impl World {
    /// Adds or replaces a resource; an equal one is left as it is and not sent again.
    pub fn put(&mut self, resource: Resource) {
        let version = self.version;
        let of_type = self.types.entry(resource.body.type_url.clone()).or_default();
        match of_type.get(&resource.name) {
            Some(present) if present.body == resource.body => {}
            _ => {
                let log = self.changed.entry(resource.body.type_url.clone()).or_default();
                log.push((version, resource.name.clone()));
                of_type.insert(
                    resource.name,
                    Versioned {
                        version,
                        body: resource.body,
                    },
                );
            }
        }
    }

    /// Removes a resource, if it is there.
    pub fn remove(&mut self, type_url: &str, name: &str) {
        if let Some(of_type) = self.types.get_mut(type_url) {
            of_type.remove(name);
            let log = self.changed.entry(type_url.to_owned()).or_default();
            log.push((self.version, name.to_owned()));
        }
    }

    /// The names of this type that changed after `version`.
    fn changed_since(&self, type_url: &str, version: u64) -> BTreeSet<String> {
        let log = self.changed.get(type_url).map_or(&[][..], Vec::as_slice);
        let new = log.partition_point(|(of, _)| *of <= version);
        log[new..].iter().map(|(_, name)| name.clone()).collect()
    }

    fn get(&self, type_url: &str, name: &str) -> Option<&Versioned> {
        self.types.get(type_url)?.get(name)
    }

    fn of_type(&self, type_url: &str) -> impl Iterator<Item = (&String, &Versioned)> {
        self.types.get(type_url).into_iter().flatten()
    }
}

impl ControlPlane {
    /// Starts on 127.0.0.1 with a port of the system's choice and an empty world.
    pub async fn start() -> Result<Self> {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts on an address of the caller's choice.
    pub async fn listen(at: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            world: watch::Sender::new(World::default()),
            epoch: watch::Sender::new(0),
            requests: watch::Sender::new(Vec::new()),
            streams: AtomicU64::new(0),
            open: Mutex::new(0),
            only_changes: AtomicBool::new(false),
        });
        let server = services::router(&shared);
        let task = tokio::spawn(async move {
            let _ = server.serve_with_incoming(services::incoming(listener)).await;
        });
        Ok(Self {
            address,
            shared,
            task: task.abort_handle(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the world; every stream is told once, after `change` is done. Returns the version of the change.
    pub fn push(&self, change: impl FnOnce(&mut World)) -> u64 {
        let mut version = 0;
        self.shared.world.send_modify(|world| {
            world.version += 1;
            version = world.version;
            change(world);
        });
        version
    }

    /// Adds or replaces resources in one push.
    pub fn put(&self, resources: impl IntoIterator<Item = Resource>) -> u64 {
        self.push(|world| resources.into_iter().for_each(|resource| world.put(resource)))
    }

    /// Removes one resource.
    pub fn remove(&self, type_url: &str, name: &str) -> u64 {
        self.push(|world| world.remove(type_url, name))
    }

    /// From now on a state-of-the-world response holds only what changed, where the protocol allows it (routes,
    /// endpoints, secrets), as a control plane of a large mesh answers.
    pub fn send_only_changes(&self) {
        self.shared.only_changes.store(true, Ordering::Relaxed);
    }

    /// Ends every open stream, as a restart of the server would.
    pub fn close_streams(&self) {
        self.shared.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> u64 {
        *self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.borrow().clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.requests.send_modify(Vec::clear);
    }

    /// Waits for a request, also among those that came before, for which `wanted` holds.
    ///
    /// # Errors
    /// When none comes within `within`; the message lists what came.
    pub async fn wait_for(&self, within: Duration, wanted: impl Fn(&Recorded) -> bool) -> Result<Recorded> {
        let mut requests = self.shared.requests.subscribe();
        let found = async {
            let all = requests.wait_for(|all| all.iter().any(&wanted)).await?;
            all.iter()
                .find(|recorded| wanted(recorded))
                .cloned()
                .context("it was just there")
        };
        match tokio::time::timeout(within, found).await {
            Ok(found) => found,
            Err(_) => anyhow::bail!(
                "no such xDS request within {within:?}; there were {:#?}",
                self.requests()
            ),
        }
    }

    /// Waits until `enough` holds of all requests since they were last forgotten, in the order of their arrival.
    ///
    /// # Errors
    /// When it does not within `within`; the message lists what came.
    pub async fn wait_until(&self, within: Duration, enough: impl Fn(&[Recorded]) -> bool) -> Result<()> {
        let mut requests = self.shared.requests.subscribe();
        match tokio::time::timeout(within, requests.wait_for(|all| enough(all))).await {
            Ok(_) => Ok(()),
            Err(_) => anyhow::bail!("not within {within:?} by these requests: {:#?}", self.requests()),
        }
    }

    /// Waits until a response for `type_url` was taken.
    pub async fn wait_ack(&self, type_url: &str) -> Result<Recorded> {
        let within = Duration::from_secs(20);
        self.wait_for(within, |recorded| {
            recorded.kind == Kind::Ack && recorded.type_url == type_url
        })
        .await
    }

    /// Waits until a response for `type_url` was refused.
    pub async fn wait_nack(&self, type_url: &str) -> Result<Recorded> {
        let within = Duration::from_secs(20);
        self.wait_for(within, |recorded| {
            recorded.kind == Kind::Nack && recorded.type_url == type_url
        })
        .await
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.close_streams();
        self.task.abort();
    }
}

impl Shared {
    fn record(&self, recorded: Recorded) {
        self.requests.send_modify(|all| all.push(recorded));
    }

    fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    fn count_open(&self, change: impl FnOnce(&mut u64)) {
        change(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
