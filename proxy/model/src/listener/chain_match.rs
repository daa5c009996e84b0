//! Which filter chain is a connection for? (`FilterChainMatch`)
//!
//! Envoy's order, each level "most specific else unset", without back-tracking: destination port, destination address
//! (longest prefix), server name (exact, then longest `*.suffix`), transport protocol, application protocols (the
//! client's list in its order), directly connected source prefix, source type, source prefix, source port.

use std::net::SocketAddr;

use ipnet::IpNet;

/// One `FilterChainMatch`, normalised: server names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ChainMatch {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges`; empty matches any address.
    pub destination_prefixes: Vec<IpNet>,
    /// `server_names`: `a.b` or `*.b`.
    pub server_names: Vec<Box<str>>,
    /// `transport_protocol`: `tls`, `raw_buffer`, or empty.
    pub transport_protocol: Box<str>,
    /// `application_protocols`.
    pub application_protocols: Vec<Box<str>>,
    /// `direct_source_prefix_ranges`.
    pub direct_source_prefixes: Vec<IpNet>,
    /// `source_type`.
    pub source_type: SourceType,
    /// `source_prefix_ranges`.
    pub source_prefixes: Vec<IpNet>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
}

/// `FilterChainMatch.ConnectionSourceType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SourceType {
    /// Any.
    #[default]
    Any,
    /// Source is loopback or the destination's own address.
    SameIpOrLoopback,
    /// Anything else.
    External,
}

/// What is known of a connection when a chain is chosen.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionFacts<'a> {
    /// Where the client wanted to go (original destination if redirected).
    pub destination: SocketAddr,
    /// The client, as a proxy in front may have said.
    pub source: SocketAddr,
    /// The directly connected peer.
    pub direct_source: SocketAddr,
    /// SNI in lower case.
    pub server_name: Option<&'a str>,
    /// The first bytes are a TLS ClientHello.
    pub tls: bool,
    /// ALPN offers, or what HTTP inspection found (`http/1.0`, `http/1.1`, `h2c`), in the client's order.
    pub application_protocols: &'a [Box<[u8]>],
}
