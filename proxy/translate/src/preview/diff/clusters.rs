//! Clusters and their endpoints.
//!
//! Holds: an endpoint is known by its address within its cluster; localities, weights, health and priority are told
//! where they differ. The endpoints of a static cluster count like those of EDS.

use std::collections::BTreeMap;

use remora_model::cluster::{ClusterConfig, Discovery};
use remora_model::endpoint::{Assignment, EndpointAddress, EndpointSpec, LocalitySpec};

use super::{Change, Kind, Section, Side, Sides, fields};
use crate::config_dump::ResourceKind;
use crate::preview::Part;

/// Sentences about single endpoints in one answer about a cluster; the rest is counted.
const SHOWN: usize = 50;

pub(super) fn compare(sides: &Sides, changes: &mut Vec<Change>) {
    for (name, before, after) in sides.pairs(ResourceKind::Cluster) {
        let config = |part: &Part| match part {
            Part::Cluster(cluster) => Some(std::sync::Arc::clone(&cluster.config)),
            _ => None,
        };
        let change = |kind, sentences, fields| Change {
            section: Section::Clusters,
            kind,
            name: name.to_owned(),
            sentences,
            fields,
        };
        let old = before.and_then(|item| config(&item.part));
        let new = after.and_then(|item| config(&item.part));
        match (old, new) {
            (None, Some(new)) => changes.push(change(Kind::Added, vec![described(&new)], Vec::new())),
            (Some(_), None) => {
                let sentence =
                    "routes that lead to it answer 503; its connections close when their requests are done";
                changes.push(change(Kind::Removed, vec![sentence.to_owned()], Vec::new()));
            }
            (Some(old), Some(new)) if !sides.same(&old, &new) => {
                let fields = before.zip(after).map_or_else(Vec::new, |(before, after)| {
                    fields::changes(&before.shown, &after.shown)
                });
                let fields = fields
                    .into_iter()
                    .filter(|field| !field.path.starts_with("load_assignment") || is_dns(&new))
                    .collect();
                changes.push(change(Kind::Changed, vec![effect(sides, &old, &new)], fields));
            }
            _ => {}
        }
    }
    endpoints(sides, changes);
}

fn is_dns(config: &ClusterConfig) -> bool {
    matches!(
        config.discovery,
        Discovery::StrictDns(_) | Discovery::LogicalDns(_)
    )
}

fn described(config: &ClusterConfig) -> String {
    match &config.discovery {
        Discovery::Static => "has its endpoints with it".to_owned(),
        Discovery::Eds { service } => format!("gets its endpoints by EDS, as '{service}'"),
        Discovery::StrictDns(_) | Discovery::LogicalDns(_) => "resolves its endpoints by DNS".to_owned(),
        Discovery::Aggregate(_) => "stands for other clusters".to_owned(),
        Discovery::OriginalDestination(_) => "goes where the client wanted to go".to_owned(),
    }
}

fn effect(sides: &Sides, old: &ClusterConfig, new: &ClusterConfig) -> String {
    if !sides.same(&old.discovery, &new.discovery) {
        return format!("{} from now on", described(new));
    }
    if !sides.same(&old.transport, &new.transport) {
        return "new connections to its endpoints use another transport socket; open ones are not reused"
            .to_owned();
    }
    "holds for new requests from now on".to_owned()
}

/// One endpoint and the group that it is in.
type Place<'a> = (&'a EndpointSpec, &'a LocalitySpec);

fn endpoints(sides: &Sides, changes: &mut Vec<Change>) {
    let (before, after) = (assignments(&sides.before), assignments(&sides.after));
    for (name, new) in &after {
        match before.get(name) {
            None => changes.push(change(
                name,
                Kind::Added,
                vec![format!("{} endpoints", count(new))],
            )),
            Some(old) if old != new => {
                let sentences = assignment(old, new);
                if !sentences.is_empty() {
                    changes.push(change(name, Kind::Changed, sentences));
                }
            }
            Some(_) => {}
        }
    }
    for (name, old) in &before {
        let kept = [ResourceKind::Endpoints, ResourceKind::Cluster]
            .into_iter()
            .any(|kind| sides.after.rejected.contains_key(&(kind, name.clone())));
        if !after.contains_key(name) && !kept {
            changes.push(change(
                name,
                Kind::Removed,
                vec![format!("{} endpoints", count(old))],
            ));
        }
    }
}

fn change(name: &str, kind: Kind, sentences: Vec<String>) -> Change {
    Change {
        section: Section::Endpoints,
        kind,
        name: name.to_owned(),
        sentences,
        fields: Vec::new(),
    }
}

/// What EDS and static clusters say, by name.
fn assignments(side: &Side) -> BTreeMap<String, std::sync::Arc<Assignment>> {
    let of_clusters = side
        .of(ResourceKind::Cluster)
        .filter_map(|(name, item)| match &item.part {
            Part::Cluster(cluster) => {
                let own = cluster
                    .assignment
                    .as_ref()
                    .filter(|own| !own.localities.is_empty())?;
                Some((name.to_owned(), std::sync::Arc::clone(own)))
            }
            _ => None,
        });
    let by_eds = side
        .of(ResourceKind::Endpoints)
        .filter_map(|(name, item)| match &item.part {
            Part::Endpoints(assignment) => Some((name.to_owned(), std::sync::Arc::clone(assignment))),
            _ => None,
        });
    of_clusters.chain(by_eds).collect()
}

fn count(assignment: &Assignment) -> usize {
    assignment
        .localities
        .iter()
        .map(|locality| locality.endpoints.len())
        .sum()
}

fn by_address(assignment: &Assignment) -> BTreeMap<&EndpointAddress, Place<'_>> {
    let all = assignment.localities.iter().flat_map(|locality| {
        locality
            .endpoints
            .iter()
            .map(move |endpoint| (&**endpoint, locality))
    });
    all.map(|(endpoint, locality)| (&endpoint.address, (endpoint, locality)))
        .collect()
}

fn assignment(old: &Assignment, new: &Assignment) -> Vec<String> {
    let (before, after) = (by_address(old), by_address(new));
    let mut sentences = Vec::new();
    for (address, (endpoint, locality)) in &after {
        match before.get(address) {
            None => sentences.push(format!("{} added{}", words(address), details(endpoint, locality))),
            Some(was) => sentences.extend(moved(address, *was, (endpoint, locality))),
        }
    }
    for address in before.keys().filter(|address| !after.contains_key(*address)) {
        sentences.push(format!("{} removed: it gets no new request", words(address)));
    }
    sentences.extend(localities(old, new));
    if old.overprovisioning != new.overprovisioning {
        sentences.push(format!(
            "overprovisioning factor {} -> {}",
            old.overprovisioning, new.overprovisioning
        ));
    }
    if sentences.len() > SHOWN {
        let more = sentences.len() - SHOWN;
        sentences.truncate(SHOWN);
        sentences.push(format!("and {more} more"));
    }
    sentences
}

fn words(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Pipe(path) => path.to_string(),
        EndpointAddress::Host(host, port) => format!("{host}:{port}"),
    }
}

fn details(endpoint: &EndpointSpec, locality: &LocalitySpec) -> String {
    format!(
        " with weight {}, {:?}, priority {}{}",
        endpoint.weight,
        endpoint.health(),
        locality.priority,
        zone(locality)
    )
    .to_lowercase()
}

fn zone(locality: &LocalitySpec) -> String {
    let parts = [
        &locality.locality.region,
        &locality.locality.zone,
        &locality.locality.sub_zone,
    ];
    let parts: Vec<&str> = parts
        .into_iter()
        .map(|part| &*part.0)
        .filter(|part| !part.is_empty())
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(", in {}", parts.join("/"))
    }
}

fn moved(address: &EndpointAddress, (was, group): Place<'_>, (is, new_group): Place<'_>) -> Option<String> {
    let mut differences = Vec::new();
    let mut tell = |what: &str, before: String, after: String| {
        if before != after {
            differences.push(format!("{what} {before} -> {after}"));
        }
    };
    tell("weight", was.weight.to_string(), is.weight.to_string());
    tell(
        "health",
        format!("{:?}", was.health()),
        format!("{:?}", is.health()),
    );
    tell(
        "priority",
        group.priority.to_string(),
        new_group.priority.to_string(),
    );
    tell("locality", zone(group), zone(new_group));
    tell(
        "host name",
        format!("{:?}", was.details().hostname),
        format!("{:?}", is.details().hostname),
    );
    let labels = |spec: &EndpointSpec| {
        format!(
            "{:?}{:?}",
            spec.details().transport_labels,
            spec.details().balance_labels
        )
    };
    if labels(was) != labels(is) {
        differences.push("metadata".to_owned());
    }
    (!differences.is_empty()).then(|| format!("{}: {}", words(address), differences.join(", ")))
}

/// Weights of localities that are in both.
fn localities(old: &Assignment, new: &Assignment) -> Vec<String> {
    let said = |weight: Option<u32>| weight.map_or_else(|| "none".to_owned(), |weight| weight.to_string());
    let changed = new.localities.iter().filter_map(|is| {
        let was = old
            .localities
            .iter()
            .find(|was| was.locality == is.locality && was.priority == is.priority)?;
        (was.weight != is.weight).then(|| {
            format!(
                "locality weight {} -> {} (priority {}{})",
                said(was.weight),
                said(is.weight),
                is.priority,
                zone(is)
            )
        })
    });
    changed.collect()
}
