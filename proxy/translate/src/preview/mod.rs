//! What would we do with this configuration? Asked of files, before anything runs.
//!
//! [`Contents`] are the resources of files of any kind (`DiscoveryResponse`, bootstrap, config dump, bare resources);
//! [`check()`] translates them by the very functions that serve and says what is rejected, ignored and missing.
//!
//! Holds: a verdict here is the verdict there, because it is made by the same code; everything that is said names its
//! file, resource and field path. Private keys are never part of an answer. It reads no file and opens no socket,
//! except the files that resources name.

mod binary;
mod check;
mod contents;
mod diff;
mod dump;
mod fields;
mod references;
mod shape;
mod unread;
mod world;

pub use check::{Checked, IgnoredField, Rejected, Warning, check};
pub use contents::{Contents, Input, Resource, Unreadable};
pub use diff::{Change, FieldChange, Kind, Section, diff};
pub use fields::{FieldRow, Tier, fields, markdown};
pub use remora_proto::Position;
pub use world::Part;

use crate::config_dump::ResourceKind;

impl ResourceKind {
    /// All of them, in the order in which they are applied.
    pub const ALL: [Self; 5] = [
        Self::Secret,
        Self::Cluster,
        Self::Endpoints,
        Self::Listener,
        Self::Routes,
    ];

    /// The full name of the message.
    pub fn message(self) -> &'static str {
        match self {
            Self::Cluster => "envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "envoy.config.listener.v3.Listener",
            Self::Routes => "envoy.config.route.v3.RouteConfiguration",
            Self::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    /// The name of the message without its package, as people say it.
    pub fn short(self) -> &'static str {
        let message = self.message();
        message.rsplit('.').next().unwrap_or(message)
    }

    /// The kind that a message name or type URL stands for.
    pub fn of(type_url: &str) -> Option<Self> {
        let name = type_url.rsplit('/').next()?;
        Self::ALL.into_iter().find(|kind| kind.message() == name)
    }
}
