//! Which secrets does a context need, and have they arrived?

use std::sync::Arc;

use remora_model::identity::{
    Certificate, CertificateSource, KeyEncoding, Pins, Secret, SecretKind, TlsSettings, Validation,
};
use remora_model::snapshot::{SecretId, Snapshot};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use smallvec::SmallVec;

use super::failure::TlsFailure;

/// The secrets of a context in one world.
pub(super) struct Secrets<'a> {
    certificates: SmallVec<[&'a Arc<Secret>; 2]>,
    inline_validation: Option<&'a Arc<Secret>>,
    sds_validation: Option<&'a Arc<Secret>>,
    /// Key of what is derived from them; inline secrets never change, so SDS alone makes it.
    pub generations: (u64, u64),
}

impl<'a> Secrets<'a> {
    /// Looks everything up.
    ///
    /// # Errors
    /// [`TlsFailure::SecretNotReady`] for the first secret that has not arrived.
    pub(super) fn of(settings: &'a TlsSettings, snapshot: &'a Snapshot) -> Result<Self, TlsFailure> {
        let arrived = |id: SecretId| snapshot.secret(id).ok_or(TlsFailure::SecretNotReady(id));
        let mut certificates = SmallVec::new();
        let mut certificate_generation = 0;
        for source in &settings.certificates {
            certificates.push(match source {
                CertificateSource::Inline(secret) => secret,
                CertificateSource::Sds(id) => {
                    let secret = arrived(*id)?;
                    certificate_generation = mixed(certificate_generation, secret.generation);
                    secret
                }
            });
        }
        let sds_validation = settings.validation.sds.map(arrived).transpose()?;
        Ok(Self {
            certificates,
            inline_validation: settings.validation.inline.as_ref(),
            sds_validation,
            generations: (
                certificate_generation,
                sds_validation.map_or(0, |secret| secret.generation),
            ),
        })
    }

    /// Own certificates with their keys.
    ///
    /// # Errors
    /// [`TlsFailure::Misconfigured`] for a secret of another kind, or a key that does not fit.
    pub(super) fn identities(&self, provider: &CryptoProvider) -> Result<Vec<Arc<CertifiedKey>>, TlsFailure> {
        let identity = |secret: &&Arc<Secret>| match &secret.kind {
            SecretKind::Certificate(certificate) => certified_key(certificate, provider)
                .map(Arc::new)
                .map_err(|what| TlsFailure::Misconfigured(format!("secret {:?}: {what}", secret.name))),
            other => Err(wrong_kind(secret, other, "a certificate")),
        };
        self.certificates.iter().map(identity).collect()
    }

    /// The merged validation context; `None` where the context has none.
    ///
    /// # Errors
    /// [`TlsFailure::Misconfigured`] for a secret of another kind.
    pub(super) fn validation(&self) -> Result<Option<Validation>, TlsFailure> {
        let validation = |secret: &'a Arc<Secret>| match &secret.kind {
            SecretKind::Validation(validation) => Ok(validation),
            other => Err(wrong_kind(secret, other, "a validation context")),
        };
        let inline = self.inline_validation.map(validation).transpose()?;
        let sds = self.sds_validation.map(validation).transpose()?;
        Ok(match (inline, sds) {
            (Some(inline), Some(sds)) => Some(merged(inline, sds)),
            (one, other) => one.or(other).cloned(),
        })
    }
}

/// One number for a list of generations.
fn mixed(so_far: u64, generation: u64) -> u64 {
    if so_far == 0 {
        generation
    } else {
        so_far.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ generation
    }
}

/// `combined_validation_context`: lists are appended, single values of SDS win where they are set.
fn merged(inline: &Validation, sds: &Validation) -> Validation {
    let set = |sds: &Vec<Vec<u8>>, inline: &Vec<Vec<u8>>| {
        if sds.is_empty() {
            inline.clone()
        } else {
            sds.clone()
        }
    };
    Validation {
        roots: set(&sds.roots, &inline.roots),
        names: inline.names.iter().chain(&sds.names).cloned().collect(),
        revocations: set(&sds.revocations, &inline.revocations),
        revocations_leaf_only: inline.revocations_leaf_only || sds.revocations_leaf_only,
        allow_expired: inline.allow_expired || sds.allow_expired,
        accept_untrusted: inline.accept_untrusted || sds.accept_untrusted,
        trust_domains: match sds.trust_domains.as_slice() {
            [] => inline.trust_domains.clone(),
            domains => domains.to_vec(),
        },
        pins: Pins {
            certificates: [inline, sds]
                .map(|part| part.pins.certificates.as_slice())
                .concat(),
            keys: [inline, sds].map(|part| part.pins.keys.as_slice()).concat(),
        },
        max_depth: sds.max_depth.or(inline.max_depth),
    }
}

fn wrong_kind(secret: &Secret, found: &SecretKind, expected: &str) -> TlsFailure {
    let found = match found {
        SecretKind::Certificate(_) => "a certificate",
        SecretKind::Validation(_) => "a validation context",
        SecretKind::TicketKeys(_) => "session ticket keys",
        SecretKind::Generic(_) => "a generic secret",
    };
    TlsFailure::Misconfigured(format!(
        "secret {:?} holds {found}, expected {expected}",
        secret.name
    ))
}

/// The chain with its key, as rustls wants them.
///
/// # Errors
/// A sentence: no certificate, a key that cannot be read, or one that is not the leaf's.
pub(super) fn certified_key(
    certificate: &Certificate,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let chain: Vec<_> = certificate
        .chain
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    if chain.is_empty() {
        return Err("the certificate chain is empty".into());
    }
    let der = certificate.key.der.clone();
    let key = match certificate.key.encoding {
        KeyEncoding::Pkcs8 => PrivateKeyDer::Pkcs8(der.into()),
        KeyEncoding::Sec1 => PrivateKeyDer::Sec1(der.into()),
        KeyEncoding::Pkcs1 => PrivateKeyDer::Pkcs1(der.into()),
    };
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "the private key is not the key of the first certificate".into()
        }
        other => other.to_string(),
    })
}
