//! Plaintext or TLS, and with which context, for one endpoint (`transport_socket_matches`).
//!
//! The first match whose labels are all in the endpoint's `envoy.transport_socket_match` metadata wins; no match falls
//! back to `transport_socket`. This is the switch of automatic mutual TLS.

use std::sync::Arc;

use crate::Name;
use crate::endpoint::{LabelValue, Labels};
use crate::identity::ClientTls;
use crate::proxy_protocol::UpstreamHeader;

/// How bytes travel to an endpoint.
#[derive(Debug, Clone)]
pub enum TransportSocket {
    /// `raw_buffer`.
    Plain,
    /// `tls`.
    Tls(Arc<ClientTls>),
    /// `upstream_proxy_protocol`: a PROXY header, then one of the others.
    Announced(Arc<(UpstreamHeader, TransportSocket)>),
}

impl TransportSocket {
    /// The TLS context, if it is TLS.
    pub fn tls(&self) -> Option<&Arc<ClientTls>> {
        match self {
            Self::Plain => None,
            Self::Tls(context) => Some(context),
            Self::Announced(announced) => announced.1.tls(),
        }
    }

    /// The PROXY header that goes in front, if one does.
    pub fn header(&self) -> Option<&UpstreamHeader> {
        match self {
            Self::Plain | Self::Tls(_) => None,
            Self::Announced(announced) => Some(&announced.0),
        }
    }
}

/// One entry of `transport_socket_matches`.
#[derive(Debug, Clone)]
pub struct TransportMatch {
    /// Name, for metrics and explanations.
    pub name: Name,
    /// All of these must be among the endpoint's labels; empty matches every endpoint.
    pub criteria: Vec<(Name, LabelValue)>,
    /// What is used then.
    pub socket: TransportSocket,
}

/// All transport sockets of a cluster.
#[derive(Debug, Clone)]
pub struct TransportSockets {
    /// Matches in order.
    pub matches: Vec<TransportMatch>,
    /// `transport_socket`, used where nothing matches.
    pub fallback: TransportSocket,
}

impl TransportSockets {
    /// The same plaintext or TLS for every endpoint.
    pub fn always(socket: TransportSocket) -> Self {
        Self {
            matches: Vec::new(),
            fallback: socket,
        }
    }

    /// The socket for an endpoint with these transport labels.
    pub fn choose(&self, labels: &Labels) -> &TransportSocket {
        self.matches
            .iter()
            .find(|candidate| {
                candidate
                    .criteria
                    .iter()
                    .all(|(key, value)| labels.at(key) == Some(value))
            })
            .map_or(&self.fallback, |found| &found.socket)
    }
}
