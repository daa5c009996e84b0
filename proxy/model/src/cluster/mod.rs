//! What an upstream cluster is, and which of its endpoints a request may use.
//!
//! Holds: the configuration ([`ClusterConfig`]) and the endpoints ([`crate::endpoint::EndpointSet`]) change
//! independently and share everything that did not change; counts live in [`ClusterLive`], which outlives both.

mod addresses;
mod aggregate;
mod breakers;
mod pick;
#[cfg(test)]
pub(crate) mod tests;
mod transport;

pub use addresses::{AddressOrder, Family};
pub use aggregate::Level;
pub use breakers::{Occupied, RequestPriority, Thresholds, leave_place, take_place};
pub(crate) use pick::Over;
pub use pick::{NotThere, Pick, PickFacts, Unpickable};
pub use transport::{TransportMatch, TransportSocket, TransportSockets};

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderMap, HeaderName};

use crate::Name;
use crate::balance::{BalancePolicy, Bringing};
use crate::endpoint::{BuildOptions, EndpointSet, HealthStatuses, LabelValue};
use crate::health::{Breaker, HealthSettings};
use crate::limit::MetadataKey;
use crate::listener::{Http1Options, Http2Options};
use crate::retry::BackOff;
use crate::route::HashPolicy;
use crate::snapshot::ClusterId;

/// A cluster as the data path sees it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What CDS said.
    pub config: Arc<ClusterConfig>,
    /// What EDS, DNS or the cluster itself said.
    pub endpoints: Arc<EndpointSet>,
    /// Counts that outlive both.
    pub live: Arc<ClusterLive>,
}

/// One `envoy.config.cluster.v3.Cluster`.
#[derive(Debug)]
pub struct ClusterConfig {
    /// The resource name.
    pub name: Name,
    /// Its id.
    pub id: ClusterId,
    /// Name in metrics: `alt_stat_name`, else the name.
    pub stat_name: Name,
    /// Where endpoints come from.
    pub discovery: Discovery,
    /// TCP (and TLS) connect limit; default 5 s.
    pub connect_timeout: Duration,
    /// How one endpoint is chosen.
    pub balance: BalancePolicy,
    /// Below this share (percent) of healthy endpoints all are used; default 50, 0 never.
    pub panic_threshold: u8,
    /// Locality weights are honoured.
    pub locality_weighted: bool,
    /// `override_host_status`: a session goes on with its endpoint while it is in one of these.
    pub session_statuses: HealthStatuses,
    /// Plaintext or TLS, per endpoint.
    pub transport: TransportSockets,
    /// HTTP towards the endpoints.
    pub http: Arc<UpstreamHttp>,
    /// Local address to bind before connecting.
    pub bind: Option<Box<UpstreamBind>>,
    /// `upstream_connection_options`.
    pub connection: Option<Box<ConnectionOptions>>,
    /// Limits, for priority DEFAULT and HIGH; enforced by `live`.
    pub thresholds: [Thresholds; 2],
    /// How the health of endpoints is found out; `None`: only the control plane says.
    pub health: Option<Box<HealthSettings>>,
    /// What few clusters say.
    pub rare: Option<Box<RareSettings>>,
    /// Hash of the resource as received.
    pub fingerprint: u64,
}

impl ClusterConfig {
    /// What of it shapes the endpoint set.
    pub fn build_options(&self) -> BuildOptions {
        BuildOptions {
            policy: self.balance.clone(),
            locality_weighted: self.locality_weighted,
            panic_threshold: self.panic_threshold,
        }
    }

    /// The name to send as SNI for a request (`auto_sni`): that of the header that was named for it
    /// (`override_auto_sni_header`) where the request has one, else its authority's; `None` where requests name nobody.
    pub fn server_name<'h>(
        &self,
        authority: Option<&'h Authority>,
        headers: &'h HeaderMap,
    ) -> Option<&'h str> {
        if !self.http.auto_sni {
            return None;
        }
        let header = self
            .rare
            .as_ref()
            .and_then(|rare| rare.server_name_header.as_ref());
        let said = header.and_then(|header| headers.get(header)?.to_str().ok());
        said.filter(|said| !said.is_empty())
            .map(host_of)
            .or(authority.map(Authority::host))
    }
}

/// A host without its port.
fn host_of(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => text,
    }
}

/// What few clusters say: without any of it a cluster has no room for it.
#[derive(Debug, Default)]
pub struct RareSettings {
    /// `hash_policy` of the balancing policy, or else of `HttpProtocolOptions`; they hold instead of the route's.
    pub hash_policies: Vec<HashPolicy>,
    /// `upstream_http_protocol_options.override_auto_sni_header`.
    pub server_name_header: Option<HeaderName>,
}

impl RareSettings {
    /// Nothing at all if nothing was said.
    pub fn said(self) -> Option<Box<Self>> {
        let any = !self.hash_policies.is_empty() || self.server_name_header.is_some();
        any.then(|| Box::new(self))
    }
}

/// Where endpoints come from.
#[derive(Debug, Clone)]
pub enum Discovery {
    /// The cluster's own `load_assignment`.
    Static,
    /// EDS under this name.
    Eds {
        /// `service_name`, else the cluster's name.
        service: Name,
    },
    /// Every address that each DNS name resolves to.
    StrictDns(Box<Dns>),
    /// The first address that the one DNS name resolves to, at each new connection.
    LogicalDns(Box<Dns>),
    /// The address that the client wanted.
    OriginalDestination(OriginalDestination),
    /// Those of other clusters, priority after priority ([`Cluster::member`]).
    Aggregate(Arc<[ClusterId]>),
}

/// DNS settings of a cluster, with the endpoints whose host names are to be resolved.
#[derive(Debug, Clone)]
pub struct Dns {
    /// `dns_refresh_rate`, default 5 s; used where TTLs are not respected or are missing.
    pub refresh: Duration,
    /// `dns_failure_refresh_rate`: the wait after failures, longer with each; `None`: `refresh`.
    pub failure: Option<BackOff>,
    /// `respect_dns_ttl`.
    pub respect_ttl: bool,
    /// `dns_jitter`: added at random to each wait.
    pub jitter: Duration,
    /// `dns_lookup_family`.
    pub family: DnsFamily,
    /// Names to resolve, as an endpoint set whose addresses are host names.
    pub targets: Arc<crate::endpoint::Assignment>,
}

/// `dns_lookup_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsFamily {
    /// IPv6 if there is any, else IPv4 (Envoy's `AUTO`, the default).
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4 if there is any, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

/// `original_dst_lb_config`.
#[derive(Debug, Clone, Default)]
pub struct OriginalDestination {
    /// `use_http_header`: the header that names `ip:port` (default `x-envoy-original-dst-host`).
    pub header: Option<http::HeaderName>,
    /// `upstream_port_override`.
    pub port_override: Option<u16>,
    /// `metadata_key`: where dynamic metadata names `ip:port`.
    pub metadata: Option<Box<MetadataKey>>,
}

impl OriginalDestination {
    /// The address that the request names itself, by metadata before a header.
    pub fn named(&self, bringing: &Bringing<'_>) -> Option<SocketAddr> {
        let noted = || {
            let key = self.metadata.as_deref()?;
            match bringing.metadata?.at(&key.namespace, &key.path)? {
                LabelValue::Text(address) => address.parse().ok(),
                _ => None,
            }
        };
        let said = || {
            let value = bringing.headers?.get(self.header.as_ref()?)?;
            value.to_str().ok()?.parse().ok()
        };
        noted().or_else(said)
    }
}

/// `HttpProtocolOptions` of a cluster; clusters that say the same share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamHttp {
    /// Which protocol is spoken.
    pub protocol: UpstreamProtocol,
    /// HTTP/1 options.
    pub http1: Http1Options,
    /// HTTP/2 options.
    pub http2: Http2Options,
    /// Idle upstream connections close after this; default 1 h.
    pub idle_timeout: Option<Duration>,
    /// `max_connection_duration`.
    pub connection_duration: Option<Duration>,
    /// `max_stream_duration`.
    pub stream_duration: Option<Duration>,
    /// `max_requests_per_connection`; 0 is unlimited.
    pub max_requests_per_connection: u32,
    /// `upstream_http_protocol_options.auto_sni`: SNI from the request's authority.
    pub auto_sni: bool,
    /// `auto_san_validation`: the certificate must carry that name.
    pub auto_san_validation: bool,
}

/// Which protocol is spoken to the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, prior knowledge.
    Http2,
    /// What the client spoke.
    Downstream,
    /// What ALPN chooses (`auto_config`).
    Alpn,
}

/// `upstream_bind_config`.
#[derive(Debug, Clone)]
pub struct UpstreamBind {
    /// `source_address`.
    pub source: SocketAddr,
    /// `extra_source_addresses`: the first of the endpoint's family is used.
    pub extra: Vec<SocketAddr>,
}

impl UpstreamBind {
    /// The source address of the endpoint's family, if any.
    pub fn for_family(&self, endpoint: IpAddr) -> Option<SocketAddr> {
        std::iter::once(self.source)
            .chain(self.extra.iter().copied())
            .find(|a| a.is_ipv4() == endpoint.is_ipv4())
    }
}

/// `upstream_connection_options`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectionOptions {
    /// TCP keepalive on upstream sockets.
    pub keepalive: Option<TcpKeepalive>,
    /// `happy_eyeballs_config`.
    pub order: AddressOrder,
}

/// `core.v3.TcpKeepalive`; `None` leaves the system's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct TcpKeepalive {
    /// Probes before the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// Counts of a cluster, exact across workers.
#[derive(Debug, Default)]
pub struct ClusterLive {
    /// What is in use, by priority.
    pub occupied: [Occupied; 2],
    /// Sequence of the round-robin schedulers, one for all workers.
    pub sequence: AtomicU32,
    /// There was a connection to an endpoint.
    pub used: AtomicBool,
    breaker: OnceLock<Box<Breaker>>,
}

impl ClusterLive {
    /// Its circuit breaker, made at the first call.
    pub fn breaker(&self) -> &Breaker {
        self.breaker.get_or_init(Box::default)
    }
}
