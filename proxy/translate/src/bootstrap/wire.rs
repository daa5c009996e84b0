//! Which bytes are the static resources and the node's metadata?
//!
//! What always holds: their bytes are those of the file, unknown fields included, because they are cut from the
//! encoded bootstrap and not encoded anew; the parts of a merged bootstrap follow each other in order. Bytes that were
//! decoded once cannot fail here, so what does not parse is passed over.

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use remora_proto::TypeUrl;

use super::StaticResource;

/// `Bootstrap.static_resources` of `envoy/config/bootstrap/v3/bootstrap.proto`.
const STATIC_RESOURCES: u32 = 2;

/// `Bootstrap.node`, and `Node.metadata` of `envoy/config/core/v3/base.proto`.
const NODE: u32 = 1;
pub(super) const NODE_METADATA: u32 = 3;

/// A list in `static_resources`.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Listener,
    Cluster,
    Secret,
}

impl Kind {
    /// Field number in `StaticResources`, field number of the resource's name, field name of the list, type.
    fn facts(self) -> (u32, u32, &'static str, TypeUrl) {
        match self {
            Self::Listener => (1, 1, "listeners", TypeUrl::LISTENER),
            Self::Cluster => (2, 1, "clusters", TypeUrl::CLUSTER),
            Self::Secret => (3, 1, "secrets", TypeUrl::SECRET),
        }
    }
}

/// The resources of one kind, in order.
pub(super) fn static_resources(
    bootstrap: &[u8],
    kind: Kind,
    place: &dyn Fn(&str) -> String,
) -> Vec<StaticResource> {
    let (field, name_field, list, type_url) = kind.facts();
    occurrences(bootstrap, STATIC_RESOURCES)
        .into_iter()
        .flat_map(|resources| occurrences(resources, field))
        .enumerate()
        .map(|(index, bytes)| StaticResource {
            name: occurrences(bytes, name_field)
                .last()
                .map_or("", |name| str::from_utf8(name).unwrap_or_default())
                .into(),
            type_url,
            bytes: bytes.to_vec(),
            place: place(&format!("static_resources.{list}[{index}]")),
        })
        .collect()
}

/// The metadata of the node: encoded structs one after the other are their merge.
pub(super) fn node_metadata(bootstrap: &[u8]) -> Vec<u8> {
    let nodes = occurrences(bootstrap, NODE).into_iter();
    nodes
        .flat_map(|node| occurrences(node, NODE_METADATA))
        .flatten()
        .copied()
        .collect()
}

/// The payloads of a length-delimited field of a message.
fn occurrences(message: &[u8], field: u32) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = message;
    while rest.has_remaining() {
        let Ok((number, wire_type)) = decode_key(&mut rest) else {
            return found;
        };
        if number != field || wire_type != WireType::LengthDelimited {
            if skip_field(wire_type, number, &mut rest, DecodeContext::default()).is_err() {
                return found;
            }
            continue;
        }
        let length = decode_varint(&mut rest)
            .ok()
            .and_then(|length| usize::try_from(length).ok());
        let Some((payload, after)) = length.and_then(|length| rest.split_at_checked(length)) else {
            return found;
        };
        found.push(payload);
        rest = after;
    }
    found
}
