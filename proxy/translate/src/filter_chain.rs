//! `FilterChain` to [`FilterChain`]: when it is chosen, whether it is TLS, what happens to its connections.
//!
//! Holds: `security` covers whatever decides what a connection on the chain may be (criteria, TLS context as said,
//! filters before the terminal one but for policies, kind of the terminal), so two chains that only differ in routes exchange live
//! connections; `fingerprint` covers all bytes and the files behind them.

use std::sync::Arc;

use remora_model::listener::{ChainMatch, FilterChain, SourceType, Terminal};

use crate::context::Work;
use crate::filter::network;
use crate::pb::envoy::config::listener::v3::{self as api, filter_chain_match::ConnectionSourceType};
use crate::{fingerprint, transport, value};

/// Field numbers of `FilterChain.filters` and `.transport_socket`.
const FILTERS: u32 = 3;
const TRANSPORT_SOCKET: u32 = 6;

/// One chain; `bytes` are its own.
pub(crate) fn translate(
    work: &mut Work<'_, '_>,
    said: &api::FilterChain,
    bytes: &[u8],
) -> Option<Arc<FilterChain>> {
    work.review(said);
    if value::bool_or(said.use_proxy_proto.as_ref(), false) {
        work.wrong_at(
            "use_proxy_proto",
            "is not supported: the deprecated switch; use the proxy_protocol listener filter",
        );
    }
    let criteria = match &said.filter_chain_match {
        Some(criteria) => work.at("filter_chain_match", |work| self::criteria(work, criteria)),
        None => Some(ChainMatch::default()),
    };
    let ((tls, filters), files) = work.with_files(|work| {
        let tls = transport::downstream(work, said.transport_socket.as_ref());
        (tls, network::network_filters(work, &said.filters))
    });
    let limit = said.transport_socket_connect_timeout.as_ref();
    let handshake_timeout = value::limit(work, "transport_socket_connect_timeout", limit);
    let (criteria, tls, (network_filters, terminal)) = (criteria?, tls?, filters?);
    Some(Arc::new(FilterChain {
        name: said.name.as_str().into(),
        security: security(&criteria, said, bytes, &terminal),
        criteria,
        tls,
        handshake_timeout,
        network_filters,
        terminal,
        fingerprint: fingerprint::of((bytes, files, work.buffer_limit)),
    }))
}

fn security(criteria: &ChainMatch, said: &api::FilterChain, bytes: &[u8], terminal: &Terminal) -> u64 {
    let http = matches!(terminal, Terminal::Http(_));
    let socket: Vec<&[u8]> = fingerprint::fields(bytes, TRANSPORT_SOCKET).collect();
    let raw = fingerprint::fields(bytes, FILTERS).zip(&said.filters);
    let filters: Vec<&[u8]> = raw
        .filter(|(_, filter)| !network::is_followed(filter))
        .map(|(bytes, _)| bytes)
        .collect();
    fingerprint::of((criteria, socket, filters, http))
}

fn criteria(work: &mut Work<'_, '_>, said: &api::FilterChainMatch) -> Option<ChainMatch> {
    work.review(said);
    let port = said.destination_port.as_ref();
    let destination_port = port.map(|_| value::number_or(work, "destination_port", port, 0, 1..=65535));
    let source_type = match value::known(work, "source_type", said.source_type)? {
        ConnectionSourceType::Any => SourceType::Any,
        ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
        ConnectionSourceType::External => SourceType::External,
    };
    let source_ports = work.each(
        "source_ports",
        &said.source_ports,
        |work, port| match u16::try_from(*port) {
            Ok(port) if port > 0 => Some(port),
            _ => {
                work.wrong(format!("expected 1 to 65535, found {port}"));
                None
            }
        },
    );
    Some(ChainMatch {
        destination_port: destination_port.and_then(|port| u16::try_from(port).ok()),
        destination_prefixes: work.each("prefix_ranges", &said.prefix_ranges, value::cidr),
        server_names: work.each("server_names", &said.server_names, server_name),
        transport_protocol: said.transport_protocol.as_str().into(),
        application_protocols: said
            .application_protocols
            .iter()
            .map(|token| token.as_str().into())
            .collect(),
        direct_source_prefixes: work.each(
            "direct_source_prefix_ranges",
            &said.direct_source_prefix_ranges,
            value::cidr,
        ),
        source_type,
        source_prefixes: work.each("source_prefix_ranges", &said.source_prefix_ranges, value::cidr),
        source_ports,
    })
}

fn server_name(work: &mut Work<'_, '_>, said: &String) -> Option<Box<str>> {
    if said.strip_prefix("*.").unwrap_or(said).contains('*') {
        work.wrong(format!(
            "partial wildcards are not supported in \"server_names\", found '{said}'"
        ));
        return None;
    }
    Some(said.to_ascii_lowercase().into())
}
