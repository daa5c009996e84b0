//! Where a cluster's endpoints come from: `type`, `cluster_type`, `load_assignment`, `eds_cluster_config`, DNS.

use std::sync::Arc;
use std::time::Duration;

use remora_model::Name;
use remora_model::cluster::{Discovery, Dns, DnsFamily, OriginalDestination};
use remora_model::endpoint::Assignment;
use remora_model::retry::BackOff;

use crate::context::Work;
use crate::endpoint::{self, Hosts};
use crate::extension::{Extension, unknown};
use crate::pb::envoy::config::cluster::v3::{
    self as api, cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, LbConfig, LbPolicy},
};
use crate::pb::envoy::extensions::clusters::aggregate;
use crate::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as TypedFamily;
use crate::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use crate::pb::google::protobuf::Duration as Said;
use crate::rate_limits::metadata_key;
use crate::subscription::{SubscriptionKind, subscribe};
use crate::value;

const TYPED_DNS: &str = "envoy.extensions.clusters.dns.v3.DnsCluster";
const AGGREGATE: &str = "envoy.extensions.clusters.aggregate.v3.ClusterConfig";
const NO_MEMBERS: &str = "value must contain at least 1 item(s)";
const REFRESH: Duration = Duration::from_secs(5);

/// Where the endpoints come from, and they themselves where the cluster brings them.
pub(crate) fn translate(
    work: &mut Work<'_, '_>,
    said: &api::Cluster,
) -> Option<(Discovery, Option<Assignment>)> {
    let kind = match &said.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => value::known(work, "type", *kind)?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => match custom_type(work, said, custom)? {
            Custom::Like(kind) => kind,
            Custom::Dns(discovery) => return Some((discovery, None)),
            Custom::Aggregate(discovery) => {
                let none = Assignment::empty(said.name.as_str().into());
                return Some((discovery, Some(none)));
            }
        },
    };
    if said.eds_cluster_config.is_some() && kind != DiscoveryType::Eds {
        work.wrong_at(
            "eds_cluster_config",
            "eds_cluster_config set in a non-EDS cluster",
        );
    }
    let provided = balanced_by_itself(said);
    if provided && kind != DiscoveryType::OriginalDst {
        work.wrong_at(
            "lb_policy",
            "expected a policy that chooses, found CLUSTER_PROVIDED in a cluster that provides none",
        );
    }
    match kind {
        DiscoveryType::Static => Some((Discovery::Static, Some(assignment(work, said, Hosts::Refused)?))),
        DiscoveryType::StrictDns => Some((Discovery::StrictDns(Box::new(dns(work, said)?)), None)),
        DiscoveryType::LogicalDns => {
            let dns = dns(work, said)?;
            single(work, &dns.targets);
            Some((Discovery::LogicalDns(Box::new(dns)), None))
        }
        DiscoveryType::Eds => eds(work, said).map(|discovery| (discovery, None)),
        DiscoveryType::OriginalDst => original_destination(work, said, provided),
    }
}

fn eds(work: &mut Work<'_, '_>, said: &api::Cluster) -> Option<Discovery> {
    let Some(config) = &said.eds_cluster_config else {
        work.wrong_at("eds_cluster_config", "expected eds_config, found none");
        return None;
    };
    let name = if config.service_name.is_empty() {
        &said.name
    } else {
        &config.service_name
    };
    work.at("eds_cluster_config", |work| {
        let kind = SubscriptionKind::ClusterLoadAssignment;
        subscribe(work, kind, name, "eds_config", config.eds_config.as_ref())
    })?;
    Some(Discovery::Eds {
        service: work.cluster_name(name),
    })
}

fn balanced_by_itself(said: &api::Cluster) -> bool {
    said.lb_policy == LbPolicy::ClusterProvided as i32 && said.load_balancing_policy.is_none()
}

fn original_destination(
    work: &mut Work<'_, '_>,
    said: &api::Cluster,
    provided: bool,
) -> Option<(Discovery, Option<Assignment>)> {
    if !provided && said.load_balancing_policy.is_none() {
        let found =
            LbPolicy::try_from(said.lb_policy).map_or("an unknown one", |policy| policy.as_str_name());
        let rule = "Only 'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'";
        let sentence = format!("LB policy {found} is not valid for Cluster type ORIGINAL_DST. {rule}");
        work.wrong_at("lb_policy", sentence);
    }
    if said
        .load_assignment
        .as_ref()
        .is_some_and(|assignment| !assignment.endpoints.is_empty())
    {
        work.wrong_at(
            "load_assignment",
            "ORIGINAL_DST clusters must have no load assignment configured",
        );
    }
    let mut settings = OriginalDestination::default();
    if let Some(LbConfig::OriginalDstLbConfig(config)) = &said.lb_config {
        work.at("original_dst_lb_config", |work| {
            if config.metadata_key.is_some() {
                let key = metadata_key(work, "metadata_key", config.metadata_key.as_ref());
                settings.metadata = key.map(Box::new);
            }
            if config.use_http_header {
                let name = &config.http_header_name;
                let name = if name.is_empty() {
                    "x-envoy-original-dst-host"
                } else {
                    name
                };
                settings.header = value::header_name(work, "http_header_name", name);
            }
            let port = config.upstream_port_override.as_ref();
            settings.port_override =
                port.and_then(|port| value::port(work, "upstream_port_override", port.value));
        });
    }
    let none = Assignment {
        name: said.name.as_str().into(),
        localities: Vec::new(),
        overprovisioning: 140,
    };
    Some((Discovery::OriginalDestination(settings), Some(none)))
}

fn assignment(work: &mut Work<'_, '_>, said: &api::Cluster, hosts: Hosts) -> Option<Assignment> {
    match &said.load_assignment {
        Some(assignment) => work.at("load_assignment", |work| {
            endpoint::assignment(work, assignment, hosts)
        }),
        None => Some(Assignment {
            name: Name::from(said.name.as_str()),
            localities: Vec::new(),
            overprovisioning: 140,
        }),
    }
}

fn single(work: &mut Work<'_, '_>, targets: &Assignment) {
    let endpoints: Vec<usize> = targets
        .localities
        .iter()
        .map(|locality| locality.endpoints.len())
        .collect();
    if endpoints != [1] {
        let rule = "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint";
        work.wrong_at("load_assignment", rule);
    }
}

fn dns(work: &mut Work<'_, '_>, said: &api::Cluster) -> Option<Dns> {
    let targets = assignment(work, said, Hosts::Resolved)?;
    let family = match value::known(work, "dns_lookup_family", said.dns_lookup_family)? {
        DnsLookupFamily::Auto => DnsFamily::Auto,
        DnsLookupFamily::V4Only => DnsFamily::V4Only,
        DnsLookupFamily::V6Only => DnsFamily::V6Only,
        DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
        DnsLookupFamily::All => DnsFamily::All,
    };
    Some(Dns {
        refresh: value::positive(work, "dns_refresh_rate", said.dns_refresh_rate.as_ref(), REFRESH),
        failure: said.dns_failure_refresh_rate.as_ref().map(|said| {
            work.at("dns_failure_refresh_rate", |work| {
                failure_rate(work, said.base_interval.as_ref(), said.max_interval.as_ref())
            })
        }),
        respect_ttl: said.respect_dns_ttl,
        jitter: value::duration(work, "dns_jitter", said.dns_jitter.as_ref()).unwrap_or_default(),
        family,
        targets: Arc::new(targets),
    })
}

/// The wait after failures.
fn failure_rate(work: &mut Work<'_, '_>, base: Option<&Said>, max: Option<&Said>) -> BackOff {
    if base.is_none() {
        work.wrong_at("base_interval", "expected a duration above 0, found none");
    }
    let base = value::positive(work, "base_interval", base, REFRESH);
    let max = value::positive(work, "max_interval", max, base.saturating_mul(10));
    if max < base {
        work.wrong(
            "dns_failure_refresh_rate must have max_interval greater than or equal to the base_interval",
        );
    }
    BackOff { base, max }
}

/// What a `cluster_type` stands for.
enum Custom {
    /// The same as one of the built-in types.
    Like(DiscoveryType),
    /// DNS with settings of its own.
    Dns(Discovery),
    /// Other clusters one behind the other.
    Aggregate(Discovery),
}

fn custom_type(
    work: &mut Work<'_, '_>,
    said: &api::Cluster,
    custom: &cluster::CustomClusterType,
) -> Option<Custom> {
    if let Some(any) = &custom.typed_config {
        let extension = Extension::open(any);
        if extension.kind == TYPED_DNS {
            return work
                .at("cluster_type", |work| typed_dns(work, said, &extension))
                .map(Custom::Dns);
        }
        if extension.kind == AGGREGATE {
            return work
                .at("cluster_type", |work| aggregate(work, &extension))
                .map(Custom::Aggregate);
        }
    }
    let kind = match custom.name.as_str() {
        "envoy.cluster.static" => DiscoveryType::Static,
        "envoy.cluster.strict_dns" => DiscoveryType::StrictDns,
        "envoy.cluster.logical_dns" => DiscoveryType::LogicalDns,
        "envoy.cluster.eds" => DiscoveryType::Eds,
        "envoy.cluster.original_dst" => DiscoveryType::OriginalDst,
        "envoy.clusters.aggregate" => {
            work.wrong_at("cluster_type.typed_config.clusters", NO_MEMBERS);
            return None;
        }
        name if name.starts_with("envoy.cluster") => {
            work.wrong_at(
                "cluster_type",
                format!("is not supported: clusters of type '{name}'"),
            );
            return None;
        }
        name => {
            let kind = custom.typed_config.as_ref().map(|any| Extension::open(any).kind);
            work.wrong_at("cluster_type", unknown(name, &kind.unwrap_or_default()));
            return None;
        }
    };
    Some(Custom::Like(kind))
}

fn aggregate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Discovery> {
    let typed: aggregate::v3::ClusterConfig = work.at("typed_config", |work| extension.decode(work))?;
    if typed.clusters.is_empty() {
        work.wrong_at("typed_config.clusters", NO_MEMBERS);
        return None;
    }
    let members = typed.clusters.iter().map(|name| work.context.clusters.id(name));
    Some(Discovery::Aggregate(members.collect()))
}

fn typed_dns(work: &mut Work<'_, '_>, said: &api::Cluster, extension: &Extension<'_>) -> Option<Discovery> {
    let typed: DnsCluster = work.at("typed_config", |work| extension.decode(work))?;
    work.at("typed_config", |work| work.review(&typed));
    let targets = assignment(work, said, Hosts::Resolved)?;
    let family = match value::known(work, "typed_config.dns_lookup_family", typed.dns_lookup_family)? {
        TypedFamily::Unspecified | TypedFamily::Auto => DnsFamily::Auto,
        TypedFamily::V4Only => DnsFamily::V4Only,
        TypedFamily::V6Only => DnsFamily::V6Only,
        TypedFamily::V4Preferred => DnsFamily::V4Preferred,
        TypedFamily::All => DnsFamily::All,
    };
    let dns = Dns {
        refresh: value::positive(
            work,
            "typed_config.dns_refresh_rate",
            typed.dns_refresh_rate.as_ref(),
            REFRESH,
        ),
        failure: typed.dns_failure_refresh_rate.as_ref().map(|said| {
            work.at("typed_config.dns_failure_refresh_rate", |work| {
                failure_rate(work, said.base_interval.as_ref(), said.max_interval.as_ref())
            })
        }),
        respect_ttl: typed.respect_dns_ttl,
        jitter: value::duration(work, "typed_config.dns_jitter", typed.dns_jitter.as_ref())
            .unwrap_or_default(),
        family,
        targets: Arc::new(targets),
    };
    if !typed.all_addresses_in_single_endpoint {
        return Some(Discovery::StrictDns(Box::new(dns)));
    }
    single(work, &dns.targets);
    Some(Discovery::LogicalDns(Box::new(dns)))
}
