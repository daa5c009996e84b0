//! Who was a connection's client before a proxy in front of us took it?
//!
//! The PROXY protocol of HAProxy (doc/proxy-protocol.txt), versions 1 and 2, in both directions. Holds: [`parse`] is strict and
//! bounded (107 bytes, or 16 bytes and 64 KiB), decides with the first byte that settles it, and gives the same answer
//! however the bytes are cut; what [`write`] writes it reads. Reads no socket.

mod parse;
#[cfg(test)]
mod tests;
mod write;

pub use parse::{LONGEST, Outcome, Strictness, parse};
pub use write::write;

use std::net::SocketAddr;

use bytes::Bytes;

use crate::Name;
use crate::listener::InspectorScope;

/// Versions of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// A type, a length and a value behind the addresses of version 2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tlv {
    /// Its type.
    pub kind: u8,
    /// Its value.
    pub value: Bytes,
}

/// What a header says of the connection that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Announced {
    /// The client.
    pub source: SocketAddr,
    /// Where it had connected to.
    pub destination: SocketAddr,
    /// In the order given.
    pub tlvs: Vec<Tlv>,
}

/// Which TLVs pass (`ProxyProtocolPassThroughTLVs`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Passing {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those of these types.
    Of(Vec<u8>),
}

impl Passing {
    /// Whether one of this type passes.
    pub fn passes(&self, kind: u8) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Of(kinds) => kinds.contains(&kind),
        }
    }
}

/// `envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol`.
#[derive(Debug, Clone)]
pub struct ProxyFilter {
    /// Where it runs.
    pub scope: InspectorScope,
    /// Versions that are not disallowed, and whether a header must be there.
    pub strictness: Strictness,
    /// `pass_through_tlvs`: what an upstream may be told.
    pub keep: Passing,
    /// `rules`, in order; empty where `tlv_location` is the filter state, which nothing reads.
    pub rules: Vec<TlvRule>,
    /// `proxy_proto`, with `stat_prefix` behind a dot where there is one.
    pub stat_name: Name,
}

/// One of `rules`: the first TLV of a type becomes dynamic metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlvRule {
    /// `tlv_type`.
    pub kind: u8,
    /// `metadata_namespace`.
    pub namespace: Name,
    /// `key`.
    pub key: Name,
    /// `value_string_encoding`.
    pub encoding: TlvEncoding,
}

/// `ValueStringEncoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlvEncoding {
    /// UTF-8, with `!` in the place of what is not.
    #[default]
    Text,
    /// Base64 with padding.
    Base64,
}

/// Dynamic metadata of a connection: namespace, key, text.
pub type Metadata = Vec<(Name, Name, String)>;

impl ProxyFilter {
    /// What the rules make of a header's TLVs. `base64` encodes.
    pub fn metadata(&self, tlvs: &[Tlv], base64: impl Fn(&[u8]) -> String) -> Metadata {
        let found = self.rules.iter().filter_map(|rule| {
            let tlv = tlvs.iter().find(|tlv| tlv.kind == rule.kind)?;
            let text = match rule.encoding {
                TlvEncoding::Text => sanitized(&tlv.value),
                TlvEncoding::Base64 => base64(&tlv.value),
            };
            Some((rule.namespace.clone(), rule.key.clone(), text))
        });
        found.collect()
    }
}

/// Invalid sequences become `!`.
fn sanitized(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

/// `ProxyProtocolConfig` of an upstream transport socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamHeader {
    /// Which version is written.
    pub version: Version,
    /// `pass_through_tlvs`.
    pub pass: Passing,
    /// `added_tlvs`, constant ones; of each type they replace what passes.
    pub added: Vec<Tlv>,
}

/// How a TCP proxy's own TLVs meet those of the connection (`ProxyProtocolTlvMergePolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Merge {
    /// Only where the connection has no header.
    #[default]
    AddIfAbsent,
    /// Instead of those of the same type.
    Overwrite,
    /// Behind them.
    Append,
}

/// `proxy_protocol_tlvs` of a TCP proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTlvs {
    /// Constant ones.
    pub tlvs: Vec<Tlv>,
    /// `proxy_protocol_tlv_merge_policy`.
    pub merge: Merge,
}

impl OwnTlvs {
    /// The TLVs of a connection; `None`: it came without a header.
    pub fn over(&self, theirs: Option<&[Tlv]>) -> Vec<Tlv> {
        let Some(theirs) = theirs else {
            return self.tlvs.clone();
        };
        let kept =
            |tlv: &&Tlv| self.merge != Merge::Overwrite || !self.tlvs.iter().any(|own| own.kind == tlv.kind);
        let own = if self.merge == Merge::AddIfAbsent {
            &[][..]
        } else {
            &self.tlvs
        };
        theirs.iter().filter(kept).chain(own).cloned().collect()
    }
}
