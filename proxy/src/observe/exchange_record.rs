//! Everything that is known of one exchange or one tunnel at its end: the only source of metrics, access log and span.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Version};
use remora_model::Name;
use remora_model::cluster::ClusterConfig;
use remora_model::endpoint::{Endpoint, Labels};
use remora_model::metadata::Metadata;
use remora_model::proxy_protocol::{Announced, Metadata as AnnouncedMetadata, Tlv};
use remora_model::route::{ClientCertificate, Route, VirtualHost};

use crate::tls::Session;

/// What is known of a downstream connection.
#[derive(Debug)]
pub struct ConnectionRecord {
    /// Counts connections of this process.
    pub id: u64,
    /// When it was accepted.
    pub accepted: Instant,
    /// The directly connected peer.
    pub peer: SocketAddr,
    /// The client: who a PROXY header named, else the peer.
    pub client: SocketAddr,
    /// What beside the addresses was kept of a PROXY header.
    pub header: Option<Box<HeaderRecord>>,
    /// Where the client wanted to go.
    pub local: SocketAddr,
    /// That is elsewhere than here: the connection was redirected, or a PROXY header says so.
    pub redirected: bool,
    /// SNI that the client sent.
    pub server_name: Option<Box<str>>,
    /// Name of the listener.
    pub listener: Name,
    /// Name of the filter chain.
    pub chain: Name,
    /// What TLS told us, if it was TLS.
    pub tls: Option<Session>,
    /// Many exchanges at a time (HTTP/2).
    pub multiplexed: bool,
    /// What network filters noted of it.
    pub metadata: Option<Box<Metadata>>,
}

/// What was kept of a connection's PROXY header.
#[derive(Debug, Default)]
pub struct HeaderRecord {
    /// TLVs that an upstream may be told.
    pub tlvs: Vec<Tlv>,
    /// What the filter's rules made of TLVs.
    pub metadata: AnnouncedMetadata,
}

impl ConnectionRecord {
    /// What the client showed in its handshake.
    pub fn certificate(&self) -> ClientCertificate {
        match &self.tls {
            Some(session) if session.is_mutual() => ClientCertificate::Verified,
            Some(session) if session.peer.is_some() => ClientCertificate::Shown,
            _ => ClientCertificate::None,
        }
    }

    /// Where a redirected connection was to go; one that meant us has no such place, and would lead back here.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        self.redirected.then_some(self.local)
    }

    /// What a PROXY header says of this connection.
    pub fn announced(&self) -> Announced {
        Announced {
            source: self.client,
            destination: self.local,
            tlvs: self
                .header
                .as_ref()
                .map(|header| header.tlvs.clone())
                .unwrap_or_default(),
        }
    }
}

/// What is known of the upstream connection that an exchange used.
#[derive(Debug, Clone)]
pub struct UpstreamRecord {
    /// Our address.
    pub local: Option<SocketAddr>,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What TLS told us of it.
    pub tls: Option<Rc<Session>>,
    /// Already used by an earlier exchange.
    pub reused: bool,
}

impl UpstreamRecord {
    /// Whether the endpoint would not be trusted any more: no further exchange may use its connection.
    pub fn is_refused(&self) -> bool {
        let peer = self.tls.as_ref().and_then(|session| session.peer.as_ref());
        peer.is_some_and(|peer| peer.is_refused())
    }
}

/// Why a line is written (`%ACCESS_LOG_TYPE%`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogType {
    /// A request ended.
    DownstreamEnd,
    /// A tunnel begins.
    TcpConnectionStart,
    /// A tunnel has its upstream connection.
    TcpUpstreamConnected,
    /// A tunnel is open.
    TcpPeriodic,
    /// A tunnel ended.
    TcpConnectionEnd,
    /// A connection found no chain.
    NotSet,
}

impl LogType {
    /// Envoy's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::DownstreamEnd => "DownstreamEnd",
            Self::TcpConnectionStart => "TcpConnectionStart",
            Self::TcpUpstreamConnected => "TcpUpstreamConnected",
            Self::TcpPeriodic => "TcpPeriodic",
            Self::TcpConnectionEnd => "TcpConnectionEnd",
            Self::NotSet => "NotSet",
        }
    }
}

/// One exchange (or one tunnel: then the HTTP fields are empty).
#[derive(Debug)]
pub struct ExchangeRecord {
    /// Its connection.
    pub connection: Rc<ConnectionRecord>,
    /// When its head had arrived.
    pub started: Instant,
    /// Config generation that decided it.
    pub generation: u64,
    /// Client's address by `x-forwarded-for` and trust.
    pub client: SocketAddr,
    /// The client is inside (`internal_address_config`).
    pub internal: bool,
    /// The router says nothing of itself (`suppress_envoy_headers`).
    pub quiet: bool,
    /// The client is a router, which may try again.
    pub by_router: bool,
    /// What was given in the place of its cluster's answer.
    pub degraded: Option<&'static str>,
    /// Another attempt would be in vain: the policy or the cluster allows no more.
    pub given_up: bool,
    /// Version the client spoke.
    pub version: Option<Version>,
    /// Method.
    pub method: Method,
    /// Authority as the client sent it.
    pub authority: Option<Authority>,
    /// Path and query as the client sent it.
    pub path: Option<PathAndQuery>,
    /// Scheme as it was routed; `None`: by whether the connection is TLS.
    pub scheme: Option<Scheme>,
    /// Authority as sent upstream, if it was rewritten.
    pub sent_authority: Option<Authority>,
    /// Path and query as sent upstream, if it was rewritten or normalised.
    pub sent_path: Option<PathAndQuery>,
    /// Headers as sent upstream; kept only if a log asks for them.
    pub request_headers: Option<HeaderMap>,
    /// Headers as sent downstream; kept only if a log asks for them.
    pub response_headers: Option<HeaderMap>,
    /// Trailers as sent downstream; kept only if a log asks for them.
    pub response_trailers: Option<HeaderMap>,
    /// Status sent downstream.
    pub status: Option<u16>,
    /// It was a health check (`envoy.filters.http.health_check`).
    pub health_check: bool,
    /// `grpc-status` of the response, where there is one.
    pub grpc_status: Option<u32>,
    /// Envoy's response flags.
    pub flags: Vec<&'static str>,
    /// Envoy's `response_code_details`.
    pub details: Cow<'static, str>,
    /// The sentence of the failure, if it was one.
    pub failure: Option<String>,
    /// What filters noted of it (dynamic metadata); nothing, mostly.
    pub metadata: Option<Box<Metadata>>,
    /// The route.
    pub route: Option<Arc<Route>>,
    /// Its virtual host.
    pub virtual_host: Option<Arc<VirtualHost>>,
    /// The cluster.
    pub cluster: Option<Arc<ClusterConfig>>,
    /// The upstream connection.
    pub upstream: Option<UpstreamRecord>,
    /// Why the upstream transport failed.
    pub transport_failure: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// Why the connection was ended by us (`%CONNECTION_TERMINATION_DETAILS%`).
    pub termination: Option<Box<str>>,
    /// At which time of its life it is written.
    pub log_type: LogType,
    /// Body bytes from the client.
    pub received: u64,
    /// Body bytes to the client.
    pub sent: u64,
    /// Whole request received, after `started`.
    pub request_received: Option<Duration>,
    /// First byte of the upstream's head, after `started`.
    pub response_started: Option<Duration>,
    /// Last byte sent, after `started`.
    pub ended: Option<Duration>,
}

impl ExchangeRecord {
    /// Why there was no other attempt, as a response flag.
    pub fn gave_up(&mut self, flag: Option<&'static str>) {
        self.given_up |= flag.is_some();
        let new = flag.filter(|flag| !self.flags.contains(flag));
        self.flags.extend(new);
    }

    /// Whether a client that could try this again is to be told not to: it was tried again here in vain, or could not be.
    pub fn is_in_vain(&self, failed: bool) -> bool {
        self.by_router && (self.given_up || failed && self.attempts > 1)
    }

    /// Enters what the head had become when it left: for access logs, which show it beside what the client sent.
    pub fn note_sent(&mut self, scheme: Option<Scheme>, authority: Option<Authority>, path: &PathAndQuery) {
        self.scheme = scheme;
        // By text, as `Authority` itself compares without case.
        if authority.as_ref().map(Authority::as_str) != self.authority.as_ref().map(Authority::as_str) {
            self.sent_authority = authority;
        }
        if self.path.as_ref() != Some(path) {
            self.sent_path = Some(path.clone());
        }
    }

    /// Notes fields under a name space of the dynamic metadata.
    pub fn note(&mut self, namespace: &str, fields: Labels) {
        self.metadata.get_or_insert_default().note(namespace, fields);
    }

    /// A record of something that starts now.
    pub fn new(connection: Rc<ConnectionRecord>, started: Instant) -> Self {
        Self {
            client: connection.client,
            connection,
            started,
            generation: 0,
            internal: false,
            quiet: false,
            by_router: false,
            given_up: false,
            degraded: None,
            version: None,
            method: Method::GET,
            authority: None,
            path: None,
            scheme: None,
            sent_authority: None,
            sent_path: None,
            request_headers: None,
            response_headers: None,
            response_trailers: None,
            status: None,
            health_check: false,
            grpc_status: None,
            flags: Vec::new(),
            details: Cow::Borrowed(""),
            failure: None,
            metadata: None,
            route: None,
            virtual_host: None,
            cluster: None,
            upstream: None,
            transport_failure: None,
            attempts: 0,
            termination: None,
            log_type: LogType::DownstreamEnd,
            received: 0,
            sent: 0,
            request_received: None,
            response_started: None,
            ended: None,
        }
    }
}
