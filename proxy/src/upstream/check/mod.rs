//! Asking endpoints whether they are well, on a thread of its own: a long update of the world delays no check, and no
//! check delays a request.
//!
//! One task for each check that is under way, nothing between two checks but the connection that the next one uses.
//! Holds: whatever the endpoint does, a check ends with its timeout and keeps a bounded part of the answer; who is
//! forgotten is not asked any more, and its connection closes. Does not: decide when to ask, or what follows.

mod head;
mod http;
mod tcp;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use remora_model::cluster::ClusterConfig;
use remora_model::endpoint::Endpoint;
use remora_model::health::HealthCheck;
use remora_model::health::check::{CheckKind, Finding, Shortfall};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::http::HttpSession;
use super::connect::{Connected, Wish, connect};
use crate::failure::ConnectFailure;
use crate::io::Io;
use crate::observe::WorkerCounters;
use crate::worker::{Graveyard, Shared, World, spawn};

/// An endpoint that is checked, as long as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckId(pub u64);

/// One check.
#[derive(Debug)]
pub struct Ask {
    /// Of whom.
    pub id: CheckId,
    /// How its cluster is reached.
    pub config: Arc<ClusterConfig>,
    /// What is asked.
    pub check: Arc<HealthCheck>,
    /// The endpoint, with the address that is asked.
    pub target: Arc<Endpoint>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Order {
    /// Ask, and tell what was found. One who is being asked is not asked again.
    Ask(Box<Ask>),
    /// Stop asking this one.
    Forget(CheckId),
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Of whom.
    pub id: CheckId,
    /// What.
    pub finding: Finding,
    /// It failed and said that it wants no more requests.
    pub leaves: bool,
    /// The cluster's name was compared.
    pub verified: bool,
    /// What is wrong, for the log.
    pub why: String,
}

/// What is kept of an endpoint between two checks.
#[derive(Debug, Default)]
enum Session {
    #[default]
    None,
    Http(HttpSession),
    Tcp(Io),
}

#[derive(Debug, Default)]
struct Slot {
    session: Session,
    running: Option<JoinHandle<()>>,
}

type Slots = Rc<RefCell<HashMap<CheckId, Slot>>>;

/// Asks as ordered until nobody can order any more.
pub async fn serve(
    shared: Arc<Shared>,
    graveyard: Graveyard,
    counters: WorkerCounters,
    mut orders: mpsc::UnboundedReceiver<Order>,
    found: mpsc::UnboundedSender<Found>,
) {
    let slots = Slots::default();
    let counters = Rc::new(counters);
    while let Some(order) = orders.recv().await {
        match order {
            Order::Forget(id) => {
                let slot = slots.borrow_mut().remove(&id);
                if let Some(running) = slot.and_then(|slot| slot.running) {
                    running.abort();
                }
            }
            Order::Ask(ask) => {
                let mut all = slots.borrow_mut();
                let slot = all.entry(ask.id).or_default();
                if slot.running.is_some() {
                    continue;
                }
                let mut checking = Checking {
                    session: std::mem::take(&mut slot.session),
                    world: Rc::new(World::pinned(shared.current(), graveyard.clone())),
                    counters: Rc::clone(&counters),
                    ask: *ask,
                };
                let (slots, found) = (Rc::clone(&slots), found.clone());
                slot.running = Some(spawn(async move {
                    let outcome = checking.run().await;
                    if let Some(slot) = slots.borrow_mut().get_mut(&checking.ask.id) {
                        slot.running = None;
                        slot.session = checking.session;
                    }
                    // At the end of the process nobody listens.
                    let _ = found.send(outcome);
                }));
            }
        }
    }
}

/// A check under way.
struct Checking {
    ask: Ask,
    session: Session,
    world: Rc<World>,
    counters: Rc<WorkerCounters>,
}

/// Why there is no answer to judge.
#[derive(Debug)]
struct Unanswered(String);

impl Checking {
    async fn run(&mut self) -> Found {
        let limit = self.ask.check.timeout;
        let outcome = tokio::time::timeout(limit, self.attempt()).await;
        let failed = |shortfall, why| Found {
            id: self.ask.id,
            finding: Finding::Failed(shortfall),
            leaves: false,
            verified: false,
            why,
        };
        let found = match outcome {
            Ok(Ok(found)) => found,
            Ok(Err(Unanswered(why))) => failed(Shortfall::Network, why),
            Err(_) => failed(Shortfall::TimedOut, format!("no answer within {limit:?}")),
        };
        let network = matches!(found.finding, Finding::Failed(shortfall) if shortfall.is_network());
        if network || !self.ask.check.reuse_connection {
            self.session = Session::None;
        }
        found
    }

    async fn attempt(&mut self) -> Result<Found, Unanswered> {
        let check = Arc::clone(&self.ask.check);
        match &check.kind {
            CheckKind::Http(http) => self.http(http).await,
            CheckKind::Grpc(grpc) => self.grpc(grpc).await,
            CheckKind::Tcp(tcp) => self.tcp(tcp).await,
        }
    }

    /// A new connection to the endpoint.
    async fn connect(&self) -> Result<Connected, Unanswered> {
        let Ask {
            config,
            check,
            target,
            ..
        } = &self.ask;
        let labels = check.transport_labels.as_ref();
        let labels = labels.unwrap_or(&target.spec.details().transport_labels);
        let socket = config.transport.choose(labels);
        let wish = Wish {
            server_name: None,
            alpn: &check.alpn,
            alpn_wins: true,
            announced: None,
        };
        let cells = self.counters.cluster(config);
        let connected = connect(Rc::clone(&self.world), &cells, config, target, socket, wish).await;
        connected.map_err(|failure: ConnectFailure| Unanswered(failure.reason().into_owned()))
    }

    /// What is found where nothing is wrong.
    fn passed(&self) -> Found {
        Found {
            id: self.ask.id,
            finding: Finding::Passed { degraded: false },
            leaves: false,
            verified: false,
            why: String::new(),
        }
    }

    /// What is found where the answer is wrong.
    fn wrong(&self, why: impl Into<String>) -> Found {
        Found {
            finding: Finding::Failed(Shortfall::Answer { retriable: false }),
            why: why.into(),
            ..self.passed()
        }
    }
}
