//! The downstream connections of one worker, and how they are told to end.
//!
//! Holds: a connection is told to drain only when the whole worker drains or when its filter chain is gone or now
//! demands something else of it (`FilterChain::security`), or when its peer would not be let in any more ([`super::peers`]);
//! it is told to close when a policy of its chain permits it no longer;
//! any other change is picked up with the next request.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use remora_model::Name;
use remora_model::endpoint::Endpoint;
use remora_model::listener::{FilterChain, Routes, Terminal};
use remora_model::policy::ConnectionAccess;
use remora_model::route::RouteTable;
use remora_model::snapshot::Snapshot;
use slab::Slab;
use tokio::sync::Notify;

use super::peers::{Ends, LetIn};
use crate::observe::ConnectionRecord;

/// How much longer a connection may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// As long as it likes.
    Serving,
    /// What is in flight is finished, then it closes; the client is told.
    Draining,
    /// It closes now.
    Closing,
}

#[derive(Debug)]
pub(super) struct Entry {
    record: Rc<ConnectionRecord>,
    pub(super) listener: Name,
    pub(super) chain: RefCell<Arc<FilterChain>>,
    /// Who was let in by its certificate, and when that ends.
    pub(super) peer: Option<LetIn>,
    /// The policy that permitted it no longer, by its name in the configuration.
    revoked_by: RefCell<Option<Option<Name>>>,
    /// By what a draining connection is served to its end: routes that no other chain needs are gone from the world.
    last_routes: RefCell<Option<Arc<RouteTable>>>,
    life: Cell<Life>,
    waker: RefCell<Option<Waker>>,
    /// The endpoint with which it ends.
    ends_with: RefCell<Option<Box<EndsWith>>>,
}

/// An endpoint, and how often it had fallen.
#[derive(Debug)]
struct EndsWith {
    endpoint: Arc<Endpoint>,
    falls: u32,
}

impl Entry {
    pub(super) fn end(&self, life: Life) {
        if life > self.life.get() {
            self.life.set(life);
            self.wake();
        }
    }

    /// Ends it where the endpoint fell with which it ends.
    fn fall(&self) {
        let ends_with = self.ends_with.borrow();
        let fell = ends_with
            .as_deref()
            .is_some_and(|EndsWith { endpoint, falls }| endpoint.live().falls() != *falls);
        drop(ends_with);
        if fell {
            self.end(Life::Closing);
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Entry {
    fn follow(self: &Rc<Self>, before: &Snapshot, world: &Snapshot, told: &mut Told) {
        let successor = world.listeners.named(&self.listener).and_then(|listener| {
            let chain = self.chain.borrow();
            listener.successor_of(&chain).map(Arc::clone)
        });
        match successor {
            Some(chain) => {
                if !Arc::ptr_eq(&chain, &self.chain.borrow()) {
                    self.judge(&chain, told);
                }
                *self.chain.borrow_mut() = chain;
            }
            None if self.life.get() == Life::Serving => {
                if let Terminal::Http(manager) = &self.chain.borrow().terminal
                    && let Routes::Dynamic(id) = &manager.routes
                {
                    *self.last_routes.borrow_mut() = before.route_table(*id).cloned();
                }
                self.end(Life::Draining);
                told.drained.push(Rc::downgrade(self));
            }
            None => {}
        }
    }

    /// Closes a connection that the policies of its chain no longer permit.
    fn judge(&self, chain: &FilterChain, told: &mut Told) {
        if chain.policies().next().is_none() || self.life.get() == Life::Closing {
            return;
        }
        let facts = self.record.access_facts();
        for access in chain.policies() {
            let verdict = access
                .control
                .enforced
                .as_ref()
                .map(|engine| engine.judge(&facts));
            let Some(verdict) = verdict.filter(|verdict| !verdict.allowed) else {
                continue;
            };
            *self.revoked_by.borrow_mut() = Some(verdict.policy.cloned());
            told.revoked.push(Arc::clone(access));
            self.end(Life::Closing);
            return;
        }
    }
}

/// All downstream connections of a worker.
#[derive(Debug)]
pub struct ConnectionRegistry {
    pub(super) all: Rc<RefCell<Slab<Rc<Entry>>>>,
    /// When certificates of peers end.
    pub(super) ends: Rc<Ends>,
    /// How long any connection may live, also one that is entered later.
    life: Cell<Life>,
    shortened: Notify,
}

impl Default for ConnectionRegistry {
    fn default() -> Self {
        Self {
            all: Rc::default(),
            ends: Rc::default(),
            life: Cell::new(Life::Serving),
            shortened: Notify::new(),
        }
    }
}

impl ConnectionRegistry {
    /// Enters a connection that was matched to `chain` of its listener; it leaves when the handle is dropped.
    pub fn enter(&self, record: &Rc<ConnectionRecord>, chain: Arc<FilterChain>) -> ConnectionHandle {
        let entry = Rc::new(Entry {
            record: Rc::clone(record),
            listener: Arc::clone(&record.listener),
            chain: RefCell::new(chain),
            peer: record.tls.as_ref().and_then(LetIn::by),
            revoked_by: RefCell::default(),
            last_routes: RefCell::default(),
            life: Cell::new(self.life.get()),
            waker: RefCell::new(None),
            ends_with: RefCell::new(None),
        });
        let key = self.all.borrow_mut().insert(Rc::clone(&entry));
        if let Some(end) = entry.peer.as_ref().and_then(|peer| peer.ends) {
            self.ends.note(end, key);
        }
        ConnectionHandle {
            entry,
            key,
            all: Rc::clone(&self.all),
            ends: Rc::clone(&self.ends),
        }
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends every connection in this way, those that are not entered yet too.
    pub fn drain_all(&self, life: Life) {
        self.life.set(self.life.get().max(life));
        self.shortened.notify_waiters();
        for (_, entry) in self.all.borrow().iter() {
            entry.end(life);
            // Whose chain was gone before may wait less long now.
            entry.wake();
        }
    }

    /// Whether all connections are to end.
    pub fn is_draining(&self) -> bool {
        self.life.get() != Life::Serving
    }

    /// Ready once all connections are to end.
    pub async fn drained(&self) {
        while !self.is_draining() {
            self.shortened.notified().await;
        }
    }

    /// Gives every connection its chain of the new world, and drains those whose chain is gone: these it returns.
    /// `before` is the world that they were served by.
    pub fn review(&self, before: &Snapshot, world: &Snapshot) -> Told {
        let mut told = Told::default();
        for (_, entry) in self.all.borrow().iter() {
            entry.follow(before, world, &mut told);
            entry.fall();
        }
        told
    }
}

/// Connections that were told to end.
#[derive(Debug, Default, Clone)]
pub struct Told {
    pub(super) drained: Vec<Weak<Entry>>,
    revoked: Vec<Arc<ConnectionAccess>>,
}

impl Told {
    /// Whether nobody was told to drain.
    pub fn is_empty(&self) -> bool {
        self.drained.is_empty()
    }

    /// For each connection that was closed because it is permitted no longer, the policy that says so.
    pub fn revoked(&self) -> &[Arc<ConnectionAccess>] {
        &self.revoked
    }

    /// Closes those that are still there.
    pub fn close(&self) {
        for entry in self.drained.iter().filter_map(Weak::upgrade) {
            entry.end(Life::Closing);
        }
    }
}

/// One connection's place in the registry.
#[derive(Debug)]
pub struct ConnectionHandle {
    pub(super) entry: Rc<Entry>,
    key: usize,
    all: Rc<RefCell<Slab<Rc<Entry>>>>,
    ends: Rc<Ends>,
}

impl ConnectionHandle {
    /// The connection ends when this endpoint falls.
    pub fn end_with(&self, endpoint: &Arc<Endpoint>) {
        let ends_with = EndsWith {
            endpoint: Arc::clone(endpoint),
            falls: endpoint.live().falls(),
        };
        *self.entry.ends_with.borrow_mut() = Some(Box::new(ends_with));
    }

    /// The chain as the newest world has it.
    pub fn chain(&self) -> Arc<FilterChain> {
        Arc::clone(&self.entry.chain.borrow())
    }

    /// Catches up with the world: what changed between the choice of the chain and its entry nobody told.
    pub fn follow(&self, world: &Snapshot) -> Told {
        let mut told = Told::default();
        self.entry.follow(world, world, &mut told);
        told
    }

    /// The routes of a chain that is gone, as they were last.
    pub fn last_routes(&self) -> Option<Arc<RouteTable>> {
        self.entry.last_routes.borrow().clone()
    }

    /// Whether a policy permits this connection no longer, and the name of the one that says so, if one matched.
    pub fn revoked_by(&self) -> Option<Option<Name>> {
        self.entry.revoked_by.borrow().clone()
    }

    /// How much longer this connection may live.
    pub fn life(&self) -> Life {
        self.entry.life.get()
    }

    /// Ready when the connection must end sooner than `known`.
    pub fn poll_shorter(&self, known: Life, cx: &mut Context<'_>) -> Poll<Life> {
        if self.life() > known {
            return Poll::Ready(self.life());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        if let Some(end) = self.entry.peer.as_ref().and_then(|peer| peer.ends) {
            self.ends.forget(end, self.key);
        }
        self.all.borrow_mut().try_remove(self.key);
    }
}
