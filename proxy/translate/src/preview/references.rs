//! What do resources refer to, and is it there?
//!
//! Holds: nothing here is an error, because resources come one after the other: a route to a cluster that is not there
//! answers 503 until it is, a listener without its routes warms. Where no resource of a whole type was given, they
//! come from elsewhere, and that is said once.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use remora_model::cluster::Discovery;
use remora_model::listener::{Listener, Routes, Terminal};
use remora_model::route::{Action, ClusterChoice, RouteTable};
use remora_model::snapshot::{ClusterMark, Interner};

use super::check::Warning;
use super::contents::Resource;
use super::world::{Part, World};
use crate::config_dump::ResourceKind;
use crate::subscription::SubscriptionKind;

/// Every reference of `parts` that leads to none of all resources; one that is rejected is reported as such already.
pub(super) fn dangling(world: &World, parts: &[(&Resource, Part)], all: &[Resource]) -> Vec<Warning> {
    let there: HashSet<(ResourceKind, &str)> = all
        .iter()
        .map(|resource| (resource.kind, resource.name.as_str()))
        .collect();
    let kinds: HashSet<ResourceKind> = all.iter().map(|resource| resource.kind).collect();
    let mut warnings = Vec::new();
    let mut elsewhere: BTreeMap<ResourceKind, BTreeSet<String>> = BTreeMap::new();
    for (resource, part) in parts {
        for (kind, name, from) in references(world, part) {
            if there.contains(&(kind, name.as_str())) {
                continue;
            }
            if !kinds.contains(&kind) {
                elsewhere.entry(kind).or_default().insert(name);
                continue;
            }
            warnings.push(Warning {
                file: resource.file.clone(),
                at: resource.at,
                kind: Some(resource.kind.short()),
                name: resource.name.clone(),
                sentence: format!(
                    "{from}refers to {} '{name}', which is not there: {}",
                    kind.short(),
                    until(kind)
                ),
            });
        }
    }
    for (kind, names) in elsewhere {
        let names: Vec<String> = names.into_iter().collect();
        warnings.push(Warning {
            file: "".into(),
            at: None,
            kind: None,
            name: String::new(),
            sentence: format!(
                "none of the files holds a {}; {} referred to: {}",
                kind.short(),
                if names.len() == 1 {
                    "one is".to_owned()
                } else {
                    format!("{} are", names.len())
                },
                some(&names)
            ),
        });
    }
    warnings
}

/// What happens while it is not there.
fn until(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Cluster => "such requests are answered with 503 until it is",
        ResourceKind::Endpoints => {
            "the cluster warms until it is, or goes on without endpoints after initial_fetch_timeout"
        }
        ResourceKind::Routes => "the listener warms until it is, or answers 404 after initial_fetch_timeout",
        ResourceKind::Secret => "what needs it warms until it is, and then refuses handshakes",
        ResourceKind::Listener => "nothing listens until it is",
    }
}

/// Up to eight names.
fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
    let more = names.len() - shown.len();
    if more > 0 {
        format!("{} and {more} more", shown.join(", "))
    } else {
        shown.join(", ")
    }
}

/// Kind and name of every resource that a part refers to, and from where in it (`"route 'x' "` or nothing).
fn references(world: &World, part: &Part) -> Vec<(ResourceKind, String, String)> {
    let mut found: Vec<_> = part
        .subscriptions()
        .iter()
        .map(|subscription| {
            let kind = match subscription.kind {
                SubscriptionKind::RouteConfiguration => ResourceKind::Routes,
                SubscriptionKind::ClusterLoadAssignment => ResourceKind::Endpoints,
                SubscriptionKind::Secret => ResourceKind::Secret,
            };
            (kind, subscription.name.to_string(), String::new())
        })
        .collect();
    let mut clusters = Vec::new();
    match part {
        Part::Routes(table) => of_table(&world.clusters, table, &mut clusters),
        Part::Listener(listener, _) => of_listener(&world.clusters, listener, &mut clusters),
        Part::Cluster(cluster) => {
            if let Discovery::Aggregate(members) = &cluster.config.discovery {
                let names = members.iter().filter_map(|id| world.clusters.name(*id));
                clusters.extend(names.map(|name| (name.to_string(), "as a member, ".to_owned())));
            }
        }
        Part::Secret(_) | Part::Endpoints(_) => {}
    }
    let clusters = clusters
        .into_iter()
        .map(|(name, from)| (ResourceKind::Cluster, name, from));
    found.extend(clusters);
    let mut seen = HashSet::new();
    found.retain(|(kind, name, _)| seen.insert((*kind, name.clone())));
    found
}

fn of_listener(names: &Interner<ClusterMark>, listener: &Listener, found: &mut Vec<(String, String)>) {
    for chain in listener.chains.iter().chain(listener.default_chain.as_ref()) {
        match &chain.terminal {
            Terminal::Http(manager) => {
                let asked = manager
                    .filters
                    .iter()
                    .filter_map(|filter| Some((filter, filter.filter.asks()?)));
                found.extend(asked.filter_map(|(filter, cluster)| {
                    let name = names.name(cluster)?.to_string();
                    Some((name, format!("filter '{}' ", filter.name)))
                }));
                if let Routes::Inline(table) = &manager.routes {
                    of_table(names, table, found);
                }
            }
            Terminal::Tcp(proxy) => {
                let from = if chain.name.is_empty() {
                    "its TCP proxy ".to_owned()
                } else {
                    format!("the TCP proxy of chain '{}' ", chain.name)
                };
                found.extend(
                    chosen(names, &proxy.cluster)
                        .into_iter()
                        .map(|name| (name, from.clone())),
                );
            }
            Terminal::Close => {}
        }
    }
}

fn of_table(names: &Interner<ClusterMark>, table: &RouteTable, found: &mut Vec<(String, String)>) {
    for host in &table.virtual_hosts {
        for (index, route) in host.routes.iter().enumerate() {
            let Action::Forward(forward) = &route.action else {
                continue;
            };
            let from = if route.name.is_empty() {
                format!("route {index} of virtual host '{}' ", host.name)
            } else {
                format!("route '{}' of virtual host '{}' ", route.name, host.name)
            };
            let fallback = forward
                .rare
                .as_deref()
                .and_then(|rare| rare.fallback.as_deref()?.cluster);
            let fallback = fallback.map(ClusterChoice::One);
            found.extend(
                [Some(&forward.cluster), fallback.as_ref()]
                    .into_iter()
                    .flatten()
                    .flat_map(|choice| chosen(names, choice))
                    .map(|name| (name, from.clone())),
            );
        }
    }
}

/// The names of the clusters that may be chosen; none where a header names them.
pub(super) fn chosen(names: &Interner<ClusterMark>, choice: &ClusterChoice) -> Vec<String> {
    let ids = match choice {
        ClusterChoice::One(id) => vec![*id],
        ClusterChoice::Weighted(clusters) => clusters.entries.iter().map(|entry| entry.cluster).collect(),
        ClusterChoice::Header(_) => Vec::new(),
    };
    ids.into_iter()
        .filter_map(|id| names.name(id).map(ToString::to_string))
        .collect()
}
