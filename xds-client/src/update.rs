//! What the caller says to the protocol and hears from it. The same words for both variants and for files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// Which resources of one type the caller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Whatever the server has for this client. Made for listeners and clusters.
    Wildcard,
    /// Exactly these; the empty set ends the subscription. `*` among them stands for whatever the server has besides.
    Names(BTreeSet<Arc<str>>),
}

impl Interest {
    /// Exactly these names.
    pub fn names<N: Into<Arc<str>>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::Names(names.into_iter().map(Into::into).collect())
    }
}

/// A resource as received, not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name: the wrapper's where there is one, else field 1 of the body.
    pub name: Arc<str>,
    /// Its own version; the response's where the variant has none per resource.
    pub version: Arc<str>,
    /// The encoded message (`Any.value`) of the type of the update. A slice of the whole response: copy what is kept.
    pub body: Bytes,
}

/// One response, to be answered by exactly one verdict. It was made when it arrived: a caller that gave up a name
/// since then ignores that name in it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
#[must_use = "a response without a verdict is never answered, and blocks its type"]
pub struct Update {
    /// The type of all resources in it.
    pub type_url: Arc<str>,
    /// `version_info`, or `system_version_info`; for the log, servers may leave it empty.
    pub version: Arc<str>,
    /// The resources whose bytes differ from what was last accepted, in the order received. Unchanged and unwanted
    /// ones are left out; one that was rejected before is in it again.
    pub resources: Vec<Resource>,
    /// Resources that do not exist (any more): held or wanted by name until now.
    pub removed: Vec<Arc<str>>,
    /// Resources already found unreadable; they are part of the answer without being repeated in the verdict.
    pub unreadable: Vec<Rejection>,
    /// To be handed back with the verdict.
    pub response: ResponseToken,
}

/// The right to answer one response, once.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
#[must_use = "hand it back with the verdict"]
pub struct ResponseToken {
    pub(crate) type_url: Arc<str>,
    pub(crate) serial: u64,
}

/// One bad resource. The server reads it as `name: reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The name of the resource, or `resource #3` (counted from 0) where none could be read.
    pub name: Arc<str>,
    /// What was expected, what was found, and at which field path.
    pub reason: String,
}

impl Rejection {
    /// A rejection of `name`.
    pub fn new(name: impl Into<Arc<str>>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: reason.into(),
        }
    }
}

/// What happened.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
#[must_use]
pub enum Event {
    /// A stream is open; requests are being sent. Says nothing about responses.
    Connected {
        /// The server's name from the configuration, or the file's path.
        server: Arc<str>,
    },
    /// A response that wants a verdict.
    Update(Update),
    /// A response that was refused whole, before anything of it could be applied, and is already answered.
    Refused {
        /// The type that it was for.
        type_url: Arc<str>,
        /// Its version, possibly empty.
        version: Arc<str>,
        /// What the server was told.
        reason: String,
    },
    /// The fetch timeout passed since these were requested and nothing was heard of them: go on without. They may
    /// still arrive. Told once per name.
    Missing {
        /// Their type.
        type_url: Arc<str>,
        /// The names; empty for a wildcard interest without any response.
        names: Vec<Arc<str>>,
    },
    /// The time to live of these passed without a heartbeat: they no longer exist.
    Expired {
        /// Their type.
        type_url: Arc<str>,
        /// The names.
        names: Vec<Arc<str>>,
    },
    /// The stream ended, or could not be opened. Everything accepted stays valid, for ever.
    Disconnected {
        /// The server's name from the configuration.
        server: Arc<str>,
        /// Why, in words, with the gRPC status where there is one.
        reason: String,
        /// A stream that had a response and ends is not an error (gRFC A57).
        had_response: bool,
        /// When the next attempt follows.
        retry_in: Duration,
    },
}
