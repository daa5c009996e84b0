//! PROXY protocol: the listener filter, the upstream transport socket, TLVs.

use bytes::Bytes;
use remora_model::listener::InspectorScope;
use remora_model::proxy_protocol::{
    Merge, OwnTlvs, Passing, ProxyFilter, Strictness, Tlv, TlvEncoding, TlvRule, UpstreamHeader, Version,
};

use crate::context::Work;
use crate::pb::envoy::config::core::v3::proxy_protocol_config::Version as SaidVersion;
use crate::pb::envoy::config::core::v3::proxy_protocol_pass_through_tl_vs::PassTlVsMatchType;
use crate::pb::envoy::config::core::v3::{ProxyProtocolConfig, ProxyProtocolPassThroughTlVs, TlvEntry};
use crate::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use crate::pb::envoy::extensions::filters::listener::proxy_protocol::v3::proxy_protocol::key_value_pair::ValueStringEncoding;
use crate::pb::envoy::extensions::filters::listener::proxy_protocol::v3::proxy_protocol::{
    Rule, TlvLocation,
};
use crate::pb::envoy::extensions::filters::network::tcp_proxy::v3::ProxyProtocolTlvMergePolicy as Policy;
use crate::value;

/// The namespace of rules that name none.
const NAMESPACE: &str = "envoy.filters.listener.proxy_protocol";

pub(crate) fn filter(
    work: &mut Work<'_, '_>,
    said: &ProxyProtocol,
    scope: InspectorScope,
) -> Option<Box<ProxyFilter>> {
    work.review(said);
    let disallowed = work.each(
        "disallowed_versions",
        &said.disallowed_versions,
        |work, version| value::known::<SaidVersion>(work, "", *version),
    );
    let strictness = Strictness {
        v1: !disallowed.contains(&SaidVersion::V1),
        v2: !disallowed.contains(&SaidVersion::V2),
        optional: said.allow_requests_without_proxy_protocol,
    };
    if !strictness.v1 && !strictness.v2 {
        work.wrong_at(
            "disallowed_versions",
            "Proxy Protocol filter is misconfigured: all proxy protocol versions are disallowed.",
        );
    }
    let location: TlvLocation = value::known(work, "tlv_location", said.tlv_location)?;
    let rules = work.each("rules", &said.rules, rule);
    let stat_name = match said.stat_prefix.as_str() {
        "" => "proxy_proto".into(),
        prefix => format!("proxy_proto.{prefix}").into(),
    };
    Some(Box::new(ProxyFilter {
        scope,
        strictness,
        keep: passing(work, said.pass_through_tlvs.as_ref()),
        rules: match location {
            TlvLocation::DynamicMetadata => rules.into_iter().flatten().collect(),
            // Nothing reads the state of a connection.
            TlvLocation::FilterState => Vec::new(),
        },
        stat_name,
    }))
}

/// A rule; `Some(None)` where it says nothing of what is to be done.
fn rule(work: &mut Work<'_, '_>, said: &Rule) -> Option<Option<TlvRule>> {
    let kind = kind(work, "tlv_type", said.tlv_type)?;
    let Some(pair) = &said.on_tlv_present else {
        return Some(None);
    };
    work.at("on_tlv_present", |work| {
        let encoding = value::known(work, "value_string_encoding", pair.value_string_encoding)?;
        let namespace = match pair.metadata_namespace.as_str() {
            "" => NAMESPACE,
            said => said,
        };
        Some(Some(TlvRule {
            kind,
            namespace: namespace.into(),
            key: value::required(work, "key", &pair.key)?.into(),
            encoding: match encoding {
                ValueStringEncoding::Base64 => TlvEncoding::Base64,
                ValueStringEncoding::Unspecified | ValueStringEncoding::SanitizedUtf8 => TlvEncoding::Text,
            },
        }))
    })
}

fn kind(work: &mut Work<'_, '_>, field: &str, said: u32) -> Option<u8> {
    let kind = u8::try_from(said).ok();
    if kind.is_none() {
        work.wrong_at(field, format!("expected at most 255, found {said}"));
    }
    kind
}

fn passing(work: &mut Work<'_, '_>, said: Option<&ProxyProtocolPassThroughTlVs>) -> Passing {
    let Some(said) = said else {
        return Passing::None;
    };
    work.at("pass_through_tlvs", |work| {
        let kinds = work.each("tlv_type", &said.tlv_type, |work, said| kind(work, "", *said));
        match value::known(work, "match_type", said.match_type) {
            Some(PassTlVsMatchType::IncludeAll) => Passing::All,
            Some(PassTlVsMatchType::Include) | None => Passing::Of(kinds),
        }
    })
}

/// The header that an upstream is sent; nothing said is version 1.
pub(crate) fn header(work: &mut Work<'_, '_>, said: Option<&ProxyProtocolConfig>) -> Option<UpstreamHeader> {
    let nothing = ProxyProtocolConfig::default();
    let said = said.unwrap_or(&nothing);
    let version = match value::known(work, "version", said.version)? {
        SaidVersion::V1 => Version::V1,
        SaidVersion::V2 => Version::V2,
    };
    Some(UpstreamHeader {
        version,
        pass: passing(work, said.pass_through_tlvs.as_ref()),
        added: tlvs(work, "added_tlvs", &said.added_tlvs),
    })
}

fn tlvs(work: &mut Work<'_, '_>, field: &str, said: &[TlvEntry]) -> Vec<Tlv> {
    work.each(field, said, |work, said| {
        let kind = kind(work, "type", said.r#type)?;
        match (said.value.is_empty(), &said.format_string) {
            (false, None) => Some(Tlv {
                kind,
                value: Bytes::copy_from_slice(&said.value),
            }),
            (true, None) => {
                work.wrong("Invalid TLV configuration: one of 'value' or 'format_string' must be set.");
                None
            }
            (false, Some(_)) => {
                work.wrong("Invalid TLV configuration: only one of 'value' or 'format_string' may be set.");
                None
            }
            (true, Some(_)) => {
                work.wrong_at("format_string", "is not supported: values of TLVs with operators");
                None
            }
        }
    })
}

/// `proxy_protocol_tlvs` of a TCP proxy.
pub(crate) fn own(work: &mut Work<'_, '_>, said: &[TlvEntry], policy: i32) -> Option<OwnTlvs> {
    let merge = match value::known(work, "proxy_protocol_tlv_merge_policy", policy)? {
        Policy::AddIfAbsent => Merge::AddIfAbsent,
        Policy::OverwriteByTypeIfExistsOrAdd => Merge::Overwrite,
        Policy::AppendIfExistsOrAdd => Merge::Append,
    };
    let tlvs = tlvs(work, "proxy_protocol_tlvs", said);
    (!tlvs.is_empty() || merge != Merge::AddIfAbsent).then_some(OwnTlvs { tlvs, merge })
}
