//! What policies may look at.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use crate::endpoint::LabelValue;
use crate::identity::SubjectAltName;
use crate::metadata::Metadata;
use crate::proxy_protocol::Metadata as Announced;
use crate::route::RequestFacts;

/// A connection, or a request on it.
#[derive(Debug, Clone, Copy)]
pub struct AccessFacts<'a> {
    /// The request as the router saw it; `None`: a connection is judged.
    pub request: Option<RequestFacts<'a>>,
    /// The client, or who a PROXY header named.
    pub source: SocketAddr,
    /// The directly connected peer.
    pub direct: SocketAddr,
    /// The client by `x-forwarded-for` and trust; of a connection its source.
    pub remote: SocketAddr,
    /// Where the client wanted to go.
    pub destination: SocketAddr,
    /// SNI; empty where there is none.
    pub server_name: &'a str,
    /// The connection is TLS.
    pub tls: bool,
    /// The client's certificate, if it showed one that was verified.
    pub identity: Option<Identity<'a>>,
    /// What filters noted before.
    pub metadata: Option<&'a Metadata>,
    /// What a PROXY header left.
    pub announced: &'a Announced,
}

/// Names of a verified certificate.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Subject alternative names, in order.
    pub names: &'a [SubjectAltName],
    /// Subject in RFC 2253 form, or empty.
    pub subject: &'a str,
}

impl<'a> Identity<'a> {
    /// URI names.
    pub fn uris(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().filter_map(|name| match name {
            SubjectAltName::Uri(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// DNS names.
    pub fn dns(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().filter_map(|name| match name {
            SubjectAltName::Dns(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

/// Which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRole {
    /// [`AccessFacts::source`].
    Source,
    /// [`AccessFacts::direct`].
    Direct,
    /// [`AccessFacts::remote`].
    Remote,
    /// [`AccessFacts::destination`].
    Destination,
}

impl<'a> AccessFacts<'a> {
    /// One of the addresses.
    pub fn address(&self, role: AddressRole) -> SocketAddr {
        match role {
            AddressRole::Source => self.source,
            AddressRole::Direct => self.direct,
            AddressRole::Remote => self.remote,
            AddressRole::Destination => self.destination,
        }
    }

    /// Its IP address, that of IPv4 in IPv6 as IPv4; `None`: the end is a Unix socket.
    pub fn ip(&self, role: AddressRole) -> Option<IpAddr> {
        Some(self.address(role).ip().to_canonical()).filter(|ip| !ip.is_unspecified())
    }

    /// What was noted at a path: by filters, else by a PROXY header.
    pub(super) fn noted<K: AsRef<str>>(&self, namespace: &str, path: &[K]) -> Option<Cow<'a, LabelValue>> {
        let by_filters = self.metadata.and_then(|all| all.at(namespace, path));
        if let Some(value) = by_filters {
            return Some(Cow::Borrowed(value));
        }
        let [key] = path else { return None };
        let mut announced = self.announced.iter();
        let found = announced.find(|(name, other, _)| **name == *namespace && **other == *key.as_ref());
        found.map(|(.., text)| Cow::Owned(LabelValue::Text(text.as_str().into())))
    }
}
