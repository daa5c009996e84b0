//! Listeners: where connections come in, and which live ones must end.
//!
//! Holds: whether a connection goes on is decided by [`Listener::successor_of`], as it is at run time; why it does not
//! is told from the two chains.

use remora_model::listener::{FilterChain, Listener, Routes, Terminal};

use super::{Change, Kind, Section, Sides, fields};
use crate::config_dump::ResourceKind;
use crate::preview::Part;

pub(super) fn compare(sides: &Sides, changes: &mut Vec<Change>) {
    for (name, before, after) in sides.pairs(ResourceKind::Listener) {
        let listener = |part: &'_ Part| match part {
            Part::Listener(listener, _) => Some(std::sync::Arc::clone(listener)),
            _ => None,
        };
        let (old, new) = (
            before.and_then(|item| listener(&item.part)),
            after.and_then(|item| listener(&item.part)),
        );
        let change = match (old, new) {
            (None, Some(new)) => Change {
                section: Section::Listeners,
                kind: Kind::Added,
                name: name.to_owned(),
                sentences: vec![described(sides, &new)],
                fields: Vec::new(),
            },
            (Some(old), None) => Change {
                section: Section::Listeners,
                kind: Kind::Removed,
                name: name.to_owned(),
                sentences: vec![format!(
                    "nothing listens on {} any more; its existing connections drain",
                    addresses(&old)
                )],
                fields: Vec::new(),
            },
            (Some(old), Some(new)) if !sides.same(&old, &new) || drains(&old, &new) => {
                let mut sentences = moved(&old, &new);
                sentences.extend(chains(sides, &old, &new));
                let shown = before.zip(after);
                let fields = shown.map_or_else(Vec::new, |(before, after)| {
                    fields::changes(&before.shown, &after.shown)
                });
                Change {
                    section: Section::Listeners,
                    kind: Kind::Changed,
                    name: name.to_owned(),
                    sentences,
                    fields: fields
                        .into_iter()
                        .filter(|field| !field.path.contains(".route_config."))
                        .collect(),
                }
            }
            _ => continue,
        };
        changes.push(change);
    }
}

/// Whether connections of some chain would end, although the model may be the same.
fn drains(old: &Listener, new: &Listener) -> bool {
    let mut chains = old.chains.iter().chain(&old.default_chain);
    chains.any(|chain| new.successor_of(chain).is_none())
}

fn addresses(listener: &Listener) -> String {
    let all: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
    all.join(", ")
}

fn described(sides: &Sides, listener: &Listener) -> String {
    let chains: Vec<String> = listener
        .chains
        .iter()
        .chain(&listener.default_chain)
        .map(|chain| purpose(sides, chain))
        .collect();
    let bound = if listener.bind_to_port {
        "listens on"
    } else {
        "takes over connections that were redirected from"
    };
    format!("{bound} {}: {}", addresses(listener), chains.join("; "))
}

/// What a chain is for.
fn purpose(sides: &Sides, chain: &FilterChain) -> String {
    let tls = if chain.tls.is_some() { "TLS, " } else { "" };
    let to = match &chain.terminal {
        Terminal::Http(manager) => match &manager.routes {
            Routes::Inline(table) => format!("HTTP with {} virtual hosts", table.virtual_hosts.len()),
            Routes::Dynamic(id) => {
                let name = sides.world.route_tables.name(*id).map_or("", |name| name);
                format!("HTTP by RouteConfiguration '{name}'")
            }
        },
        Terminal::Tcp(proxy) => format!("TCP to {}", super::words::target(sides, &proxy.cluster)),
        Terminal::Close => "no filter, its connections are closed".to_owned(),
    };
    format!("{}{tls}{to}", titled(chain))
}

fn titled(chain: &FilterChain) -> String {
    if chain.name.is_empty() {
        String::new()
    } else {
        format!("chain '{}' ", chain.name)
    }
}

fn moved(old: &Listener, new: &Listener) -> Vec<String> {
    let gone = old
        .addresses
        .iter()
        .filter(|address| !new.addresses.contains(address))
        .map(|address| format!("no longer listens on {address}"));
    let come = new
        .addresses
        .iter()
        .filter(|address| !old.addresses.contains(address))
        .map(|address| format!("listens on {address} from now on"));
    gone.chain(come).collect()
}

/// What becomes of the connections of each chain.
fn chains(sides: &Sides, old: &Listener, new: &Listener) -> Vec<String> {
    let mut sentences = Vec::new();
    let all = |listener: &Listener| -> Vec<std::sync::Arc<FilterChain>> {
        let chains = listener.chains.iter().chain(&listener.default_chain);
        chains.cloned().collect()
    };
    for chain in all(old) {
        let whose = match titled(&chain) {
            title if title.is_empty() => "existing connections".to_owned(),
            title => format!("existing connections of {}", title.trim_end()),
        };
        match new.successor_of(&chain) {
            Some(next) if sides.same(&chain, next) => {}
            Some(next) => sentences.push(format!(
                "{whose} stay open and follow the new settings from their next request on{}",
                renamed(&chain, next)
            )),
            None => sentences.push(format!("{whose} drain: {}", why(sides, &chain, new))),
        }
    }
    for chain in all(new) {
        if !all(old)
            .iter()
            .any(|other| other.name == chain.name && other.criteria == chain.criteria)
        {
            sentences.push(format!("new: {}", purpose(sides, &chain)));
        }
    }
    sentences
}

fn renamed(old: &FilterChain, new: &FilterChain) -> String {
    if old.name == new.name {
        String::new()
    } else {
        format!(", as '{}' now", new.name)
    }
}

/// Why no chain of the new listener takes the connections of `old` over.
fn why(sides: &Sides, old: &FilterChain, new: &Listener) -> String {
    let same_name = new
        .chains
        .iter()
        .chain(&new.default_chain)
        .find(|chain| chain.name == old.name);
    let Some(next) = same_name else {
        return "the chain is gone".to_owned();
    };
    let mut reasons = Vec::new();
    if old.criteria != next.criteria {
        reasons.push("what it matches changes");
    }
    match (&old.tls, &next.tls) {
        (None, Some(_)) => reasons.push("it demands TLS now"),
        (Some(_), None) => reasons.push("it is plaintext now"),
        (Some(_), Some(_)) if !sides.same(&old.tls, &next.tls) => reasons.push("its TLS context changes"),
        _ => {}
    }
    match (&old.terminal, &next.terminal) {
        (Terminal::Http(_), Terminal::Tcp(_)) => reasons.push("it is TCP instead of HTTP"),
        (Terminal::Tcp(_), Terminal::Http(_)) => reasons.push("it is HTTP instead of TCP"),
        (Terminal::Http(_) | Terminal::Tcp(_), Terminal::Close) => reasons.push("it has no filter any more"),
        _ => {}
    }
    if reasons.is_empty() {
        reasons.push("its TLS context or its filters are written differently, which counts as a change");
    }
    reasons.join(", ")
}
