//! The xDS transport protocol, without meaning: which resources are wanted, which arrived, which were refused.
//!
//! What holds: every response gets exactly one answer, made from the caller's [`Verdict`](ResponseToken); a resource
//! whose bytes did not change since it was last accepted is not handed over again; a lost stream loses no
//! subscription. The crate knows no resource type beyond its URL (all of them carry their name in field 1) and never
//! decodes a body: that, warming and everything that follows from it are the caller's.
//!
//! | question | module |
//! | --- | --- |
//! | what is sent when, what does a response change | [`session`] (sans-IO), one `subscription` per type, `review` |
//! | how is it written on the wire | `sotw`, `delta`, `wire` |
//! | who moves the bytes | [`stream`] (gRPC), [`filesystem`] (files), [`DirectoryWatch`] (when they change) |
//! | how is a server reached | [`connector`] |
//! | why it is built this way | [`decisions`] |

mod back_off;
pub mod connector;
mod deadlines;
#[doc = include_str!("../DECISIONS.md")]
pub mod decisions {}
mod delta;
mod directory_watch;
pub mod filesystem;
mod handle;
mod rate_limit;
mod reading;
pub mod resource_type;
mod review;
pub mod session;
mod sotw;
mod status;
pub mod stream;
mod subscription;
mod update;
mod wire;
mod withdrawals;

pub use back_off::BackOff;
pub use connector::{Connector, Target};
pub use directory_watch::DirectoryWatch;
pub use handle::Handle;
pub use rate_limit::RateLimit;
pub use session::{Malformed, Request, Session, Settings, Variant};
pub use status::{
    ClientStatus, RejectedResource, RejectedResponse, ResourceCounts, ResourceError, ResourceState,
    ResourceStatus, StreamEnd, StreamStatus, TypeStatus,
};
pub use stream::{ClientConfig, ConfigError, Scope, Server, spawn};
pub use update::{Event, Interest, Rejection, Resource, ResponseToken, Update};
