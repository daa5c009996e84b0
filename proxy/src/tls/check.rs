//! Can a secret that just arrived be used? Asked once, at its arrival, so that a bad one is refused by name.

use std::sync::LazyLock;

use remora_model::identity::{Secret, SecretKind, Validation};
use rustls::crypto::CryptoProvider;

use super::leaf::Leaf;
use super::material::{anchors, revocations};
use super::secrets::certified_key;

/// Checks a secret.
///
/// # Errors
/// One sentence for the NACK: which part was expected and what is wrong with it. Never the key itself.
pub fn check(secret: &Secret) -> Result<(), String> {
    static PROVIDER: LazyLock<CryptoProvider> = LazyLock::new(rustls::crypto::aws_lc_rs::default_provider);
    match &secret.kind {
        SecretKind::Certificate(certificate) => {
            for (index, der) in certificate.chain.iter().enumerate() {
                Leaf::read(der).map_err(|what| format!("certificate_chain: certificate {index}: {what}"))?;
            }
            certified_key(certificate, &PROVIDER)
                .map(drop)
                .map_err(|what| format!("tls_certificate: {what}"))
        }
        SecretKind::Validation(validation) => check_validation(validation),
        SecretKind::TicketKeys(keys) => match keys.iter().position(|key| key.len() != 80) {
            None if keys.is_empty() => Err("session_ticket_keys: no key, expected at least one".into()),
            None => Ok(()),
            Some(index) => Err(format!(
                "session_ticket_keys: key {index} has {} bytes, expected 80",
                keys[index].len()
            )),
        },
        SecretKind::Generic(_) => Ok(()),
    }
}

fn check_validation(validation: &Validation) -> Result<(), String> {
    anchors(&validation.roots).map_err(|what| format!("trusted_ca: {what}"))?;
    for (domain, roots) in &validation.trust_domains {
        let anchors = anchors(roots).map_err(|what| format!("trust domain {domain}: {what}"))?;
        if anchors.is_empty() {
            return Err(format!(
                "trust domain {domain}: no certificate, expected at least one"
            ));
        }
    }
    revocations(&validation.revocations).map(drop)
}
