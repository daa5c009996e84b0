//! Peers that were let in by their certificates, and would not be any more: revoked, of a root that is gone, or ended.
//!
//! Holds: only their connections end. Whoever is refused now finishes what is in flight within [`GRACE`]; whose
//! certificate ends by its own date has the drain time. A context whose secrets have not arrived judges nobody.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use remora_model::snapshot::Snapshot;
use tokio::sync::Notify;

use super::registry::{ConnectionHandle, ConnectionRegistry, Entry, Life, Told};
use super::{Worker, close_in_time, close_within};
use crate::observe::time_text::unix_seconds;
use crate::tls::{PeerCertificate, ServerContext, Session, TlsFailure};

/// How long a connection of a refused peer may take to finish.
const GRACE: Duration = Duration::from_millis(500);

/// A peer whose certificate was verified.
#[derive(Debug)]
pub(super) struct LetIn {
    certificate: Arc<PeerCertificate>,
    /// Seconds since 1970.
    pub(super) ends: Option<i64>,
}

impl LetIn {
    /// The peer of this session, where it had to prove who it is.
    pub(super) fn by(session: &Session) -> Option<Self> {
        let certificate = session.peer.as_ref().filter(|_| session.peer_verified)?;
        Some(Self {
            certificate: Arc::clone(certificate),
            ends: session.ends,
        })
    }
}

/// When the certificates of connected peers end: (seconds since 1970, key of the connection).
#[derive(Debug, Default)]
pub(super) struct Ends {
    known: RefCell<BTreeSet<(i64, usize)>>,
    sooner: Notify,
}

impl Ends {
    pub(super) fn note(&self, end: i64, key: usize) {
        let mut known = self.known.borrow_mut();
        if known.first().is_none_or(|(first, _)| end < *first) {
            self.sooner.notify_one();
        }
        known.insert((end, key));
    }

    pub(super) fn forget(&self, end: i64, key: usize) {
        self.known.borrow_mut().remove(&(end, key));
    }

    /// The connections whose peers' certificates have ended by `now`, once.
    fn take_until(&self, now: i64) -> Vec<usize> {
        let mut known = self.known.borrow_mut();
        let later = known.split_off(&(now, usize::MAX));
        let ended = std::mem::replace(&mut *known, later);
        ended.into_iter().map(|(_, key)| key).collect()
    }

    /// Ready when the first of them ends.
    async fn first(&self) {
        loop {
            let first = self.known.borrow().first().map(|(end, _)| *end);
            let sooner = self.sooner.notified();
            let Some(first) = first else {
                sooner.await;
                continue;
            };
            // A certificate holds to the end of its last second.
            let Ok(left @ 1..) = u64::try_from(first.saturating_add(1) - now()) else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(left)) => {}
                () = sooner => {}
            }
        }
    }
}

fn now() -> i64 {
    i64::try_from(unix_seconds()).unwrap_or(i64::MAX)
}

impl Entry {
    fn review_peer(self: &Rc<Self>, world: &Snapshot) -> Result<(), TlsFailure> {
        let chain = self.chain.borrow();
        let (Some(peer), Some(context)) = (&self.peer, &chain.tls) else {
            return Ok(());
        };
        match ServerContext::of(context, world) {
            Ok(context) => context.still_admits(&peer.certificate),
            Err(_) => Ok(()),
        }
    }

    fn end_for(self: &Rc<Self>, why: &dyn std::fmt::Display, told: &mut Told) {
        let peer = self.peer.as_ref().map(|peer| &peer.certificate);
        tracing::info!(listener = %self.listener, ?peer, %why, "connection ended: its peer is not admitted any more");
        self.end(Life::Draining);
        told.drained.push(Rc::downgrade(self));
    }
}

/// Ends the connections of peers that the new world does not admit, where it judges by something else than the old one.
pub(super) fn follow(worker: &Rc<Worker>, before: &Snapshot, world: &Snapshot) {
    let same = Arc::ptr_eq(&before.listeners, &world.listeners) && before.secrets.is_same(&world.secrets);
    if !same {
        let told = refused(&worker.connections, world);
        end(worker, world, &told);
    }
}

fn refused(connections: &ConnectionRegistry, world: &Snapshot) -> Told {
    let mut told = Told::default();
    for (_, entry) in connections.all.borrow().iter() {
        if let Err(refusal) = entry.review_peer(world) {
            entry.end_for(&refusal, &mut told);
        }
    }
    told
}

/// The same for a connection that was on its way in while the world changed.
pub fn catch_up(worker: &Worker, handle: &ConnectionHandle, world: &Snapshot) {
    if let Err(refusal) = handle.entry.review_peer(world) {
        let mut told = Told::default();
        handle.entry.end_for(&refusal, &mut told);
        end(worker, world, &told);
    }
}

fn end(worker: &Worker, world: &Snapshot, told: &Told) {
    count(worker, world, told);
    close_within(told.clone(), GRACE);
}

fn count(worker: &Worker, world: &Snapshot, told: &Told) {
    for entry in told.drained.iter().filter_map(std::rc::Weak::upgrade) {
        if let Some(listener) = world.listeners.named(&entry.listener) {
            let cells = worker.counters.listener(&listener.stat_prefix);
            cells.tls.peer_no_longer_admitted.one();
        }
    }
}

/// Ends connections when the certificates of their peers do, for as long as the worker lives.
pub(super) async fn watch_ends(worker: Rc<Worker>) {
    let ends = Rc::clone(&worker.connections.ends);
    loop {
        ends.first().await;
        let ended = ends.take_until(now() - 1);
        let mut told = Told::default();
        for key in ended {
            let entry = worker.connections.all.borrow().get(key).cloned();
            if let Some(entry) = entry {
                entry.end_for(&"its certificate has ended", &mut told);
            }
        }
        count(&worker, &worker.world(), &told);
        close_in_time(&worker, told);
    }
}
