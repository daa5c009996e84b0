//! Where do the resources stand in a config dump (`envoy.admin.v3`)?
//!
//! Holds: what is in use and what is warming is taken; what is draining is on its way out and left. An update that the
//! dumping proxy refused is told as a note. The bootstrap inside is taken only where the dump holds nothing else.

use remora_proto::Branch;

use crate::config_dump::ResourceKind;

/// The repeated fields of the dumps, and the field of an element that holds the resource.
pub(super) const FIELDS: [(&str, (ResourceKind, &str)); 14] = [
    ("static_clusters", (ResourceKind::Cluster, "cluster")),
    ("dynamic_active_clusters", (ResourceKind::Cluster, "cluster")),
    ("dynamic_warming_clusters", (ResourceKind::Cluster, "cluster")),
    ("static_listeners", (ResourceKind::Listener, "listener")),
    ("dynamic_listeners", (ResourceKind::Listener, "listener")),
    ("static_route_configs", (ResourceKind::Routes, "route_config")),
    ("dynamic_route_configs", (ResourceKind::Routes, "route_config")),
    ("static_secrets", (ResourceKind::Secret, "secret")),
    ("dynamic_active_secrets", (ResourceKind::Secret, "secret")),
    ("dynamic_warming_secrets", (ResourceKind::Secret, "secret")),
    (
        "static_endpoint_configs",
        (ResourceKind::Endpoints, "endpoint_config"),
    ),
    (
        "dynamic_endpoint_configs",
        (ResourceKind::Endpoints, "endpoint_config"),
    ),
    ("active_state", (ResourceKind::Listener, "listener")),
    ("warming_state", (ResourceKind::Listener, "listener")),
];

/// A resource found in a dump, and its path in there.
pub(super) struct Found<'t> {
    pub(super) kind: ResourceKind,
    pub(super) path: String,
    pub(super) branch: Branch<'t>,
}

/// Every resource of one part of a dump, and the notes that it brings.
pub(super) fn part<'t>(branch: Branch<'t>, path: &str, notes: &mut Vec<String>) -> Vec<Found<'t>> {
    let mut found = Vec::new();
    for (field, (kind, inside)) in FIELDS {
        let Some(value) = branch.at(field) else { continue };
        let path = format!("{path}{field}");
        if value.is_list() {
            for (index, item) in value.items().enumerate() {
                element(kind, inside, item, &format!("{path}[{index}]"), notes, &mut found);
            }
        } else {
            element(kind, inside, value, &path, notes, &mut found);
        }
    }
    // An element by itself, as `/config_dump?resource=...` answers it.
    if found.is_empty() {
        for (_, (kind, inside)) in FIELDS {
            if let Some(value) = branch.at(inside).filter(|value| value.is_object()) {
                let path = format!("{path}{inside}");
                found.push(Found {
                    kind,
                    path,
                    branch: value,
                });
                break;
            }
        }
    }
    found
}

fn element<'t>(
    kind: ResourceKind,
    inside: &str,
    item: Branch<'t>,
    path: &str,
    notes: &mut Vec<String>,
    found: &mut Vec<Found<'t>>,
) {
    let details = item.at("error_state").and_then(|state| state.at("details"));
    if let Some(details) = details.and_then(Branch::text) {
        let name = item.at("name").and_then(Branch::text).unwrap_or_default();
        let whose = if name.is_empty() {
            String::new()
        } else {
            format!(" '{name}'")
        };
        notes.push(format!(
            "{path}: the proxy that wrote this dump refused its newest {}{whose}: {details}",
            kind.short()
        ));
    }
    if let Some(value) = item.at(inside).filter(|value| value.is_object()) {
        let path = format!("{path}.{inside}");
        found.push(Found {
            kind,
            path,
            branch: value,
        });
        return;
    }
    for state in ["active_state", "warming_state"] {
        if let Some(value) = item.at(state).and_then(|state| state.at(inside)) {
            let path = format!("{path}.{state}.{inside}");
            found.push(Found {
                kind,
                path,
                branch: value,
            });
        }
    }
}
