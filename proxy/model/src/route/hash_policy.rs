//! `RouteAction.HashPolicy`: which part of a request decides its place on a ring or in a table.

use std::time::Duration;

use http::HeaderName;

/// One hash policy.
#[derive(Debug, Clone)]
pub struct HashPolicy {
    /// What is hashed.
    pub source: HashSource,
    /// Later policies are skipped once this one gave a hash.
    pub terminal: bool,
}

/// What is hashed.
#[derive(Debug, Clone)]
pub enum HashSource {
    /// `header`.
    Header(HeaderName),
    /// `cookie`; with a TTL a missing cookie is made and set.
    Cookie {
        /// Name.
        name: Box<str>,
        /// Generate one if it is missing.
        ttl: Option<Duration>,
        /// Its path.
        path: Box<str>,
    },
    /// `connection_properties.source_ip`.
    SourceAddress,
    /// `query_parameter`.
    Query(Box<str>),
}
