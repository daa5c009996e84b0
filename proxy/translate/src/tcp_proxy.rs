//! `TcpProxy` to [`TcpProxy`].

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use remora_model::endpoint::Labels;
use remora_model::filter::FilterSettings;
use remora_model::listener::{LogTimes, TcpProxy, TunnelOptions, Tunneling};
use remora_model::retry::BackOff;
use remora_model::route::{
    ClusterChoice, HeaderMutationPair, HeaderMutations, WeightedCluster, WeightedClusters,
};

use crate::access_log::access_logs;
use crate::context::Work;
use crate::extension::Extension;
use crate::header_mutation;
use crate::pb::envoy::config::core::v3::BackoffStrategy;
use crate::pb::envoy::extensions::filters::network::tcp_proxy::v3::{self as api, tcp_proxy};
use crate::pb::envoy::r#type::v3::hash_policy::PolicySpecifier;
use crate::{proxy_protocol, subsets, value};

/// Envoy's default `idle_timeout` of a tunnel.
const IDLE: Duration = Duration::from_secs(3600);

pub(crate) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<TcpProxy>> {
    let said: api::TcpProxy = extension.decode(work)?;
    work.review(&said);
    let stat_prefix = value::required(work, "stat_prefix", &said.stat_prefix);
    let labels = subsets::wanted(said.metadata_match.as_ref());
    let cluster = cluster_choice(work, &said, labels.as_ref());
    let hash_source_address = hashes_source_address(work, &said);
    let options = options(work, &said);
    Some(Arc::new(TcpProxy {
        stat_prefix: stat_prefix?.into(),
        idle_timeout: value::limit_or(work, "idle_timeout", said.idle_timeout.as_ref(), IDLE),
        connection_duration: at_least_a_millisecond(
            work,
            "max_downstream_connection_duration",
            said.max_downstream_connection_duration.as_ref(),
        ),
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
        options: options?,
    }))
}

/// Whether the source address is hashed. Nothing puts objects into the state of a connection that could be hashed, so a
/// policy that hashes one finds none, as in Envoy: the choice is random.
fn hashes_source_address(work: &mut Work<'_, '_>, said: &api::TcpProxy) -> bool {
    if said.hash_policy.len() > 1 {
        let found = said.hash_policy.len();
        work.wrong_at("hash_policy", format!("expected at most 1 policy, found {found}"));
    }
    match said.hash_policy.first().map(|policy| &policy.policy_specifier) {
        None => false,
        Some(Some(PolicySpecifier::SourceIp(_))) => true,
        Some(Some(PolicySpecifier::FilterState(_))) => false,
        Some(None) => {
            work.wrong_at(
                "hash_policy[0]",
                "expected one of source_ip, filter_state; found none",
            );
            false
        }
    }
}

fn at_least_a_millisecond(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&crate::pb::google::protobuf::Duration>,
) -> Option<Duration> {
    let found = value::duration(work, field, said)?;
    if found < Duration::from_millis(1) {
        work.wrong_at(field, format!("expected at least 1ms, found {found:?}"));
    }
    Some(found)
}

/// The rare settings; `Some(None)` where nothing of them is said.
fn options(work: &mut Work<'_, '_>, said: &api::TcpProxy) -> Option<Option<Box<TunnelOptions>>> {
    let mode: api::UpstreamConnectMode =
        value::known(work, "upstream_connect_mode", said.upstream_connect_mode)?;
    let early_bytes = said.max_early_data_bytes.as_ref();
    if mode != api::UpstreamConnectMode::Immediate && early_bytes.is_none() {
        work.wrong("max_early_data_bytes must be set when upstream_connect_mode is not IMMEDIATE");
    }
    let early_bytes =
        early_bytes.map(|_| value::number_or(work, "max_early_data_bytes", early_bytes, 0, 0..=1 << 20));
    let options = TunnelOptions {
        duration_jitter: jitter(work, said),
        back_off: said
            .backoff_options
            .as_ref()
            .and_then(|said| work.at("backoff_options", |work| back_off(work, said))),
        after_first_bytes: mode == api::UpstreamConnectMode::OnDownstreamData,
        early_bytes,
        log_times: log_times(work, said),
        tunneling: match &said.tunneling_config {
            Some(said) => Some(work.at("tunneling_config", |work| tunneling(work, said))?),
            None => None,
        },
        tlvs: proxy_protocol::own(
            work,
            &said.proxy_protocol_tlvs,
            said.proxy_protocol_tlv_merge_policy,
        ),
    };
    let usual = TunnelOptions::default();
    let rare = options.duration_jitter > 0.0
        || options.back_off.is_some()
        || options.after_first_bytes
        || options.early_bytes.is_some()
        || options.log_times != usual.log_times
        || options.tunneling.is_some()
        || options.tlvs.is_some();
    Some(rare.then(|| Box::new(options)))
}

fn jitter(work: &mut Work<'_, '_>, said: &api::TcpProxy) -> f64 {
    let field = "max_downstream_connection_duration_jitter_percentage";
    let percent = said.max_downstream_connection_duration_jitter_percentage.as_ref();
    let percent = percent.map_or(0.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&percent) {
        work.wrong_at(field, format!("expected 0 to 100, found {percent}"));
    }
    percent
}

fn back_off(work: &mut Work<'_, '_>, said: &BackoffStrategy) -> Option<BackOff> {
    let one = Duration::from_millis(1);
    let Some(base) = at_least_a_millisecond(work, "base_interval", said.base_interval.as_ref()) else {
        work.wrong_at("base_interval", "expected a duration, found none");
        return None;
    };
    let base = base.max(one);
    let max = said.max_interval.as_ref();
    let max = max.map_or(base.saturating_mul(10), |_| {
        value::positive(work, "max_interval", max, base)
    });
    if max < base {
        work.wrong("max_backoff_interval must be greater or equal to base_backoff_interval");
    }
    Some(BackOff { base, max })
}

fn log_times(work: &mut Work<'_, '_>, said: &api::TcpProxy) -> LogTimes {
    let of_its_own = said.access_log_options.as_ref();
    if of_its_own.is_some()
        && (said.access_log_flush_interval.is_some() || said.flush_access_log_on_connected)
    {
        work.wrong("Only one of access_log_flush_interval or access_log_options can be specified.");
    }
    match of_its_own {
        None => LogTimes {
            at_start: false,
            when_connected: said.flush_access_log_on_connected,
            every: at_least_a_millisecond(
                work,
                "access_log_flush_interval",
                said.access_log_flush_interval.as_ref(),
            ),
        },
        Some(said) => work.at("access_log_options", |work| LogTimes {
            at_start: said.flush_access_log_on_start,
            when_connected: said.flush_access_log_on_connected,
            every: at_least_a_millisecond(
                work,
                "access_log_flush_interval",
                said.access_log_flush_interval.as_ref(),
            ),
        }),
    }
}

fn tunneling(work: &mut Work<'_, '_>, said: &tcp_proxy::TunnelingConfig) -> Option<Tunneling> {
    work.review(said);
    let post = match (said.use_post, said.post_path.as_str()) {
        (true, "") => Some(PathAndQuery::from_static("/")),
        (true, path) => match path.parse() {
            Ok(path) => Some(path),
            Err(error) => {
                work.wrong_at("post_path", format!("expected a path, found '{path}': {error}"));
                return None;
            }
        },
        (false, "") => None,
        (false, _) => {
            work.wrong_at("post_path", "Can't set a post path when POST method isn't used");
            return None;
        }
    };
    let hostname = value::required(work, "hostname", &said.hostname)
        .and_then(|hostname| header_mutation::text(work, "hostname", hostname));
    let headers = HeaderMutations {
        add: work.each("headers_to_add", &said.headers_to_add, header_mutation::template),
        remove: Vec::new(),
    };
    Some(Tunneling {
        hostname: hostname?,
        post,
        headers,
    })
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
