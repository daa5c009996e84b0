//! Which extension is meant by an `Any`, and how is its configuration read?
//!
//! Holds: extensions are known by the type of their configuration, never by their name; a `TypedStruct` stands for the
//! type that it names (Istio sends its own filters that way). Unknown types are for the caller to judge.

use prost::Message;
use remora_proto::extra::unwrap_typed_struct;

use crate::context::Work;
use crate::pb::google::protobuf::{Any, Struct};

/// A configuration with its type.
#[derive(Debug)]
pub(crate) struct Extension<'a> {
    /// Full message name, without the prefix of the type URL.
    pub(crate) kind: String,
    body: Body<'a>,
}

#[derive(Debug)]
enum Body<'a> {
    Message(&'a [u8]),
    Free(Struct),
}

impl<'a> Extension<'a> {
    /// The extension inside an `Any`.
    pub(crate) fn open(any: &'a Any) -> Self {
        match unwrap_typed_struct(any) {
            Some((kind, free)) => Self {
                kind: message_name(&kind).to_owned(),
                body: Body::Free(free),
            },
            None => Self {
                kind: message_name(&any.type_url).to_owned(),
                body: Body::Message(&any.value),
            },
        }
    }

    /// The configuration as its message, or a problem.
    pub(crate) fn decode<M: Message + Default>(&self, work: &mut Work<'_, '_>) -> Option<M> {
        match &self.body {
            Body::Message(bytes) => match M::decode(*bytes) {
                Ok(message) => Some(message),
                Err(error) => {
                    work.wrong(format!("cannot be decoded as {}: {error}", self.kind));
                    None
                }
            },
            Body::Free(free) if free.fields.is_empty() => Some(M::default()),
            Body::Free(_) => {
                work.wrong(format!(
                    "expected {} as a message of its own, found a TypedStruct with fields",
                    self.kind
                ));
                None
            }
        }
    }

    /// The configuration as its message, where it is one; what is wrong with it is for [`Self::decode`] to say.
    pub(crate) fn peek<M: Message + Default>(&self) -> Option<M> {
        M::decode(self.bytes()?).ok()
    }

    /// The fields of a `TypedStruct`, if it is one.
    pub(crate) fn free(&self) -> Option<&Struct> {
        match &self.body {
            Body::Free(free) => Some(free),
            Body::Message(_) => None,
        }
    }

    /// The bytes of the message, unless it is a `TypedStruct`.
    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        match &self.body {
            Body::Message(bytes) => Some(bytes),
            Body::Free(_) => None,
        }
    }
}

/// What follows the last slash of a type URL.
pub(crate) fn message_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// Envoy's sentence for an extension that nobody knows.
pub(crate) fn unknown(name: &str, kind: &str) -> String {
    format!("Didn't find a registered implementation for '{name}' with type URL: '{kind}'")
}
