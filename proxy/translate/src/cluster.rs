//! `Cluster` to [`ClusterConfig`], with its own endpoints or what it subscribes to.
//!
//! Holds: a cluster knows where its endpoints come from, how one is chosen and how bytes travel there; what would send
//! bytes elsewhere (subsets, custom pools, custom sockets) is refused.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use remora_model::Name;
use remora_model::balance::BalancePolicy;
use remora_model::cluster::{
    AddressOrder, ClusterConfig, ConnectionOptions, Discovery, Family, RareSettings, TcpKeepalive,
    TransportMatch, TransportSockets, UpstreamBind,
};
use remora_model::endpoint::{Assignment, HealthStatuses, LabelValue};
use remora_model::identity::ClientTls;
use remora_model::route::HashPolicy;

use crate::context::{Context, WatchedFile, Work, undecodable};
use crate::pb::envoy::config::cluster::v3::upstream_connection_options::{
    FirstAddressFamilyVersion, HappyEyeballsConfig,
};
use crate::pb::envoy::config::cluster::v3::{self as api, cluster};
use crate::pb::envoy::config::core::v3 as core;
use crate::rejection::Rejection;
use crate::subscription::Subscription;
use crate::{
    balance, breakers, discovery, endpoint, filter, fingerprint, health, health_check, transport,
    upstream_http, value,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A translated cluster.
#[derive(Debug)]
pub struct TranslatedCluster {
    /// The cluster without its endpoints.
    pub config: Arc<ClusterConfig>,
    /// The endpoints of a STATIC cluster, and none for ORIGINAL_DST; EDS and DNS clusters get theirs later.
    pub assignment: Option<Arc<Assignment>>,
    /// Endpoints (EDS) and secrets that it needs.
    pub subscriptions: Vec<Subscription>,
    /// Files that it was read from.
    pub files: Vec<WatchedFile>,
}

/// Translates one CDS resource.
///
/// # Errors
/// Everything that is wrong with it.
pub fn cluster(bytes: &[u8], context: &mut Context<'_>) -> Result<TranslatedCluster, Rejection> {
    let said = api::Cluster::decode(bytes).map_err(|error| undecodable("Cluster", &error))?;
    let before = contexts_before(context, &said.name);
    let mut work = Work::new(context);
    work.before = before;
    let translated = translate(&mut work, &said, bytes);
    let (config, assignment) = work.verdict(&said.name, translated)?;
    Ok(TranslatedCluster {
        config: Arc::new(config),
        assignment: assignment.map(Arc::new),
        subscriptions: std::mem::take(&mut work.subscriptions),
        files: std::mem::take(&mut work.files),
    })
}

/// The TLS contexts that this cluster had in the version before.
fn contexts_before(context: &Context<'_>, name: &str) -> Vec<Arc<ClientTls>> {
    let before = context
        .clusters
        .known(name)
        .and_then(|id| context.previous?.cluster(id));
    let Some(before) = before else { return Vec::new() };
    let sockets = &before.config.transport;
    let all = sockets
        .matches
        .iter()
        .map(|entry| &entry.socket)
        .chain([&sockets.fallback]);
    all.filter_map(|socket| socket.tls().cloned()).collect()
}

fn translate(
    work: &mut Work<'_, '_>,
    said: &api::Cluster,
    bytes: &[u8],
) -> Option<(ClusterConfig, Option<Assignment>)> {
    work.review(said);
    let name = value::required(work, "name", &said.name).map(|name| work.cluster_name(name));
    work.own_name.clone_from(&name);
    filter::network::upstream_network_filters(work, &said.filters);
    let discovery = discovery::translate(work, said);
    let policy = balance::policy(work, said);
    let common = said.common_lb_config.clone().unwrap_or_default();
    let panic_threshold = work.at("common_lb_config", |work| panic_threshold(work, &common));
    let session_statuses = work.at("common_lb_config", |work| session_statuses(work, &common));
    let http = upstream_http::translate(work, said);
    work.names_judged = http.as_ref().is_some_and(|(http, _)| http.auto_san_validation);
    let sockets = sockets(work, said);
    let bind = said
        .upstream_bind_config
        .as_ref()
        .map(|said| work.at("upstream_bind_config", |work| bind(work, said)));
    let connect_timeout = value::positive(
        work,
        "connect_timeout",
        said.connect_timeout.as_ref(),
        CONNECT_TIMEOUT,
    );
    let (name, (discovery, assignment), policy): (Name, _, _) = (name?, discovery?, policy?);
    provided_where_it_must_be(work, &name, &discovery, &policy.balance);
    let stat_name = if said.alt_stat_name.is_empty() {
        Arc::clone(&name)
    } else {
        work.cluster_name(&said.alt_stat_name)
    };
    let load = policy.balance.load_watch();
    let ((http, of_http), health) = (http?, health::settings(work, said, bytes, load));
    health_check::fits(work, &name, health.as_deref(), http.protocol);
    let rare = rare(policy.hash_policies, of_http);
    let config = ClusterConfig {
        id: work.context.clusters.enter(&name),
        name,
        stat_name,
        discovery,
        connect_timeout,
        balance: policy.balance,
        panic_threshold: panic_threshold?,
        locality_weighted: policy.locality_weighted,
        session_statuses: session_statuses?,
        transport: sockets?,
        http: work.context.repeated.http(http),
        bind: match bind {
            Some(bind) => bind?.map(Box::new),
            None => None,
        },
        connection: connection_options(work, said).map(Box::new),
        thresholds: breakers::thresholds(work, said.circuit_breakers.as_ref()),
        health,
        rare: rare.said(),
        fingerprint: fingerprint::of((bytes, work.file_hash)),
    };
    Some((config, assignment))
}

fn session_statuses(work: &mut Work<'_, '_>, said: &cluster::CommonLbConfig) -> Option<HealthStatuses> {
    let Some(said) = &said.override_host_status else {
        return Some(HealthStatuses::default());
    };
    let statuses = said.statuses.iter();
    work.at("override_host_status", |work| {
        statuses
            .map(|status| endpoint::status(work, "statuses", *status))
            .collect()
    })
}

/// What few clusters say; the hash policies of the balancing policy count before those of the HTTP options.
fn rare(of_policy: Vec<HashPolicy>, of_http: RareSettings) -> RareSettings {
    match of_policy.is_empty() {
        true => of_http,
        false => RareSettings {
            hash_policies: of_policy,
            ..of_http
        },
    }
}

/// An aggregate chooses among its members itself.
fn provided_where_it_must_be(
    work: &mut Work<'_, '_>,
    name: &str,
    discovery: &Discovery,
    balance: &BalancePolicy,
) {
    if matches!(discovery, Discovery::Aggregate(_)) && *balance != BalancePolicy::ClusterProvided {
        let sentence = "cluster manager: cluster provided LB not specified but cluster";
        work.wrong_at("lb_policy", format!("{sentence} '{name}' provided one"));
    }
}

fn panic_threshold(work: &mut Work<'_, '_>, said: &cluster::CommonLbConfig) -> Option<u8> {
    work.review(said);
    let percent = said
        .healthy_panic_threshold
        .as_ref()
        .map_or(50.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&percent) {
        work.wrong_at(
            "healthy_panic_threshold",
            format!("expected 0 to 100, found {percent}"),
        );
        return None;
    }
    Some(percent as u8)
}

/// `transport_socket_matches` and `transport_socket`.
fn sockets(work: &mut Work<'_, '_>, said: &api::Cluster) -> Option<TransportSockets> {
    let matches = work.each(
        "transport_socket_matches",
        &said.transport_socket_matches,
        |work, said| {
            let name = value::required(work, "name", &said.name);
            let fields = said.r#match.iter().flat_map(|labels| &labels.fields);
            let scalar = |value| Some(endpoint::label(value)).filter(LabelValue::is_scalar);
            let criteria = fields.map(|(key, value)| Some((Name::from(key.as_str()), scalar(value)?)));
            let Some(mut criteria) = criteria.collect::<Option<Vec<_>>>() else {
                work.wrong_at(
                    "match",
                    "is not supported: only strings, numbers and booleans are compared",
                );
                return None;
            };
            criteria.sort_by(|a, b| a.0.cmp(&b.0));
            let socket = transport::upstream(work, said.transport_socket.as_ref());
            Some(TransportMatch {
                name: name?.into(),
                criteria,
                socket: socket?,
            })
        },
    );
    let fallback = transport::upstream(work, said.transport_socket.as_ref());
    Some(TransportSockets {
        matches,
        fallback: fallback?,
    })
}

/// The outer `None` is a problem, the inner one no address.
fn bind(work: &mut Work<'_, '_>, said: &core::BindConfig) -> Option<Option<UpstreamBind>> {
    work.review(said);
    value::socket_options(work, "socket_options", &said.socket_options);
    let source = match &said.source_address {
        Some(source) => Some(work.at("source_address", |work| value::ip_socket(work, source))?),
        None => None,
    };
    let mut extra = work.each(
        "extra_source_addresses",
        &said.extra_source_addresses,
        |work, said| {
            let Some(address) = &said.address else {
                work.wrong_at("address", "expected an address, found none");
                return None;
            };
            if let Some(options) = &said.socket_options {
                value::socket_options(work, "socket_options.socket_options", &options.socket_options);
            }
            work.at("address", |work| value::ip_socket(work, address))
        },
    );
    let older = &said.additional_source_addresses;
    extra.extend(work.each("additional_source_addresses", older, value::ip_socket));
    match source {
        Some(source) => Some(Some(UpstreamBind { source, extra })),
        None if extra.is_empty() => Some(None),
        None => {
            work.wrong_at(
                "source_address",
                "expected an address beside extra_source_addresses, found none",
            );
            None
        }
    }
}

/// Nothing at all if nothing was said.
fn connection_options(work: &mut Work<'_, '_>, said: &api::Cluster) -> Option<ConnectionOptions> {
    let options = said.upstream_connection_options.as_ref()?;
    let order = work.at("upstream_connection_options", |work| {
        work.review(options);
        let said = options.happy_eyeballs_config.as_ref()?;
        Some(work.at("happy_eyeballs_config", |work| address_order(work, said)))
    });
    let options = ConnectionOptions {
        keepalive: options.tcp_keepalive.as_ref().map(keepalive),
        order: order.flatten().unwrap_or_default(),
    };
    (options != ConnectionOptions::default()).then_some(options)
}

fn address_order(work: &mut Work<'_, '_>, said: &HappyEyeballsConfig) -> Option<AddressOrder> {
    let first = value::known(
        work,
        "first_address_family_version",
        said.first_address_family_version,
    )?;
    let count = said.first_address_family_count.as_ref();
    let count = value::number_or(work, "first_address_family_count", count, 1, 1..=u32::MAX);
    Some(AddressOrder {
        first: match first {
            FirstAddressFamilyVersion::Default
            | FirstAddressFamilyVersion::Pipe
            | FirstAddressFamilyVersion::Internal => None,
            FirstAddressFamilyVersion::V4 => Some(Family::V4),
            FirstAddressFamilyVersion::V6 => Some(Family::V6),
        },
        count: usize::try_from(count).unwrap_or(usize::MAX),
    })
}

fn keepalive(said: &core::TcpKeepalive) -> TcpKeepalive {
    let seconds = |value: &Option<crate::pb::google::protobuf::UInt32Value>| {
        value
            .as_ref()
            .map(|seconds| Duration::from_secs(u64::from(seconds.value)))
    };
    TcpKeepalive {
        probes: said.keepalive_probes.as_ref().map(|probes| probes.value),
        time: seconds(&said.keepalive_time),
        interval: seconds(&said.keepalive_interval),
    }
}
