//! Does a resource hold what must never leave memory? Asked before resources are written to disk.
//!
//! Holds: a resource that was accepted and of which this says no holds no private key: keys are accepted as PEM only, so
//! none is without the words that PEM puts around it. In doubt the answer is yes. It says nothing of files that a
//! resource names: they are on the disk already.

use memchr::memmem;
use prost::Message;

use crate::fingerprint;
use crate::pb::envoy::extensions::transport_sockets::tls::v3::{self as api, secret::Type};

/// In the first line of every PEM private key (RFC 7468 sections 10 and 11, and the older forms for RSA and EC).
const KEY: &[u8] = b"PRIVATE KEY";
/// The end of the type URL of a message that may hold ticket keys, which are no PEM.
const SERVER_CONTEXT: &[u8] = b"tls.v3.DownstreamTlsContext";
/// `google.protobuf.Any.value`, as it stands behind the type URL.
const ANY_VALUE: u32 = 2;
/// `DownstreamTlsContext.session_ticket_keys`.
const TICKET_KEYS: u32 = 4;

/// Whether an encoded listener, cluster, assignment or route configuration holds a private key or session ticket keys.
pub fn holds_private_key(resource: &[u8]) -> bool {
    if memmem::find(resource, KEY).is_some() {
        return true;
    }
    memmem::find_iter(resource, SERVER_CONTEXT).any(|at| {
        let behind = &resource[at + SERVER_CONTEXT.len()..];
        // Whoever writes the value before its type is read as if there were keys.
        let context = behind
            .first()
            .filter(|key| **key == 0x12)
            .and_then(|_| fingerprint::fields(behind, ANY_VALUE).next());
        context.is_none_or(|context| fingerprint::fields(context, TICKET_KEYS).next().is_some())
    })
}

/// Whether an encoded secret says only whom to trust.
pub fn is_trust_only(secret: &[u8]) -> bool {
    api::Secret::decode(secret).is_ok_and(|said| matches!(said.r#type, Some(Type::ValidationContext(_))))
        && !holds_private_key(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
    use crate::pb::google::protobuf::Any;

    fn source(text: &str) -> DataSource {
        DataSource {
            specifier: Some(Specifier::InlineString(text.into())),
            ..DataSource::default()
        }
    }

    fn packed(context: &api::DownstreamTlsContext) -> Vec<u8> {
        let any = Any {
            type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
                .into(),
            value: context.encode_to_vec(),
        };
        // Somewhere deep inside something.
        let around = Any {
            type_url: "type.googleapis.com/x".into(),
            value: any.encode_to_vec(),
        };
        around.encode_to_vec()
    }

    #[test]
    fn keys_are_found_however_deep_they_stand() {
        let certificate = |key: &str| api::TlsCertificate {
            private_key: Some(source(key)),
            ..api::TlsCertificate::default()
        };
        let with_key = |key: &str| {
            packed(&api::DownstreamTlsContext {
                common_tls_context: Some(api::CommonTlsContext {
                    tls_certificates: vec![certificate(key)],
                    ..api::CommonTlsContext::default()
                }),
                ..api::DownstreamTlsContext::default()
            })
        };
        for label in ["", "RSA ", "EC ", "ENCRYPTED "] {
            assert!(holds_private_key(&with_key(&format!(
                "-----BEGIN {label}PRIVATE KEY-----\n"
            ))));
        }
        assert!(!holds_private_key(&with_key("-----BEGIN CERTIFICATE-----\n")));
    }

    #[test]
    fn ticket_keys_are_found_and_what_cannot_be_read_counts_as_found() {
        let without = api::DownstreamTlsContext {
            disable_stateful_session_resumption: true,
            ..api::DownstreamTlsContext::default()
        };
        assert!(!holds_private_key(&packed(&without)));
        let keys = api::TlsSessionTicketKeys {
            keys: vec![source("k")],
        };
        let with = api::DownstreamTlsContext {
            session_ticket_keys_type: Some(
                api::downstream_tls_context::SessionTicketKeysType::SessionTicketKeys(keys),
            ),
            ..without
        };
        assert!(holds_private_key(&packed(&with)));
        assert!(holds_private_key(SERVER_CONTEXT));
    }

    #[test]
    fn of_secrets_only_trust_is_no_secret() {
        let secret = |kind| {
            api::Secret {
                name: "s".into(),
                r#type: Some(kind),
            }
            .encode_to_vec()
        };
        let trust = api::CertificateValidationContext::default();
        assert!(is_trust_only(&secret(Type::ValidationContext(trust))));
        assert!(!is_trust_only(&secret(Type::GenericSecret(
            api::GenericSecret::default()
        ))));
        let certificate = api::TlsCertificate::default();
        assert!(!is_trust_only(&secret(Type::TlsCertificate(certificate))));
        assert!(!is_trust_only(&[0xff]));
    }
}
