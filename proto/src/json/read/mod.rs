//! How does a tree of values become the bytes of a message?
//!
//! A walk along the descriptor, after the protobuf JSON mapping and Envoy's reading of it: both name cases, `null` means
//! unset, one value stands for a list of one, enum names in any case, integers as text, `{seconds: 1}` for a duration.
//!
//! What always holds: the walk goes on after a problem, so that it finds all of them; fields are written in number order
//! and map keys sorted, so the same text gives the same bytes; a scalar without presence is not written when it is zero.
//! It does not check field rules: that is [`crate::Pool::validate`].

mod scalar;
mod well_known;

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::Struct;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::problem::{Position, Problem, Problems, did_you_mean};
use super::tree::{self, Entry, Node, Value, quoted};
use crate::Pool;
pub(crate) use well_known::{has_own_form, is_wrapper};

/// What a field that the message does not have, or an enum value that the enum does not have, means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// A problem (Envoy's default for static configuration).
    #[default]
    Refuse,
    /// A warning; the field is left out (Envoy's `--allow-unknown-static-fields`).
    Warn,
}

/// What an `Any` means whose type is not described here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownTypes {
    /// A problem.
    #[default]
    Refuse,
    /// It is kept as it came: free JSON as a `TypedStruct` of that type, `value` in base64 as its bytes. For resources
    /// of which each is judged by its own translation.
    Keep,
}

/// How strictly a text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// What unknown fields mean.
    pub unknown_fields: UnknownFields,
    /// What unknown types mean.
    pub unknown_types: UnknownTypes,
}

/// A message that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The encoded message.
    pub bytes: Vec<u8>,
    /// Unknown fields that were left out.
    pub warnings: Vec<Problem>,
    positions: HashMap<String, Position>,
}

impl Document {
    /// A document that was encoded already, such as a `.pb` file.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// When `M` is not the message that was read, or the bytes of [`Document::from_bytes`] are none.
    pub fn decode<M: Message + Default>(&self) -> Result<M, prost::DecodeError> {
        M::decode(self.bytes.as_slice())
    }

    /// The place of a field path, or of the nearest path around it; `None` when the text has no positions.
    #[must_use]
    pub fn locate(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(at) = self.positions.get(path) {
                return Some(*at);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// `over` laid upon `self` as protobuf merges messages, which is what `--config-yaml` asks for: set scalars replace,
    /// messages merge, repeated fields append, map keys replace. Places are kept for `self` only.
    #[must_use]
    pub fn merge(mut self, over: Self) -> Self {
        // Encoded messages one after the other decode as their merge (protobuf encoding, "Last One Wins").
        self.bytes.extend_from_slice(&over.bytes);
        self.warnings.extend(over.warnings);
        self
    }
}

impl Pool {
    /// Reads a YAML or JSON text as the message `message_name` (a full name or a type URL), for example
    /// `envoy.config.bootstrap.v3.Bootstrap` or, for a file of xDS resources, `envoy.service.discovery.v3.DiscoveryResponse`.
    ///
    /// # Errors
    /// Everything that is wrong with the text, in its order.
    pub fn read(&self, text: &str, message_name: &str, options: ReadOptions) -> Result<Document, Problems> {
        let node = tree::parse(text).map_err(|problem| Problems(vec![*problem]))?;
        self.read_tree(&node, message_name, "", options)
    }

    /// Reads the content of a file, of which the name says what it is: `.pb` for an encoded message, else text as for
    /// [`Pool::read`].
    ///
    /// # Errors
    /// Everything that is wrong with the text, or that the content is no text or no such message.
    pub fn read_file(
        &self,
        name: &str,
        content: &[u8],
        message_name: &str,
        options: ReadOptions,
    ) -> Result<Document, Problems> {
        let refused = |expected: &str, found: String| Problems(vec![Problem::new("", expected, found)]);
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("pb") => match self.decode(content, message_name) {
                Ok(_) => Ok(Document::from_bytes(content.to_vec())),
                Err(error) => Err(refused("an encoded message", error.to_string())),
            },
            Some("pb_text") => Err(refused(
                "a name that ends in .yaml, .yml, .json or .pb",
                quoted(name),
            )),
            _ => match str::from_utf8(content) {
                Ok(text) => self.read(text, message_name, options),
                Err(error) => Err(refused("a text in UTF-8", error.to_string())),
            },
        }
    }

    /// Reads free JSON, such as the inside of a `TypedStruct` (see [`crate::extra::unwrap_typed_struct`]), as the message
    /// that it stands for. Paths of problems start with `path`.
    ///
    /// # Errors
    /// Everything that is wrong with the value.
    pub fn read_struct(
        &self,
        value: &Struct,
        message_name: &str,
        path: &str,
        options: ReadOptions,
    ) -> Result<Document, Problems> {
        self.read_tree(&tree::from_struct(value), message_name, path, options)
    }

    pub(super) fn read_tree(
        &self,
        node: &Node,
        name: &str,
        path: &str,
        options: ReadOptions,
    ) -> Result<Document, Problems> {
        let Some(descriptor) = self.message(name) else {
            return Err(Problems(vec![self.unknown_type(path, name)]));
        };
        let mut reader = Reader {
            pool: self,
            options,
            path: path.into(),
            problems: Vec::new(),
            document: Document::default(),
        };
        reader.document.bytes = match reader.well_known(&descriptor, node) {
            Some(bytes) => bytes,
            None => reader.fields(&descriptor, node, Some("@type")),
        };
        if reader.problems.is_empty() {
            Ok(reader.document)
        } else {
            Err(Problems(reader.problems))
        }
    }

    fn unknown_type(&self, path: &str, type_url: &str) -> Problem {
        let name = crate::type_url::message_name(type_url);
        let hint = if name.starts_with("envoy.api.v2.") || name.contains(".v2.") {
            Some("version 2 of the API is no longer spoken".into())
        } else {
            did_you_mean(name, self.message_names())
        };
        Problem::new(path, "the type URL of a known message", quoted(type_url)).with_hint(hint)
    }
}

struct Reader<'p> {
    pool: &'p Pool,
    options: ReadOptions,
    /// The path of the value being read.
    path: String,
    problems: Vec<Problem>,
    document: Document,
}

impl Reader<'_> {
    /// Reads `node` one step deeper in the path, and notes its place.
    fn at<T>(&mut self, step: &str, at: Option<Position>, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if !step.starts_with('[') && length > 0 {
            self.path.push('.');
        }
        self.path.push_str(step);
        if let Some(at) = at {
            self.document.positions.entry(self.path.clone()).or_insert(at);
        }
        let result = read(self);
        self.path.truncate(length);
        result
    }

    fn expected(&mut self, expected: impl Into<String>, node: &Node) {
        let problem = Problem::new(self.path.clone(), expected, node.value.describe()).with_position(node.at);
        self.problems.push(problem);
    }

    /// An unknown name: a problem, or a warning where unknown fields are tolerated.
    fn unknown(&mut self, problem: Problem) {
        match self.options.unknown_fields {
            UnknownFields::Refuse => self.problems.push(problem),
            UnknownFields::Warn => self.document.warnings.push(problem),
        }
    }

    /// The encoded message, without a length.
    fn message(&mut self, descriptor: &MessageDescriptor, node: &Node) -> Vec<u8> {
        match self.well_known(descriptor, node) {
            Some(bytes) => bytes,
            None => self.fields(descriptor, node, None),
        }
    }

    /// The fields of an ordinary message; `skip` is a key that does not name a field.
    fn fields(&mut self, descriptor: &MessageDescriptor, node: &Node, skip: Option<&str>) -> Vec<u8> {
        let Value::Map(entries) = &node.value else {
            if node.value != Value::Null {
                self.expected(format!("an object of {}", descriptor.full_name()), node);
            }
            return Vec::new();
        };
        let mut fields: Vec<(u32, Vec<u8>)> = Vec::with_capacity(entries.len());
        let mut oneofs: HashMap<String, String> = HashMap::new();
        for entry in entries.iter().filter(|entry| Some(entry.key.as_str()) != skip) {
            let by_name = descriptor.get_field_by_name(&entry.key);
            let Some(field) = by_name.or_else(|| descriptor.get_field_by_json_name(&entry.key)) else {
                self.unknown_field(descriptor, entry);
                continue;
            };
            if fields.iter().any(|(number, _)| *number == field.number()) {
                self.at(field.name(), None, |reader| {
                    let problem = Problem::new(reader.path.clone(), "the field once", "it again");
                    reader.problems.push(problem.with_position(entry.key_at));
                });
                continue;
            }
            if entry.node.value == Value::Null && !takes_null(&field) {
                continue;
            }
            self.one_of(&field, entry, &mut oneofs);
            let bytes = self.at(field.name(), entry.node.at, |reader| {
                reader.field(&field, &entry.node)
            });
            fields.push((field.number(), bytes));
        }
        fields.sort_by_key(|(number, _)| *number);
        fields.into_iter().flat_map(|(_, bytes)| bytes).collect()
    }

    fn one_of(&mut self, field: &FieldDescriptor, entry: &Entry, seen: &mut HashMap<String, String>) {
        let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) else {
            return;
        };
        let Some(other) = seen.insert(oneof.name().into(), field.name().into()) else {
            return;
        };
        let names: Vec<_> = oneof.fields().map(|field| field.name().to_owned()).collect();
        let expected = format!("only one of {} ({})", names.join(", "), oneof.name());
        let found = format!("{:?} beside {other:?}", field.name());
        self.problems
            .push(Problem::new(self.path.clone(), expected, found).with_position(entry.key_at));
    }

    fn unknown_field(&mut self, descriptor: &MessageDescriptor, entry: &Entry) {
        let hint = if descriptor.reserved_names().any(|name| name == entry.key) {
            Some("this field existed and was removed from the API".into())
        } else {
            did_you_mean(
                &entry.key,
                descriptor.fields().map(|field| field.name().to_owned()),
            )
        };
        let expected = format!("a field of {}", descriptor.full_name());
        let path = self.path.clone();
        self.unknown(
            Problem::new(path, expected, quoted(&entry.key))
                .with_position(entry.key_at)
                .with_hint(hint),
        );
    }

    /// A field with its tags: nothing, one value, or several.
    fn field(&mut self, field: &FieldDescriptor, node: &Node) -> Vec<u8> {
        if field.is_map() {
            return self.map(field, node);
        }
        let mut out = Vec::new();
        if !field.is_list() {
            if let Some(value) = self.value(&field.kind(), node)
                && (field.supports_presence() || !value.is_zero())
            {
                value.write(field.number(), &mut out);
            }
            return out;
        }
        let single = std::slice::from_ref(node);
        let items = if let Value::List(items) = &node.value {
            items.as_slice()
        } else {
            single
        };
        let mut packed = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let value = self.at(&format!("[{index}]"), item.at, |reader| {
                if item.value == Value::Null && !takes_null(field) {
                    reader.expected("an item of the list", item);
                    return None;
                }
                reader.value(&field.kind(), item)
            });
            match value {
                Some(value) if field.is_packed() => value.write_bare(&mut packed),
                Some(value) => value.write(field.number(), &mut out),
                None => {}
            }
        }
        if !packed.is_empty() {
            Encoded::Bytes(packed).write(field.number(), &mut out);
        }
        out
    }

    fn map(&mut self, field: &FieldDescriptor, node: &Node) -> Vec<u8> {
        let Kind::Message(entry_type) = field.kind() else {
            return Vec::new();
        };
        let Value::Map(entries) = &node.value else {
            self.expected("an object", node);
            return Vec::new();
        };
        let (key_field, value_field) = (
            entry_type.map_entry_key_field(),
            entry_type.map_entry_value_field(),
        );
        let mut sorted: Vec<(Encoded, Vec<u8>)> = Vec::with_capacity(entries.len());
        for Entry { key, key_at, node } in entries {
            self.at(&format!("[{key:?}]"), node.at.or(*key_at), |reader| {
                let key_node = Node {
                    value: Value::String(key.clone()),
                    at: *key_at,
                };
                let Some(key) = reader.map_key(&key_field.kind(), &key_node) else {
                    return;
                };
                if sorted.iter().any(|(other, _)| *other == key) {
                    let problem = Problem::new(reader.path.clone(), "the key once", "it again");
                    reader.problems.push(problem.with_position(*key_at));
                    return;
                }
                let Some(value) = reader.value(&value_field.kind(), node) else {
                    return;
                };
                let mut entry = Vec::new();
                key.write(key_field.number(), &mut entry);
                value.write(value_field.number(), &mut entry);
                sorted.push((key, entry));
            });
        }
        sorted.sort_by(|(left, _), (right, _)| left.cmp(right));
        let mut out = Vec::new();
        for (_, entry) in sorted {
            Encoded::Bytes(entry).write(field.number(), &mut out);
        }
        out
    }

    /// One value of a kind; `None` after a problem has been noted.
    fn value(&mut self, kind: &Kind, node: &Node) -> Option<Encoded> {
        match kind {
            Kind::Message(descriptor) => {
                let problems = self.problems.len();
                let bytes = self.message(descriptor, node);
                (self.problems.len() == problems).then_some(Encoded::Bytes(bytes))
            }
            kind => self.scalar(kind, node),
        }
    }
}

/// Whether `null` is a value of the field and not its absence.
fn takes_null(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(message) => message.full_name() == "google.protobuf.Value",
        Kind::Enum(kind) => kind.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}

/// A value as it stands on the wire, without its tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Encoded {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
}

impl Encoded {
    fn is_zero(&self) -> bool {
        match self {
            Self::Varint(value) => *value == 0,
            Self::Fixed32(bytes) => *bytes == [0; 4],
            Self::Fixed64(bytes) => *bytes == [0; 8],
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        let wire_type = match self {
            Self::Varint(_) => WireType::Varint,
            Self::Fixed32(_) => WireType::ThirtyTwoBit,
            Self::Fixed64(_) => WireType::SixtyFourBit,
            Self::Bytes(_) => WireType::LengthDelimited,
        };
        encode_key(number, wire_type, out);
        if let Self::Bytes(bytes) = self {
            encode_varint(bytes.len() as u64, out);
        }
        self.write_bare(out);
    }

    /// Without tag and length, as in a packed list.
    fn write_bare(&self, out: &mut Vec<u8>) {
        match self {
            Self::Varint(value) => encode_varint(*value, out),
            Self::Fixed32(bytes) => out.extend_from_slice(bytes),
            Self::Fixed64(bytes) => out.extend_from_slice(bytes),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }
}
