//! How do the bytes of a message look as JSON?
//!
//! In the field names of the proto files, as Envoy's `/config_dump` shows them: set fields only, `Any` opened with
//! `@type`, 64-bit integers as text, bytes in base64.
//!
//! What always holds: the same message gives the same JSON (keys sorted), and what comes out can be read back by
//! [`Pool::read`] to the same bytes (unknown fields and, with [`Redaction::Secrets`], secrets aside). Secrets are the
//! fields that Envoy's API marks `udpa.annotations.sensitive`, and in free JSON those with a telling name.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage,
    Value as Field,
};
use serde_json::{Map, Value};

use super::is_wrapper;
use super::read::has_own_form;
use crate::Pool;
use crate::extra::TYPED_STRUCT_NAMES;

/// What stands in place of a secret text; for bytes its base64, so that the field's type still holds.
pub(crate) const REDACTED: &str = "[redacted]";
/// Names under which free JSON (the inside of a `TypedStruct`) may carry a secret.
pub(crate) const SECRET_NAMES: [&str; 9] = [
    "private_key",
    "privateKey",
    "password",
    "pkcs12",
    "session_ticket_keys",
    "sessionTicketKeys",
    "generic_secret",
    "genericSecret",
    "secret",
];

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redaction {
    /// Secrets are replaced by `[redacted]`; numbers and truth values below them are left out.
    #[default]
    Secrets,
    /// Everything is shown: for tests and for turning a message back into configuration.
    Nothing,
}

/// How a message is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Whether secrets are shown.
    pub redaction: Redaction,
}

/// Why bytes could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The message name is not described.
    #[error("expected the name of a known message, found {0:?}")]
    UnknownMessage(String),
    /// The bytes are no such message.
    #[error("the bytes are no {name}: {error}")]
    Undecodable {
        /// The message that was asked for.
        name: String,
        /// What is wrong with the bytes.
        error: prost::DecodeError,
    },
}

impl Pool {
    /// The JSON of the encoded message `message_name` (a full name or a type URL). An `Any` of an unknown type, or with a
    /// value that cannot be decoded, is shown as `{"@type": ..., "value": base64}`.
    ///
    /// # Errors
    /// When the message is unknown or the bytes are not one.
    pub fn write(
        &self,
        bytes: &[u8],
        message_name: &str,
        options: WriteOptions,
    ) -> Result<Value, WriteError> {
        let message = self.decode(bytes, message_name)?;
        Ok(self.writer(options).message(&message, false))
    }

    /// The JSON of an `Any`, opened as [`Pool::write`] opens those inside of messages.
    #[must_use]
    pub fn write_any(&self, type_url: &str, value: &[u8], options: WriteOptions) -> Value {
        self.writer(options).any(type_url, value, false)
    }

    pub(crate) fn decode(&self, bytes: &[u8], message_name: &str) -> Result<DynamicMessage, WriteError> {
        let descriptor = self
            .message(message_name)
            .ok_or_else(|| WriteError::UnknownMessage(message_name.to_owned()))?;
        DynamicMessage::decode(descriptor, bytes).map_err(|error| WriteError::Undecodable {
            name: message_name.to_owned(),
            error,
        })
    }

    fn writer(&self, options: WriteOptions) -> Writer<'_> {
        let sensitive = match options.redaction {
            Redaction::Nothing => None,
            Redaction::Secrets => self
                .descriptors()
                .get_extension_by_name("udpa.annotations.sensitive"),
        };
        Writer {
            pool: self,
            redaction: options.redaction,
            sensitive,
        }
    }
}

struct Writer<'p> {
    pool: &'p Pool,
    redaction: Redaction,
    sensitive: Option<ExtensionDescriptor>,
}

impl Writer<'_> {
    /// `secret`: a field around this message is marked as sensitive.
    fn message(&self, message: &DynamicMessage, secret: bool) -> Value {
        let descriptor = message.descriptor();
        match descriptor.full_name().strip_prefix("google.protobuf.") {
            Some("Any") => {
                let (type_url, value) = (text_field(message, 1), message.get_field_by_number(2));
                let value = value
                    .as_deref()
                    .and_then(Field::as_bytes)
                    .cloned()
                    .unwrap_or_default();
                if type_url.is_empty() && value.is_empty() {
                    return Value::Object(Map::new());
                }
                self.any(&type_url, &value, secret)
            }
            Some("Duration") => {
                let (seconds, nanos) = seconds_and_nanos(message);
                Value::String(duration_text(seconds, nanos))
            }
            Some("Timestamp") => {
                let (seconds, nanos) = seconds_and_nanos(message);
                Value::String(timestamp_text(seconds, nanos))
            }
            Some("FieldMask") => Value::String(field_mask_text(message)),
            Some("Struct" | "Value" | "ListValue") => self.free(message, secret),
            _ if is_wrapper(descriptor.full_name()) => match descriptor.get_field(1) {
                Some(field) => self
                    .scalar(&field.kind(), &message.get_field(&field), secret)
                    .unwrap_or(Value::Null),
                None => Value::Null,
            },
            _ => Value::Object(self.fields(message, secret)),
        }
    }

    fn fields(&self, message: &DynamicMessage, secret: bool) -> Map<String, Value> {
        let mut object = Map::new();
        for (field, value) in message.fields() {
            let secret = secret || self.is_sensitive(&field);
            if let Some(value) = self.field(&field, value, secret) {
                object.insert(field.name().to_owned(), value);
            }
        }
        object
    }

    fn is_sensitive(&self, field: &FieldDescriptor) -> bool {
        self.sensitive.as_ref().is_some_and(|sensitive| {
            let options = field.options();
            options.has_extension(sensitive) && options.get_extension(sensitive).as_bool() == Some(true)
        })
    }

    fn field(&self, field: &FieldDescriptor, value: &Field, secret: bool) -> Option<Value> {
        match value {
            Field::List(items) => Some(Value::Array(
                items
                    .iter()
                    .filter_map(|item| self.scalar(&field.kind(), item, secret))
                    .collect(),
            )),
            Field::Map(entries) => {
                let Kind::Message(entry) = field.kind() else {
                    return None;
                };
                let kind = entry.map_entry_value_field().kind();
                let entries = entries
                    .iter()
                    .filter_map(|(key, value)| Some((map_key_text(key), self.scalar(&kind, value, secret)?)))
                    .collect();
                Some(Value::Object(entries))
            }
            value => self.scalar(&field.kind(), value, secret),
        }
    }

    /// One value; `None` for a secret that has no text form.
    fn scalar(&self, kind: &Kind, value: &Field, secret: bool) -> Option<Value> {
        Some(match value {
            Field::Message(message) => self.message(message, secret),
            Field::String(_) if secret => Value::String(REDACTED.into()),
            Field::Bytes(_) if secret => Value::String(STANDARD.encode(REDACTED)),
            _ if secret => return None,
            Field::Bool(value) => Value::Bool(*value),
            Field::I32(value) => Value::from(*value),
            Field::U32(value) => Value::from(*value),
            Field::I64(value) => Value::String(value.to_string()),
            Field::U64(value) => Value::String(value.to_string()),
            Field::F32(value) => float_value(f64::from(*value), &value.to_string()),
            Field::F64(value) => float_value(*value, &value.to_string()),
            Field::String(text) => Value::String(text.clone()),
            Field::Bytes(bytes) => Value::String(STANDARD.encode(bytes)),
            Field::EnumNumber(number) => kind
                .as_enum()
                .map_or(Value::from(*number), |kind| enum_value(kind, *number)),
            Field::List(_) | Field::Map(_) => return None,
        })
    }

    fn any(&self, type_url: &str, value: &[u8], secret: bool) -> Value {
        let mut object = Map::new();
        object.insert("@type".into(), Value::String(type_url.into()));
        match self.pool.decode(value, type_url) {
            Ok(message) if has_own_form(message.descriptor().full_name()) => {
                object.insert("value".into(), self.message(&message, secret));
            }
            Ok(message) => {
                let mut fields = self.fields(&message, secret);
                if TYPED_STRUCT_NAMES.contains(&message.descriptor().full_name())
                    && let Some(free) = fields.get_mut("value")
                {
                    self.redact_by_name(free);
                }
                object.extend(fields);
            }
            Err(_) => {
                let shown = if secret { REDACTED.as_bytes() } else { value };
                object.insert("value".into(), Value::String(STANDARD.encode(shown)));
            }
        }
        Value::Object(object)
    }

    /// `Struct`, `Value` and `ListValue`.
    fn free(&self, message: &DynamicMessage, secret: bool) -> Value {
        match message.descriptor().name() {
            "Struct" => {
                let fields = message.get_field_by_number(1);
                let entries = fields.as_deref().and_then(Field::as_map).into_iter().flatten();
                Value::Object(
                    entries
                        .filter_map(|(key, value)| {
                            Some((map_key_text(key), self.free(value.as_message()?, secret)))
                        })
                        .collect(),
                )
            }
            "ListValue" => {
                let items = message.get_field_by_number(1);
                let items = items.as_deref().and_then(Field::as_list).unwrap_or_default();
                Value::Array(
                    items
                        .iter()
                        .filter_map(|item| Some(self.free(item.as_message()?, secret)))
                        .collect(),
                )
            }
            _ => match message.fields().next() {
                Some((_, Field::Message(inner))) => self.free(inner, secret),
                Some((_, Field::EnumNumber(_))) | None => Value::Null,
                Some(_) if secret => Value::String(REDACTED.into()),
                Some((field, value)) => self.scalar(&field.kind(), value, false).unwrap_or(Value::Null),
            },
        }
    }

    /// Replaces every text below a telling name.
    fn redact_by_name(&self, value: &mut Value) {
        match (self.redaction, value) {
            (Redaction::Secrets, Value::Object(entries)) => {
                for (name, value) in entries {
                    if SECRET_NAMES.contains(&name.as_str()) {
                        redact(value);
                    } else {
                        self.redact_by_name(value);
                    }
                }
            }
            (Redaction::Secrets, Value::Array(items)) => {
                items.iter_mut().for_each(|item| self.redact_by_name(item));
            }
            _ => {}
        }
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(entries) => entries.values_mut().for_each(redact),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null => {}
        value => *value = Value::String(REDACTED.into()),
    }
}

fn enum_value(descriptor: &EnumDescriptor, number: i32) -> Value {
    match descriptor.get_value(number) {
        _ if descriptor.full_name() == "google.protobuf.NullValue" => Value::Null,
        Some(value) => Value::String(value.name().into()),
        None => Value::from(number),
    }
}

/// `text` is the shortest decimal of the field's own width, so that 0.1 of 32 bits stays `0.1`.
fn float_value(value: f64, text: &str) -> Value {
    if value.is_nan() {
        return Value::String("NaN".into());
    }
    if value.is_infinite() {
        return Value::String(if value > 0.0 { "Infinity" } else { "-Infinity" }.into());
    }
    if value.fract() == 0.0 && value.abs() < 9.0e15 && !(value == 0.0 && value.is_sign_negative()) {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        return Value::from(value as i64);
    }
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

pub(crate) fn map_key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
        MapKey::String(value) => value.clone(),
    }
}

fn text_field(message: &DynamicMessage, number: u32) -> String {
    message
        .get_field_by_number(number)
        .as_deref()
        .and_then(Field::as_str)
        .unwrap_or_default()
        .to_owned()
}

pub(crate) fn seconds_and_nanos(message: &DynamicMessage) -> (i64, i32) {
    let seconds = message.get_field_by_number(1).as_deref().and_then(Field::as_i64);
    let nanos = message.get_field_by_number(2).as_deref().and_then(Field::as_i32);
    (seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// `1s`, `0.250s`, `-0.000001s`: three, six or nine digits after the point.
pub(crate) fn duration_text(seconds: i64, nanos: i32) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    format!(
        "{sign}{}{}s",
        seconds.unsigned_abs(),
        fraction_text(nanos.unsigned_abs())
    )
}

fn fraction_text(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        nanos if nanos % 1_000_000 == 0 => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    }
}

fn timestamp_text(seconds: i64, nanos: i32) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Eras of 400 years from 0000-03-01, so that the leap day is a year's last (see the reader).
    let day = days + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = fraction_text(nanos.unsigned_abs());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

fn field_mask_text(message: &DynamicMessage) -> String {
    let paths = message.get_field_by_number(1);
    let paths = paths.as_deref().and_then(Field::as_list).unwrap_or_default();
    paths
        .iter()
        .filter_map(Field::as_str)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_as_many_digits_as_they_need() {
        for (seconds, nanos, text) in [
            (0, 0, "0s"),
            (1, 0, "1s"),
            (0, 250_000_000, "0.250s"),
            (-1, -500, "-1.000000500s"),
            (0, -1_000, "-0.000001s"),
        ] {
            assert_eq!(duration_text(seconds, nanos), text);
        }
    }

    #[test]
    fn timestamps_are_calendar_dates() {
        assert_eq!(timestamp_text(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(
            timestamp_text(951_825_600, 500_000_000),
            "2000-02-29T12:00:00.500Z"
        );
        assert_eq!(timestamp_text(-1, 0), "1969-12-31T23:59:59Z");
    }
}
