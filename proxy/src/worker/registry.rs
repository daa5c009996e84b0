//! The downstream connections of one worker, and how they are told to end.
//!
//! Holds: a connection is told to drain only when the whole worker drains or when its filter chain is gone or now
//! demands something else of it (`FilterChain::security`); any other change is picked up with the next request.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use remora_model::Name;
use remora_model::listener::FilterChain;
use remora_model::snapshot::Snapshot;
use slab::Slab;
use tokio::sync::Notify;

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
struct Entry {
    listener: Name,
    chain: RefCell<Arc<FilterChain>>,
    life: Cell<Life>,
    waker: RefCell<Option<Waker>>,
}

impl Entry {
    fn end(&self, life: Life) {
        if life > self.life.get() {
            self.life.set(life);
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// All downstream connections of a worker.
#[derive(Debug)]
pub struct ConnectionRegistry {
    all: Rc<RefCell<Slab<Rc<Entry>>>>,
    /// How long any connection may live, also one that is entered later.
    life: Cell<Life>,
    shortened: Notify,
}

impl Default for ConnectionRegistry {
    fn default() -> Self {
        Self {
            all: Rc::default(),
            life: Cell::new(Life::Serving),
            shortened: Notify::new(),
        }
    }
}

impl ConnectionRegistry {
    /// Enters a connection that was matched to `chain` of `listener`; it leaves when the handle is dropped.
    pub fn enter(&self, listener: Name, chain: Arc<FilterChain>) -> ConnectionHandle {
        let entry = Rc::new(Entry {
            listener,
            chain: RefCell::new(chain),
            life: Cell::new(self.life.get()),
            waker: RefCell::new(None),
        });
        let key = self.all.borrow_mut().insert(Rc::clone(&entry));
        ConnectionHandle {
            entry,
            key,
            all: Rc::clone(&self.all),
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
        }
    }

    /// Ready once all connections are to end.
    pub async fn drained(&self) {
        while self.life.get() == Life::Serving {
            self.shortened.notified().await;
        }
    }

    /// Gives every connection its chain of the new world, and drains those whose chain is gone: these it returns.
    pub fn review(&self, world: &Snapshot) -> Told {
        let mut told = Told::default();
        for (_, entry) in self.all.borrow().iter() {
            let successor = world.listeners.named(&entry.listener).and_then(|listener| {
                let chain = entry.chain.borrow();
                listener.successor_of(&chain).map(Arc::clone)
            });
            match successor {
                Some(chain) => *entry.chain.borrow_mut() = chain,
                None if entry.life.get() == Life::Serving => {
                    entry.end(Life::Draining);
                    told.0.push(Rc::downgrade(entry));
                }
                None => {}
            }
        }
        told
    }
}

/// Connections that were told to drain.
#[derive(Debug, Default)]
pub struct Told(Vec<Weak<Entry>>);

impl Told {
    /// Whether nobody was told.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closes those that are still there.
    pub fn close(&self) {
        for entry in self.0.iter().filter_map(Weak::upgrade) {
            entry.end(Life::Closing);
        }
    }
}

/// One connection's place in the registry.
#[derive(Debug)]
pub struct ConnectionHandle {
    entry: Rc<Entry>,
    key: usize,
    all: Rc<RefCell<Slab<Rc<Entry>>>>,
}

impl ConnectionHandle {
    /// The chain as the newest world has it.
    pub fn chain(&self) -> Arc<FilterChain> {
        Arc::clone(&self.entry.chain.borrow())
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
        self.all.borrow_mut().try_remove(self.key);
    }
}
