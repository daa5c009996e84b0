//! Which route does a request take, and what does the route do to it?
//!
//! Follows `envoy.config.route.v3`: virtual host by domain (exact, then longest `*suffix`, then longest `prefix*`, then
//! `*`), then the first route in order whose every predicate holds. A route names clusters by id, so a route compiled
//! before its cluster arrived is not rebuilt when it does.
//! Decides only; what is decided is carried out by the data path.

mod client_match;
mod clusters;
mod decide;
mod domains;
mod fallback;
mod hash_policy;
mod headers;
mod internal_redirect;
mod list;
mod mirror;
mod normalize;
mod path_match;
mod predicate;
mod query;
mod rare_table;
mod rewrite;
#[cfg(test)]
mod tests;
mod time_limits;
mod uri_template;

pub use client_match::{ClientCertificate, ClientMatch, CookieMatch};
pub use decide::{Decision, Outcome, RequestFacts};
pub use domains::{DomainIndex, DuplicateDomain};
pub use fallback::{Fallback, FallbackResponse, Sent, Stale};
pub(crate) use hash_policy::cookie;
pub use hash_policy::{
    HashPolicy, HashSource, HeaderRewrite, RequestHash, WantedCookie, request_hash, source_hash,
};
pub use headers::{
    AppendAction, HeaderMutationPair, HeaderMutations, HeaderTemplate, HeaderValueTemplate, Render,
};
pub use internal_redirect::{InternalRedirect, NotFollowed, RedirectPredicate, RedirectTarget, Trail};
pub use list::RouteList;
pub use mirror::{Mirror, MirrorHost};
pub use normalize::{merge_slashes, normalize_path, unescape_slashes};
pub use path_match::PathMatch;
pub use predicate::{
    HeaderMatch, HeaderPredicate, HeaderPredicateName, QueryMatch, QueryPredicate, RouteMatch,
};
pub use query::decoded_query_value;
pub use rare_table::RareTable;
pub use rewrite::{Asked, HostRewrite, PathRewrite, Redirect, RedirectPath};
pub use time_limits::{Origin, TimeLimit, TimeLimits};
pub use uri_template::{TemplateError, TemplateRewrite, UriTemplate};

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::Name;
use crate::cluster::RequestPriority;
use crate::endpoint::Labels;
use crate::filter::FilterSettings;
use crate::log::BodyFormat;
use crate::proxy_protocol::UpstreamHeader;
use crate::retry::RetryPolicy;
use crate::snapshot::ClusterId;

/// One `RouteConfiguration`.
#[derive(Debug)]
pub struct RouteTable {
    /// The resource name.
    pub name: Name,
    /// Virtual hosts in the order given; unchanged ones are shared with the version before.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Domain to virtual host; shared with the version before where no domain moved.
    pub domains: Arc<DomainIndex>,
    /// `ignore_port_in_host_matching`.
    pub ignore_port: bool,
    /// Mutations at this level.
    pub headers: HeaderMutationPair,
    /// `most_specific_header_mutations_wins`.
    pub most_specific_wins: bool,
    /// `typed_per_filter_config` at this level.
    pub filters: FilterSettings,
    /// What few tables say.
    pub rare: Option<Box<RareTable>>,
    /// Hash of the resource as received; equal means unchanged.
    pub fingerprint: u64,
}

/// One `VirtualHost`.
#[derive(Debug)]
pub struct VirtualHost {
    /// Name.
    pub name: Name,
    /// Domains as given.
    pub domains: Vec<Name>,
    /// Routes in order.
    pub routes: RouteList,
    /// Mutations at this level.
    pub headers: HeaderMutationPair,
    /// `include_request_attempt_count`.
    pub include_attempt_count: bool,
    /// `include_attempt_count_in_response`.
    pub attempt_count_in_response: bool,
    /// `include_is_timeout_retry_header`.
    pub include_is_timeout_retry: bool,
    /// `require_tls`.
    pub require_tls: RequireTls,
    /// `typed_per_filter_config` at this level.
    pub filters: FilterSettings,
    /// Hash of the virtual host as received.
    pub fingerprint: u64,
}

/// `VirtualHost.TlsRequirementType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequireTls {
    /// Plaintext is fine.
    #[default]
    None,
    /// Redirect plaintext from outside.
    ExternalOnly,
    /// Redirect all plaintext.
    All,
}

/// One `Route`.
#[derive(Debug)]
pub struct Route {
    /// `name`, or `""`.
    pub name: Name,
    /// When it is taken.
    pub criteria: RouteMatch,
    /// What it does.
    pub action: Action,
    /// Mutations at this level.
    pub headers: HeaderMutationPair,
    /// `typed_per_filter_config` at this level.
    pub filters: FilterSettings,
}

/// What a route does.
#[derive(Debug)]
pub enum Action {
    /// `route`.
    Forward(Box<Forward>),
    /// `redirect`.
    Redirect(Box<Redirect>),
    /// `direct_response`.
    Respond(DirectResponse),
}

/// `direct_response`.
#[derive(Debug, Clone)]
pub struct DirectResponse {
    /// Status, 100 to 599 by Envoy's rule.
    pub status: http::StatusCode,
    /// Body, with content type `text/plain`.
    pub body: Bytes,
    /// `body_format`: what makes the body, and its type.
    pub format: Option<Arc<BodyFormat>>,
}

/// `RouteAction`.
#[derive(Debug)]
pub struct Forward {
    /// Where to.
    pub cluster: ClusterChoice,
    /// `cluster_not_found_response_code`, default 503.
    pub cluster_not_found: http::StatusCode,
    /// Path rewriting.
    pub path: PathRewrite,
    /// Host rewriting.
    pub host: HostRewrite,
    /// `append_x_forwarded_host`.
    pub append_x_forwarded_host: bool,
    /// `priority`: whose limits of the cluster hold.
    pub priority: RequestPriority,
    /// `timeout`: whole response after the whole request; default 15 s, `None` for `0s`.
    pub timeout: Option<Duration>,
    /// Whether `timeout` was said or is Envoy's default.
    pub timeout_said: bool,
    /// `idle_timeout`: `None` inherits the connection manager's; `Some(None)` switches it off.
    pub idle_timeout: Option<Option<Duration>>,
    /// `max_stream_duration`.
    pub stream_duration: Option<Box<StreamDuration>>,
    /// How an endpoint is chosen, as far as the route has a say; `None`: it has none.
    pub endpoint: Option<Box<EndpointChoice>>,
    /// `upgrade_configs` of this route: token and whether it is enabled.
    pub upgrades: Vec<(Box<str>, bool)>,
    /// `retry_policy`, the route's or else its virtual host's.
    pub retry: Option<Arc<RetryPolicy>>,
    /// How much of a request's body may be kept for another attempt, bytes; `None`: the listener's buffer limit.
    pub buffer_limit: Option<u64>,
    /// What few routes say.
    pub rare: Option<Box<Rare>>,
}

/// What few routes say of forwarding: without any of it a route has no room for it.
#[derive(Debug, Default)]
pub struct Rare {
    /// `request_mirror_policies` of the route, or else of its virtual host or table.
    pub mirrors: Arc<[Mirror]>,
    /// `internal_redirect_policy`, or `internal_redirect_action` in its terms.
    pub internal_redirect: Option<InternalRedirect>,
    /// `connect_config`: CONNECT requests end here.
    pub connect: Option<ConnectEnd>,
    /// `hedge_policy.hedge_on_per_try_timeout` of the route, or else of its virtual host.
    pub hedge_on_per_try_timeout: bool,
    /// `remora.fallback` of the route's metadata.
    pub fallback: Option<Box<Fallback>>,
}

impl Forward {
    /// Whether attempts go on beside those that are made after them. Upgrades are never sent twice.
    pub fn hedges(&self, upgrade: bool) -> bool {
        self.rare
            .as_deref()
            .is_some_and(|rare| rare.hedge_on_per_try_timeout && !upgrade)
    }
}

/// `RouteAction.UpgradeConfig.ConnectConfig`: the body of a request is what the upstream gets, as TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectEnd {
    /// `allow_post`: POST requests too.
    pub post: bool,
    /// `proxy_protocol_config`.
    pub header: Option<UpstreamHeader>,
}

impl Rare {
    /// Whether anything is said.
    pub fn is_empty(&self) -> bool {
        self.mirrors.is_empty()
            && self.internal_redirect.is_none()
            && self.connect.is_none()
            && !self.hedge_on_per_try_timeout
            && self.fallback.is_none()
    }
}

/// What a route says of the choice of an endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointChoice {
    /// How the request's hash for consistent balancing is made.
    pub hash_policies: Vec<HashPolicy>,
    /// `metadata_match` under `envoy.lb`: the subset.
    pub labels: Option<Labels>,
}

/// `RouteAction.MaxStreamDuration`.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamDuration {
    /// `max_stream_duration`.
    pub max: Option<Duration>,
    /// `grpc_timeout_header_max`: honour `grpc-timeout` up to this; `Some(ZERO)` is without bound.
    pub grpc_timeout_max: Option<Duration>,
    /// `grpc_timeout_header_offset`.
    pub grpc_timeout_offset: Duration,
}

/// Where a route or a TCP proxy sends.
#[derive(Debug, Clone)]
pub enum ClusterChoice {
    /// `cluster`.
    One(ClusterId),
    /// `weighted_clusters`.
    Weighted(Arc<WeightedClusters>),
    /// `cluster_header`: the cluster named by this request header.
    Header(http::HeaderName),
}

/// `weighted_clusters`.
#[derive(Debug)]
pub struct WeightedClusters {
    /// Entries in order; those of weight 0 are kept for reporting and never chosen.
    pub entries: Vec<WeightedCluster>,
    /// Sum of the weights, at least 1.
    pub total: u32,
}

/// One entry of `weighted_clusters`.
#[derive(Debug)]
pub struct WeightedCluster {
    /// Where to.
    pub cluster: ClusterId,
    /// Share out of the total.
    pub weight: u32,
    /// `host_rewrite_literal`.
    pub host_rewrite: Option<http::HeaderValue>,
    /// Mutations at this level (the most specific one).
    pub headers: HeaderMutationPair,
    /// `typed_per_filter_config` at this level.
    pub filters: FilterSettings,
    /// `metadata_match` of the entry over that of its route; `None`: the entry says nothing.
    pub labels: Option<Box<Labels>>,
}

impl ClusterChoice {
    /// The cluster for something without headers (a tunnel), and the weighted entry it came from; `None` if there is
    /// nothing to choose or a header would name it.
    pub fn draw(&self, rng: &mut fastrand::Rng) -> Option<(ClusterId, Option<&WeightedCluster>)> {
        match self {
            Self::One(cluster) => Some((*cluster, None)),
            Self::Weighted(clusters) => {
                let entry = clusters.choose(rng.u32(..clusters.total.max(1)))?;
                Some((entry.cluster, Some(entry)))
            }
            Self::Header(_) => None,
        }
    }
}

impl WeightedClusters {
    /// The entry that `ticket` (uniform in `0..total`) falls on.
    pub fn choose(&self, ticket: u32) -> Option<&WeightedCluster> {
        let mut rest = ticket % self.total.max(1);
        for entry in &self.entries {
            if rest < entry.weight {
                return Some(entry);
            }
            rest -= entry.weight;
        }
        None
    }
}
