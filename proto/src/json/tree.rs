//! What does a YAML or JSON text say, and where does it say it?
//!
//! What always holds: a plain YAML scalar is typed as Envoy types it, whose reader works by heuristics too: first a
//! truth value (YAML 1.1: also `yes`, `on`, `n` ...), then an integer (also `0x10`, and `010` is eight), else text. A number
//! keeps its spelling, so `1.10` stays `1.10` where a string is wanted. Aliases are copied, within a bound on the total.
//! It knows nothing of messages; `<<` is an ordinary key, as in Envoy.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value as Free};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Position, Problem};

/// How deep a text may nest; Envoy's own resources stay below 60.
const DEPTH_LIMIT: usize = 200;
/// How many values a text may have after its aliases have been copied in.
const NODE_LIMIT: usize = 4_000_000;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: Option<Position>,
}

/// What a value is, before a field says what it should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool {
        value: bool,
        text: String,
    },
    /// Decimal digits, with sign, fraction and exponent if written so.
    Number(String),
    String(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Option<Position>,
    pub(super) node: Node,
}

impl Value {
    /// What stands there, in words for a message: kind and, for short scalars, the value.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool { value, text } if text == if *value { "true" } else { "false" } => text.clone(),
            Self::Bool { value, text } => format!("{text} (which YAML reads as {value})"),
            Self::Number(text) => format!("the number {text}"),
            Self::String(text) => quoted(text),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "an object".into(),
        }
    }
}

/// A text in quotes, cut at 80 characters.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}

/// Parses a YAML text, of which JSON is a part. An empty text is `Null`.
pub(super) fn parse(text: &str) -> Result<Node, Box<Problem>> {
    match parse_yaml(text) {
        // A few JSON texts are no YAML: surrogate pairs in escapes, very long keys. They lose their positions.
        Err(problem) if text.trim_start().starts_with('{') => {
            serde_json::from_str(text).map(from_json).map_err(|_| problem)
        }
        result => result,
    }
}

/// The tree of a JSON value, without positions.
pub(super) fn from_json(value: serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool {
            value,
            text: value.to_string(),
        },
        Json::Number(number) => Value::Number(number.to_string()),
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        Json::Object(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    key,
                    key_at: None,
                    node: from_json(value),
                })
                .collect(),
        ),
    };
    Node { value, at: None }
}

/// The tree of a `google.protobuf.Struct`, without positions.
pub(super) fn from_struct(value: &Struct) -> Node {
    let mut fields: Vec<_> = value.fields.iter().collect();
    fields.sort_by_key(|(key, _)| *key);
    let entries = fields.into_iter().map(|(key, value)| Entry {
        key: key.clone(),
        key_at: None,
        node: from_free(value),
    });
    Node {
        value: Value::Map(entries.collect()),
        at: None,
    }
}

fn from_free(value: &Free) -> Node {
    let value = match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool {
            value: *value,
            text: value.to_string(),
        },
        Some(Kind::NumberValue(number)) => Value::Number(number.to_string()),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(items)) => Value::List(items.values.iter().map(from_free).collect()),
        Some(Kind::StructValue(value)) => return from_struct(value),
    };
    Node { value, at: None }
}

fn refusal(expected: impl Into<String>, found: impl Into<String>, at: Option<Position>) -> Box<Problem> {
    Box::new(Problem::new("", expected, found).with_position(at))
}

fn parse_yaml(text: &str) -> Result<Node, Box<Problem>> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut root = None;
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => {
                if root.is_some() {
                    return Err(refusal(
                        "one document",
                        "a second document in the same text",
                        position(&span),
                    ));
                }
                root = Some(builder.node(event, &span, 0)?);
            }
        }
    }
    Ok(root.unwrap_or(Node {
        value: Value::Null,
        at: None,
    }))
}

struct Builder<'t> {
    parser: Parser<'t, serde_saphyr::granit_parser::StrInput<'t>>,
    /// Anchored values with their size, by the parser's number for the anchor.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Box<Problem>> {
        self.parser.next_event().transpose().map_err(|error| {
            let at = Position {
                line: error.marker().line(),
                column: error.marker().col() + 1,
            };
            refusal("YAML or JSON", error.info(), Some(at))
        })
    }

    /// The node that `event` begins; takes the events of its children from the parser.
    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Node, Box<Problem>> {
        let at = position(span);
        let before = self.nodes;
        self.count(1, at)?;
        if depth > DEPTH_LIMIT {
            let expected = format!("at most {DEPTH_LIMIT} levels of nesting");
            return Err(refusal(expected, "more", at));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                // "!" and "!!str" say that it is text; other tags are ignored, as in Envoy.
                let text_tag = tag.as_ref().is_some_and(|tag| {
                    matches!(tag.to_string().as_str(), "!" | "!!str" | "tag:yaml.org,2002:str")
                });
                let plain = matches!(style, ScalarStyle::Plain) && !text_tag;
                (
                    if plain {
                        plain_scalar(&text)
                    } else {
                        Value::String(text.into_owned())
                    },
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(refusal(
                        "an alias of a finished value",
                        "an alias inside of what it names",
                        at,
                    ));
                };
                self.count(size, at)?;
                return Ok(Node {
                    value: node.value,
                    at,
                });
            }
            _ => return Err(refusal("a value", "something else", at)),
        };
        let node = Node { value, at };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Box<Problem>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                None | Some((Event::SequenceEnd, _)) => return Ok(Value::List(items)),
                Some((event, span)) => items.push(self.node(event, &span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Box<Problem>> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = match self.next()? {
                None | Some((Event::MappingEnd, _)) => return Ok(Value::Map(entries)),
                Some(next) => next,
            };
            let key_at = position(&span);
            let Event::Scalar(key, ..) = event else {
                return Err(refusal("a key", "a list, an object or an alias", key_at));
            };
            let Some((event, span)) = self.next()? else {
                return Ok(Value::Map(entries));
            };
            let node = self.node(event, &span, depth + 1)?;
            entries.push(Entry {
                key: key.into_owned(),
                key_at,
                node,
            });
        }
    }

    fn count(&mut self, nodes: usize, at: Option<Position>) -> Result<(), Box<Problem>> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODE_LIMIT {
            let expected = format!("at most {NODE_LIMIT} values");
            return Err(refusal(expected, "more, counting every alias", at));
        }
        Ok(())
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "trees of JSON values have no positions, and the field is the same"
)]
fn position(span: &Span) -> Option<Position> {
    Some(Position {
        line: span.start.line(),
        column: span.start.col() + 1,
    })
}

fn plain_scalar(text: &str) -> Value {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if let Some(value) = truth(text) {
        return Value::Bool {
            value,
            text: text.into(),
        };
    }
    if let Some(number) = integer(text) {
        return Value::Number(number.to_string());
    }
    if is_decimal(text) {
        return Value::Number(text.trim_start_matches('+').into());
    }
    Value::String(text.into())
}

/// Decimals and exponents, and integers beyond 64 bits. Not `inf` and `nan`, which would be words in a struct (fields of
/// numbers take them as text), and not `089`, which is no octal and meant as text.
fn is_decimal(text: &str) -> bool {
    let spelled = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let integer = text.bytes().all(|byte| byte.is_ascii_digit());
    spelled && text.parse::<f64>().is_ok() && !(integer && text.starts_with('0'))
}

/// Truth values of YAML 1.1 in lower case, upper case or with a capital.
fn truth(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let upper_tail = text.get(1..)?.chars().any(|letter| letter.is_ascii_uppercase());
    if upper_tail && text != text.to_ascii_uppercase() {
        return None;
    }
    match lower.as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// Integers as C reads them: `0x` for sixteen, a leading `0` for eight.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (16, hex),
        None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        None => (10, digits),
    };
    i64::from_str_radix(digits, radix)
        .map(i128::from)
        .or_else(|_| u64::from_str_radix(digits, radix).map(i128::from))
        .ok()
        .filter(|_| digits.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .map(|value| sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> Value {
        parse(text).unwrap().value
    }

    #[test]
    fn plain_scalars_are_typed_as_envoy_types_them() {
        for (text, number) in [
            ("0x10", "16"),
            ("010", "8"),
            ("-5", "-5"),
            ("+7", "7"),
            ("1.50", "1.50"),
            ("1e3", "1e3"),
        ] {
            assert_eq!(scalar(text), Value::Number(number.into()), "{text}");
        }
        for text in ["yes", "On", "TRUE", "y", "Y"] {
            assert!(matches!(scalar(text), Value::Bool { value: true, .. }), "{text}");
        }
        for text in [
            "1.2.3",
            "yEs",
            "0x",
            "1s",
            "089",
            "\"5\"",
            "!!str 5",
            "2026-01-01",
            ".",
        ] {
            assert!(
                matches!(scalar(text), Value::String(_)),
                "{text}: {:?}",
                scalar(text)
            );
        }
        for text in ["", "~", "null"] {
            assert_eq!(scalar(text), Value::Null, "{text}");
        }
    }

    #[test]
    fn values_and_keys_have_their_places() {
        let Value::Map(entries) = scalar("a: 1\nb:\n  - x\n  -  y\n") else {
            panic!("a map")
        };
        assert_eq!(entries[1].key_at, Some(Position { line: 2, column: 1 }));
        let Value::List(items) = &entries[1].node.value else {
            panic!("a list")
        };
        assert_eq!(items[1].at, Some(Position { line: 4, column: 6 }));
    }

    #[test]
    fn aliases_are_copied_within_a_bound() {
        let Value::Map(entries) = scalar("a: &x [1]\nb: *x\n") else {
            panic!("a map")
        };
        assert_eq!(entries[0].node.value, entries[1].node.value);
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let previous = format!("*a{}", level - 1);
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                [previous.as_str(); 10].join(", ")
            ));
        }
        assert!(
            parse(&bomb)
                .unwrap_err()
                .expected
                .contains("at most 4000000 values")
        );
    }

    #[test]
    fn deep_nesting_and_second_documents_are_refused() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(
            parse("a: 1\n---\nb: 2\n")
                .unwrap_err()
                .found
                .contains("second document")
        );
    }

    #[test]
    fn json_that_is_no_yaml_is_read_too() {
        let Value::Map(entries) = scalar("{\n\t\"a\": \"\\ud83d\\ude00\\/\"}") else {
            panic!("a map")
        };
        assert_eq!(entries[0].node.value, Value::String("\u{1f600}/".into()));
    }
}
