//! Sessions that a client context may resume.
//!
//! Holds: one store per derived context, entries by server name, at most [`MAX_NAMES`] names with `max_session_keys`
//! tickets each; a TLS 1.3 ticket is used once. Nothing outlives the first certificate that it was verified by.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Server names that one context remembers.
const MAX_NAMES: usize = 256;

/// The store.
pub(super) struct Sessions {
    per_name: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: HashMap<ServerName<'static>, Entry>,
    /// Seconds since 1970 after which everything is forgotten.
    until: Option<i64>,
}

#[derive(Default)]
struct Entry {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    /// An empty store with room for this many tickets per server name.
    pub(super) fn new(per_name: u32) -> Self {
        Self {
            per_name: per_name as usize,
            state: Mutex::default(),
        }
    }

    /// A certificate was verified that is valid until then: no session of this store is resumed later.
    pub(super) fn limit(&self, until: i64) {
        let mut state = self.locked();
        state.until = Some(state.until.map_or(until, |before| before.min(until)));
    }

    /// Forgets everything if a certificate behind one of the sessions has ended.
    pub(super) fn forget_ended(&self) {
        let mut state = self.locked();
        if state.until.is_some_and(|until| until < unix_now()) {
            *state = State::default();
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry<T>(&self, name: ServerName<'static>, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut state = self.locked();
        if state.names.len() >= MAX_NAMES
            && !state.names.contains_key(&name)
            && let Some(victim) = state.names.keys().next().cloned()
        {
            state.names.remove(&victim);
        }
        change(state.names.entry(name).or_default())
    }
}

/// Seconds since 1970.
pub(super) fn unix_now() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("names", &self.locked().names.len())
            .finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.entry(server_name, |entry| entry.group = Some(group));
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.locked().names.get(&server_name.to_owned())?.group
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.entry(server_name, |entry| entry.tls12 = Some(value));
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.locked().names.get(&server_name.to_owned())?.tls12.clone()
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        if let Some(entry) = self.locked().names.get_mut(server_name) {
            entry.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.entry(server_name, |entry| {
            while entry.tls13.len() >= self.per_name {
                entry.tls13.pop_front();
            }
            entry.tls13.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.locked().names.get_mut(server_name)?.tls13.pop_back()
    }
}
