//! Which cipher suites, curves and versions may a context use, in OpenSSL's names?
//!
//! Holds: TLS 1.3 suites are always there, as in Envoy, where `cipher_suites` speaks of TLS 1.2 only. AES-128 comes
//! first, as BoringSSL has it where AES is in hardware. No post-quantum group unless a context names one.

use std::sync::Arc;

use remora_model::identity::{TlsSettings, TlsVersion};
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion};

/// Suites with their OpenSSL names, in our order of preference.
static SUITES: [(&str, SupportedCipherSuite); 9] = [
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
];

/// Curves by the names that BoringSSL takes.
fn curve(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    Some(match name {
        "X25519" | "x25519" => kx_group::X25519,
        "P-256" | "prime256v1" | "secp256r1" => kx_group::SECP256R1,
        "P-384" | "secp384r1" => kx_group::SECP384R1,
        "X25519MLKEM768" => kx_group::X25519MLKEM768,
        _ => return None,
    })
}

/// Envoy's curves, and P-384 for peers that have nothing else.
const CURVES: [&str; 3] = ["X25519", "P-256", "P-384"];

/// The provider for these settings.
///
/// # Errors
/// A sentence where nothing is left to negotiate with.
pub(super) fn provider(settings: &TlsSettings) -> Result<Arc<CryptoProvider>, String> {
    let named = settings
        .ciphers
        .iter()
        .flat_map(|list| list.split([':', '[', ']', '|']));
    let named: Vec<&str> = named.filter(|name| !name.is_empty()).collect();
    let cipher_suites: Vec<SupportedCipherSuite> = SUITES
        .iter()
        .filter(|(name, suite)| suite.tls13().is_some() || named.is_empty() || named.contains(name))
        .map(|(_, suite)| *suite)
        .collect();
    let kx_groups: Vec<_> = match settings.curves.as_slice() {
        [] => CURVES.iter().filter_map(|name| curve(name)).collect(),
        names => names
            .iter()
            .flat_map(|list| list.split(':'))
            .filter_map(curve)
            .collect(),
    };
    if settings.maximum == TlsVersion::V1_2 && cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
        return Err(format!(
            "none of the cipher suites {named:?} exists for TLS 1.2, the highest version allowed"
        ));
    }
    if kx_groups.is_empty() {
        return Err(format!("none of the curves {:?} exists", settings.curves));
    }
    Ok(Arc::new(CryptoProvider {
        cipher_suites,
        kx_groups,
        ..aws_lc_rs::default_provider()
    }))
}

/// The versions for these settings.
///
/// # Errors
/// A sentence where the range is empty.
pub(super) fn versions(settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let allowed = settings.minimum..=settings.maximum;
    let all = [
        (TlsVersion::V1_3, &rustls::version::TLS13),
        (TlsVersion::V1_2, &rustls::version::TLS12),
    ];
    let versions: Vec<_> = all
        .into_iter()
        .filter(|(version, _)| allowed.contains(version))
        .map(|(_, known)| known)
        .collect();
    if versions.is_empty() {
        return Err(format!(
            "no TLS version from {:?} to {:?}",
            settings.minimum, settings.maximum
        ));
    }
    Ok(versions)
}

/// The OpenSSL name of a suite, as access logs write it; `-` for one that we do not negotiate.
pub(super) fn openssl_name(of: CipherSuite) -> &'static str {
    SUITES
        .iter()
        .find(|(_, suite)| suite.suite() == of)
        .map_or("-", |(name, _)| name)
}

/// BoringSSL's name of a group, as Envoy counts `ssl.curves.*`.
pub(super) fn curve_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "P-256",
        NamedGroup::secp384r1 => "P-384",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        _ => "-",
    }
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> impl AsRef<[u8]> + use<> {
    // Both hash providers of TLS 1.3 are constants of the library; this one is SHA-256 by the name of its suite.
    static HASH: &dyn rustls::crypto::hash::Hash = match &suite::TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(tls13) => tls13.common.hash_provider,
        SupportedCipherSuite::Tls12(tls12) => tls12.common.hash_provider,
    };
    HASH.hash(bytes)
}
