//! `%DYNAMIC_METADATA(namespace:key:...)%`: what filters noted of the exchange, else what a PROXY header left.
//!
//! A text is printed as it is, anything else as JSON, as Envoy does.

use std::borrow::Cow;
use std::collections::BTreeMap;

use remora_model::endpoint::{LabelValue, Labels};
use remora_model::metadata::StateKind;
use serde_json::{Value as Json, json};

use super::Value;
use crate::observe::ExchangeRecord;

pub(super) fn dynamic<'a>(record: &'a ExchangeRecord, path: &[Box<str>]) -> Value<'a> {
    let noted = path.split_first().and_then(|(namespace, rest)| {
        let metadata = record.metadata.as_deref()?;
        match rest {
            [] => metadata
                .of(namespace)
                .map(|fields| Value::Text(Cow::Owned(self::fields(fields).to_string()))),
            rest => metadata.at(namespace, rest).map(one),
        }
    });
    noted.unwrap_or_else(|| announced(record, path))
}

/// `%FILTER_STATE(key:...)%`: the object as text, or as JSON.
pub(super) fn object<'a>(record: &'a ExchangeRecord, key: &str, plain: bool) -> Value<'a> {
    let Some(object) = record.metadata.as_deref().and_then(|noted| noted.object(key)) else {
        return Value::Absent;
    };
    if plain || object.kind() == StateKind::Number {
        return Value::text(object.text());
    }
    Value::Text(Cow::Owned(json!(object.text()).to_string()))
}

fn one(value: &LabelValue) -> Value<'_> {
    match value {
        LabelValue::Text(text) => Value::text(text),
        LabelValue::Null => Value::Absent,
        other => Value::Text(Cow::Owned(as_json(other).to_string())),
    }
}

fn fields(of: &Labels) -> Json {
    Json::Object(
        of.iter()
            .map(|(key, value)| (key.to_string(), as_json(value)))
            .collect(),
    )
}

/// A whole number is printed without a fraction.
fn as_json(value: &LabelValue) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        LabelValue::Null => Json::Null,
        LabelValue::Text(text) => json!(&**text),
        LabelValue::Number(number) if number.fract() == 0.0 && number.abs() < EXACT => {
            json!(*number as i64)
        }
        LabelValue::Number(number) => json!(number),
        LabelValue::Bool(value) => json!(value),
        LabelValue::List(values) => Json::Array(values.iter().map(as_json).collect()),
        LabelValue::Fields(of) => fields(of),
    }
}

/// What a PROXY header left: a text by its key, or a namespace as an object.
fn announced<'a>(record: &'a ExchangeRecord, path: &[Box<str>]) -> Value<'a> {
    let header = record.connection.header.as_ref();
    let mut found = header
        .into_iter()
        .flat_map(|header| &header.metadata)
        .filter(|(namespace, key, _)| {
            let mut asked = path.iter();
            asked.next().is_some_and(|asked| **asked == **namespace)
                && asked.next().is_none_or(|asked| **asked == **key)
        });
    match path.len() {
        2 => Value::maybe(found.next().map(|(.., text)| text.as_str())),
        1 => {
            let all: BTreeMap<&str, &str> = found.map(|(_, key, text)| (&**key, text.as_str())).collect();
            match serde_json::to_string(&all) {
                Ok(object) if !all.is_empty() => Value::Text(Cow::Owned(object)),
                _ => Value::Absent,
            }
        }
        _ => Value::Absent,
    }
}
