//! `request_mirror_policies` of tables, virtual hosts and routes: the most specific level that says any holds.

use std::sync::Arc;

use prost::Message;
use remora_model::route::{ClusterChoice, Mirror, MirrorHost};

use crate::context::Work;
use crate::filter::header_mutation;
use crate::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy;
use crate::{fingerprint, value};

pub(crate) fn policies(work: &mut Work<'_, '_>, said: &[RequestMirrorPolicy]) -> Arc<[Mirror]> {
    if said.is_empty() {
        return Arc::default();
    }
    work.each("request_mirror_policies", said, policy).into()
}

/// Equal where the policies are: virtual hosts are kept only as long as what they inherit stays.
pub(crate) fn hash(said: &[RequestMirrorPolicy]) -> u64 {
    if said.is_empty() {
        return 0;
    }
    fingerprint::of(said.iter().map(Message::encode_to_vec).collect::<Vec<_>>())
}

fn policy(work: &mut Work<'_, '_>, said: &RequestMirrorPolicy) -> Option<Mirror> {
    work.review(said);
    let cluster = match (said.cluster.as_str(), said.cluster_header.as_str()) {
        ("", "") => {
            work.wrong("Exactly one of cluster or cluster_header in request mirror policy can be specified");
            None
        }
        (name, "") => Some(ClusterChoice::One(work.routed_cluster("shadow cluster", name))),
        ("", header) => value::header_name(work, "cluster_header", header).map(ClusterChoice::Header),
        (_, _) => {
            work.wrong("Exactly one of cluster or cluster_header in request mirror policy can be specified");
            None
        }
    };
    let fraction = match said.runtime_fraction.as_ref().map(|said| &said.default_value) {
        None => None,
        Some(Some(default)) => Some(value::per_million(
            work,
            "runtime_fraction.default_value.denominator",
            default,
        )?),
        Some(None) => {
            work.wrong_at(
                "runtime_fraction.default_value",
                "expected a fraction, found none",
            );
            None
        }
    };
    let host = if said.host_rewrite_literal.is_empty() {
        if said.disable_shadow_host_suffix_append {
            MirrorHost::Kept
        } else {
            MirrorHost::Suffixed
        }
    } else {
        let literal = said.host_rewrite_literal.as_bytes();
        MirrorHost::Literal(value::header_value(work, "host_rewrite_literal", literal)?)
    };
    Some(Mirror {
        cluster: cluster?,
        fraction_per_million: fraction,
        host,
        headers: work.each(
            "request_headers_mutations",
            &said.request_headers_mutations,
            header_mutation::operation,
        ),
    })
}
