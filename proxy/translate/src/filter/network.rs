//! The network filters of a chain: the last one is terminal, and only the last one.

use remora_model::filter::NetworkFilter;
use remora_model::listener::Terminal;

use super::{connection_limits, discovered, left_out, rbac, refuse};
use crate::context::Work;
use crate::extension::{Extension, unknown};
use crate::pb::envoy::config::cluster::v3::Filter as UpstreamFilter;
use crate::pb::envoy::config::listener::v3::{Filter, filter::ConfigType};
use crate::{http_manager, tcp_proxy};

const FAMILY: &str = "envoy.extensions.filters.network.";
pub(crate) const HTTP_MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// Filters of ours that are not terminal.
const OURS: [&str; 3] = [
    connection_limits::RATE,
    connection_limits::CONNECTIONS,
    rbac::NETWORK,
];

/// Filters before the terminal one, and the terminal one. Envoy takes a chain without filters: its connections are
/// closed.
pub(crate) fn network_filters(
    work: &mut Work<'_, '_>,
    said: &[Filter],
) -> Option<(Vec<NetworkFilter>, Terminal)> {
    if said.is_empty() {
        return Some((Vec::new(), Terminal::Close));
    }
    let mut terminal = None;
    let filters = work.each("filters", said.iter().enumerate(), |work, (index, filter)| {
        let last = index + 1 == said.len();
        let extension = open(work, filter)?;
        let kind = extension.kind.as_str();
        let error = |what: &str, rule: &str| {
            format!(
                "Error: {what} filter named {} of type {kind} {rule} network filter chain.",
                filter.name
            )
        };
        let before = match kind {
            connection_limits::RATE => work.at("typed_config", |work| {
                connection_limits::rate_limit(work, &extension)
            }),
            connection_limits::CONNECTIONS => work.at("typed_config", |work| {
                connection_limits::connection_limit(work, &extension)
            }),
            rbac::NETWORK => work.at("typed_config", |work| rbac::connections(work, &extension)),
            _ => None,
        };
        if last && OURS.contains(&kind) {
            work.wrong(error("non-terminal", "is the last filter in a"));
        }
        terminal = match kind {
            _ if OURS.contains(&kind) => None,
            HTTP_MANAGER => work
                .at("typed_config", |work| http_manager::translate(work, &extension))
                .map(Terminal::Http),
            TCP_PROXY => work
                .at("typed_config", |work| tcp_proxy::translate(work, &extension))
                .map(Terminal::Tcp),
            kind if left_out(work, kind) => {
                if last {
                    work.wrong(error("non-terminal", "is the last filter in a"));
                }
                None
            }
            kind => {
                work.at("typed_config", |work| refuse(work, &filter.name, kind, FAMILY));
                None
            }
        };
        if !last && [HTTP_MANAGER, TCP_PROXY].contains(&kind) {
            work.wrong(error("terminal", "must be the last filter in a"));
        }
        before
    });
    Some((filters, terminal?))
}

fn open<'f>(work: &mut Work<'_, '_>, filter: &'f Filter) -> Option<Extension<'f>> {
    match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => Some(Extension::open(any)),
        Some(ConfigType::ConfigDiscovery(source)) => {
            discovered(work, &filter.name, source);
            None
        }
        None => {
            work.wrong(unknown(&filter.name, ""));
            None
        }
    }
}

/// Whether connections need not end where this filter is another one now, by its type: the terminal ones, and policies,
/// by which open connections are judged anew.
pub(crate) fn is_followed(filter: &Filter) -> bool {
    match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => {
            [HTTP_MANAGER, TCP_PROXY, rbac::NETWORK].contains(&Extension::open(any).kind.as_str())
        }
        _ => false,
    }
}

/// Network filters of a cluster: only those that may be left out.
pub(crate) fn upstream_network_filters(work: &mut Work<'_, '_>, said: &[UpstreamFilter]) {
    work.each("filters", said, |work, filter| -> Option<()> {
        match &filter.typed_config {
            Some(any) => {
                let extension = Extension::open(any);
                if !left_out(work, &extension.kind) {
                    refuse(work, &filter.name, &extension.kind, FAMILY);
                }
            }
            None => work.wrong(unknown(&filter.name, "")),
        }
        None
    });
}
