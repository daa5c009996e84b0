//! `CertificateValidationContext`: whom we trust and whom the peer must prove to be.
//!
//! Holds: a field that narrows trust and is not honoured is refused, never skipped.

use base64::Engine as _;
use remora_model::Name;
use remora_model::identity::{Pins, SanKind, SanMatcher, Validation};
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;

use crate::context::Work;
use crate::data_source;
use crate::extension::{Extension, unknown};
use crate::matcher;
use crate::pb::envoy::config::core::v3::TypedExtensionConfig;
use crate::pb::envoy::extensions::transport_sockets::tls::v3::{
    self as api, certificate_validation_context::TrustChainVerification, subject_alt_name_matcher::SanType,
};
use crate::secret::{certificates, whence};
use crate::value;

/// The most that `max_verify_depth` may say.
const DEEPEST: u32 = 100;

const SPIFFE: &str = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// A `CertificateValidationContext`.
pub(crate) fn context(
    work: &mut Work<'_, '_>,
    said: &api::CertificateValidationContext,
) -> Option<Validation> {
    work.review(said);
    if value::bool_or(said.require_signed_certificate_timestamp.as_ref(), false) {
        work.wrong_at(
            "require_signed_certificate_timestamp",
            "is not supported: signed certificate timestamps",
        );
    }
    let directory = said
        .watched_directory
        .as_ref()
        .map(|watched| watched.path.as_str());
    let roots = said.trusted_ca.as_ref().map(|source| {
        work.at("trusted_ca", |work| {
            let bytes = data_source::bytes(work, source, directory)?;
            certificates(
                work,
                &bytes,
                &format!("Failed to load trusted CA certificates from {}", whence(source)),
            )
        })
    });
    let revocations = said.crl.as_ref().map(|source| {
        work.at("crl", |work| {
            let bytes = data_source::bytes(work, source, directory)?;
            revocations(work, &bytes, &whence(source))
        })
    });
    let names = names(work, said);
    let trust_domains = said
        .custom_validator_config
        .as_ref()
        .map(|custom| work.at("custom_validator_config", |work| spiffe(work, custom)));
    let verification: TrustChainVerification =
        value::known(work, "trust_chain_verification", said.trust_chain_verification)?;
    let pins = pins(work, said);
    let max_depth = max_depth(work, said);
    Some(Validation {
        roots: roots.unwrap_or(Some(Vec::new()))?,
        names,
        revocations: revocations.unwrap_or(Some(Vec::new()))?,
        revocations_leaf_only: said.only_verify_leaf_cert_crl,
        allow_expired: said.allow_expired_certificate,
        accept_untrusted: verification == TrustChainVerification::AcceptUntrusted,
        trust_domains: trust_domains.unwrap_or(Some(Vec::new()))?,
        pins,
        max_depth,
    })
}

fn max_depth(work: &mut Work<'_, '_>, said: &api::CertificateValidationContext) -> Option<u32> {
    let depth = said.max_verify_depth?.value;
    if depth > DEEPEST {
        let sentence = format!("expected at most {DEEPEST}, found {depth}");
        work.wrong_at("max_verify_depth", sentence);
    }
    Some(depth)
}

fn pins(work: &mut Work<'_, '_>, said: &api::CertificateValidationContext) -> Pins {
    let (hashes, keys) = (&said.verify_certificate_hash, &said.verify_certificate_spki);
    Pins {
        certificates: work.each("verify_certificate_hash", hashes, |work, text| {
            let digits: String = text.chars().filter(|character| *character != ':').collect();
            pin(work, hexadecimal(&digits), "hex", text)
        }),
        keys: work.each("verify_certificate_spki", keys, |work, text| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok();
            pin(work, bytes, "base64", text)
        }),
    }
}

/// A SHA-256 that is written in `encoding`.
fn pin(work: &mut Work<'_, '_>, bytes: Option<Vec<u8>>, encoding: &str, said: &str) -> Option<[u8; 32]> {
    let pin = bytes.and_then(|bytes| bytes.try_into().ok());
    if pin.is_none() {
        work.wrong(format!("Invalid {encoding}-encoded SHA-256 {said}"));
    }
    pin
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

/// Envoy's rule for a context that stands alone: names prove nothing about a peer whom nobody vouches for.
pub(crate) fn alone(work: &mut Work<'_, '_>, validation: &Validation) {
    if !validation.names.is_empty() && validation.roots.is_empty() && validation.trust_domains.is_empty() {
        work.wrong(
            "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
        );
    }
}

fn revocations(work: &mut Work<'_, '_>, pem: &[u8], whence: &str) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for item in CertificateRevocationListDer::pem_slice_iter(pem) {
        match item {
            Ok(list) if x509_parser::parse_x509_crl(&list).is_ok() => found.push(list.to_vec()),
            _ => {
                work.wrong(format!(
                    "Failed to load CRL from {whence}: list {} is not valid",
                    found.len() + 1
                ));
                return None;
            }
        }
    }
    if found.is_empty() {
        work.wrong(format!("Failed to load CRL from {whence}: no PEM list inside"));
        return None;
    }
    Some(found)
}

fn names(work: &mut Work<'_, '_>, said: &api::CertificateValidationContext) -> Vec<SanMatcher> {
    let (typed, untyped) = (&said.match_typed_subject_alt_names, &said.match_subject_alt_names);
    if !typed.is_empty() && !untyped.is_empty() {
        let rule = "SAN-based verification using both match_typed_subject_alt_names and the deprecated \
                    match_subject_alt_names is not allowed";
        work.wrong_at("match_subject_alt_names", rule);
    }
    let mut names = work.each("match_typed_subject_alt_names", typed, typed_name);
    names.extend(work.each("match_subject_alt_names", untyped, |work, said| {
        matcher::string(work, said).map(|matcher| SanMatcher {
            kind: SanKind::Any,
            matcher,
        })
    }));
    names
}

/// A `SubjectAltNameMatcher`.
pub(crate) fn typed_name(work: &mut Work<'_, '_>, said: &api::SubjectAltNameMatcher) -> Option<SanMatcher> {
    let kind = match value::known(work, "san_type", said.san_type)? {
        SanType::Email => SanKind::Email,
        SanType::Dns => SanKind::Dns,
        SanType::Uri => SanKind::Uri,
        SanType::IpAddress => SanKind::Ip,
        SanType::OtherName => {
            work.wrong_at("san_type", "is not supported: OTHER_NAME");
            return None;
        }
        SanType::Unspecified => {
            work.wrong_at(
                "san_type",
                "expected EMAIL, DNS, URI or IP_ADDRESS, found SAN_TYPE_UNSPECIFIED",
            );
            return None;
        }
    };
    let Some(matcher) = &said.matcher else {
        work.wrong_at("matcher", "expected a matcher, found none");
        return None;
    };
    work.at("matcher", |work| matcher::string(work, matcher))
        .map(|matcher| SanMatcher { kind, matcher })
}

/// `SPIFFECertValidatorConfig`: trust roots by trust domain.
fn spiffe(work: &mut Work<'_, '_>, said: &TypedExtensionConfig) -> Option<Vec<(Name, Vec<Vec<u8>>)>> {
    let Some(any) = &said.typed_config else {
        work.wrong_at("typed_config", "expected a configuration, found none");
        return None;
    };
    let extension = Extension::open(any);
    if extension.kind != SPIFFE {
        work.wrong(unknown(&said.name, &extension.kind));
        return None;
    }
    work.at("typed_config", |work| {
        let config: api::SpiffeCertValidatorConfig = extension.decode(work)?;
        if config.trust_bundles.is_some() {
            work.wrong_at(
                "trust_bundles",
                "is not supported: a SPIFFE bundle map; use trust_domains",
            );
        }
        if config.trust_domains.is_empty() {
            work.wrong_at("trust_domains", "expected at least one trust domain, found none");
        }
        let domains = work.each("trust_domains", &config.trust_domains, trust_domain);
        let twice = domains
            .iter()
            .enumerate()
            .find(|(index, (name, _))| domains[..*index].iter().any(|(n, _)| n == name));
        if let Some((_, (name, _))) = twice {
            work.wrong_at(
                "trust_domains",
                format!("Multiple trust bundles are given for one trust domain for {name}"),
            );
        }
        Some(domains)
    })
}

fn trust_domain(
    work: &mut Work<'_, '_>,
    said: &api::spiffe_cert_validator_config::TrustDomain,
) -> Option<(Name, Vec<Vec<u8>>)> {
    if !said.workload_trust_domain.is_empty() {
        work.wrong_at(
            "workload_trust_domain",
            "is not supported: trust domains by workload",
        );
    }
    let name = value::required(work, "name", &said.name);
    let Some(bundle) = &said.trust_bundle else {
        work.wrong_at("trust_bundle", "expected a trust bundle, found none");
        return None;
    };
    let roots = work.at("trust_bundle", |work| {
        let bytes = data_source::bytes(work, bundle, None)?;
        certificates(
            work,
            &bytes,
            &format!("Failed to load trusted CA certificate from {}", whence(bundle)),
        )
    });
    Some((name?.into(), roots?))
}
