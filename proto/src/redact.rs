//! How do the bytes of a message look without its secrets?
//!
//! What always holds: the same fields are taken out as in JSON ([`crate::Redaction::Secrets`]), and what comes out is
//! still the same message: texts and bytes become `[redacted]`, numbers and truth values below a secret field their
//! default. Bytes that have no secret come out as they went in.

use prost::Message;
use prost_reflect::{DynamicMessage, ExtensionDescriptor, FieldDescriptor, MapKey, ReflectMessage, Value};

use crate::Pool;
use crate::extra::TYPED_STRUCT_NAMES;
use crate::json::{REDACTED, SECRET_NAMES};
use crate::type_url::message_name;

impl Pool {
    /// The encoded message `type_url` names, without its secrets and those of the `Any`s inside of it; nothing when the
    /// type is unknown or the bytes are not one.
    #[must_use]
    pub fn redacted(&self, type_url: &str, value: &[u8]) -> Option<Vec<u8>> {
        let mut message = self.decode(value, type_url).ok()?;
        let sensitive = self
            .descriptors()
            .get_extension_by_name("udpa.annotations.sensitive")?;
        let redactor = Redactor {
            pool: self,
            sensitive,
        };
        Some(if redactor.opened(&mut message, type_url, false) {
            message.encode_to_vec()
        } else {
            value.to_vec()
        })
    }
}

struct Redactor<'p> {
    pool: &'p Pool,
    sensitive: ExtensionDescriptor,
}

/// Each says whether it changed anything; `secret`: a field around it is marked as sensitive.
impl Redactor<'_> {
    /// A message that stood in an `Any`.
    fn opened(&self, message: &mut DynamicMessage, type_url: &str, secret: bool) -> bool {
        let changed = self.message(message, secret);
        let free = TYPED_STRUCT_NAMES.contains(&message_name(type_url));
        changed | (free && by_name(message))
    }

    fn message(&self, message: &mut DynamicMessage, secret: bool) -> bool {
        if message.descriptor().full_name() == "google.protobuf.Any" {
            return self.any(message, secret);
        }
        let mut changed = false;
        for (field, value) in message.fields_mut() {
            changed |= self.value(value, secret || self.is_sensitive(&field));
        }
        changed
    }

    fn is_sensitive(&self, field: &FieldDescriptor) -> bool {
        let options = field.options();
        options.has_extension(&self.sensitive)
            && options.get_extension(&self.sensitive).as_bool() == Some(true)
    }

    fn value(&self, value: &mut Value, secret: bool) -> bool {
        match value {
            Value::Message(message) => self.message(message, secret),
            Value::List(items) => items
                .iter_mut()
                .fold(false, |changed, item| self.value(item, secret) | changed),
            Value::Map(entries) => entries
                .values_mut()
                .fold(false, |changed, item| self.value(item, secret) | changed),
            value if secret => {
                redact(value);
                true
            }
            _ => false,
        }
    }

    fn any(&self, any: &mut DynamicMessage, secret: bool) -> bool {
        let type_url = any.get_field_by_number(1);
        let type_url = type_url
            .as_deref()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let Some(Value::Bytes(value)) = any.get_field_by_number_mut(2) else {
            return false;
        };
        match self.pool.decode(value, &type_url) {
            Ok(mut inner) => {
                let changed = self.opened(&mut inner, &type_url, secret);
                if changed {
                    *value = inner.encode_to_vec().into();
                }
                changed
            }
            // What cannot be opened may hold anything.
            Err(_) if secret => {
                *value = REDACTED.into();
                true
            }
            Err(_) => false,
        }
    }
}

fn redact(value: &mut Value) {
    *value = match value {
        Value::String(_) => Value::String(REDACTED.into()),
        Value::Bytes(_) => Value::Bytes(REDACTED.into()),
        Value::Bool(_) => Value::Bool(false),
        Value::I32(_) => Value::I32(0),
        Value::I64(_) => Value::I64(0),
        Value::U32(_) => Value::U32(0),
        Value::U64(_) => Value::U64(0),
        Value::F32(_) => Value::F32(0.0),
        Value::F64(_) => Value::F64(0.0),
        Value::EnumNumber(_) => Value::EnumNumber(0),
        Value::Message(_) | Value::List(_) | Value::Map(_) => return,
    };
}

/// In a `google.protobuf.Struct` anywhere below: replaces what stands under a telling name.
fn by_name(message: &mut DynamicMessage) -> bool {
    let mut changed = false;
    for (_, value) in message.fields_mut() {
        changed |= in_value(value);
    }
    changed
}

fn in_value(value: &mut Value) -> bool {
    match value {
        Value::Message(message) => by_name(message),
        Value::List(items) => items
            .iter_mut()
            .fold(false, |changed, item| in_value(item) | changed),
        Value::Map(entries) => entries.iter_mut().fold(false, |changed, (key, value)| {
            let telling = matches!(key, MapKey::String(name) if SECRET_NAMES.contains(&name.as_str()));
            changed
                | if telling {
                    all_texts(value)
                } else {
                    in_value(value)
                }
        }),
        _ => false,
    }
}

fn all_texts(value: &mut Value) -> bool {
    match value {
        Value::Message(message) => {
            let mut changed = false;
            for (_, value) in message.fields_mut() {
                changed |= all_texts(value);
            }
            changed
        }
        Value::List(items) => items
            .iter_mut()
            .fold(false, |changed, item| all_texts(item) | changed),
        Value::Map(entries) => entries
            .values_mut()
            .fold(false, |changed, item| all_texts(item) | changed),
        value => {
            redact(value);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::config::core::v3::{
        DataSource, TransportSocket, data_source::Specifier, transport_socket,
    };
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
        CommonTlsContext, TlsCertificate, UpstreamTlsContext,
    };

    use super::*;
    use crate::{TypeUrl, encode_any};

    #[test]
    fn a_private_key_inside_of_two_anys_is_taken_out_and_all_else_stays() {
        let source = |text: &str| DataSource {
            specifier: Some(Specifier::InlineBytes(text.as_bytes().to_vec())),
            ..DataSource::default()
        };
        let certificate = TlsCertificate {
            certificate_chain: Some(source("CHAIN")),
            private_key: Some(source("TOPSECRET")),
            ..TlsCertificate::default()
        };
        let context = UpstreamTlsContext {
            sni: "host".into(),
            common_tls_context: Some(CommonTlsContext {
                tls_certificates: vec![certificate],
                ..CommonTlsContext::default()
            }),
            ..UpstreamTlsContext::default()
        };
        let mut cluster = Cluster {
            name: "a".into(),
            transport_socket: Some(TransportSocket {
                name: "tls".into(),
                config_type: Some(transport_socket::ConfigType::TypedConfig(encode_any(
                    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    &context,
                ))),
            }),
            ..Cluster::default()
        };
        let pool = Pool::load().unwrap();
        let url = TypeUrl::CLUSTER.as_str();
        let bytes = pool.redacted(url, &cluster.encode_to_vec()).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(
            text.contains("CHAIN") && text.contains("host") && text.contains("[redacted]"),
            "{text}"
        );
        assert!(!text.contains("TOPSECRET"));
        assert_eq!(Cluster::decode(bytes.as_slice()).unwrap().name, "a");
        cluster.transport_socket = None;
        let plain = cluster.encode_to_vec();
        assert_eq!(pool.redacted(url, &plain), Some(plain));
        assert_eq!(pool.redacted("type.googleapis.com/no.Such", b""), None);
    }
}
