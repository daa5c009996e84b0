//! `Listener` to [`Listener`], with the names of what its chains subscribe to.
//!
//! Holds: a listener is complete or refused as a whole; all of its problems are found in one go.

use std::sync::Arc;

use prost::Message;
use remora_model::listener::{ChainIndex, FilterChain, ListenAddress, Listener, TrafficDirection};

use crate::access_log::access_logs;
use crate::context::{Context, ExpectedCluster, WatchedFile, Work, undecodable};
use crate::extension::Extension;
use crate::filter::listener as listener_filters;
use crate::filter::local_rate_limit::of_listener;
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::config::listener::v3::{self as api, listener::ListenerSpecifier};
use crate::rejection::Rejection;
use crate::subscription::Subscription;
use crate::value::{self, Place};
use crate::{filter_chain, fingerprint};

/// Field numbers of `Listener.filter_chains` and `.default_filter_chain`.
const FILTER_CHAINS: u32 = 3;
const DEFAULT_FILTER_CHAIN: u32 = 25;
/// Envoy's default `per_connection_buffer_limit_bytes`.
pub(crate) const BUFFER_LIMIT: u32 = 1 << 20;

/// A translated listener.
#[derive(Debug)]
pub struct TranslatedListener {
    /// The listener; chains that did not change are shared when it is set in an edit.
    pub listener: Listener,
    /// Route configurations and secrets that it needs.
    pub subscriptions: Vec<Subscription>,
    /// Files that it was read from.
    pub files: Vec<WatchedFile>,
    /// Clusters that its inline routes name, except where `validate_clusters` is false.
    pub expected_clusters: Vec<ExpectedCluster>,
}

/// Translates one LDS resource.
///
/// # Errors
/// Everything that is wrong with it.
pub fn listener(bytes: &[u8], context: &mut Context<'_>) -> Result<TranslatedListener, Rejection> {
    let said = api::Listener::decode(bytes).map_err(|error| undecodable("Listener", &error))?;
    let mut work = Work::new(context);
    let previous = work
        .context
        .previous
        .and_then(|world| world.listeners.named(&said.name));
    work.limits_before = previous.map(|listener| of_listener(listener)).unwrap_or_default();
    let translated = translate(&mut work, &said, bytes);
    let listener = work.verdict(&said.name, translated)?;
    Ok(TranslatedListener {
        listener,
        subscriptions: std::mem::take(&mut work.subscriptions),
        files: std::mem::take(&mut work.files),
        expected_clusters: std::mem::take(&mut work.expected_clusters),
    })
}

fn translate(work: &mut Work<'_, '_>, said: &api::Listener, bytes: &[u8]) -> Option<Listener> {
    if is_datagram(said) {
        work.wrong(format!(
            "is not supported: a UDP or QUIC listener{}",
            kinds_of(said)
        ));
        return None;
    }
    work.review(said);
    refuse_by_value(work, said);
    let addresses = addresses(work, said);
    let mut inspection = listener_filters::inspection(work, said);
    let buffer_limit = said.per_connection_buffer_limit_bytes.as_ref();
    work.buffer_limit = buffer_limit.map_or(BUFFER_LIMIT, |limit| limit.value);
    let mut raw = fingerprint::fields(bytes, FILTER_CHAINS);
    let chains = work.each("filter_chains", &said.filter_chains, |work, chain| {
        filter_chain::translate(work, chain, raw.next().unwrap_or_default())
    });
    let default_chain = said.default_filter_chain.as_ref().map(|chain| {
        let own = fingerprint::fields(bytes, DEFAULT_FILTER_CHAIN)
            .last()
            .unwrap_or_default();
        work.at("default_filter_chain", |work| {
            filter_chain::translate(work, chain, own)
        })
    });
    if said.filter_chains.is_empty() && said.default_filter_chain.is_none() {
        work.wrong("no filter chains specified");
    }
    let index = index(work, &chains);
    listener_filters::add_needed(&mut inspection, chains.iter().map(|chain| &chain.criteria));
    let traffic_direction = match value::known(work, "traffic_direction", said.traffic_direction)? {
        core::TrafficDirection::Unspecified => TrafficDirection::Unspecified,
        core::TrafficDirection::Inbound => TrafficDirection::Inbound,
        core::TrafficDirection::Outbound => TrafficDirection::Outbound,
    };
    let stat_prefix = match (said.stat_prefix.as_str(), addresses.first()) {
        ("", first) => first?.to_string().replace(':', "_"),
        (said, _) => said.to_owned(),
    };
    Some(Listener {
        name: said.name.as_str().into(),
        bind_to_port: bind_to_port(said),
        use_original_dst: value::bool_or(said.use_original_dst.as_ref(), false),
        traffic_direction,
        stat_prefix: stat_prefix.into(),
        inspection,
        chains,
        index: index?,
        default_chain: match default_chain {
            Some(chain) => Some(chain?),
            None => None,
        },
        access_logs: access_logs(work, &said.access_log),
        tcp_backlog: said.tcp_backlog_size.as_ref().map(|size| size.value),
        addresses,
    })
}

/// Whether it takes datagrams: then nothing else of it is looked at.
fn is_datagram(said: &api::Listener) -> bool {
    let address = said.address.as_ref().and_then(|address| address.address.as_ref());
    let udp = matches!(address, Some(core::address::Address::SocketAddress(socket))
        if socket.protocol == core::socket_address::Protocol::Udp as i32);
    udp || said.udp_listener_config.is_some()
}

/// The types of its listener filters, for a message.
fn kinds_of(said: &api::Listener) -> String {
    let kinds = said
        .listener_filters
        .iter()
        .filter_map(|filter| match &filter.config_type {
            Some(api::listener_filter::ConfigType::TypedConfig(any)) => Some(Extension::open(any).kind),
            _ => None,
        });
    let kinds: Vec<_> = kinds.collect();
    if kinds.is_empty() {
        String::new()
    } else {
        format!(" with filters of type {}", kinds.join(", "))
    }
}

/// Fields that are refused for some of their values only.
fn refuse_by_value(work: &mut Work<'_, '_>, said: &api::Listener) {
    if value::bool_or(said.transparent.as_ref(), false) {
        work.wrong_at(
            "transparent",
            "is not supported: transparent sockets (TPROXY); use redirection",
        );
    }
    match &said.listener_specifier {
        Some(ListenerSpecifier::InternalListener(_)) => {
            work.wrong_at("internal_listener", "is not supported: internal listeners");
        }
        None => {}
    }
    value::socket_options(work, "socket_options", &said.socket_options);
}

fn bind_to_port(said: &api::Listener) -> bool {
    let older = said
        .deprecated_v1
        .as_ref()
        .and_then(|older| older.bind_to_port.as_ref());
    value::bool_or(said.bind_to_port.as_ref().or(older), true)
}

fn addresses(work: &mut Work<'_, '_>, said: &api::Listener) -> Vec<ListenAddress> {
    if matches!(
        said.listener_specifier,
        Some(ListenerSpecifier::InternalListener(_))
    ) {
        return Vec::new();
    }
    let mut addresses: Vec<_> = work
        .at("address", |work| listen_address(work, said.address.as_ref()))
        .into_iter()
        .collect();
    addresses.extend(work.each(
        "additional_addresses",
        &said.additional_addresses,
        |work, said| {
            if let Some(options) = &said.socket_options {
                value::socket_options(work, "socket_options.socket_options", &options.socket_options);
            }
            work.at("address", |work| listen_address(work, said.address.as_ref()))
        },
    ));
    addresses
}

fn listen_address(work: &mut Work<'_, '_>, said: Option<&core::Address>) -> Option<ListenAddress> {
    let place = value::address(work, said)?;
    if let (Some(core::address::Address::SocketAddress(socket)), Place::Socket(address)) =
        (said.and_then(|said| said.address.as_ref()), &place)
        && socket.ipv4_compat
        && !matches!(address.ip(), std::net::IpAddr::V6(ip) if ip.is_unspecified() || ip.to_ipv4_mapped().is_some())
    {
        let rule = "Only IPv6 address '::' or valid IPv4-mapped IPv6 address can set ipv4_compat";
        work.wrong_at("socket_address", format!("{rule}: {address}"));
    }
    match place {
        Place::Socket(address) => Some(ListenAddress::Socket(address)),
        Place::Pipe(path) => Some(ListenAddress::Pipe(path.into())),
        Place::Host(host, _) => {
            work.wrong_at(
                "socket_address.address",
                format!("expected an IP address, found '{host}'"),
            );
            None
        }
    }
}

fn index(work: &mut Work<'_, '_>, chains: &[Arc<FilterChain>]) -> Option<ChainIndex> {
    match ChainIndex::new(chains) {
        Ok(index) => Some(index),
        Err(duplicate) => {
            work.wrong_at("filter_chains", duplicate.to_string());
            None
        }
    }
}
