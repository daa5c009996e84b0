//! Who spoke first the last times, client or server, by where connections wanted to go?
//!
//! Holds: a table of fixed size, so nothing grows with the number of destinations; two that fall on one place share
//! it, which costs one of them a little time and nothing else.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::net::SocketAddr;

use remora_model::snapshot::ClusterId;

/// Places; a power of two.
const PLACES: usize = 1024;

/// So many clients in a row spoke first: the next one will.
const HABIT: u8 = 2;

/// What a worker remembers.
#[derive(Debug)]
pub struct FirstWords {
    clients: Box<[Cell<u8>]>,
    hasher: rapidhash::fast::RandomState,
}

/// What is remembered of one destination.
#[derive(Debug, Clone, Copy)]
pub struct FirstWord<'w>(&'w Cell<u8>);

impl Default for FirstWords {
    fn default() -> Self {
        Self {
            clients: vec![Cell::new(0); PLACES].into(),
            hasher: rapidhash::fast::RandomState::default(),
        }
    }
}

impl FirstWords {
    /// What is remembered of connections through `cluster` that wanted to go to `destination`.
    pub fn of(&self, cluster: ClusterId, destination: SocketAddr) -> FirstWord<'_> {
        let hash = self.hasher.hash_one((cluster.index(), destination)) as usize;
        FirstWord(&self.clients[hash % PLACES])
    }
}

impl FirstWord<'_> {
    /// Whether clients are in the habit of speaking first.
    pub fn client_speaks_first(self) -> bool {
        self.0.get() >= HABIT
    }

    /// A client spoke first.
    pub fn client_spoke(self) {
        self.0.set((self.0.get() + 1).min(HABIT));
    }

    /// A server did.
    pub fn server_spoke(self) {
        self.0.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_trusted_to_speak_after_two_did_until_a_server_does() {
        let words = FirstWords::default();
        let place = || words.of(ClusterId::from_index(3), "10.0.0.1:3306".parse().unwrap());
        assert!(!place().client_speaks_first());
        place().client_spoke();
        assert!(!place().client_speaks_first());
        place().client_spoke();
        place().client_spoke();
        assert!(place().client_speaks_first());
        place().server_spoke();
        assert!(!place().client_speaks_first());
    }
}
