//! What are Envoy's xDS v3 types here, and how do they meet JSON and YAML?
//!
//! [`pb`] holds the generated types. [`type_url`] names the resource types, [`extra`] the few messages that the generated
//! set lacks, [`registry`] the extensions by name. [`Pool`] is the descriptor set: with it a text is read
//! ([`Pool::read`]), bytes are shown ([`Pool::write`]) or rid of secrets ([`Pool::redacted`]), and Envoy's field rules
//! are checked ([`Pool::validate`]).
//!
//! What always holds: a [`Pool`] is an owned value of about 12 MB which nothing static keeps alive: load it, use it, drop it.
//! It does not judge meaning (that is `translate`), does no IO, and knows no transport.

mod describe;
pub mod extra;
pub mod json;
mod pool;
mod redact;
pub mod registry;
pub mod type_url;
mod validate;

pub use describe::{Count, Field, Shape};
pub use envoy_types::pb;
pub use json::{
    Branch, Document, Position, Problem, Problems, ReadOptions, Redaction, Tree, UnknownFields, UnknownTypes,
    WriteOptions,
};
pub use pool::{Pool, PoolError};
pub use type_url::{TypeUrl, encode_any};
