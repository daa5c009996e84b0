//! `TcpProxy` to [`TcpProxy`].

use std::sync::Arc;
use std::time::Duration;

use remora_model::endpoint::Labels;
use remora_model::filter::FilterSettings;
use remora_model::listener::TcpProxy;
use remora_model::route::{ClusterChoice, HeaderMutationPair, WeightedCluster, WeightedClusters};

use crate::access_log::access_logs;
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::extensions::filters::network::tcp_proxy::v3::{self as api, tcp_proxy};
use crate::pb::envoy::r#type::v3::hash_policy::PolicySpecifier;
use crate::{subsets, value};

/// Envoy's default `idle_timeout` of a tunnel.
const IDLE: Duration = Duration::from_secs(3600);

pub(crate) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<TcpProxy>> {
    let said: api::TcpProxy = extension.decode(work)?;
    work.review(&said);
    let stat_prefix = value::required(work, "stat_prefix", &said.stat_prefix);
    let labels = subsets::wanted(said.metadata_match.as_ref());
    let cluster = cluster_choice(work, &said, labels.as_ref());
    let mut hash_source_address = false;
    for (index, policy) in said.hash_policy.iter().enumerate() {
        match &policy.policy_specifier {
            Some(PolicySpecifier::SourceIp(_)) => hash_source_address = true,
            _ => work.wrong_at(
                &format!("hash_policy[{index}]"),
                "is not supported: only source_ip is",
            ),
        }
    }
    let duration = said.max_downstream_connection_duration.as_ref();
    Some(Arc::new(TcpProxy {
        stat_prefix: stat_prefix?.into(),
        idle_timeout: value::limit_or(work, "idle_timeout", said.idle_timeout.as_ref(), IDLE),
        connection_duration: value::limit(work, "max_downstream_connection_duration", duration),
        connect_attempts: value::number_or(
            work,
            "max_connect_attempts",
            said.max_connect_attempts.as_ref(),
            1,
            1..=u32::MAX,
        ),
        hash_source_address,
        labels: labels.map(Box::new),
        access_logs: access_logs(work, &said.access_log),
        cluster: cluster?,
    }))
}

fn cluster_choice(
    work: &mut Work<'_, '_>,
    said: &api::TcpProxy,
    labels: Option<&Labels>,
) -> Option<ClusterChoice> {
    match &said.cluster_specifier {
        Some(tcp_proxy::ClusterSpecifier::Cluster(name)) => {
            let name = value::required(work, "cluster", name)?;
            Some(ClusterChoice::One(work.context.clusters.id(name)))
        }
        Some(tcp_proxy::ClusterSpecifier::WeightedClusters(said)) => {
            work.at("weighted_clusters", |work| weighted(work, said, labels))
        }
        None => {
            work.wrong("expected one of cluster, weighted_clusters; found none");
            None
        }
    }
}

fn weighted(
    work: &mut Work<'_, '_>,
    said: &tcp_proxy::WeightedCluster,
    labels: Option<&Labels>,
) -> Option<ClusterChoice> {
    if said.clusters.is_empty() {
        work.wrong_at("clusters", "expected at least one cluster, found none");
    }
    let entries = work.each("clusters", &said.clusters, |work, said| {
        work.review(said);
        if said.weight == 0 {
            work.wrong_at("weight", "expected at least 1, found 0");
        }
        let name = value::required(work, "name", &said.name)?;
        Some(WeightedCluster {
            cluster: work.context.clusters.id(name),
            weight: said.weight,
            host_rewrite: None,
            headers: HeaderMutationPair::default(),
            filters: FilterSettings::default(),
            labels: subsets::wanted(said.metadata_match.as_ref())
                .map(|own| Box::new(labels.map_or_else(|| own.clone(), |proxy| proxy.merged(&own)))),
        })
    });
    let total: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
    let Ok(total) = u32::try_from(total) else {
        work.wrong("The sum of weights of all weighted clusters exceeds 4294967295");
        return None;
    };
    Some(ClusterChoice::Weighted(Arc::new(WeightedClusters {
        entries,
        total: total.max(1),
    })))
}
