//! The answer of `remora diff`, in words and as JSON.

use std::io::{self, Write};

use remora_translate::preview::{Change, Kind, Section};
use serde_json::{Value, json};

/// Longest value that is shown in a line.
const SHOWN: usize = 120;

/// In words, by section.
pub(super) fn text(changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "no difference in what is honoured");
    }
    let mut section = None;
    for change in changes {
        if section != Some(change.section) {
            let gap = if section.is_some() { "\n" } else { "" };
            writeln!(out, "{gap}{}", heading(change.section))?;
            section = Some(change.section);
        }
        let mark = match change.kind {
            Kind::Added => "+ added",
            Kind::Removed => "- removed",
            Kind::Changed => "~ changed",
            Kind::Kept => "! rejected",
        };
        writeln!(out, "  {mark} {}", change.name)?;
        for sentence in &change.sentences {
            writeln!(out, "      {sentence}")?;
        }
        for field in &change.fields {
            writeln!(
                out,
                "      {}: {} -> {}",
                field.path,
                shown(&field.before),
                shown(&field.after)
            )?;
        }
    }
    Ok(())
}

fn heading(section: Section) -> &'static str {
    match section {
        Section::Listeners => "LISTENERS",
        Section::Routes => "ROUTES",
        Section::Clusters => "CLUSTERS",
        Section::Endpoints => "ENDPOINTS",
        Section::Identities => "IDENTITIES",
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() {
        return "not said".to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

/// As one JSON object.
pub(super) fn json(changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    let list: Vec<Value> = changes
        .iter()
        .map(|change| {
            let fields = change
                .fields
                .iter()
                .map(|field| json!({"path": field.path, "before": field.before, "after": field.after}));
            json!({
                "section": heading(change.section).to_lowercase(),
                "kind": match change.kind {
                    Kind::Added => "added",
                    Kind::Removed => "removed",
                    Kind::Changed => "changed",
                    Kind::Kept => "rejected",
                },
                "name": change.name,
                "sentences": change.sentences,
                "fields": fields.collect::<Vec<Value>>(),
            })
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &json!({"same": changes.is_empty(), "changes": list}))?;
    writeln!(out)
}
