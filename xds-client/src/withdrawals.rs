//! State of the world: has the server heard that a name was given up?
//!
//! A server drops a request whose nonce is not its newest, so a withdrawal may go by unheard when a response is on its
//! way. If the name is then wanted again, the server sees no change and sends nothing, although the caller has
//! forgotten the resource (S11). What holds: a name that was given up on this stream is asked for only after a request
//! without it went out under the newest nonce, and if the next response comes without it, both are said again, at most
//! [`ATTEMPTS`] times, because a name that does not exist never comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often a name is given up and asked for again before it is taken not to exist.
const ATTEMPTS: u8 = 8;

/// Names remembered per stream; a stream that gave up more asks for all of those anew without waiting.
const REMEMBERED: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(crate) struct Withdrawals {
    /// Asked for earlier on this stream, and not in what was said last.
    pub(crate) given_up: BTreeSet<Arc<str>>,
    /// Given up and asked for again, and not arrived since; with the attempts so far.
    pub(crate) doubted: BTreeMap<Arc<str>, u8>,
    /// The nonce of what was said last.
    pub(crate) under: String,
}

impl Withdrawals {
    /// Names that a request under `nonce` must leave out, because no such request has said so yet.
    pub(crate) fn unheard(&self, nonce: &str) -> Option<&BTreeSet<Arc<str>>> {
        (self.under != nonce).then_some(&self.given_up)
    }

    /// `names` were said under `nonce`, the newest; `before` is what was said before that.
    pub(crate) fn said(
        &mut self,
        before: Option<&BTreeSet<Arc<str>>>,
        names: &BTreeSet<Arc<str>>,
        nonce: &str,
    ) {
        nonce.clone_into(&mut self.under);
        for name in names {
            if self.given_up.remove(name) {
                self.doubted.entry(name.clone()).or_default();
            }
        }
        for name in before.into_iter().flatten().filter(|name| !names.contains(*name)) {
            self.given_up.insert(name.clone());
        }
        if self.given_up.len() > REMEMBERED {
            self.given_up.clear();
        }
    }

    /// A response came: which names are to be given up and asked for once more?
    pub(crate) fn still_missing(&mut self, arrived: impl Fn(&Arc<str>) -> bool) -> Vec<Arc<str>> {
        self.doubted.retain(|name, _| !arrived(name));
        let mut missing = Vec::new();
        for (name, attempts) in self
            .doubted
            .iter_mut()
            .filter(|(_, attempts)| **attempts < ATTEMPTS)
        {
            *attempts += 1;
            missing.push(name.clone());
        }
        missing
    }

    /// Nobody wants it any more.
    pub(crate) fn forget(&mut self, name: &Arc<str>) {
        self.doubted.remove(name);
    }
}
