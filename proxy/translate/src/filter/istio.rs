//! Istio's own filters, which its proxies know and Envoy does not.
//!
//! Holds: `istio.alpn` is kept as data (which ALPN is offered upstream, by protocol); the peer metadata filter becomes
//! the removal of its headers. Both forms are read: the message itself, and its JSON inside a `TypedStruct`.

use std::sync::Arc;

use remora_model::filter::{HttpFilter, UpstreamAlpn};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::google::protobuf::{Struct, Value, value::Kind};
use crate::tls::PEER_EXCHANGE;

pub(super) const PEER_METADATA: &str = "io.istio.http.peer_metadata.Config";
pub(super) const ALPN: &str = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";

/// `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig`.
#[derive(Clone, PartialEq, prost::Message)]
struct AlpnFilter {
    #[prost(message, repeated, tag = "1")]
    alpn_override: Vec<AlpnOverride>,
}

/// Its `AlpnOverride`: 0 is HTTP/1.0, 1 HTTP/1.1, 2 HTTP/2.
#[derive(Clone, PartialEq, prost::Message)]
struct AlpnOverride {
    #[prost(int32, tag = "1")]
    upstream_protocol: i32,
    #[prost(string, repeated, tag = "2")]
    alpn_override: Vec<String>,
}

pub(super) fn alpn(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<HttpFilter> {
    let said = match extension.free() {
        Some(free) => from_json(work, free),
        None => extension.decode::<AlpnFilter>(work)?,
    };
    let mut offers = UpstreamAlpn::default();
    work.each("alpn_override", &said.alpn_override, |work, said| -> Option<()> {
        let list = match said.upstream_protocol {
            0 => &mut offers.http10,
            1 => &mut offers.http11,
            2 => &mut offers.http2,
            other => {
                work.wrong_at(
                    "upstream_protocol",
                    format!("expected HTTP10, HTTP11 or HTTP2, found {other}"),
                );
                return None;
            }
        };
        let tokens = said.alpn_override.iter().filter(|token| *token != PEER_EXCHANGE);
        *list = tokens.map(|token| Box::from(token.as_bytes())).collect();
        None
    });
    Some(HttpFilter::UpstreamAlpn(Arc::new(offers)))
}

fn from_json(work: &mut Work<'_, '_>, free: &Struct) -> AlpnFilter {
    let entries = list(member(free, "alpnOverride", "alpn_override"));
    let alpn_override = work.each("alpn_override", entries, |work, entry| {
        let Some(Kind::StructValue(entry)) = &entry.kind else {
            work.wrong("expected an object");
            return None;
        };
        let upstream_protocol = match member(entry, "upstreamProtocol", "upstream_protocol") {
            None => 0,
            Some(Kind::StringValue(name)) => ["HTTP10", "HTTP11", "HTTP2"]
                .iter()
                .position(|known| known == name)
                .map_or(-1, |at| at as i32),
            Some(Kind::NumberValue(number)) => *number as i32,
            Some(_) => -1,
        };
        let tokens = list(member(entry, "alpnOverride", "alpn_override"))
            .iter()
            .filter_map(|token| match &token.kind {
                Some(Kind::StringValue(token)) => Some(token.clone()),
                _ => None,
            });
        Some(AlpnOverride {
            upstream_protocol,
            alpn_override: tokens.collect(),
        })
    });
    AlpnFilter { alpn_override }
}

/// A member under its JSON name or its proto name.
fn member<'s>(object: &'s Struct, json: &str, proto: &str) -> Option<&'s Kind> {
    object
        .fields
        .get(json)
        .or_else(|| object.fields.get(proto))?
        .kind
        .as_ref()
}

fn list(kind: Option<&Kind>) -> &[Value] {
    match kind {
        Some(Kind::ListValue(list)) => &list.values,
        _ => &[],
    }
}
