//! Which fields does a message have?
//!
//! For tables and tests about all fields of the API; no message is read here.

use prost_reflect::{FieldDescriptor, Kind};

use crate::Pool;

/// One field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in the proto file.
    pub name: String,
    /// The oneof that it is a member of.
    pub oneof: Option<String>,
    /// What it holds; for a map its values.
    pub shape: Shape,
    /// How many.
    pub count: Count,
    /// Whether the API marks it as deprecated.
    pub deprecated: bool,
}

/// How many values a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// At most one.
    One,
    /// A list.
    List,
    /// A map, whose keys are texts or numbers.
    Map,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A message, by its full name.
    Message(String),
    /// An enum, with the names of its values.
    Enum(Vec<String>),
    /// A truth value.
    Bool,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// An integer.
    Integer,
    /// A number.
    Float,
}

impl Pool {
    /// The fields of a message in the order of their numbers; `None` where it is not described here.
    #[must_use]
    pub fn fields(&self, message_name: &str) -> Option<Vec<Field>> {
        let message = self.message(message_name)?;
        Some(message.fields().map(|field| described(&field)).collect())
    }
}

fn described(field: &FieldDescriptor) -> Field {
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    let (kind, count) = match field.kind() {
        Kind::Message(entry) if field.is_map() => (entry.map_entry_value_field().kind(), Count::Map),
        kind if field.is_list() => (kind, Count::List),
        kind => (kind, Count::One),
    };
    Field {
        name: field.name().to_owned(),
        oneof: oneof.map(|oneof| oneof.name().to_owned()),
        shape: shape(&kind),
        count,
        deprecated: field
            .field_descriptor_proto()
            .options
            .as_ref()
            .is_some_and(|options| options.deprecated.unwrap_or(false)),
    }
}

fn shape(kind: &Kind) -> Shape {
    match kind {
        Kind::Message(message) => Shape::Message(message.full_name().to_owned()),
        Kind::Enum(values) => Shape::Enum(values.values().map(|value| value.name().to_owned()).collect()),
        Kind::Bool => Shape::Bool,
        Kind::String => Shape::Text,
        Kind::Bytes => Shape::Bytes,
        Kind::Float | Kind::Double => Shape::Float,
        _ => Shape::Integer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_their_shape_and_their_choice() {
        let pool = Pool::load().unwrap();
        let fields = pool.fields("envoy.config.cluster.v3.Cluster").unwrap();
        let field = |name: &str| fields.iter().find(|field| field.name == name).unwrap();
        assert_eq!(field("type").oneof.as_deref(), Some("cluster_discovery_type"));
        assert!(
            matches!(&field("lb_policy").shape, Shape::Enum(values) if values.contains(&"MAGLEV".into()))
        );
        assert_eq!(field("typed_extension_protocol_options").count, Count::Map);
        assert_eq!(
            field("connect_timeout").shape,
            Shape::Message("google.protobuf.Duration".into())
        );
        assert_eq!(pool.fields("example.Nothing"), None);
    }
}
