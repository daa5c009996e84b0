//! How large is the world that is explored?

use super::*;

/// What a type is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Clusters: everything that the server has.
    Wildcard,
    /// Endpoints: by name.
    Named,
    /// Clusters: everything, and some by name besides.
    Both,
}

/// How a state-of-the-world server answers for names; a delta server always sends what is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushes {
    /// Everything that is wanted (go-control-plane).
    Whole,
    /// What changed only (istiod for endpoints).
    Partial,
}

/// How often each counted move may be made on the way to a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The server's resources change: another version, a bad one, gone.
    pub(super) changes: u8,
    /// The caller wants something else.
    pub(super) wishes: u8,
    /// The stream ends.
    pub(super) breaks: u8,
    /// The server sends something that is no good.
    pub(super) garbage: u8,
    /// The server says the same again.
    pub(super) repeats: u8,
}

#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) variant: Variant,
    pub(super) kinds: Vec<Kind>,
    pub(super) pushes: Pushes,
    /// Resources of each type, at most 3.
    pub(super) names: u8,
    pub(super) counts: Counts,
    /// Nothing waits for ever.
    pub(super) fetch_timeout: bool,
}

impl Bounds {
    pub(super) fn type_url(&self, index: usize) -> &'static str {
        match self.kinds[index] {
            Kind::Named => ENDPOINTS,
            Kind::Wildcard | Kind::Both => CLUSTER,
        }
    }
}
