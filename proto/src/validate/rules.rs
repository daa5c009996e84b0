//! What does one `validate.FieldRules` say about one value?
//!
//! What always holds: the reasons are worded as Envoy words them (`value must be greater than 0s`). Rules that Envoy's API
//! does not use (`email`, `within` ...) are not checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prost_reflect::{DynamicMessage, Kind, ReflectMessage, Value};

use crate::json::{duration_text, is_wrapper, seconds_and_nanos};

const HEADER_NAME: &str = "^:?[0-9a-zA-Z!#$%&'*+-.^_|~\\x60]+$";
const HEADER_VALUE: &str = "^[^\\x00-\\x08\\x0A-\\x1F\\x7F]*$";
const HEADER_LOOSE: &str = "^[^\\x00\\x0A\\x0D]*$";

/// Whether a text stands to the text of a rule as it must.
type Comparison = fn(&str, &str) -> bool;
/// Whether a text has the form that a rule names.
type Form = fn(&str) -> bool;

/// The rules of one kind (`string`, `repeated` ...) or the field of that name in them, when set.
pub(super) fn of_kind(rules: &DynamicMessage, kind: &str) -> Option<DynamicMessage> {
    if !rules.has_field_by_name(kind) {
        return None;
    }
    rules.get_field_by_name(kind)?.as_message().cloned()
}

/// Whether an absent field breaks the rules.
pub(super) fn is_required(rules: &DynamicMessage) -> bool {
    ["message", "duration", "timestamp", "any"]
        .iter()
        .any(|kind| of_kind(rules, kind).is_some_and(|rules| flag(&rules, "required")))
}

/// Whether the inside of the message is exempt.
pub(super) fn is_skipped(rules: &DynamicMessage) -> bool {
    of_kind(rules, "message").is_some_and(|rules| flag(&rules, "skip"))
}

/// What a list breaks, its items aside.
pub(super) fn list(rules: &DynamicMessage, items: &[Value]) -> Vec<String> {
    let count = items.len() as u64;
    if count == 0 && flag(rules, "ignore_empty") {
        return Vec::new();
    }
    let mut broken = Vec::new();
    broken.extend(
        whole(rules, "min_items")
            .filter(|least| count < *least)
            .map(|least| format!("value must contain at least {least} item(s)")),
    );
    broken.extend(
        whole(rules, "max_items")
            .filter(|most| count > *most)
            .map(|most| format!("value must contain no more than {most} item(s)")),
    );
    let repeats = items
        .iter()
        .enumerate()
        .any(|(index, item)| items[..index].contains(item));
    if flag(rules, "unique") && repeats {
        broken.push("repeated value must contain unique items".into());
    }
    broken
}

/// What a map of `count` entries breaks, its keys and values aside.
pub(super) fn map(rules: &DynamicMessage, count: usize) -> Vec<String> {
    let count = count as u64;
    if count == 0 && flag(rules, "ignore_empty") {
        return Vec::new();
    }
    let mut broken = Vec::new();
    broken.extend(
        whole(rules, "min_pairs")
            .filter(|least| count < *least)
            .map(|least| format!("value must contain at least {least} pair(s)")),
    );
    broken.extend(
        whole(rules, "max_pairs")
            .filter(|most| count > *most)
            .map(|most| format!("value must contain no more than {most} pair(s)")),
    );
    broken
}

/// What one value of the kind breaks. A wrapper is checked by its value.
pub(super) fn value(rules: &DynamicMessage, kind: &Kind, value: &Value) -> Vec<String> {
    match value {
        Value::Message(message) if is_wrapper(message.descriptor().full_name()) => message
            .get_field_by_number(1)
            .map(|inner| self::value(rules, kind, &inner))
            .unwrap_or_default(),
        Value::Message(message) => match message.descriptor().full_name() {
            "google.protobuf.Duration" => of_kind(rules, "duration").map(|rules| duration(&rules, message)),
            "google.protobuf.Any" => of_kind(rules, "any").map(|rules| any(&rules, message)),
            _ => None,
        }
        .unwrap_or_default(),
        Value::String(text) => of_kind(rules, "string")
            .map(|rules| string(&rules, text))
            .unwrap_or_default(),
        Value::Bytes(bytes) => of_kind(rules, "bytes")
            .map(|rules| lengths(&rules, "min_len", "max_len", bytes.len(), "bytes"))
            .unwrap_or_default(),
        Value::EnumNumber(number) => of_kind(rules, "enum")
            .map(|rules| enumeration(&rules, kind, *number))
            .unwrap_or_default(),
        Value::Bool(value) => {
            let wanted = of_kind(rules, "bool")
                .filter(|rules| rules.has_field_by_name("const"))
                .map(|rules| flag(&rules, "const"));
            wanted
                .filter(|wanted| wanted != value)
                .map(|wanted| format!("value must equal {wanted}"))
                .into_iter()
                .collect()
        }
        number => number_kind(number)
            .and_then(|kind| of_kind(rules, kind))
            .map(|rules| self::number(&rules, number))
            .unwrap_or_default(),
    }
}

/// A value in a message to a person.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Message(message) if message.descriptor().full_name() == "google.protobuf.Duration" => {
            let (seconds, nanos) = seconds_and_nanos(message);
            duration_text(seconds, nanos)
        }
        Value::Message(message) if is_wrapper(message.descriptor().full_name()) => message
            .get_field_by_number(1)
            .map(|inner| show(&inner))
            .unwrap_or_default(),
        Value::EnumNumber(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        value => as_decimal(value)
            .map(|value| value.to_string())
            .unwrap_or_default(),
    }
}

fn flag(rules: &DynamicMessage, name: &str) -> bool {
    rules
        .get_field_by_name(name)
        .and_then(|value| value.as_bool())
        .unwrap_or_default()
}

fn whole(rules: &DynamicMessage, name: &str) -> Option<u64> {
    if rules.has_field_by_name(name) {
        rules.get_field_by_name(name)?.as_u64()
    } else {
        None
    }
}

fn text(rules: &DynamicMessage, name: &str) -> Option<String> {
    if rules.has_field_by_name(name) {
        rules.get_field_by_name(name)?.as_str().map(str::to_owned)
    } else {
        None
    }
}

fn values(rules: &DynamicMessage, name: &str) -> Vec<Value> {
    rules
        .get_field_by_name(name)
        .and_then(|values| values.as_list().map(<[Value]>::to_vec))
        .unwrap_or_default()
}

fn lengths(rules: &DynamicMessage, least: &str, most: &str, length: usize, unit: &str) -> Vec<String> {
    let length = length as u64;
    if length == 0 && flag(rules, "ignore_empty") {
        return Vec::new();
    }
    let mut broken = Vec::new();
    broken.extend(
        whole(rules, least)
            .filter(|least| length < *least)
            .map(|least| format!("value length must be at least {least} {unit}")),
    );
    broken.extend(
        whole(rules, most)
            .filter(|most| length > *most)
            .map(|most| format!("value length must be at most {most} {unit}")),
    );
    broken
}

fn string(rules: &DynamicMessage, value: &str) -> Vec<String> {
    if value.is_empty() && flag(rules, "ignore_empty") {
        return Vec::new();
    }
    let mut broken = lengths(rules, "min_len", "max_len", value.chars().count(), "characters");
    broken.extend(lengths(rules, "min_bytes", "max_bytes", value.len(), "bytes"));
    let tests: [(&str, &str, Comparison); 5] = [
        ("const", "value must equal ", |value, wanted| value == wanted),
        ("prefix", "value does not have prefix ", |value, wanted| {
            value.starts_with(wanted)
        }),
        ("suffix", "value does not have suffix ", |value, wanted| {
            value.ends_with(wanted)
        }),
        (
            "contains",
            "value does not contain substring ",
            |value, wanted| value.contains(wanted),
        ),
        ("not_contains", "value contains substring ", |value, refused| {
            !value.contains(refused)
        }),
    ];
    for (name, words, holds) in tests {
        broken.extend(
            text(rules, name)
                .filter(|wanted| !holds(value, wanted))
                .map(|wanted| format!("{words}{wanted:?}")),
        );
    }
    broken.extend(text(rules, "pattern").and_then(|pattern| mismatch(&pattern, value)));
    broken.extend(membership(rules, |item| item.as_str() == Some(value)));
    broken.extend(well_known(rules, value));
    broken
}

fn well_known(rules: &DynamicMessage, value: &str) -> Option<String> {
    let strict = flag(rules, "strict");
    let known = rules
        .has_field_by_name("well_known_regex")
        .then(|| rules.get_field_by_name("well_known_regex")?.as_enum_number());
    match known.flatten() {
        Some(1) => return mismatch(if strict { HEADER_NAME } else { HEADER_LOOSE }, value),
        Some(2) => return mismatch(if strict { HEADER_VALUE } else { HEADER_LOOSE }, value),
        _ => {}
    }
    let tests: [(&str, &str, Form); 5] = [
        ("ip", "value must be a valid IP address", |value| {
            value.parse::<IpAddr>().is_ok()
        }),
        ("ipv4", "value must be a valid IPv4 address", |value| {
            value.parse::<Ipv4Addr>().is_ok()
        }),
        ("ipv6", "value must be a valid IPv6 address", |value| {
            value.parse::<Ipv6Addr>().is_ok()
        }),
        ("hostname", "value must be a valid hostname", is_host_name),
        (
            "address",
            "value must be a valid hostname, or ip address",
            |value| value.parse::<IpAddr>().is_ok() || is_host_name(value),
        ),
    ];
    tests
        .into_iter()
        .find(|(name, _, holds)| flag(rules, name) && !holds(value))
        .map(|(_, words, _)| words.to_owned())
}

/// RFC 1034 section 3.5: labels of letters, digits and inner hyphens, 63 octets each, 253 in all.
fn is_host_name(value: &str) -> bool {
    let value = value.strip_suffix('.').unwrap_or(value);
    value.len() <= 253
        && value.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn mismatch(pattern: &str, value: &str) -> Option<String> {
    // A pattern of the API that does not compile binds nobody; the tests compile all of them.
    let expression = regex::Regex::new(pattern).ok()?;
    (!expression.is_match(value)).then(|| format!("value does not match regex pattern {pattern:?}"))
}

fn membership(rules: &DynamicMessage, is: impl Fn(&Value) -> bool) -> Option<String> {
    let (wanted, refused) = (values(rules, "in"), values(rules, "not_in"));
    let shown = |values: &[Value]| values.iter().map(show).collect::<Vec<_>>().join(", ");
    if !wanted.is_empty() && !wanted.iter().any(&is) {
        return Some(format!("value must be in list [{}]", shown(&wanted)));
    }
    refused
        .iter()
        .any(is)
        .then(|| format!("value must not be in list [{}]", shown(&refused)))
}

fn enumeration(rules: &DynamicMessage, kind: &Kind, number: i32) -> Vec<String> {
    let defined = kind.as_enum().is_none_or(|kind| kind.get_value(number).is_some());
    let undefined = flag(rules, "defined_only") && !defined;
    let mut broken: Vec<String> = membership(rules, |item| item.as_i32() == Some(number))
        .into_iter()
        .collect();
    if undefined {
        broken.push("value must be one of the defined enum values".into());
    }
    broken
}

fn any(rules: &DynamicMessage, message: &DynamicMessage) -> Vec<String> {
    let type_url = message.get_field_by_number(1);
    let type_url = type_url.as_deref().and_then(Value::as_str).unwrap_or_default();
    membership(rules, |item| item.as_str() == Some(type_url))
        .map(|reason| reason.replacen("value", "type_url", 1))
        .into_iter()
        .collect()
}

fn duration(rules: &DynamicMessage, message: &DynamicMessage) -> Vec<String> {
    let nanos = |message: &DynamicMessage| {
        let (seconds, nanos) = seconds_and_nanos(message);
        i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
    };
    let bound = |name: &str| {
        let bound = of_kind(rules, name)?;
        Some((nanos(&bound), show(&Value::Message(bound))))
    };
    bounds(nanos(message), bound)
}

fn number_kind(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::I32(_) => "int32",
        Value::I64(_) => "int64",
        Value::U32(_) => "uint32",
        Value::U64(_) => "uint64",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        _ => return None,
    })
}

/// Numbers compare and print as integers where they are, else as doubles.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Decimal {
    Integer(i128),
    Double(f64),
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
        }
    }
}

fn as_decimal(value: &Value) -> Option<Decimal> {
    Some(match value {
        Value::I32(value) => Decimal::Integer((*value).into()),
        Value::I64(value) => Decimal::Integer((*value).into()),
        Value::U32(value) => Decimal::Integer((*value).into()),
        Value::U64(value) => Decimal::Integer((*value).into()),
        Value::F32(value) => Decimal::Double((*value).into()),
        Value::F64(value) => Decimal::Double(*value),
        _ => return None,
    })
}

fn number(rules: &DynamicMessage, value: &Value) -> Vec<String> {
    let Some(found) = as_decimal(value) else {
        return Vec::new();
    };
    let zero = matches!(found, Decimal::Integer(0)) || found == Decimal::Double(0.0);
    if zero && flag(rules, "ignore_empty") {
        return Vec::new();
    }
    let bound = |name: &str| {
        if !rules.has_field_by_name(name) {
            return None;
        }
        let bound = as_decimal(rules.get_field_by_name(name)?.as_ref())?;
        Some((bound, bound.to_string()))
    };
    let mut broken = bounds(found, bound);
    broken.extend(membership(rules, |item| as_decimal(item) == Some(found)));
    broken
}

/// `const`, `gt`, `gte`, `lt`, `lte`; with both ends given and the lower above the upper, the range is what lies outside.
fn bounds<T: PartialOrd + Copy>(found: T, bound: impl Fn(&str) -> Option<(T, String)>) -> Vec<String> {
    let mut broken: Vec<String> = Vec::new();
    broken.extend(
        bound("const")
            .filter(|(wanted, _)| found != *wanted)
            .map(|(_, text)| format!("value must equal {text}")),
    );
    let (above, open_low) = match (bound("gt"), bound("gte")) {
        (Some(low), _) => (Some(low), true),
        (None, low) => (low, false),
    };
    let (below, open_high) = match (bound("lt"), bound("lte")) {
        (Some(high), _) => (Some(high), true),
        (None, high) => (high, false),
    };
    let over = |low: &T| if open_low { found > *low } else { found >= *low };
    let under = |high: &T| if open_high { found < *high } else { found <= *high };
    let words = |open: bool, side: &str, text: &str| match open {
        true => format!("value must be {side} than {text}"),
        false => format!("value must be {side} than or equal to {text}"),
    };
    match (above, below) {
        (Some((low, low_text)), Some((high, high_text))) => {
            let (left, right) = (
                if open_low { '(' } else { '[' },
                if open_high { ')' } else { ']' },
            );
            if low <= high && !(over(&low) && under(&high)) {
                broken.push(format!(
                    "value must be inside range {left}{low_text}, {high_text}{right}"
                ));
            } else if low > high && !(over(&low) || under(&high)) {
                broken.push(format!("value must be outside range [{high_text}, {low_text}]"));
            }
        }
        (Some((low, text)), None) if !over(&low) => broken.push(words(open_low, "greater", &text)),
        (None, Some((high, text))) if !under(&high) => broken.push(words(open_high, "less", &text)),
        _ => {}
    }
    broken
}
