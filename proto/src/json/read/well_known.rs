//! Which messages have a JSON form of their own?
//!
//! What always holds: `Any` has `@type` at any place in its object, and its message's fields beside it, or `value` where
//! the message has a form of its own; `Struct`, `Value` and `ListValue` are any JSON; wrappers are their value;
//! durations are `"1.5s"`, timestamps RFC 3339, field masks comma-separated paths. Durations, timestamps and wrappers
//! may also be written as the objects that they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{Kind, MessageDescriptor};

use super::{Encoded, Reader, UnknownTypes};
use crate::extra::TYPED_STRUCT_NAMES;
use crate::json::problem::Problem;
use crate::json::tree::{Entry, Node, Value};
use crate::type_url::PREFIX;

/// Seconds of ten thousand years, the bound of `google/protobuf/duration.proto`.
const DURATION_LIMIT: i64 = 315_576_000_000;
const NANOS: i64 = 1_000_000_000;

/// Whether a message is one of `google/protobuf/wrappers.proto`.
pub(crate) fn is_wrapper(full_name: &str) -> bool {
    matches!(
        full_name.strip_prefix("google.protobuf."),
        Some(
            "DoubleValue"
                | "FloatValue"
                | "Int64Value"
                | "UInt64Value"
                | "Int32Value"
                | "UInt32Value"
                | "BoolValue"
                | "StringValue"
                | "BytesValue"
        )
    )
}

/// Whether a message inside an `Any` stands under `value`.
pub(crate) fn has_own_form(full_name: &str) -> bool {
    is_wrapper(full_name)
        || matches!(
            full_name.strip_prefix("google.protobuf."),
            Some("Any" | "Duration" | "Timestamp" | "Struct" | "Value" | "ListValue" | "FieldMask")
        )
}

impl Reader<'_> {
    /// The message if it has a form of its own and `node` is not the object form.
    pub(super) fn well_known(&mut self, descriptor: &MessageDescriptor, node: &Node) -> Option<Vec<u8>> {
        let name = descriptor.full_name().strip_prefix("google.protobuf.")?;
        let is_object = matches!(node.value, Value::Map(_));
        Some(match name {
            "Any" => self.any(node),
            "Struct" => self.structure(node),
            "Value" => self.free_value(node),
            "ListValue" => self.free_list(node),
            "Duration" if !is_object => self.duration(node),
            "Timestamp" if !is_object => self.timestamp(node),
            "FieldMask" if !is_object => self.field_mask(node),
            _ if is_wrapper(descriptor.full_name()) && !is_object => {
                let field = descriptor.get_field(1)?;
                let mut out = Vec::new();
                if let Some(value) = self.scalar(&field.kind(), node)
                    && !value.is_zero()
                {
                    value.write(1, &mut out);
                }
                out
            }
            _ => return None,
        })
    }

    fn any(&mut self, node: &Node) -> Vec<u8> {
        let Value::Map(entries) = &node.value else {
            self.expected("an object with \"@type\"", node);
            return Vec::new();
        };
        let Some(Entry { node: type_node, .. }) = entries.iter().find(|entry| entry.key == "@type") else {
            if !entries.is_empty() {
                self.expected("\"@type\" beside the fields of the message", node);
            }
            return Vec::new();
        };
        let Value::String(type_url) = &type_node.value else {
            self.expected("a type URL under \"@type\"", type_node);
            return Vec::new();
        };
        if !type_url.contains('/') {
            let problem = Problem::new(
                self.path.clone(),
                "a type URL under \"@type\"",
                type_node.value.describe(),
            );
            let hint = Some(format!("did you mean \"type.googleapis.com/{type_url}\"?"));
            self.problems
                .push(problem.with_position(type_node.at).with_hint(hint));
            return Vec::new();
        }
        let Some(inner) = self.pool.message(type_url) else {
            if self.options.unknown_types == UnknownTypes::Keep {
                return self.kept(type_url, entries);
            }
            let problem = self
                .pool
                .unknown_type(&self.path, type_url)
                .with_position(type_node.at);
            self.problems.push(problem);
            return Vec::new();
        };
        let value = if has_own_form(inner.full_name()) {
            self.any_value(&inner, node, entries)
        } else {
            self.fields(&inner, node, Some("@type"))
        };
        let mut out = Vec::new();
        Encoded::Bytes(type_url.clone().into_bytes()).write(1, &mut out);
        if !value.is_empty() {
            Encoded::Bytes(value).write(2, &mut out);
        }
        out
    }

    /// An `Any` of a type that is not described, as it came.
    fn kept(&mut self, type_url: &str, entries: &[Entry]) -> Vec<u8> {
        let rest: Vec<Entry> = entries
            .iter()
            .filter(|entry| entry.key != "@type")
            .cloned()
            .collect();
        let raw = match rest.as_slice() {
            [Entry { key, node, .. }] if key == "value" => match &node.value {
                Value::String(text) => STANDARD.decode(text).ok(),
                _ => None,
            },
            _ => None,
        };
        let (type_url, value) = match raw {
            Some(raw) => (type_url.to_owned(), raw),
            None => {
                let free = self.structure(&Node {
                    value: Value::Map(rest),
                    at: None,
                });
                let mut wrapped = Vec::new();
                Encoded::Bytes(type_url.as_bytes().to_vec()).write(1, &mut wrapped);
                Encoded::Bytes(free).write(2, &mut wrapped);
                (format!("{PREFIX}{}", TYPED_STRUCT_NAMES[0]), wrapped)
            }
        };
        let mut out = Vec::new();
        Encoded::Bytes(type_url.into_bytes()).write(1, &mut out);
        if !value.is_empty() {
            Encoded::Bytes(value).write(2, &mut out);
        }
        out
    }

    /// The message under `value`, beside which only `@type` may stand.
    fn any_value(&mut self, inner: &MessageDescriptor, node: &Node, entries: &[Entry]) -> Vec<u8> {
        let mut value = None;
        for entry in entries {
            match entry.key.as_str() {
                "@type" => {}
                "value" => {
                    value = Some(self.at("value", entry.node.at, |reader| {
                        reader.message(inner, &entry.node)
                    }));
                }
                _ => self.expected(
                    format!("only \"@type\" and \"value\" for {}", inner.full_name()),
                    node,
                ),
            }
        }
        value.unwrap_or_default()
    }

    fn duration(&mut self, node: &Node) -> Vec<u8> {
        let parsed = match &node.value {
            Value::String(text) => parse_duration(text),
            _ => None,
        };
        let Some((seconds, nanos)) = parsed else {
            self.expected(
                "a duration in seconds with an 's' suffix, such as \"0.250s\"",
                node,
            );
            return Vec::new();
        };
        seconds_and_nanos(seconds, nanos)
    }

    fn timestamp(&mut self, node: &Node) -> Vec<u8> {
        let parsed = match &node.value {
            Value::String(text) => parse_timestamp(text),
            _ => None,
        };
        let Some((seconds, nanos)) = parsed else {
            self.expected(
                "a time after RFC 3339, such as \"2026-01-02T03:04:05.678Z\"",
                node,
            );
            return Vec::new();
        };
        seconds_and_nanos(seconds, nanos)
    }

    fn field_mask(&mut self, node: &Node) -> Vec<u8> {
        let Value::String(text) = &node.value else {
            self.expected("field paths with commas between them", node);
            return Vec::new();
        };
        let mut out = Vec::new();
        for path in text.split(',').filter(|path| !path.is_empty()) {
            let mut snake = String::with_capacity(path.len());
            for letter in path.chars() {
                if letter.is_ascii_uppercase() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
            }
            Encoded::Bytes(snake.into_bytes()).write(1, &mut out);
        }
        out
    }

    fn structure(&mut self, node: &Node) -> Vec<u8> {
        let Value::Map(entries) = &node.value else {
            if node.value != Value::Null {
                self.expected("an object", node);
            }
            return Vec::new();
        };
        let mut sorted: Vec<&Entry> = entries.iter().collect();
        sorted.sort_by(|left, right| left.key.cmp(&right.key));
        let mut out = Vec::new();
        let mut previous: Option<&str> = None;
        for Entry { key, key_at, node } in sorted {
            self.at(&format!("[{key:?}]"), node.at.or(*key_at), |reader| {
                if previous == Some(key) {
                    let problem = Problem::new(reader.path.clone(), "the key once", "it again");
                    reader.problems.push(problem.with_position(*key_at));
                }
                let mut entry = Vec::new();
                Encoded::Bytes(key.clone().into_bytes()).write(1, &mut entry);
                Encoded::Bytes(reader.free_value(node)).write(2, &mut entry);
                Encoded::Bytes(entry).write(1, &mut out);
            });
            previous = Some(key);
        }
        out
    }

    fn free_list(&mut self, node: &Node) -> Vec<u8> {
        let Value::List(items) = &node.value else {
            self.expected("a list", node);
            return Vec::new();
        };
        let mut out = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let value = self.at(&format!("[{index}]"), item.at, |reader| reader.free_value(item));
            Encoded::Bytes(value).write(1, &mut out);
        }
        out
    }

    /// `google.protobuf.Value`: null 1, number 2, string 3, truth value 4, struct 5, list 6.
    fn free_value(&mut self, node: &Node) -> Vec<u8> {
        let (number, value) = match &node.value {
            Value::Null => (1, Encoded::Varint(0)),
            Value::Bool { value, .. } => (4, Encoded::Varint(u64::from(*value))),
            Value::String(text) => (3, Encoded::Bytes(text.clone().into_bytes())),
            Value::Map(_) => (5, Encoded::Bytes(self.structure(node))),
            Value::List(_) => (6, Encoded::Bytes(self.free_list(node))),
            Value::Number(text) => match self.scalar(&Kind::Double, node) {
                // A number that a double cannot hold exactly stays text, as Envoy keeps it.
                Some(_) if text.parse::<i128>().is_ok_and(|value| value.abs() > 1 << 53) => {
                    (3, Encoded::Bytes(text.clone().into_bytes()))
                }
                Some(value) => (2, value),
                None => return Vec::new(),
            },
        };
        let mut out = Vec::new();
        value.write(number, &mut out);
        out
    }
}

fn seconds_and_nanos(seconds: i64, nanos: i64) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, value) in [(1, seconds), (2, nanos)] {
        if value != 0 {
            Encoded::Varint(value.cast_unsigned()).write(number, &mut out);
        }
    }
    out
}

/// `-12.345s` as seconds and nanoseconds of the same sign.
fn parse_duration(text: &str) -> Option<(i64, i64)> {
    let digits = text.strip_suffix('s')?;
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, digits),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let seconds = parse_digits(whole).filter(|seconds| *seconds <= DURATION_LIMIT)?;
    Some((sign * seconds, sign * parse_fraction(fraction)?))
}

fn parse_digits(text: &str) -> Option<i64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// Up to nine digits after the point, in nanoseconds.
fn parse_fraction(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    parse_digits(&format!("{text:0<9}"))
}

/// `2026-01-02T03:04:05.678Z` or with an offset, as seconds since 1970 and nanoseconds.
fn parse_timestamp(text: &str) -> Option<(i64, i64)> {
    let number = |from: usize, to: usize| parse_digits(text.get(from..to)?);
    let separators = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    if separators
        .iter()
        .any(|(at, separator)| text.get(*at..*at + 1) != Some(*separator))
    {
        return None;
    }
    if !matches!(text.get(10..11), Some("T" | "t")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_range =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !in_range || year < 1 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let nanos = if fraction.is_empty() {
        0
    } else {
        parse_fraction(fraction.strip_prefix('.')?)?
    };
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let offset = parse_digits(hours)? * 3600 + parse_digits(minutes)? * 60;
            if zone.starts_with('-') { -offset } else { offset }
        }
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    debug_assert!((0..NANOS).contains(&nanos));
    Some((seconds, nanos))
}

/// Days from 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_decimal_seconds() {
        assert_eq!(parse_duration("0.250s"), Some((0, 250_000_000)));
        assert_eq!(parse_duration("-1.5s"), Some((-1, -500_000_000)));
        assert_eq!(parse_duration("315576000000s"), Some((315_576_000_000, 0)));
        for text in [
            "250ms",
            "1",
            "s",
            ".5s",
            "1.s",
            "+1s",
            "1e3s",
            "315576000001s",
            "0.1234567890s",
            "1 s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn timestamps_count_from_1970() {
        assert_eq!(parse_timestamp("1970-01-01T00:00:00Z"), Some((0, 0)));
        assert_eq!(
            parse_timestamp("2000-02-29T12:00:00.5Z"),
            Some((951_825_600, 500_000_000))
        );
        assert_eq!(
            parse_timestamp("2026-11-20T09:05:28+01:00"),
            Some((1_795_161_928, 0))
        );
        for text in [
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "yesterday",
            "",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }
}
