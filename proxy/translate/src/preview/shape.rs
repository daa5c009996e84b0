//! What kind of document is this?
//!
//! Holds: `@type` decides where it stands; without one, the fields that only one kind has decide. Nothing is read here.

use remora_proto::Branch;

use crate::config_dump::ResourceKind;
use crate::extension::message_name;

/// A value in a file, before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape<'t> {
    /// A list of anything.
    List,
    /// `configs` of a config dump.
    Dump,
    /// A single part of a config dump, with or without `@type`.
    DumpPart,
    /// `resources` of a `DiscoveryResponse`, or of a delta one.
    Response,
    /// A `Resource`: name, version and the resource itself.
    Wrapped,
    /// A bootstrap.
    Bootstrap,
    /// Something with a bootstrap inside.
    AroundBootstrap,
    /// Lists by kind: `listeners`, `clusters`, ...
    ByKind,
    /// A resource.
    Resource(ResourceKind),
    /// A resource that is not asked for (its type URL).
    Other(&'t str),
    /// None of these.
    Unknown,
}

/// The lists of a document that sorts its resources by kind.
pub(super) const BY_KIND: [(&str, ResourceKind); 9] = [
    ("listeners", ResourceKind::Listener),
    ("clusters", ResourceKind::Cluster),
    ("routes", ResourceKind::Routes),
    ("route_configs", ResourceKind::Routes),
    ("route_configurations", ResourceKind::Routes),
    ("endpoints", ResourceKind::Endpoints),
    ("cluster_load_assignments", ResourceKind::Endpoints),
    ("load_assignments", ResourceKind::Endpoints),
    ("secrets", ResourceKind::Secret),
];

/// Fields that only one kind of resource has, the most telling first.
const TELLING: [(&str, ResourceKind); 19] = [
    ("filter_chains", ResourceKind::Listener),
    ("default_filter_chain", ResourceKind::Listener),
    ("listener_filters", ResourceKind::Listener),
    ("virtual_hosts", ResourceKind::Routes),
    ("tls_certificate", ResourceKind::Secret),
    ("validation_context", ResourceKind::Secret),
    ("session_ticket_keys", ResourceKind::Secret),
    ("generic_secret", ResourceKind::Secret),
    ("cluster_name", ResourceKind::Endpoints),
    ("connect_timeout", ResourceKind::Cluster),
    ("load_assignment", ResourceKind::Cluster),
    ("eds_cluster_config", ResourceKind::Cluster),
    ("cluster_type", ResourceKind::Cluster),
    ("lb_policy", ResourceKind::Cluster),
    ("load_balancing_policy", ResourceKind::Cluster),
    ("circuit_breakers", ResourceKind::Cluster),
    ("common_lb_config", ResourceKind::Cluster),
    ("type", ResourceKind::Cluster),
    ("address", ResourceKind::Listener),
];

/// The shape of a value.
pub(super) fn of(branch: Branch<'_>) -> Shape<'_> {
    if branch.is_list() {
        return Shape::List;
    }
    if let Some(type_url) = branch.at("@type").and_then(Branch::text) {
        return typed(type_url);
    }
    let has = |key: &str| branch.at(key).is_some();
    let has_list = |key: &str| branch.at(key).is_some_and(Branch::is_list);
    if has_list("configs") {
        Shape::Dump
    } else if super::dump::FIELDS.iter().any(|(field, _)| has(field)) {
        Shape::DumpPart
    } else if has_list("resources") {
        Shape::Response
    } else if branch.at("resource").is_some_and(Branch::is_object) {
        Shape::Wrapped
    } else if ["static_resources", "dynamic_resources", "node", "admin"]
        .iter()
        .any(|key| has(key))
    {
        Shape::Bootstrap
    } else if branch.at("bootstrap").is_some_and(Branch::is_object) {
        Shape::AroundBootstrap
    } else {
        bare(branch)
    }
}

fn typed(type_url: &str) -> Shape<'_> {
    if let Some(kind) = ResourceKind::of(type_url) {
        return Shape::Resource(kind);
    }
    match message_name(type_url) {
        "envoy.service.discovery.v3.DiscoveryResponse"
        | "envoy.service.discovery.v3.DeltaDiscoveryResponse" => Shape::Response,
        "envoy.service.discovery.v3.Resource" => Shape::Wrapped,
        "envoy.config.bootstrap.v3.Bootstrap" => Shape::Bootstrap,
        "envoy.admin.v3.ConfigDump" => Shape::Dump,
        name if name.starts_with("envoy.admin.v3.") => Shape::DumpPart,
        _ => Shape::Other(type_url),
    }
}

/// Without any `@type`: a resource has a name that is a text, a document by kind has lists or objects of them.
fn bare(branch: Branch<'_>) -> Shape<'_> {
    let resource = TELLING.iter().find(|(field, _)| branch.at(field).is_some());
    let named = ["name", "cluster_name"]
        .iter()
        .any(|key| branch.at(key).and_then(Branch::text).is_some());
    match resource {
        Some((_, kind)) if named => return Shape::Resource(*kind),
        _ => {}
    }
    let by_kind = BY_KIND
        .iter()
        .filter_map(|(key, _)| branch.at(key))
        .any(|value| value.is_list() || value.is_object());
    match resource {
        _ if by_kind => Shape::ByKind,
        Some((_, kind)) => Shape::Resource(*kind),
        None => Shape::Unknown,
    }
}
