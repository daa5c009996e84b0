//! Listener filters to [`Inspection`]: what is looked at before a chain is chosen.
//!
//! Holds: `filter_disabled` is evaluated here, once, to the set of destination ports where the filter does not run.

use std::time::Duration;

use remora_model::listener::{ChainMatch, Inspection, InspectorScope};

use super::{discovered, refuse};
use crate::context::Work;
use crate::extension::{Extension, unknown};
use crate::pb::envoy::config::listener::v3::{
    self as api, listener_filter::ConfigType, listener_filter_chain_match_predicate::Rule,
};
use crate::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use crate::{proxy_protocol, value};

const FAMILY: &str = "envoy.extensions.filters.listener.";
/// Envoy's default `listener_filters_timeout`.
const TIMEOUT: Duration = Duration::from_secs(15);
const LAST_PORT: u16 = u16::MAX;

/// What the listener filters of a listener look at.
pub(crate) fn inspection(work: &mut Work<'_, '_>, said: &api::Listener) -> Inspection {
    let timeout = value::limit_or(
        work,
        "listener_filters_timeout",
        said.listener_filters_timeout.as_ref(),
        TIMEOUT,
    );
    let mut inspection = Inspection {
        original_destination: value::bool_or(said.use_original_dst.as_ref(), false),
        proxy: None,
        tls: None,
        http: None,
        timeout,
        continue_on_timeout: said.continue_on_listener_filters_timeout,
    };
    work.each(
        "listener_filters",
        &said.listener_filters,
        |work, filter| -> Option<()> {
            let any = match &filter.config_type {
                Some(ConfigType::TypedConfig(any)) => any,
                Some(ConfigType::ConfigDiscovery(source)) => {
                    discovered(work, &filter.name, source);
                    return None;
                }
                None => {
                    work.wrong(unknown(&filter.name, ""));
                    return None;
                }
            };
            let extension = Extension::open(any);
            let scope = scope(work, filter.filter_disabled.as_ref())?;
            work.at("typed_config", |work| {
                one(work, &filter.name, &extension, scope, &mut inspection);
            });
            None
        },
    );
    inspection
}

fn one(
    work: &mut Work<'_, '_>,
    name: &str,
    extension: &Extension<'_>,
    scope: InspectorScope,
    inspection: &mut Inspection,
) {
    match extension.kind.strip_prefix(FAMILY) {
        Some("original_dst.v3.OriginalDst") => {
            if !scope.disabled_ports.is_empty() {
                work.wrong("is not supported: filter_disabled of the original destination filter");
            }
            inspection.original_destination = true;
        }
        Some("proxy_protocol.v3.ProxyProtocol") => {
            if inspection.tls.is_some() || inspection.http.is_some() {
                work.wrong("is not supported: a PROXY protocol filter behind an inspector, which would see its header");
            }
            if let Some(said) = extension.decode(work) {
                inspection.proxy = proxy_protocol::filter(work, &said, scope);
            }
        }
        Some("tls_inspector.v3.TlsInspector") => {
            if let Some(said) = extension.decode::<TlsInspector>(work) {
                work.review(&said);
            }
            inspection.tls = Some(scope);
        }
        Some("http_inspector.v3.HttpInspector") => inspection.http = Some(scope),
        _ => refuse(work, name, &extension.kind, FAMILY),
    }
}

/// Envoy adds a TLS inspector by itself where a chain's criteria need one.
pub(crate) fn add_needed<'c>(
    inspection: &mut Inspection,
    criteria: impl IntoIterator<Item = &'c ChainMatch>,
) {
    let needed = criteria.into_iter().any(|criteria| {
        let names = !criteria.server_names.is_empty() || !criteria.application_protocols.is_empty();
        &*criteria.transport_protocol == "tls" || (criteria.transport_protocol.is_empty() && names)
    });
    if needed && inspection.tls.is_none() {
        inspection.tls = Some(InspectorScope::default());
    }
}

fn scope(
    work: &mut Work<'_, '_>,
    said: Option<&api::ListenerFilterChainMatchPredicate>,
) -> Option<InspectorScope> {
    let Some(said) = said else {
        return Some(InspectorScope::default());
    };
    let disabled_ports = work.at("filter_disabled", |work| ports(work, said))?;
    Some(InspectorScope { disabled_ports })
}

/// The ports that a predicate holds for, as sorted inclusive ranges that do not touch.
fn ports(work: &mut Work<'_, '_>, said: &api::ListenerFilterChainMatchPredicate) -> Option<Vec<(u16, u16)>> {
    match &said.rule {
        Some(Rule::AnyMatch(_)) => Some(vec![(0, LAST_PORT)]),
        Some(Rule::NotMatch(inner)) => work
            .at("not_match", |work| ports(work, inner))
            .map(|ranges| complement(&ranges)),
        Some(Rule::OrMatch(set)) => {
            let parts = work.each("or_match.rules", &set.rules, ports);
            (parts.len() == set.rules.len()).then(|| union(parts.into_iter().flatten().collect()))
        }
        Some(Rule::AndMatch(set)) => {
            let parts = work.each("and_match.rules", &set.rules, ports);
            let outside = parts.iter().flat_map(|ranges| complement(ranges)).collect();
            (parts.len() == set.rules.len()).then(|| complement(&union(outside)))
        }
        Some(Rule::DestinationPortRange(range)) => {
            let first = u16::try_from(range.start).ok();
            let last = range.end.checked_sub(1).and_then(|last| u16::try_from(last).ok());
            match (first, last) {
                (Some(first), Some(last)) if first <= last => Some(vec![(first, last)]),
                _ => {
                    let found = format!("[{}, {})", range.start, range.end);
                    work.wrong_at(
                        "destination_port_range",
                        format!("expected a range of ports, found {found}"),
                    );
                    None
                }
            }
        }
        None => {
            work.wrong("expected a rule, found none");
            None
        }
    }
}

fn union(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn complement(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut gaps = Vec::new();
    let mut next = 0u32;
    for (first, last) in ranges {
        if u32::from(*first) > next {
            gaps.push((next as u16, first - 1));
        }
        next = u32::from(*last) + 1;
    }
    if next <= u32::from(LAST_PORT) {
        gaps.push((next as u16, LAST_PORT));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_sets_follow_set_algebra() {
        assert_eq!(
            union(vec![(5, 9), (1, 2), (3, 3), (20, 30), (25, 40)]),
            [(1, 3), (5, 9), (20, 40)]
        );
        assert_eq!(complement(&[(0, 9), (20, 65535)]), [(10, 19)]);
        assert_eq!(complement(&[]), [(0, 65535)]);
        assert_eq!(complement(&[(0, 65535)]), []);
    }
}
