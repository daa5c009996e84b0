//! Which fields differ between two messages, as JSON shows them?
//!
//! Holds: items of a list that have names are compared by name, so an insertion is one change; other lists are
//! compared item by item where they are as long as each other, else as a whole.

use serde_json::Value;

/// A field that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChange {
    /// Its path.
    pub path: String,
    /// What it was; null where it was not said.
    pub before: Value,
    /// What it becomes.
    pub after: Value,
}

/// Everything that differs.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare(before, after, String::new(), &mut found);
    found
}

fn compare(before: &Value, after: &Value, path: String, found: &mut Vec<FieldChange>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(left), Value::Object(right)) => {
            for (key, value) in left {
                compare(
                    value,
                    right.get(key).unwrap_or(&Value::Null),
                    step(&path, key),
                    found,
                );
            }
            for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                compare(&Value::Null, value, step(&path, key), found);
            }
        }
        (Value::Array(left), Value::Array(right)) => match (names(left), names(right)) {
            (Some(before), Some(after)) => by_name(&before, &after, &path, found),
            _ if left.len() == right.len() => {
                for (index, (left, right)) in left.iter().zip(right).enumerate() {
                    compare(left, right, format!("{path}[{index}]"), found);
                }
            }
            _ => found.push(change(path, before, after)),
        },
        _ => found.push(change(path, before, after)),
    }
}

fn by_name(before: &[(&str, &Value)], after: &[(&str, &Value)], path: &str, found: &mut Vec<FieldChange>) {
    let other = |list: &[(&str, &Value)], name: &str| {
        list.iter()
            .find(|(candidate, _)| *candidate == name)
            .map_or(Value::Null, |(_, value)| (*value).clone())
    };
    for (name, value) in before {
        compare(value, &other(after, name), format!("{path}[{name:?}]"), found);
    }
    for (name, value) in after {
        if !before.iter().any(|(candidate, _)| candidate == name) {
            found.push(change(format!("{path}[{name:?}]"), &Value::Null, value));
        }
    }
}

/// The items by name, if every one has a name of its own.
fn names(items: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let named: Option<Vec<(&str, &Value)>> = items
        .iter()
        .map(|item| Some((item.get("name")?.as_str()?, item)))
        .collect();
    let named = named?;
    let own = named
        .iter()
        .enumerate()
        .all(|(index, (name, _))| !named[..index].iter().any(|(other, _)| other == name));
    own.then_some(named)
}

fn change(path: String, before: &Value, after: &Value) -> FieldChange {
    FieldChange {
        path,
        before: before.clone(),
        after: after.clone(),
    }
}

fn step(path: &str, key: &str) -> String {
    let plain = key
        .bytes()
        .all(|letter| letter.is_ascii_alphanumeric() || letter == b'_' || letter == b'@');
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

/// Takes a field away, by its path.
pub(super) fn remove(value: &mut Value, path: &str) {
    let bracket = path.ends_with(']').then(|| path.rfind('[')).flatten();
    let Some(cut) = bracket.or_else(|| path.rfind('.')) else {
        if let Value::Object(fields) = value {
            fields.remove(path);
        }
        return;
    };
    // An item of a list stays, as nothing: the places of the others must not change.
    let (around, last) = (&path[..cut], path[cut..].trim_matches(['.', '[', ']', '"']));
    match value_at_mut(value, around) {
        Some(Value::Object(fields)) => {
            fields.remove(last);
        }
        Some(Value::Array(items)) => {
            if let Some(item) = last.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                *item = Value::Null;
            }
        }
        _ => {}
    }
}

fn value_at_mut<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let pointer = pointer(path)?;
    value.pointer_mut(&pointer)
}

/// A JSON pointer (RFC 6901) for a field path.
fn pointer(path: &str) -> Option<String> {
    let mut pointer = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (name, after) = if let Some(after) = rest.strip_prefix("[\"") {
            after.split_once("\"]")?
        } else if let Some(after) = rest.strip_prefix('[') {
            after.split_once(']')?
        } else {
            let step = rest.strip_prefix('.').unwrap_or(rest);
            step.split_at(step.find(['.', '[']).unwrap_or(step.len()))
        };
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        rest = after;
    }
    Some(pointer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_with_names_are_compared_by_name() {
        let before = json!({"chains": [{"name": "a", "x": 1}, {"name": "b"}], "gone": true});
        let after = json!({"chains": [{"name": "new"}, {"name": "a", "x": 2}, {"name": "b"}]});
        let paths: Vec<String> = changes(&before, &after)
            .into_iter()
            .map(|change| change.path)
            .collect();
        assert_eq!(paths, ["chains[\"a\"].x", "chains[\"new\"]", "gone"]);
    }

    #[test]
    fn a_field_is_removed_by_its_path() {
        let mut value = json!({"a": [{"b": 1, "c": {"d.e": 2}}]});
        remove(&mut value, "a[0].b");
        remove(&mut value, "a[0].c[\"d.e\"]");
        assert_eq!(value, json!({"a": [{"c": {}}]}));
    }
}
