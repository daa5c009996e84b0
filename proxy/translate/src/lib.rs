//! xDS bytes to model parts, once, at the edge.
//!
//! One function per resource type: [`listener()`], [`route_configuration()`], [`cluster()`], [`endpoints()`], [`secret()`].
//! Each gives a part of the model with what it subscribes to, or a [`Rejection`] with everything that is wrong. What is
//! honoured, ignored and refused stands, field by field and with reasons, in [`ignored`]; filters in [`filter`].
//! No protobuf type leaves this crate, nothing here opens a connection, and no bytes make it panic.
//! Why it is built this way: [`decisions`].

#![allow(
    deprecated,
    reason = "deprecated fields are accepted or refused like any other; control planes send them"
)]

mod access_log;
mod balance;
pub mod bootstrap;
mod breakers;
pub mod client_status;
mod cluster;
pub mod config_dump;
pub mod config_source;
mod context;
mod data_source;
#[doc = include_str!("../DECISIONS.md")]
pub mod decisions {}
mod discovery;
mod discovery_response;
mod endpoint;
mod extension;
pub mod fallback;
mod filter;
mod filter_chain;
mod fingerprint;
mod header_mutation;
mod health;
mod health_check;
mod http_manager;
mod http_options;
pub mod ignored;
mod internal_redirect;
mod listener;
mod local_reply;
mod matcher;
mod metadata;
mod mirror;
pub mod preview;
mod private;
mod proxy_protocol;
mod rare_manager;
mod rate_limits;
mod rejection;
mod repeated;
mod retry;
mod reviewed;
mod route;
mod route_action;
mod route_match;
mod secret;
pub mod service;
mod subscription;
mod subsets;
mod tcp_proxy;
mod tls;
mod transport;
mod upstream_http;
mod uri_template;
mod validation;
mod value;

use remora_proto::pb;

pub use cluster::{TranslatedCluster, cluster};
pub use context::{Context, ExpectedCluster, Files, IgnoredAt, IgnoredFields, LocalFiles, WatchedFile};
pub use discovery_response::read_discovery_response;
pub use endpoint::endpoints;
pub use listener::{TranslatedListener, listener};
pub use private::{holds_private_key, is_trust_only};
pub use rejection::{Problem, Rejection};
pub use remora_proto::{Pool, PoolError, UnknownFields, WriteOptions};
pub use repeated::Repeated;
pub use route::route_configuration;
pub use secret::{CertificateFacts, TranslatedSecret, certificate_facts, secret};
pub use subscription::{Subscription, SubscriptionKind};
