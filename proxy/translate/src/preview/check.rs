//! What is wrong with these resources, what of them is ignored, and what is missing?
//!
//! Holds: every rejection and every ignored field of every resource is listed, with file, line where known, resource
//! and field path; values are shown without secrets. A rule of Envoy's API that is broken where we need not care is a
//! warning, because Envoy would refuse it.

use std::collections::HashMap;
use std::sync::Arc;

use remora_model::identity::{Secret, SecretKind};
use remora_model::listener::ListenerTable;
use remora_proto::{Pool, Position, WriteOptions};
use serde_json::Value;

use super::contents::{Contents, Resource};
use super::references;
use super::unread::Unread;
use super::world::{Part, World};
use crate::config_dump::ResourceKind;
use crate::context::IgnoredAt;
use crate::rejection::Problem;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The file.
    pub file: Arc<str>,
    /// The place in it, where known.
    pub at: Option<Position>,
    /// Type of the resource: `Listener`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Where it stands in the file.
    pub place: String,
    /// Path of the field inside the resource; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

impl Rejected {
    /// Something that is wrong with a file as a whole.
    pub(super) fn whole(file: &Arc<str>, kind: &'static str, reason: &str) -> Self {
        Self {
            file: Arc::clone(file),
            at: None,
            kind,
            name: String::new(),
            place: String::new(),
            path: String::new(),
            reason: reason.to_owned(),
        }
    }

    /// What was expected and what was found, where the reason says both.
    pub fn sides(&self) -> Option<(&str, &str)> {
        let (expected, found) = self.reason.strip_prefix("expected ")?.rsplit_once(" found ")?;
        Some((expected.trim_end_matches([',', ';']), found))
    }
}

/// A field that is set and has no effect.
#[derive(Debug, Clone, PartialEq)]
pub struct IgnoredField {
    /// The file.
    pub file: Arc<str>,
    /// The place in it, where known.
    pub at: Option<Position>,
    /// Type of the resource.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The field's name in the reviewed lists, `Cluster.outlier_detection`, or where it is in none its path.
    pub field: String,
    /// Path of the field inside the resource.
    pub path: String,
    /// Its value, without secrets.
    pub value: Value,
    /// Why it may be ignored.
    pub reason: String,
}

/// Something that is odd but not wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file; empty if it is about all of them.
    pub file: Arc<str>,
    /// The place in it, where known.
    pub at: Option<Position>,
    /// Type of the resource, if it is about one.
    pub kind: Option<&'static str>,
    /// Its name.
    pub name: String,
    /// What is odd.
    pub sentence: String,
}

/// The answer about some files.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many resources there are of each type.
    pub counts: Vec<(ResourceKind, usize)>,
    /// What is wrong.
    pub rejections: Vec<Rejected>,
    /// What has no effect.
    pub ignored: Vec<IgnoredField>,
    /// What is odd.
    pub warnings: Vec<Warning>,
}

/// Checks everything that was read. `usable` says whether a secret can be used for TLS, as the proxy asks it.
pub fn check(pool: &Pool, mut contents: Contents, usable: &dyn Fn(&Secret) -> Result<(), String>) -> Checked {
    let counts = ResourceKind::ALL
        .into_iter()
        .map(|kind| (kind, contents.count(kind)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let mut checker = Checker {
        pool,
        world: World::new(),
        reasons: crate::ignored::ignored_fields().into_iter().collect(),
        usable,
        listeners: ListenerTable::default(),
        unread: Unread::default(),
        checked: Checked {
            counts,
            rejections: std::mem::take(&mut contents.rejections),
            warnings: std::mem::take(&mut contents.warnings),
            ignored: bootstrap_fields(&contents),
        },
    };
    let mut parts = Vec::new();
    for kind in ResourceKind::ALL {
        for resource in contents.resources.iter().filter(|resource| resource.kind == kind) {
            if let Some(part) = checker.resource(resource) {
                parts.push((resource, part));
            }
        }
    }
    let dangling = references::dangling(&checker.world, &parts, &contents.resources);
    checker.checked.warnings.extend(dangling);
    if contents.hidden_keys > 0 {
        checker.checked.warnings.push(Warning {
            file: "".into(),
            at: None,
            kind: None,
            name: String::new(),
            sentence:
                "private keys are hidden in a dump, so whether they fit their certificates is not known"
                    .into(),
        });
    }
    checker.checked
}

fn bootstrap_fields(contents: &Contents) -> Vec<IgnoredField> {
    contents
        .bootstrap_ignored
        .iter()
        .map(|(file, path)| IgnoredField {
            file: Arc::clone(file),
            at: None,
            kind: "Bootstrap",
            name: String::new(),
            field: format!("Bootstrap.{path}"),
            path: path.clone(),
            value: Value::Null,
            reason: "about the process or what it tells of itself; what decides about traffic is honoured or refused"
                .into(),
        })
        .collect()
}

struct Checker<'p> {
    pool: &'p Pool,
    world: World,
    reasons: HashMap<&'static str, &'static str>,
    usable: &'p dyn Fn(&Secret) -> Result<(), String>,
    listeners: ListenerTable,
    unread: Unread,
    checked: Checked,
}

impl Checker<'_> {
    fn resource(&mut self, resource: &Resource) -> Option<Part> {
        let (translated, ignored) = self.world.translate(resource);
        self.note_ignored(resource, ignored);
        let verdict = translated
            .map_err(|rejection| rejection.problems)
            .and_then(|part| self.admit(part).map_err(|reason| vec![whole(reason)]));
        match verdict {
            Ok(part) => {
                self.rules(resource);
                Some(part)
            }
            Err(problems) => {
                let rejected = problems.into_iter().map(|problem| Rejected {
                    file: Arc::clone(&resource.file),
                    at: resource.document.locate(&problem.path).or(resource.at),
                    kind: resource.kind.short(),
                    name: resource.name.clone(),
                    place: resource.place.clone(),
                    path: problem.path,
                    reason: problem.sentence,
                });
                self.checked.rejections.extend(rejected);
                None
            }
        }
    }

    /// What the proxy asks of a translated part before it takes it in.
    fn admit(&mut self, part: Part) -> Result<Part, String> {
        match part {
            Part::Secret(translated) => {
                if !is_hidden(&translated.secret) {
                    (self.usable)(&translated.secret)?;
                }
                Ok(Part::Secret(translated))
            }
            Part::Listener(listener, subscriptions) => {
                if let Some(other) = self.listeners.conflict(&listener) {
                    let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
                    return Err(format!(
                        "has duplicate address '{}' as existing listener '{}'",
                        addresses.join(","),
                        other.name
                    ));
                }
                self.listeners.insert(Arc::clone(&listener));
                Ok(Part::Listener(listener, subscriptions))
            }
            part => Ok(part),
        }
    }

    fn note_ignored(&mut self, resource: &Resource, ignored: Vec<IgnoredAt>) {
        let unknown = resource.document.warnings.iter().map(|problem| IgnoredField {
            file: Arc::clone(&resource.file),
            at: problem.at,
            kind: resource.kind.short(),
            name: resource.name.clone(),
            field: problem.found.trim_matches('"').to_owned(),
            path: problem.path.clone(),
            value: Value::Null,
            reason: format!(
                "not {}, so a control plane cannot send it: it would be lost on the way",
                problem.expected
            ),
        });
        self.checked.ignored.extend(unknown);
        let options = WriteOptions::default();
        let shown = self
            .pool
            .write(&resource.document.bytes, resource.kind.message(), options);
        let shown = shown.unwrap_or_default();
        self.note_unread(resource, &shown);
        let named = ignored.into_iter().map(|IgnoredAt { field, path }| {
            let (path, value) = place_of(&shown, field, path);
            IgnoredField {
                file: Arc::clone(&resource.file),
                at: resource.document.locate(&path).or(resource.at),
                kind: resource.kind.short(),
                name: resource.name.clone(),
                field: field.to_owned(),
                path,
                value,
                reason: self.reasons.get(field).copied().unwrap_or_default().to_owned(),
            }
        });
        self.checked.ignored.extend(named);
    }

    /// Fields of messages without a list of their own that nothing reads: the translation does not count them.
    fn note_unread(&mut self, resource: &Resource, shown: &Value) {
        for found in self.unread.find(self.pool, shown, resource.kind.message()) {
            self.checked.ignored.push(IgnoredField {
                file: Arc::clone(&resource.file),
                at: resource.document.locate(&found.path).or(resource.at),
                kind: resource.kind.short(),
                name: resource.name.clone(),
                field: found.field,
                path: found.path,
                value: found.value,
                reason: found.reason.to_owned(),
            });
        }
    }

    /// Envoy's field rules, where they are stricter than we are.
    fn rules(&mut self, resource: &Resource) {
        let broken = self
            .pool
            .validate(&resource.document.bytes, resource.kind.message());
        let warnings = broken.unwrap_or_default().into_iter().map(|problem| Warning {
            file: Arc::clone(&resource.file),
            at: resource.document.locate(&problem.path).or(resource.at),
            kind: Some(resource.kind.short()),
            name: resource.name.clone(),
            sentence: format!("breaks a rule of Envoy's API, by which Envoy refuses it: {problem}"),
        });
        self.checked.warnings.extend(warnings);
    }
}

fn whole(sentence: String) -> Problem {
    Problem {
        path: String::new(),
        sentence,
    }
}

/// Whether the key is a stand-in for one that a dump hides.
pub(super) fn is_hidden(secret: &Secret) -> bool {
    match &secret.kind {
        SecretKind::Certificate(certificate) => certificate.key.der == [0; 3],
        SecretKind::Validation(_) | SecretKind::TicketKeys(_) | SecretKind::Generic(_) => false,
    }
}

/// The path of a field inside the message at `path`, and its value, as far as the message shows them.
pub(super) fn place_of(shown: &Value, field: &str, path: String) -> (String, Value) {
    let step = field.rsplit('.').next().unwrap_or(field);
    let deeper = if path.is_empty() {
        step.to_owned()
    } else {
        format!("{path}.{step}")
    };
    match value_at(shown, &deeper) {
        Some(value) => (deeper, value.clone()),
        None => {
            let value = value_at(shown, &path).cloned().unwrap_or_default();
            (path, value)
        }
    }
}

/// The value at a path such as `filter_chains[0].typed_per_filter_config["a.b"]`.
pub(super) fn value_at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = value;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[\"") {
            let (key, after) = after.split_once("\"]")?;
            value = value.get(key)?;
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']')?;
            value = value.get(index.parse::<usize>().ok()?)?;
            rest = after;
        } else {
            let step = rest.strip_prefix('.').unwrap_or(rest);
            let end = step.find(['.', '[']).unwrap_or(step.len());
            value = value.get(&step[..end])?;
            rest = &step[end..];
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_to_its_value() {
        let value = json!({"a": [{"b": {"x.y": {"c": 7}}}]});
        assert_eq!(value_at(&value, "a[0].b[\"x.y\"].c"), Some(&json!(7)));
        assert_eq!(value_at(&value, "a[1].b"), None);
        assert_eq!(value_at(&value, ""), Some(&value));
    }

    #[test]
    fn a_reason_with_two_sides_is_taken_apart() {
        let rejected = |reason: &str| Rejected::whole(&Arc::from("f"), "Cluster", reason);
        assert_eq!(
            rejected("expected 1 to 5, found 7").sides(),
            Some(("1 to 5", "7"))
        );
        assert_eq!(rejected("is not supported: x").sides(), None);
    }
}
