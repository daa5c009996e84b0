//! Which texts, numbers and truth values are which scalar?
//!
//! What always holds: an integer may be written as a number, as text, or with an empty fraction or an exponent (`5.0`,
//! `1e3`); it must fit its type. A string is never a number or a truth value by accident: `id: 5` and `id: yes` are
//! refused, as Envoy refuses them, with the advice to use quotes. Bytes are base64 of either alphabet, padded or not.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind};

use super::{Encoded, Reader};
use crate::json::problem::{Problem, did_you_mean};
use crate::json::tree::{Node, Value};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Beyond this, an integer in a YAML text may have meant a string (Envoy hands it on as text).
const SAFE_INTEGER: i128 = 1 << 53;

impl Reader<'_> {
    pub(super) fn scalar(&mut self, kind: &Kind, node: &Node) -> Option<Encoded> {
        match kind {
            Kind::String => self.string(node).map(|text| Encoded::Bytes(text.into_bytes())),
            Kind::Bytes => self.bytes(node),
            Kind::Bool => self.truth(node).map(|value| Encoded::Varint(u64::from(value))),
            Kind::Enum(descriptor) => self.enumeration(descriptor, node),
            Kind::Double => self
                .float(node, f64::MAX, "a number")
                .map(|value| Encoded::Fixed64(value.to_le_bytes())),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the range was checked; precision is what float means"
            )]
            Kind::Float => {
                let value = self.float(node, f64::from(f32::MAX), "a number that fits 32 bits")?;
                Some(Encoded::Fixed32((value as f32).to_le_bytes()))
            }
            kind => self.integer_of(kind, node),
        }
    }

    /// A key of a map: text in the file, whatever its kind.
    pub(super) fn map_key(&mut self, kind: &Kind, key: &Node) -> Option<Encoded> {
        match (kind, &key.value) {
            (Kind::String, Value::String(text)) => Some(Encoded::Bytes(text.clone().into_bytes())),
            (kind, _) => self.scalar(kind, key),
        }
    }

    fn string(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            // YAML cannot tell 1.10 from "1.10"; where a string is wanted, the spelling counts.
            Value::Number(text)
                if text
                    .parse::<i128>()
                    .map_or(true, |value| value.abs() > SAFE_INTEGER) =>
            {
                Some(text.clone())
            }
            Value::Number(text) => {
                self.in_quotes(node, text);
                None
            }
            Value::Bool { text, .. } => {
                self.in_quotes(node, text);
                None
            }
            _ => {
                self.expected("a string", node);
                None
            }
        }
    }

    fn in_quotes(&mut self, node: &Node, text: &str) {
        let problem = Problem::new(self.path.clone(), "a string", node.value.describe());
        let hint = Some(format!("put it in quotes: {text:?}"));
        self.problems.push(problem.with_position(node.at).with_hint(hint));
    }

    fn bytes(&mut self, node: &Node) -> Option<Encoded> {
        let decoded = match &node.value {
            Value::String(text) => BASE64.decode(text).or_else(|_| BASE64_URL.decode(text)).ok(),
            // All-digit base64 without quotes.
            Value::Number(text) => BASE64.decode(text).ok(),
            _ => None,
        };
        if decoded.is_none() {
            self.expected("bytes in base64", node);
        }
        decoded.map(Encoded::Bytes)
    }

    fn truth(&mut self, node: &Node) -> Option<bool> {
        let value = match &node.value {
            Value::Bool { value, .. } => Some(*value),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if value.is_none() {
            self.expected("true or false", node);
        }
        value
    }

    fn float(&mut self, node: &Node, limit: f64, expected: &str) -> Option<f64> {
        let value = match &node.value {
            Value::Number(text) | Value::String(text) => match text.as_str() {
                "NaN" | ".nan" => Some(f64::NAN),
                "Infinity" | ".inf" => Some(f64::INFINITY),
                "-Infinity" | "-.inf" => Some(f64::NEG_INFINITY),
                text => text.parse::<f64>().ok().filter(|value| value.abs() <= limit),
            },
            _ => None,
        };
        if value.is_none() {
            self.expected(expected, node);
        }
        // Minus zero becomes zero: encoders disagree whether it is a default.
        value.map(|value| value + 0.0)
    }

    fn integer_of(&mut self, kind: &Kind, node: &Node) -> Option<Encoded> {
        let (least, most) = match kind {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
            Kind::Uint32 | Kind::Fixed32 => (0, i128::from(u32::MAX)),
            _ => (0, i128::from(u64::MAX)),
        };
        let value = match &node.value {
            Value::Number(text) | Value::String(text) => {
                integer(text).filter(|value| (least..=most).contains(value))
            }
            _ => None,
        };
        let Some(value) = value else {
            self.expected(format!("an integer from {least} to {most}"), node);
            return None;
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "range checked; two's complement is the wire form"
        )]
        Some(match kind {
            Kind::Sint32 | Kind::Sint64 => Encoded::Varint(((value << 1) ^ (value >> 127)) as u64),
            Kind::Fixed32 | Kind::Sfixed32 => Encoded::Fixed32((value as u32).to_le_bytes()),
            Kind::Fixed64 | Kind::Sfixed64 => Encoded::Fixed64((value as u64).to_le_bytes()),
            _ => Encoded::Varint(value as u64),
        })
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor, node: &Node) -> Option<Encoded> {
        let number = match &node.value {
            Value::Null if descriptor.full_name() == "google.protobuf.NullValue" => Some(0),
            Value::String(text) => descriptor
                .get_value_by_name(text)
                .or_else(|| {
                    descriptor
                        .values()
                        .find(|value| value.name().eq_ignore_ascii_case(text))
                })
                .map(|value| i128::from(value.number()))
                .or_else(|| text.parse().ok()),
            Value::Number(text) => integer(text),
            // An enum with a value OFF or NO, unquoted.
            Value::Bool { text, .. } => descriptor
                .values()
                .find(|value| value.name().eq_ignore_ascii_case(text))
                .map(|value| i128::from(value.number())),
            _ => None,
        };
        let number = number.filter(|number| i32::try_from(*number).is_ok());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "fits 32 bits; sign extension is the wire form"
        )]
        if let Some(number) = number {
            return Some(Encoded::Varint(number as u64));
        }
        let names: Vec<_> = descriptor.values().map(|value| value.name().to_owned()).collect();
        let hint = match &node.value {
            Value::String(text) => did_you_mean(text, names.iter().cloned()),
            _ => None,
        };
        let expected = format!("one of {}", names.join(", "));
        let problem = Problem::new(self.path.clone(), expected, node.value.describe())
            .with_position(node.at)
            .with_hint(hint);
        match node.value {
            Value::String(_) => self.unknown(problem),
            _ => self.problems.push(problem),
        }
        None
    }
}

/// An integer in decimal digits, also with an empty fraction or an exponent that leaves none.
fn integer(text: &str) -> Option<i128> {
    if let Ok(value) = text.parse::<i128>() {
        return Some(value);
    }
    let value = text.parse::<f64>().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^63")]
    (value.fract() == 0.0 && value.abs() < 9.3e18).then_some(value as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_whole_numbers_however_written() {
        assert_eq!(integer("5.0"), Some(5));
        assert_eq!(integer("1e3"), Some(1000));
        assert_eq!(integer("18446744073709551615"), Some(u64::MAX.into()));
        assert_eq!(integer("5.5"), None);
        assert_eq!(integer("NaN"), None);
        assert_eq!(integer("five"), None);
    }
}
