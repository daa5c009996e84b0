//! Which fields of a message are set although nothing reads them ([`crate::ignored::UNREAD`])?
//!
//! Holds: every message is looked into that the descriptors know, `Any`s too; what is inside of an unread field is not
//! told again, and a field that the translation counts itself is told by it.

use std::collections::{HashMap, HashSet};

use remora_proto::{Count, Field, Pool, Shape};
use serde_json::Value;

use crate::extension::message_name;
use crate::ignored;

/// A field that is set and not read.
pub(super) struct Found {
    /// Its full name.
    pub(super) field: String,
    pub(super) path: String,
    pub(super) value: Value,
    pub(super) reason: &'static str,
}

/// The list, and the messages that were met.
#[derive(Debug)]
pub(super) struct Unread {
    reasons: HashMap<&'static str, &'static str>,
    fields: HashMap<String, Vec<Field>>,
    /// What the translation counts under another name.
    counted: HashSet<&'static str>,
}

impl Default for Unread {
    fn default() -> Self {
        Self {
            reasons: ignored::UNREAD.iter().copied().collect(),
            fields: HashMap::new(),
            counted: ignored::COUNTED.iter().copied().collect(),
        }
    }
}

impl Unread {
    /// All of them in a message, as JSON shows it.
    pub(super) fn find(&mut self, pool: &Pool, shown: &Value, message: &str) -> Vec<Found> {
        let mut found = Vec::new();
        self.message(pool, shown, message, String::new(), &mut found);
        found
    }

    fn message(&mut self, pool: &Pool, shown: &Value, name: &str, path: String, found: &mut Vec<Found>) {
        let Value::Object(members) = shown else { return };
        let name = match name {
            "google.protobuf.Any" => members
                .get("@type")
                .and_then(Value::as_str)
                .map_or("", message_name),
            name => name,
        };
        if name.starts_with("google.protobuf.") {
            return;
        }
        let fields = self
            .fields
            .entry(name.to_owned())
            .or_insert_with(|| pool.fields(name).unwrap_or_default())
            .clone();
        for field in &fields {
            let Some(value) = members.get(&field.name) else {
                continue;
            };
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{}", field.name);
            let full = format!("{name}.{}", field.name);
            if let Some(reason) = self.reasons.get(full.as_str()) {
                if !self.counted.contains(full.as_str()) {
                    found.push(Found {
                        field: full,
                        path,
                        value: value.clone(),
                        reason,
                    });
                }
                continue;
            }
            if let Shape::Message(inner) = &field.shape {
                self.inside(pool, value, field.count, inner, &path, found);
            }
        }
    }

    fn inside(
        &mut self,
        pool: &Pool,
        value: &Value,
        count: Count,
        inner: &str,
        path: &str,
        found: &mut Vec<Found>,
    ) {
        match (count, value) {
            (Count::List, Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.message(pool, item, inner, format!("{path}[{index}]"), found);
                }
            }
            (Count::Map, Value::Object(entries)) => {
                for (key, item) in entries {
                    self.message(pool, item, inner, format!("{path}[{key:?}]"), found);
                }
            }
            _ => self.message(pool, value, inner, path.to_owned(), found),
        }
    }
}
