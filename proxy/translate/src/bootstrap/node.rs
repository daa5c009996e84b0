//! Who are we to the control plane? (`envoy.config.core.v3.Node`)
//!
//! What always holds: the encoded node says what the file says, with the command line's words over it, and that it is
//! Remora of this version that speaks. It is encoded once, so that every stream sends the same bytes.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use remora_model::Name;
use remora_proto::pb::envoy::config::core::v3 as core;
use remora_proto::pb::envoy::config::core::v3::node::UserAgentVersionType;
use remora_proto::pb::envoy::r#type::v3::SemanticVersion;

use super::wire::NODE_METADATA;

/// `--service-node`, `--service-cluster` and `--service-zone`, which replace what the file says.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeFlags<'a> {
    /// Replaces `node.id`.
    pub id: Option<&'a str>,
    /// Replaces `node.cluster`.
    pub cluster: Option<&'a str>,
    /// Replaces `node.locality.zone`.
    pub zone: Option<&'a str>,
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique among the proxies of the control plane; empty if nobody said it.
    pub id: Name,
    /// The service that we stand beside; may be empty.
    pub cluster: Name,
    /// Where we run; parts may be empty.
    pub locality: Locality,
    /// The encoded `google.protobuf.Struct` of the file, verbatim; empty if there is none.
    pub metadata: Vec<u8>,
    /// The encoded `envoy.config.core.v3.Node` to send.
    pub encoded: Vec<u8>,
}

/// `envoy.config.core.v3.Locality`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// For example `eu-west-1`.
    pub region: Name,
    /// For example `eu-west-1a`.
    pub zone: Name,
    /// Smaller than a zone.
    pub sub_zone: Name,
}

/// `metadata` is the encoded `Node.metadata`: decoded and encoded anew, its keys would come out in random order.
pub(super) fn node(said: Option<core::Node>, metadata: Vec<u8>, flags: NodeFlags<'_>) -> Node {
    let mut node = said.unwrap_or_default();
    let has_metadata = node.metadata.take().is_some();
    if let Some(id) = flags.id {
        id.clone_into(&mut node.id);
    }
    if let Some(cluster) = flags.cluster {
        cluster.clone_into(&mut node.cluster);
    }
    if let Some(zone) = flags.zone {
        zone.clone_into(&mut node.locality.get_or_insert_default().zone);
    }
    node.user_agent_name = "remora".into();
    node.user_agent_version_type = Some(UserAgentVersionType::UserAgentBuildVersion(core::BuildVersion {
        version: Some(version()),
        metadata: None,
    }));
    let locality = node.locality.clone().unwrap_or_default();
    let mut encoded = node.encode_to_vec();
    if has_metadata {
        encode_key(NODE_METADATA, WireType::LengthDelimited, &mut encoded);
        encode_varint(metadata.len() as u64, &mut encoded);
        encoded.extend_from_slice(&metadata);
    }
    Node {
        id: node.id.as_str().into(),
        cluster: node.cluster.as_str().into(),
        locality: Locality {
            region: locality.region.into(),
            zone: locality.zone.into(),
            sub_zone: locality.sub_zone.into(),
        },
        metadata,
        encoded,
    }
}

/// The version of this build.
fn version() -> SemanticVersion {
    let part = |text: &str| text.parse().unwrap_or_default();
    SemanticVersion {
        major_number: part(env!("CARGO_PKG_VERSION_MAJOR")),
        minor_number: part(env!("CARGO_PKG_VERSION_MINOR")),
        patch: part(env!("CARGO_PKG_VERSION_PATCH")),
    }
}
