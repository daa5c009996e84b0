//! `google.protobuf.FieldMask` on messages that are shown as JSON.
//!
//! Holds: what may be asked is what Envoy's dump allows: no path leads through a repeated field, and of an `Any` only
//! paths inside of it may be named, not the field itself.

use remora_proto::Pool;
use serde_json::Value;

/// The paths of a mask as it stands in a query.
pub(super) fn paths(mask: Option<&str>) -> Vec<String> {
    let paths = mask.unwrap_or_default().split(',');
    paths.filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

/// The mask in protobuf's text form, as Envoy names it in its answer.
pub(super) fn text_form(mask: &str) -> String {
    let lines = paths(Some(mask)).into_iter();
    lines.map(|path| format!("paths: \"{path}\"\n")).collect()
}

/// Whether every path fits the message.
pub(super) fn fits(pool: &Pool, message: &str, paths: &[String]) -> bool {
    paths.iter().all(|path| pool.has_path(message, path))
}

/// Whether every path fits an element that carries an `Any` of type `inner` in its field `any`.
pub(super) fn fits_element(pool: &Pool, message: &str, any: Option<(&str, &str)>, paths: &[String]) -> bool {
    paths.iter().all(|path| match any {
        Some((field, inner)) if path.split('.').next() == Some(field) => {
            let rest = path.split_once('.').map_or("", |(_, rest)| rest);
            pool.has_path(inner, rest)
        }
        _ => pool.has_path(message, path),
    })
}

/// Leaves of an object only what the paths name, and `@type`. No paths leave everything.
pub(super) fn apply(value: &mut Value, paths: &[String]) {
    let Value::Object(fields) = value else { return };
    if paths.is_empty() {
        return;
    }
    fields.retain(|key, field| {
        if key == "@type" || paths.iter().any(|path| path == key) {
            return true;
        }
        let inside = |path: &String| Some(path.strip_prefix(key.as_str())?.strip_prefix('.')?.to_owned());
        let deeper: Vec<String> = paths.iter().filter_map(inside).collect();
        apply(field, &deeper);
        !deeper.is_empty()
    });
}
