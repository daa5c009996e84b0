//! The answer of `remora check`, in words and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use remora_translate::preview::{Checked, IgnoredField, Position, Rejected, Warning};
use serde_json::{Value, json};

/// Longest value that is shown in a line.
const SHOWN: usize = 100;

/// In words: rejections first, then what has no effect by reason, then what is odd.
pub(super) fn text(checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    let counts: Vec<String> = checked
        .counts
        .iter()
        .map(|(kind, count)| format!("{count} {}", kind.short()))
        .collect();
    let counts = match counts.as_slice() {
        [] => "no resource".to_owned(),
        counts => counts.join(", "),
    };
    writeln!(
        out,
        "{counts}: {}, {}, {}",
        counted(checked.rejections.len(), "rejection", "rejections"),
        counted(checked.ignored.len(), "ignored field", "ignored fields"),
        counted(checked.warnings.len(), "warning", "warnings"),
    )?;
    rejections(&checked.rejections, out)?;
    ignored(&checked.ignored, out)?;
    warnings(&checked.warnings, out)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn rejections(rejections: &[Rejected], out: &mut dyn Write) -> io::Result<()> {
    let mut before = None;
    for rejected in rejections {
        let resource = (&rejected.file, rejected.kind, &rejected.name, &rejected.place);
        if before != Some(resource) {
            writeln!(
                out,
                "\nREJECTED {}{}",
                titled(rejected.kind, &rejected.name),
                within(&rejected.file, &rejected.place)
            )?;
            before = Some(resource);
        }
        let at = place(&rejected.file, rejected.at);
        match rejected.path.as_str() {
            "" => writeln!(out, "  {at}{}", rejected.reason)?,
            path => writeln!(out, "  {at}{path}: {}", rejected.reason)?,
        }
    }
    Ok(())
}

fn ignored(ignored: &[IgnoredField], out: &mut dyn Write) -> io::Result<()> {
    let mut fields: BTreeMap<(&str, &str), Vec<&IgnoredField>> = BTreeMap::new();
    for field in ignored {
        fields
            .entry((&field.field, &field.reason))
            .or_default()
            .push(field);
    }
    for ((field, reason), places) in fields {
        writeln!(out, "\nIGNORED {field}: {reason}")?;
        for ignored in places {
            let at = place(&ignored.file, ignored.at);
            let value = shown(&ignored.value);
            writeln!(
                out,
                "  {at}{}: {}{value}",
                titled(ignored.kind, &ignored.name),
                ignored.path
            )?;
        }
    }
    Ok(())
}

fn warnings(warnings: &[Warning], out: &mut dyn Write) -> io::Result<()> {
    for warning in warnings {
        let whose = warning
            .kind
            .map(|kind| format!("{}: ", titled(kind, &warning.name)))
            .unwrap_or_default();
        writeln!(
            out,
            "\nWARNING {}{whose}{}",
            place(&warning.file, warning.at),
            warning.sentence
        )?;
    }
    Ok(())
}

fn titled(kind: &str, name: &str) -> String {
    if name.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind} '{name}'")
    }
}

fn within(file: &str, place: &str) -> String {
    if place.is_empty() {
        format!(" in {file}")
    } else {
        format!(" in {file} at {place}")
    }
}

fn place(file: &str, at: Option<Position>) -> String {
    match at {
        _ if file.is_empty() => String::new(),
        Some(at) => format!("{file}:{at}: "),
        None => format!("{file}: "),
    }
}

/// ` = value`, cut where it is long; nothing where there is none.
fn shown(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!(" = {}...", &text[..cut]),
        None => format!(" = {text}"),
    }
}

/// As one JSON object.
pub(super) fn json(checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    let counts: serde_json::Map<String, Value> = checked
        .counts
        .iter()
        .map(|(kind, count)| (kind.short().to_owned(), json!(count)))
        .collect();
    let answer = json!({
        "accepted": checked.rejections.is_empty(),
        "resources": counts,
        "rejections": checked.rejections.iter().map(rejection).collect::<Vec<_>>(),
        "ignored": checked.ignored.iter().map(field).collect::<Vec<_>>(),
        "warnings": checked.warnings.iter().map(warning).collect::<Vec<_>>(),
    });
    serde_json::to_writer_pretty(&mut *out, &answer)?;
    writeln!(out)
}

fn rejection(rejected: &Rejected) -> Value {
    let sides = rejected.sides();
    json!({
        "file": *rejected.file,
        "line": rejected.at.map(|at| at.line),
        "column": rejected.at.map(|at| at.column),
        "type": rejected.kind,
        "name": rejected.name,
        "place": rejected.place,
        "path": rejected.path,
        "reason": rejected.reason,
        "expected": sides.map(|(expected, _)| expected),
        "found": sides.map(|(_, found)| found),
    })
}

fn field(ignored: &IgnoredField) -> Value {
    json!({
        "file": *ignored.file,
        "line": ignored.at.map(|at| at.line),
        "column": ignored.at.map(|at| at.column),
        "type": ignored.kind,
        "name": ignored.name,
        "field": ignored.field,
        "path": ignored.path,
        "value": ignored.value,
        "reason": ignored.reason,
    })
}

fn warning(warning: &Warning) -> Value {
    json!({
        "file": *warning.file,
        "line": warning.at.map(|at| at.line),
        "column": warning.at.map(|at| at.column),
        "type": warning.kind,
        "name": warning.name,
        "warning": warning.sentence,
    })
}
