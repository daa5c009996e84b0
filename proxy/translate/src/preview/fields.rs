//! Which field of which message is honoured, ignored or rejected?
//!
//! Holds: the table is made from the reviewed lists that the translation uses, along the descriptors, from the resource
//! types down to every message that is read. A field of a message without a list of its own is honoured unless
//! [`crate::ignored::UNREAD`] names it. That honoured is no empty word is proven by a test (`tests/translate/fields.rs`):
//! it sets every field of the table and looks whether the translation notices.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use remora_proto::{Field, Pool, Shape};

use super::ResourceKind;
use crate::ignored::{self, Lists};

/// What happens to a field that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// It does what the API says.
    Honoured,
    /// Nothing happens, and it is counted.
    Ignored,
    /// The resource is rejected.
    Rejected,
}

impl Tier {
    /// `honoured`, `ignored`, `rejected`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
        }
    }
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRow {
    /// Full name of the message.
    pub message: String,
    /// Name of the field.
    pub field: String,
    /// What happens to it.
    pub tier: Tier,
    /// Why it is ignored or rejected; of an honoured field what of it is ignored. May be empty for honoured ones.
    pub reason: &'static str,
    /// The name under which it is counted when it is ignored.
    pub counted_as: Option<&'static str>,
    /// Whether the API marks it as deprecated.
    pub deprecated: bool,
}

/// The table, by message and in the order of the fields' numbers.
pub fn fields(pool: &Pool) -> Vec<FieldRow> {
    let verdicts = Verdicts::new();
    let mut open: BTreeSet<String> = ResourceKind::ALL
        .iter()
        .map(|kind| kind.message().to_owned())
        .collect();
    open.extend(verdicts.lists.keys().cloned());
    open.extend(ignored::EXTENSIONS.iter().map(|name| (*name).to_owned()));
    let mut done: BTreeMap<String, Vec<FieldRow>> = BTreeMap::new();
    while let Some(message) = open.pop_first() {
        let fields = pool.fields(&message).unwrap_or_default();
        let rows: Vec<FieldRow> = fields.iter().map(|field| verdicts.row(&message, field)).collect();
        for (field, row) in fields.iter().zip(&rows) {
            if let (Shape::Message(inner), Tier::Honoured) = (&field.shape, row.tier)
                && !inner.starts_with("google.protobuf.")
                && !done.contains_key(inner)
                && *inner != message
            {
                open.insert(inner.clone());
            }
        }
        done.insert(message, rows);
    }
    done.into_values().flatten().collect()
}

struct Verdicts {
    lists: BTreeMap<String, Lists>,
    beyond: HashMap<&'static str, (Tier, &'static str)>,
    partly: HashMap<&'static str, (&'static str, &'static str)>,
}

impl Verdicts {
    fn new() -> Self {
        let unread = ignored::UNREAD
            .iter()
            .map(|(field, why)| (*field, (Tier::Ignored, *why)));
        let refused = ignored::REFUSED
            .iter()
            .map(|(field, why)| (*field, (Tier::Rejected, *why)));
        Self {
            lists: ignored::lists()
                .into_iter()
                .map(|lists| (lists.message.clone(), lists))
                .collect(),
            beyond: unread.chain(refused).collect(),
            partly: ignored::PARTLY
                .iter()
                .map(|(name, why)| (*name, (*name, *why)))
                .collect(),
        }
    }

    fn row(&self, message: &str, field: &Field) -> FieldRow {
        let (tier, reason, counted_as) = self.verdict(message, field);
        FieldRow {
            message: message.to_owned(),
            field: field.name.clone(),
            tier,
            reason,
            counted_as,
            deprecated: field.deprecated,
        }
    }

    fn verdict(&self, message: &str, field: &Field) -> (Tier, &'static str, Option<&'static str>) {
        let full = format!("{message}.{}", field.name);
        if let Some((tier, reason)) = self.beyond.get(full.as_str()) {
            return (*tier, reason, None);
        }
        let short = |short: &str, name: &str| format!("{short}.{name}");
        let Some(lists) = self.lists.get(message) else {
            let (_, tail) = message.split_once(".v3.").unwrap_or(("", message));
            let last = tail.rsplit('.').next().unwrap_or(tail);
            let partly = [tail, last].map(|name| self.partly.get(short(name, &field.name).as_str()));
            return match partly.into_iter().flatten().next() {
                Some((name, why)) if ignored::IN_PART.contains(&full.as_str()) => {
                    (Tier::Honoured, why, Some(name))
                }
                Some((name, why)) => (Tier::Ignored, why, Some(name)),
                None => (Tier::Honoured, "", None),
            };
        };
        let names = [Some(&field.name), field.oneof.as_ref()];
        for name in names.into_iter().flatten() {
            let full = short(lists.short, name);
            let found = |list: &'static [ignored::FieldReason]| list.iter().find(|(entry, _)| *entry == full);
            if let Some((name, why)) = found(lists.ignored) {
                return (Tier::Ignored, why, Some(name));
            }
            if let Some((_, why)) = found(lists.refused) {
                return (Tier::Rejected, why, None);
            }
        }
        let partly = self.partly.get(short(lists.short, &field.name).as_str());
        let listed = lists
            .honoured
            .iter()
            .any(|name| name.trim_start_matches("r#") == field.name);
        match partly {
            Some((name, why)) if !listed => (Tier::Ignored, why, Some(name)),
            Some((name, why)) => (Tier::Honoured, why, Some(name)),
            None => (Tier::Honoured, "", None),
        }
    }
}

/// What stands above the table.
const HEAD: &str = "# Every field of the xDS messages that are read\n\n\
    Made from the code by `cargo run -p remora -- fields --output markdown > proxy/translate/FIELDS.md`; a test fails when it\n\
    is not up to date, and another one sets every field and sees that the translation notices it as it says here. *Honoured*\n\
    fields do what Envoy's API says, or are rejected where a value of theirs is not supported; *ignored* ones have no effect, for\n\
    the reason given, and are named by `remora check`; a resource that sets a *rejected* one is rejected. What is inside of an\n\
    ignored or rejected field is not listed. Filters that are left out as a whole: `remora_translate::filter::IGNORED`.\n";

/// The table as a page of Markdown.
pub fn markdown(rows: &[FieldRow]) -> String {
    let mut page = HEAD.to_owned();
    let mut message = "";
    for row in rows {
        if row.message != message {
            message = &row.message;
            page.push_str(&format!(
                "\n## {message}\n\n| field | | why |\n| --- | --- | --- |\n"
            ));
        }
        let deprecated = if row.deprecated { " (deprecated)" } else { "" };
        let partly = match (row.tier, row.reason) {
            (Tier::Honoured, why) if !why.is_empty() => format!("in part: {why}"),
            (_, why) => why.to_owned(),
        };
        page.push_str(&format!(
            "| `{}`{deprecated} | {} | {partly} |\n",
            row.field,
            row.tier.name()
        ));
    }
    page
}
