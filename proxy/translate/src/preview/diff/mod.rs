//! What changes between two configurations?
//!
//! Holds: both sides are translated into one [`World`], and what counts is what is honoured: two resources that become
//! the same model are the same, however they are written, and fields without effect make no difference. A version that
//! is rejected leaves the one before it in use, as it does at run time. Secrets are compared, never shown.

mod clusters;
mod fields;
mod identities;
mod listeners;
mod routes;
mod words;

use std::collections::BTreeMap;
use std::fmt::Debug;

use regex::Regex;
use remora_proto::{Pool, WriteOptions};
use serde_json::Value;

pub use fields::FieldChange;

use super::check::place_of;
use super::contents::{Contents, Resource};
use super::world::{Part, World};
use crate::config_dump::ResourceKind;

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// Where connections come in.
    Listeners,
    /// Where requests go.
    Routes,
    /// Upstream clusters.
    Clusters,
    /// Their endpoints.
    Endpoints,
    /// Who we are, whom we trust.
    Identities,
}

/// How something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Only the second side has it.
    Added,
    /// Only the first side has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
    /// The second side's version is rejected, so the first side's stays in use.
    Kept,
}

/// One thing that changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What it is about.
    pub section: Section,
    /// How.
    pub kind: Kind,
    /// Name of what changes.
    pub name: String,
    /// What that means, a sentence each.
    pub sentences: Vec<String>,
    /// The fields behind it, as far as they are honoured.
    pub fields: Vec<FieldChange>,
}

/// Everything that changes, by section and name.
pub fn diff(pool: &Pool, before: &Contents, after: &Contents) -> Vec<Change> {
    let mut world = World::new();
    let sides = Sides {
        before: Side::new(pool, &mut world, before),
        after: Side::new(pool, &mut world, after),
        world,
        counters: counters(),
    };
    let mut changes = kept(&sides);
    listeners::compare(&sides, &mut changes);
    routes::compare(&sides, &mut changes);
    clusters::compare(&sides, &mut changes);
    identities::compare(&sides, &mut changes);
    changes.sort_by(|a, b| (a.section, a.kind, &a.name).cmp(&(b.section, b.kind, &b.name)));
    changes
}

/// Numbers that are new with every translation and mean nothing.
fn counters() -> Option<Regex> {
    Regex::new(r"\b(fingerprint|security|generation|id): [0-9]+").ok()
}

/// One translated resource, and its honoured fields.
struct Item {
    part: Part,
    shown: Value,
}

/// One configuration.
struct Side {
    items: BTreeMap<(ResourceKind, String), Item>,
    /// Resources that are rejected, with all reasons.
    rejected: BTreeMap<(ResourceKind, String), String>,
}

/// Both configurations and the names that they share.
struct Sides {
    before: Side,
    after: Side,
    world: World,
    counters: Option<Regex>,
}

impl Side {
    fn new(pool: &Pool, world: &mut World, contents: &Contents) -> Self {
        let mut side = Self {
            items: BTreeMap::new(),
            rejected: BTreeMap::new(),
        };
        for rejected in &contents.rejections {
            if let Some(kind) = ResourceKind::ALL
                .into_iter()
                .find(|kind| kind.short() == rejected.kind)
            {
                let reason = format!("{}: {}", rejected.path, rejected.reason);
                side.rejected.insert((kind, rejected.name.clone()), reason);
            }
        }
        for resource in &contents.resources {
            let (part, ignored) = world.translate(resource);
            match part {
                Ok(part) => {
                    let mut shown = pool
                        .write(
                            &resource.document.bytes,
                            resource.kind.message(),
                            WriteOptions::default(),
                        )
                        .unwrap_or_default();
                    for ignored in ignored {
                        let (path, _) = place_of(&shown, ignored.field, ignored.path);
                        fields::remove(&mut shown, &path);
                    }
                    side.items.insert(key(resource, &part), Item { part, shown });
                }
                Err(rejection) => {
                    let key = (resource.kind, resource.name.clone());
                    side.rejected.insert(key, rejection.reason());
                }
            }
        }
        side
    }

    fn of(&self, kind: ResourceKind) -> impl Iterator<Item = (&str, &Item)> {
        self.items
            .iter()
            .filter(move |((item, _), _)| *item == kind)
            .map(|((_, name), item)| (name.as_str(), item))
    }
}

fn key(resource: &Resource, part: &Part) -> (ResourceKind, String) {
    let name = match part {
        Part::Listener(listener, _) => listener.name.to_string(),
        _ => resource.name.clone(),
    };
    (resource.kind, name)
}

impl Sides {
    /// Each name of a kind with both sides; a side that is rejected is the other one's.
    fn pairs(&self, kind: ResourceKind) -> Vec<(&str, Option<&Item>, Option<&Item>)> {
        let mut pairs: BTreeMap<&str, (Option<&Item>, Option<&Item>)> = BTreeMap::new();
        for (name, item) in self.before.of(kind) {
            pairs.entry(name).or_default().0 = Some(item);
        }
        for (name, item) in self.after.of(kind) {
            pairs.entry(name).or_default().1 = Some(item);
        }
        pairs
            .into_iter()
            .filter(|(name, (before, after))| {
                let rejected = self.after.rejected.contains_key(&(kind, (*name).to_owned()));
                !(before.is_some() && after.is_none() && rejected)
            })
            .map(|(name, (before, after))| (name, before, after))
            .collect()
    }

    /// A part as its model says it, without numbers that mean nothing.
    fn essence(&self, part: &impl Debug) -> String {
        let text = format!("{part:?}");
        match &self.counters {
            Some(counters) => counters.replace_all(&text, "").into_owned(),
            None => text,
        }
    }

    fn same(&self, before: &impl Debug, after: &impl Debug) -> bool {
        self.essence(before) == self.essence(after)
    }
}

/// New versions that are rejected.
fn kept(sides: &Sides) -> Vec<Change> {
    let mut changes = Vec::new();
    for ((kind, name), reason) in &sides.after.rejected {
        let before = sides.before.items.contains_key(&(*kind, name.clone()));
        if sides.before.rejected.get(&(*kind, name.clone())) == Some(reason) {
            continue;
        }
        let stays = if before {
            "the version before stays in use"
        } else {
            "it does not come into use"
        };
        changes.push(Change {
            section: match kind {
                ResourceKind::Listener => Section::Listeners,
                ResourceKind::Routes => Section::Routes,
                ResourceKind::Cluster => Section::Clusters,
                ResourceKind::Endpoints => Section::Endpoints,
                ResourceKind::Secret => Section::Identities,
            },
            kind: Kind::Kept,
            name: name.clone(),
            sentences: vec![format!("the new {} is rejected, {stays}: {reason}", kind.short())],
            fields: Vec::new(),
        });
    }
    changes
}
