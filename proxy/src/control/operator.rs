//! What the admin endpoint may ask of the control thread, and order of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use remora_model::Name;
use remora_model::listener::ListenAddress;
use remora_model::snapshot::Snapshot;
use tokio::sync::mpsc;

use super::SharedControl;
use super::freshness::kind_of;
use super::held::Kind;
use super::readiness::Phase;
use super::run::Order;
use crate::admin::{
    BootstrapView, BoundListener, Command, Operator, Readiness, ResourceKind, ResourceView, ServerState,
    ServerView, SourceView,
};

/// The control thread as the admin endpoint sees it.
#[derive(Debug)]
pub struct Desk {
    control: SharedControl,
    orders: mpsc::UnboundedSender<Order>,
    command_line: serde_json::Value,
    node: serde_json::Value,
    concurrency: usize,
    started: Instant,
    read: SystemTime,
}

impl Desk {
    /// A desk for this control thread.
    pub fn new(
        control: SharedControl,
        orders: mpsc::UnboundedSender<Order>,
        command_line: serde_json::Value,
        node: serde_json::Value,
    ) -> Self {
        let concurrency = control.borrow().workers.len();
        Self {
            control,
            orders,
            command_line,
            node,
            concurrency,
            started: Instant::now(),
            read: SystemTime::now(),
        }
    }

    fn order(&self, order: Order) {
        // After shutdown nobody hears it.
        let _ = self.orders.send(order);
    }
}

impl Desk {
    fn fail_health_checks(&self, fail: bool) {
        let mut control = self.control.borrow_mut();
        control.failed_health_check = fail;
        control.shared.unhealthy.store(fail, Ordering::Relaxed);
    }
}

impl Operator for Desk {
    fn readiness(&self) -> Readiness {
        let control = self.control.borrow();
        let reason = control.waiting_for().or_else(|| control.serving_from_snapshot());
        let state = match control.phase {
            _ if control.failed_health_check => ServerState::Draining,
            Phase::Clusters if control.heard.is_empty() => ServerState::PreInitializing,
            Phase::Clusters | Phase::Listeners => ServerState::Initializing,
            Phase::Live => ServerState::Live,
            Phase::Draining => ServerState::Draining,
        };
        let waiting = |kind| {
            control
                .catalog
                .warming(kind)
                .into_iter()
                .map(|(name, _)| name.to_string())
        };
        let waiting_for = waiting(Kind::Cluster).chain(waiting(Kind::Listener)).collect();
        Readiness {
            state,
            reason: reason.unwrap_or_default(),
            waiting_for,
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.control.borrow().shared.current()
    }

    fn resources(&self, kind: ResourceKind) -> Vec<ResourceView> {
        self.control.borrow().resource_views(kind)
    }

    fn sources(&self) -> Vec<SourceView> {
        self.control.borrow().source_views()
    }

    fn warming(&self, kind: ResourceKind) -> Vec<(Name, String)> {
        self.control.borrow().catalog.warming(kind_of(kind))
    }

    fn static_clusters(&self) -> HashSet<Name> {
        let control = self.control.borrow();
        let clusters = control.bootstrap.clusters.iter();
        clusters.map(|cluster| Arc::clone(&cluster.name)).collect()
    }

    fn version(&self, kind: ResourceKind) -> Option<String> {
        self.control
            .borrow()
            .versions
            .get(&kind_of(kind))
            .map(ToString::to_string)
    }

    fn encoded_node(&self) -> Bytes {
        Bytes::from(self.control.borrow().bootstrap.node.encoded.clone())
    }

    fn bootstrap(&self) -> Option<BootstrapView> {
        let body = Bytes::from(self.control.borrow().bootstrap.encoded.clone());
        Some(BootstrapView {
            body,
            last_updated: self.read,
        })
    }

    fn bound(&self) -> Vec<BoundListener> {
        let control = self.control.borrow();
        let world = control.shared.current();
        let mut bound = Vec::new();
        for listener in world.listeners.iter().filter(|listener| listener.bind_to_port) {
            for address in &listener.addresses {
                let real = control.sockets.local(address).map(ListenAddress::Socket);
                bound.push(BoundListener {
                    listener: Arc::clone(&listener.name),
                    address: real.unwrap_or_else(|| address.clone()),
                });
            }
        }
        bound
    }

    fn server(&self) -> ServerView {
        ServerView {
            started: self.started,
            concurrency: u32::try_from(self.concurrency).unwrap_or(u32::MAX),
            command_line_options: self.command_line.clone(),
            node: self.node.clone(),
        }
    }

    fn healthy(&self) -> bool {
        !self.control.borrow().failed_health_check
    }

    fn command(&self, command: Command) {
        match command {
            Command::DrainListeners { inbound_only, .. } => {
                self.order(Order::DrainListeners { inbound_only });
            }
            Command::Quit => self.order(Order::Quit),
            Command::HealthcheckFail => self.fail_health_checks(true),
            Command::HealthcheckOk => self.fail_health_checks(false),
        }
    }
}
