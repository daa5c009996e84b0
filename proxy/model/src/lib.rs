//! What the control plane told us, immutable and validated, and the pure questions one may ask of it.
//!
//! Every part is built once (by `remora-translate`), never changed, and shared between versions of the world by `Arc`.
//! A decision is a pure function of (snapshot, facts, now, rng). Nothing in this crate reads a clock, a socket, an
//! environment or a global random source, and nothing here knows protobuf or a runtime.
//!
//! Where is what: which listener and chain? [`listener`]. Which route? [`route`]. Which endpoint? [`cluster`],
//! [`endpoint`], [`balance`]. May an endpoint be used? [`health`]. Again? [`retry`]. Counted as what? [`limit`]. May it pass? [`policy`]. What did filters note of it? [`metadata`]. Which identity must the peer prove? [`identity`]. What is written down? [`log`].
//! [`snapshot`] is one version of the whole world. Why it is built this way: [`decisions`].

pub mod balance;
pub mod chance;
pub mod cluster;
#[doc = include_str!("../DECISIONS.md")]
pub mod decisions {}
pub mod endpoint;
pub mod filter;
pub mod health;
pub mod identity;
pub mod limit;
pub mod listener;
pub mod log;
pub mod matching;
pub mod metadata;
pub mod policy;
pub mod proxy_protocol;
pub mod retry;
pub mod route;
pub mod snapshot;

use std::sync::Arc;

/// A resource, cluster, route or virtual host name as the control plane wrote it; interned where it repeats.
pub type Name = Arc<str>;
