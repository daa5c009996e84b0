//! The answer of `remora fields`: a table, JSON, or the page `FIELDS.md`.

use std::io::{self, Write};

use remora_translate::preview::{FieldRow, Tier, markdown};
use serde_json::{Value, json};

/// Lines of text: field, tier and reason.
pub(super) fn text(rows: &[FieldRow], out: &mut dyn Write) -> io::Result<()> {
    for row in rows {
        let reason = if row.reason.is_empty() { "" } else { ": " };
        let part = if row.tier == Tier::Honoured && !row.reason.is_empty() {
            ", in part"
        } else {
            ""
        };
        writeln!(
            out,
            "{:<9} {}.{}{part}{reason}{}",
            row.tier.name(),
            row.message,
            row.field,
            row.reason
        )?;
    }
    Ok(())
}

/// As one JSON list.
pub(super) fn json(rows: &[FieldRow], out: &mut dyn Write) -> io::Result<()> {
    let rows = rows.iter().map(|row| {
        json!({
            "message": row.message,
            "field": row.field,
            "tier": row.tier.name(),
            "reason": row.reason,
            "deprecated": row.deprecated,
        })
    });
    serde_json::to_writer_pretty(&mut *out, &rows.collect::<Vec<Value>>())?;
    writeln!(out)
}

/// As a page.
pub(super) fn page(rows: &[FieldRow], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(markdown(rows).as_bytes())
}
