//! `Secret` to [`Secret`]: certificates, keys, trust and ticket keys, as DER.
//!
//! Holds: what is not parsable is refused here, with Envoy's words, so the shell only ever sees DER; a secret that did
//! not change keeps its generation, so nothing that was derived from it is made again. Contents are never part of a
//! problem. Whether a key fits its certificate is checked by the TLS library, not here.

use std::sync::Arc;

use prost::Message;
use remora_model::Name;
use remora_model::identity::{Certificate, KeyEncoding, PrivateKey, Secret, SecretKind};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::context::{Context, WatchedFile, Work, undecodable};
use crate::data_source;
use crate::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use crate::pb::envoy::extensions::transport_sockets::tls::v3::{self as api, secret::Type};
use crate::rejection::Rejection;
use crate::validation;
use crate::value;

/// A session ticket key in Envoy's form: 16 bytes of name, 32 for HMAC, 32 for AES.
const TICKET_KEY_BYTES: usize = 80;

/// A translated secret.
#[derive(Debug)]
pub struct TranslatedSecret {
    /// The secret; the very one of the world before where nothing changed.
    pub secret: Arc<Secret>,
    /// Files that it was read from.
    pub files: Vec<WatchedFile>,
    /// Facts about its certificates, for `/certs` and expiry metrics.
    pub certificates: Vec<CertificateFacts>,
}

/// What is worth reporting of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Subject, as RFC 4514 prints it.
    pub subject: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// First second of validity, since the epoch.
    pub not_before: i64,
    /// Last second of validity, since the epoch.
    pub not_after: i64,
}

/// Translates one SDS resource.
///
/// # Errors
/// Everything that is wrong with it.
pub fn secret(bytes: &[u8], context: &mut Context<'_>) -> Result<TranslatedSecret, Rejection> {
    let said = api::Secret::decode(bytes).map_err(|error| undecodable("Secret", &error))?;
    let mut work = Work::new(context);
    let kind = kind(&mut work, &said);
    let kind = work.verdict(&said.name, kind)?;
    let files = std::mem::take(&mut work.files);
    let certificates = facts(&kind);
    let before = context
        .secrets
        .known(&said.name)
        .and_then(|id| context.previous?.secret(id));
    let secret = match before {
        Some(before) if same(&before.kind, &kind) => Arc::clone(before),
        _ => Arc::new(Secret::new(said.name.as_str().into(), kind)),
    };
    Ok(TranslatedSecret {
        secret,
        files,
        certificates,
    })
}

fn kind(work: &mut Work<'_, '_>, said: &api::Secret) -> Option<SecretKind> {
    value::required(work, "name", &said.name)?;
    match &said.r#type {
        Some(Type::TlsCertificate(certificate)) => work
            .at("tls_certificate", |work| self::certificate(work, certificate))
            .map(SecretKind::Certificate),
        Some(Type::ValidationContext(context)) => work
            .at("validation_context", |work| validation::context(work, context))
            .map(SecretKind::Validation),
        Some(Type::SessionTicketKeys(keys)) => work
            .at("session_ticket_keys", |work| ticket_keys(work, keys))
            .map(SecretKind::TicketKeys),
        Some(Type::GenericSecret(generic)) => work.at("generic_secret", |work| match &generic.secret {
            Some(source) => work
                .at("secret", |work| data_source::bytes(work, source, None))
                .map(SecretKind::Generic),
            None => {
                work.wrong("expected secret, found none");
                None
            }
        }),
        None => {
            work.wrong("expected tls_certificate, validation_context, session_ticket_keys or generic_secret; found none");
            None
        }
    }
}

fn ticket_keys(work: &mut Work<'_, '_>, said: &api::TlsSessionTicketKeys) -> Option<Vec<Vec<u8>>> {
    if said.keys.is_empty() {
        work.wrong_at("keys", "expected at least one key, found none");
    }
    let keys = work.each("keys", &said.keys, |work, source| {
        let key = data_source::bytes(work, source, None)?;
        if key.len() != TICKET_KEY_BYTES {
            work.wrong(format!("expected {TICKET_KEY_BYTES} bytes, found {}", key.len()));
            return None;
        }
        Some(key)
    });
    (!keys.is_empty()).then_some(keys)
}

/// A `TlsCertificate`.
pub(crate) fn certificate(work: &mut Work<'_, '_>, said: &api::TlsCertificate) -> Option<Certificate> {
    work.review(said);
    if said.password.is_some() {
        work.wrong_at(
            "password",
            "is not supported: private keys that are protected by a password",
        );
    }
    let directory = said
        .watched_directory
        .as_ref()
        .map(|watched| watched.path.as_str());
    let chain = match &said.certificate_chain {
        Some(source) => work.at("certificate_chain", |work| {
            let bytes = data_source::bytes(work, source, directory)?;
            certificates(
                work,
                &bytes,
                &format!("Failed to load certificate chain from {}", whence(source)),
            )
        }),
        None => {
            work.wrong_at("certificate_chain", "expected a certificate chain, found none");
            None
        }
    };
    let key = match &said.private_key {
        Some(source) => work.at("private_key", |work| {
            let bytes = data_source::bytes(work, source, directory)?;
            private_key(work, &bytes, &whence(source))
        }),
        None if said.private_key_provider.is_some() => None,
        None => {
            work.wrong_at("private_key", "expected a private key, found none");
            None
        }
    };
    Some(Certificate {
        chain: chain?,
        key: key?,
    })
}

/// All certificates of a PEM text, each checked to be one; at least one.
pub(crate) fn certificates(work: &mut Work<'_, '_>, pem: &[u8], failure: &str) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for item in CertificateDer::pem_slice_iter(pem) {
        let Ok(certificate) = item else {
            work.wrong(format!("{failure}: not valid PEM"));
            return None;
        };
        match x509_parser::parse_x509_certificate(&certificate) {
            Ok(([], _)) => found.push(certificate.to_vec()),
            _ => {
                work.wrong(format!(
                    "{failure}: certificate {} is not valid X.509",
                    found.len() + 1
                ));
                return None;
            }
        }
    }
    if found.is_empty() {
        work.wrong(format!("{failure}: no PEM certificate inside"));
        return None;
    }
    Some(found)
}

fn private_key(work: &mut Work<'_, '_>, pem: &[u8], whence: &str) -> Option<PrivateKey> {
    let failure = format!("Failed to load private key from {whence}");
    let text = String::from_utf8_lossy(pem);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        work.wrong(format!(
            "{failure}: private keys that are protected by a password are not supported"
        ));
        return None;
    }
    let (encoding, der) = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(PrivateKeyDer::Pkcs8(key)) => (KeyEncoding::Pkcs8, key.secret_pkcs8_der().to_vec()),
        Ok(PrivateKeyDer::Sec1(key)) => (KeyEncoding::Sec1, key.secret_sec1_der().to_vec()),
        Ok(PrivateKeyDer::Pkcs1(key)) => (KeyEncoding::Pkcs1, key.secret_pkcs1_der().to_vec()),
        Ok(_) | Err(_) => {
            work.wrong(format!("{failure}: no PEM private key inside"));
            return None;
        }
    };
    Some(PrivateKey { encoding, der })
}

/// Envoy's name for where a source comes from.
pub(crate) fn whence(source: &DataSource) -> String {
    match &source.specifier {
        Some(Specifier::Filename(path)) => path.clone(),
        _ => "<inline>".to_owned(),
    }
}

fn facts(kind: &SecretKind) -> Vec<CertificateFacts> {
    let ders: Vec<&Vec<u8>> = match kind {
        SecretKind::Certificate(certificate) => certificate.chain.iter().collect(),
        SecretKind::Validation(validation) => validation
            .roots
            .iter()
            .chain(validation.trust_domains.iter().flat_map(|(_, roots)| roots))
            .collect(),
        SecretKind::TicketKeys(_) | SecretKind::Generic(_) => Vec::new(),
    };
    ders.into_iter()
        .filter_map(|der| certificate_facts(der))
        .collect()
}

/// Facts about a DER certificate, if it is one.
pub fn certificate_facts(der: &[u8]) -> Option<CertificateFacts> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(CertificateFacts {
        subject: certificate.subject().to_string(),
        serial: certificate
            .tbs_certificate
            .raw_serial()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// Whether two secrets hold the same; matchers cannot be compared, so a context with names counts as changed.
fn same(before: &SecretKind, after: &SecretKind) -> bool {
    match (before, after) {
        (SecretKind::Certificate(a), SecretKind::Certificate(b)) => {
            a.chain == b.chain && a.key.der == b.key.der
        }
        (SecretKind::Validation(a), SecretKind::Validation(b)) => {
            let lists =
                a.roots == b.roots && a.revocations == b.revocations && a.trust_domains == b.trust_domains;
            let flags = (a.revocations_leaf_only, a.allow_expired, a.accept_untrusted)
                == (b.revocations_leaf_only, b.allow_expired, b.accept_untrusted);
            let pinned = a.pins == b.pins && a.max_depth == b.max_depth;
            lists && flags && pinned && a.names.is_empty() && b.names.is_empty()
        }
        (SecretKind::TicketKeys(a), SecretKind::TicketKeys(b)) => a == b,
        (SecretKind::Generic(a), SecretKind::Generic(b)) => a == b,
        _ => false,
    }
}

/// A secret that stands inside a context.
pub(crate) fn inline(kind: SecretKind) -> Arc<Secret> {
    Arc::new(Secret::new(Name::from(""), kind))
}
