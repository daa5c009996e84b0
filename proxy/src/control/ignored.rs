//! Fields that were set and have no effect here: said once in the log, counted by name in the metrics.

use super::Control;

impl Control {
    /// Says what is new among the fields without effect, and how often each was set.
    pub(super) fn tell_ignored(&mut self) {
        let metrics = &self.shared.observe.control;
        for (field, count) in self.catalog.ignored.iter() {
            match self.told_ignored.insert(field, count) {
                Some(before) if before == count => continue,
                Some(_) => {}
                None => {
                    let why = reason_of(field);
                    tracing::info!("'{field}' is set and has no effect here: {why}");
                }
            }
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            metrics.set(&format!("remora.ignored_field.{field}"), count);
        }
    }
}

/// Why a field has no effect, from the reviewed list.
fn reason_of(field: &str) -> &'static str {
    let listed = remora_translate::ignored::ignored_fields();
    listed
        .into_iter()
        .find(|(name, _)| *name == field)
        .map_or("not needed here", |(_, reason)| reason)
}
