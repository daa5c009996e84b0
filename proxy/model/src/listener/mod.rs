//! Which listener and which filter chain is a connection for?
//!
//! Holds: sockets are not listeners. A socket knows its bound address; the listener is looked up for each accepted
//! connection, re-dispatched by original destination (`use_original_dst`), and then the chain is chosen by
//! `envoy.config.listener.v3.FilterChainMatch`. Chains are `Arc`s that survive an update that does not change them.
//! Opens no socket and reads no byte.

mod candidates;
mod chain_match;
mod proxy_status;
mod rare_manager;
mod table;
mod tcp_proxy;
#[cfg(test)]
pub(crate) mod tests;

pub use candidates::CommonUpstream;
pub use chain_match::{ChainIndex, ChainMatch, ConnectionFacts, DuplicateMatch, SourceType};
pub use proxy_status::{ProxyName, ProxyStatus};
pub use rare_manager::{LocalReplies, RareManager, ReplyMapper};
pub use table::ListenerTable;
pub use tcp_proxy::{LogTimes, TcpProxy, TunnelOptions, Tunneling};

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::Name;
use crate::filter::{ChainedFilter, NetworkFilter};
use crate::identity::ServerTls;
use crate::log::AccessLog;
use crate::policy::ConnectionAccess;
use crate::proxy_protocol::ProxyFilter;
use crate::route::RouteTable;
use crate::snapshot::RouteTableId;

/// Where a listener or the admin port is bound.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP address; port 0 lets the system choose.
    Socket(SocketAddr),
    /// A Unix-domain socket's path.
    Pipe(Arc<str>),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Pipe(path) => f.write_str(path),
        }
    }
}

/// Whose traffic a listener carries (`core.v3.TrafficDirection`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficDirection {
    /// Not said.
    #[default]
    Unspecified,
    /// To the local workload.
    Inbound,
    /// From the local workload.
    Outbound,
}

/// One `envoy.config.listener.v3.Listener`.
#[derive(Debug)]
pub struct Listener {
    /// The resource name.
    pub name: Name,
    /// `address`, then `additional_addresses`.
    pub addresses: Vec<ListenAddress>,
    /// False: never bound, reached only by hand-off from a listener with `use_original_dst`.
    pub bind_to_port: bool,
    /// Accepted connections are handed to the listener of their original destination.
    pub use_original_dst: bool,
    /// Direction.
    pub traffic_direction: TrafficDirection,
    /// Metric prefix: `stat_prefix`, else the address in Envoy's form (`0.0.0.0_15001`).
    pub stat_prefix: Name,
    /// What is looked at before a chain is chosen.
    pub inspection: Inspection,
    /// All chains, in the order given.
    pub chains: Vec<Arc<FilterChain>>,
    /// Index over `chains`.
    pub index: ChainIndex,
    /// Used where no chain matches.
    pub default_chain: Option<Arc<FilterChain>>,
    /// Listener-level access logs (connections that found no chain).
    pub access_logs: Vec<AccessLog>,
    /// Kernel accept queue, if said.
    pub tcp_backlog: Option<u32>,
}

impl Listener {
    /// The chain that takes over the connections of `before`, a chain of an earlier version of this listener: one that
    /// demands exactly the same of a connection, under the same name where there are several.
    pub fn successor_of(&self, before: &FilterChain) -> Option<&Arc<FilterChain>> {
        let all = || {
            let chains = self.chains.iter().chain(self.default_chain.as_ref());
            chains.filter(|chain| chain.security == before.security)
        };
        all()
            .find(|chain| chain.name == before.name)
            .or_else(|| all().next())
    }
}

/// What the listener filters look at, in the order that Envoy's filters would run.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// `original_dst` filter or `use_original_dst`: ask the kernel for the destination before redirection.
    pub original_destination: bool,
    /// `proxy_protocol`: runs before the inspectors.
    pub proxy: Option<Box<ProxyFilter>>,
    /// `tls_inspector`, with the ports where it is disabled.
    pub tls: Option<InspectorScope>,
    /// `http_inspector`, with the ports where it is disabled.
    pub http: Option<InspectorScope>,
    /// `listener_filters_timeout`; `None` waits for ever (`0s`). Envoy's default is 15 s.
    pub timeout: Option<Duration>,
    /// On timeout go on with what is known instead of closing.
    pub continue_on_timeout: bool,
}

/// Where an inspector runs: everywhere but at these destination ports (`filter_disabled`).
#[derive(Debug, Clone, Default)]
pub struct InspectorScope {
    /// Disabled for these inclusive destination port ranges.
    pub disabled_ports: Vec<(u16, u16)>,
}

impl InspectorScope {
    /// Whether the inspector runs for connections to this port.
    pub fn covers(&self, port: u16) -> bool {
        !self
            .disabled_ports
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&port))
    }
}

/// One filter chain: what happens to a connection that matched it.
#[derive(Debug)]
pub struct FilterChain {
    /// The chain's name, or `""`.
    pub name: Name,
    /// When it is chosen.
    pub criteria: ChainMatch,
    /// `None`: plaintext. `Some`: the connection must be TLS with this context.
    pub tls: Option<Arc<ServerTls>>,
    /// How long a TLS handshake may take (`transport_socket_connect_timeout`); `None` waits for ever.
    pub handshake_timeout: Option<Duration>,
    /// Network filters before the terminal one.
    pub network_filters: Vec<NetworkFilter>,
    /// The terminal filter.
    pub terminal: Terminal,
    /// Hash of everything that decides what a connection on this chain may be (criteria, TLS, network filters, kind of
    /// terminal), but for policies, by which open connections are judged anew. Two chains with equal `security` may exchange live connections.
    pub security: u64,
    /// Hash of the whole chain as received; equal means unchanged.
    pub fingerprint: u64,
}

impl FilterChain {
    /// The policies that a connection must pass, in order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<ConnectionAccess>> {
        self.network_filters.iter().filter_map(|filter| match filter {
            NetworkFilter::Access(access) => Some(access),
            NetworkFilter::RateLimit(_) | NetworkFilter::ConnectionLimit(_) => None,
        })
    }
}

/// The last network filter of a chain.
#[derive(Debug, Clone)]
pub enum Terminal {
    /// `http_connection_manager`.
    Http(Arc<HttpManager>),
    /// `tcp_proxy`.
    Tcp(Arc<TcpProxy>),
    /// No filter at all: the connection is accepted and closed.
    Close,
}

/// `codec_type` of a connection manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// ALPN, else the first bytes decide.
    #[default]
    Auto,
    /// Always HTTP/1.
    Http1,
    /// Always HTTP/2, by prior knowledge.
    Http2,
}

/// Where an HTTP connection manager's routes come from.
#[derive(Debug, Clone)]
pub enum Routes {
    /// `route_config`.
    Inline(Arc<RouteTable>),
    /// `rds`.
    Dynamic(RouteTableId),
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
#[derive(Debug)]
pub struct HttpManager {
    /// Metric prefix (`http.<stat_prefix>.`).
    pub stat_prefix: Name,
    /// Codec.
    pub codec: Codec,
    /// Routes.
    pub routes: Routes,
    /// Filters before the router, in order.
    pub filters: Vec<ChainedFilter>,
    /// `per_connection_buffer_limit_bytes` of the listener: so much of a body is kept for another attempt, where the
    /// route does not say; Envoy's default is 1 MiB.
    pub buffer_limit: u32,
    /// `use_remote_address`: we are the edge, the peer's address is the client's.
    pub use_remote_address: bool,
    /// Trusted proxies in front (`xff_num_trusted_hops`).
    pub trusted_hops: u32,
    /// `internal_address_config.cidr_ranges`: clients that may speak to the router by `x-envoy-*`; by default nobody.
    pub internal_addresses: Vec<IpNet>,
    /// Leave `x-forwarded-for` as it came.
    pub skip_xff_append: bool,
    /// What happens to `x-forwarded-client-cert`.
    pub client_certificate_details: ClientCertificateDetails,
    /// `server_name`, Envoy's default `envoy`.
    pub server_name: http::HeaderValue,
    /// What happens to the `server` response header.
    pub server_header: ServerHeader,
    /// `generate_request_id`, default true.
    pub generate_request_id: bool,
    /// Keep the client's `x-request-id` although we are the edge.
    pub preserve_external_request_id: bool,
    /// Echo it in every response.
    pub always_set_request_id_in_response: bool,
    /// `via` to append in both directions.
    pub via: Option<http::HeaderValue>,
    /// RFC 3986 path normalisation before routing.
    pub normalize_path: bool,
    /// Adjacent slashes become one before routing.
    pub merge_slashes: bool,
    /// What happens to `%2F` and `%5C` in a path, before it is normalised.
    pub escaped_slashes: EscapedSlashes,
    /// Take the dot at the end of the host away before routing (`strip_trailing_host_dot`).
    pub strip_trailing_host_dot: bool,
    /// Strip the port from the authority before routing: always, when it is the listener's, or never.
    pub strip_port: StripPort,
    /// Upgrades that may pass: lower-case tokens and whether they are enabled.
    pub upgrades: Vec<(Box<str>, bool)>,
    /// Timeouts.
    pub timeouts: HttpTimeouts,
    /// Limits.
    pub limits: HttpLimits,
    /// HTTP/1 and HTTP/2 protocol options of the downstream side.
    pub http1: Http1Options,
    /// See `http1`.
    pub http2: Http2Options,
    /// Access logs.
    pub access_logs: Vec<AccessLog>,
    /// `100 Continue` is the upstream's to send, not ours.
    pub proxy_100_continue: bool,
    /// What few managers say.
    pub rare: Option<Box<RareManager>>,
}

/// `forward_client_cert_details` and `set_current_client_cert_details`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientCertificateDetails {
    /// What happens to the header.
    pub mode: ForwardClientCertificate,
    /// Write the peer's `Subject`.
    pub subject: bool,
    /// Write the peer's certificate, URL-encoded PEM.
    pub cert: bool,
    /// Write the chain.
    pub chain: bool,
    /// Write DNS SANs.
    pub dns: bool,
    /// Write URI SANs.
    pub uri: bool,
    /// Write the issuer of the peer's certificate.
    pub issuer: bool,
}

/// `ForwardClientCertDetails`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardClientCertificate {
    /// Remove the header (the default).
    #[default]
    Sanitize,
    /// Forward it on mutual TLS, unchanged.
    ForwardOnly,
    /// Append this hop on mutual TLS.
    AppendForward,
    /// Replace it by this hop on mutual TLS.
    SanitizeSet,
    /// Forward it always.
    AlwaysForwardOnly,
}

/// `server_header_transformation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerHeader {
    /// Replace (the default).
    #[default]
    Overwrite,
    /// Only where absent.
    AppendIfAbsent,
    /// Untouched.
    PassThrough,
}

/// `path_with_escaped_slashes_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// Leave them (also Envoy's implementation-specific default).
    #[default]
    Keep,
    /// Answer 400.
    Reject,
    /// Unescape, and answer 307 with the path that results; gRPC gets 400.
    UnescapeAndRedirect,
    /// Unescape and go on.
    UnescapeAndForward,
}

/// `strip_any_host_port` / `strip_matching_host_port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StripPort {
    /// Leave it.
    #[default]
    Never,
    /// When it equals the listener's port.
    Matching,
    /// Always.
    Any,
}

/// Time limits of a connection manager; `None` means no limit.
#[derive(Debug, Clone, Default)]
pub struct HttpTimeouts {
    /// Connection without a stream (`common_http_protocol_options.idle_timeout`, default 1 h).
    pub connection_idle: Option<Duration>,
    /// Life of a connection (`max_connection_duration`).
    pub connection_duration: Option<Duration>,
    /// Stream without progress (`stream_idle_timeout`, default 5 min).
    pub stream_idle: Option<Duration>,
    /// Whether that was said or is the default.
    pub stream_idle_said: bool,
    /// Whole request received (`request_timeout`).
    pub request: Option<Duration>,
    /// Request head received (`request_headers_timeout`).
    pub request_headers: Option<Duration>,
    /// Life of a stream (`max_stream_duration`).
    pub stream_duration: Option<Duration>,
    /// Between the two GOAWAYs of a drain (`drain_timeout`, default 5 s).
    pub drain: Duration,
    /// Wait for the peer to close after we did (`delayed_close_timeout`, default 1 s).
    pub delayed_close: Option<Duration>,
}

/// Limits of a connection manager.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// `max_request_headers_kb` in bytes; Envoy's default 60 KiB.
    pub max_head_bytes: u32,
    /// `max_headers_count`; Envoy's default 100.
    pub max_headers: u32,
    /// `max_requests_per_connection`; 0 is unlimited.
    pub max_requests_per_connection: u32,
    /// Header names with underscores.
    pub underscores: Underscores,
}

/// `headers_with_underscores_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// Keep.
    #[default]
    Allow,
    /// 400.
    Reject,
    /// Drop the header.
    Drop,
}

/// `Http1ProtocolOptions`, both directions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http1Options {
    /// `allow_absolute_url`; Envoy's default true.
    pub absolute_url: bool,
    /// `accept_http_10`.
    pub accept_http_10: bool,
    /// `default_host_for_http_10`.
    pub default_host_for_http_10: Option<Box<str>>,
    /// `enable_trailers`.
    pub trailers: bool,
}

/// `Http2ProtocolOptions`, both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Options {
    /// `max_concurrent_streams`.
    pub max_concurrent_streams: Option<u32>,
    /// `initial_stream_window_size`, bytes.
    pub stream_window: u32,
    /// `initial_connection_window_size`, bytes.
    pub connection_window: u32,
    /// `connection_keepalive.interval` and `.timeout`.
    pub keepalive: Option<(Duration, Duration)>,
}

impl Default for Http2Options {
    /// Envoy 1.40's: no stream limit from us beyond 1024, 16 MiB stream and 24 MiB connection windows.
    fn default() -> Self {
        Self {
            max_concurrent_streams: Some(1024),
            stream_window: 16 << 20,
            connection_window: 24 << 20,
            keepalive: None,
        }
    }
}
