//! Filters of connections and requests: a closed set with static dispatch.
//!
//! To add one: `filter/x.rs` with its configuration and its pure verdict, an arm here, `translate/filter/x.rs`, a step in
//! `data_path/filters`, one scenario test. The exhaustive matches are the list of places. IO is asked for by a verdict
//! and done by the shell.

mod buckets;
mod buffer;
mod cache;
mod compression;
mod connection_limits;
mod cors;
mod ext_authz;
mod fault;
mod global_rate_limit;
mod grpc;
mod header_mutation;
mod health_check;
mod local_rate_limit;
mod pace;
mod per_route;
mod quota;
mod service;
mod set_filter_state;
mod stateful_session;
mod token_bucket;

pub use buckets::{Buckets, DuplicateDescriptor, LimitVerdict};
pub use buffer::BufferFilter;
pub use cache::{CacheFilter, Part, RequestControl, ResponseControl, Stored, Use, part};
pub use compression::{
    Accepted, Coding, Compression, Compressor, CompressorRoute, ContentTypes, Decompressor, Direction,
    Expansion, Library, Offer,
};
pub use connection_limits::{ConnectionLimit, ConnectionRateLimit, CountedConnection};
pub use cors::{CorsPolicy, CorsVerdict, Preflight};
pub use ext_authz::{AskedBody, Authorization, ExternalAuthorization, Granted, Refused, RouteAuthorization};
pub use fault::{Abort, AbortKind, ActiveFault, Fault, FaultPlan, Portion, Trigger};
pub use global_rate_limit::{Concerns, GlobalRateLimit, RouteRateLimit};
pub use grpc::{GrpcMessages, GrpcStats, GrpcWeb, trailers_frame};
pub use header_mutation::{
    HeaderOperation, MutationFilter, Mutations, QueryOperation, apply_operations, apply_to_query, settled,
};
pub use health_check::{HealthAnswer, HealthCache, HealthCheck, HealthReason, Remembered};
pub use local_rate_limit::LocalRateLimit;
pub use pace::Pace;
pub use per_route::{FilterSettings, RouteFilter};
pub use quota::{ByDescriptor, Quota, QuotaSettings, QuotaVerdict};
pub use service::GrpcService;
pub use set_filter_state::SetFilterState;
pub use stateful_session::{SessionCookie, SessionState, StatefulSession};
pub use token_bucket::{Fill, TokenBucket};

use std::sync::Arc;

use crate::Name;
use crate::policy::{ConnectionAccess, HttpAccess};
use crate::snapshot::ClusterId;

/// A network filter before the terminal one.
#[derive(Debug, Clone)]
pub enum NetworkFilter {
    /// `envoy.filters.network.local_ratelimit`.
    RateLimit(Arc<ConnectionRateLimit>),
    /// `envoy.filters.network.connection_limit`.
    ConnectionLimit(Arc<ConnectionLimit>),
    /// `envoy.filters.network.rbac`.
    Access(Arc<ConnectionAccess>),
}

/// An HTTP filter in its place in a chain.
#[derive(Debug, Clone)]
pub struct ChainedFilter {
    /// `HttpFilter.name`: what routes call it by in `typed_per_filter_config`.
    pub name: Name,
    /// `HttpFilter.disabled`: runs only where a route says so.
    pub disabled: bool,
    /// What it does.
    pub filter: HttpFilter,
}

/// An HTTP filter before the router.
#[derive(Debug, Clone)]
pub enum HttpFilter {
    /// Istio's `io.istio.http.peer_metadata`: its two headers never reach the application.
    StripPeerMetadata,
    /// Istio's `istio.alpn`: what is offered by ALPN upstream, by the protocol that will be spoken there.
    UpstreamAlpn(Arc<UpstreamAlpn>),
    /// `envoy.filters.http.fault`.
    Fault(Arc<Fault>),
    /// `envoy.filters.http.cors`: everything it knows stands at routes.
    Cors,
    /// `envoy.filters.http.header_mutation`.
    HeaderMutation(Arc<MutationFilter>),
    /// `envoy.filters.http.local_ratelimit`.
    LocalRateLimit(Arc<LocalRateLimit>),
    /// `envoy.filters.http.ext_authz`.
    ExternalAuthorization(Arc<ExternalAuthorization>),
    /// `envoy.filters.http.ratelimit`.
    GlobalRateLimit(Arc<GlobalRateLimit>),
    /// `envoy.filters.http.rbac`.
    Access(HttpAccess),
    /// `remora.filters.http.Quota`.
    Quota(Arc<Quota>),
    /// `envoy.filters.http.buffer`.
    Buffer(BufferFilter),
    /// `envoy.filters.http.health_check`.
    HealthCheck(Arc<HealthCheck>),
    /// `envoy.filters.http.grpc_stats`.
    GrpcStats(Arc<GrpcStats>),
    /// `envoy.filters.http.grpc_web`.
    GrpcWeb,
    /// `envoy.filters.http.compressor`.
    Compressor(Arc<Compressor>),
    /// `envoy.filters.http.decompressor`.
    Decompressor(Arc<Decompressor>),
    /// `envoy.filters.http.set_filter_state`.
    SetFilterState(Arc<SetFilterState>),
    /// `envoy.filters.http.cache`.
    Cache(Arc<CacheFilter>),
    /// `envoy.filters.http.stateful_session`.
    StatefulSession(Arc<StatefulSession>),
    /// A filter that is not supported, by the type of its configuration: disabled in its chain, so that only a route
    /// that enables it is answered with an error.
    Unsupported(Name),
}

impl HttpFilter {
    /// The cluster of the service that it asks, if it asks one.
    pub fn asks(&self) -> Option<ClusterId> {
        match self {
            Self::GlobalRateLimit(limit) => Some(limit.service.cluster),
            Self::ExternalAuthorization(filter) => Some(filter.service.cluster),
            _ => None,
        }
    }
}

/// ALPN offers by upstream protocol; an empty list leaves the TLS context's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamAlpn {
    /// Towards HTTP/1.0.
    pub http10: Vec<Box<[u8]>>,
    /// Towards HTTP/1.1.
    pub http11: Vec<Box<[u8]>>,
    /// Towards HTTP/2.
    pub http2: Vec<Box<[u8]>>,
}
