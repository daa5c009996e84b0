//! Who we are, whom we trust and whom the peer must prove to be; in plain bytes, without a TLS library.
//!
//! A context refers to secrets by value or by id; [`crate::snapshot::Snapshot::secret`] says what has arrived, so a
//! rotated secret rebuilds no listener and no cluster. The shell derives its TLS configuration from a context and the
//! generations of its secrets ([`Prepared`]); two contexts never share one, because a resumed session is not verified
//! again (tried: a foreign certificate passed).

mod prepared;
mod san;

pub use prepared::{Generations, Prepared};
pub use san::{SanKind, SanMatcher, SubjectAltName};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Name;
use crate::snapshot::SecretId;

/// One secret as SDS, a file or the context itself delivered it.
#[derive(Debug)]
pub struct Secret {
    /// Resource name, or `""` for one that stands inside a context.
    pub name: Name,
    /// Unique in the process; a rotated secret has a new one. Never 0.
    pub generation: u64,
    /// What it holds.
    pub kind: SecretKind,
}

/// What a secret holds.
#[derive(Debug)]
pub enum SecretKind {
    /// A certificate chain with its key.
    Certificate(Certificate),
    /// Whom to trust.
    Validation(Validation),
    /// Keys for stateless session tickets, newest first (80 bytes each, Envoy's form).
    TicketKeys(Vec<Vec<u8>>),
    /// Anything else.
    Generic(Vec<u8>),
}

impl Secret {
    /// A secret with a generation of its own.
    pub fn new(name: Name, kind: SecretKind) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            name,
            generation: NEXT.fetch_add(1, Ordering::Relaxed),
            kind,
        }
    }
}

/// A certificate chain (leaf first) and its private key.
pub struct Certificate {
    /// DER certificates, leaf first, at least one.
    pub chain: Vec<Vec<u8>>,
    /// DER private key.
    pub key: PrivateKey,
}

/// A DER private key; never printed.
pub struct PrivateKey {
    /// PKCS#8, SEC1 or PKCS#1, as the PEM label said.
    pub encoding: KeyEncoding,
    /// DER bytes.
    pub der: Vec<u8>,
}

/// The DER form of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEncoding {
    /// `PRIVATE KEY`.
    Pkcs8,
    /// `EC PRIVATE KEY`.
    Sec1,
    /// `RSA PRIVATE KEY`.
    Pkcs1,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// `CertificateValidationContext`.
#[derive(Debug, Clone, Default)]
pub struct Validation {
    /// DER roots; empty: the peer's certificate is not verified.
    pub roots: Vec<Vec<u8>>,
    /// At least one must match one of the leaf's names; empty: any name.
    pub names: Vec<SanMatcher>,
    /// DER CRLs.
    pub revocations: Vec<Vec<u8>>,
    /// `only_verify_leaf_cert_crl`.
    pub revocations_leaf_only: bool,
    /// `allow_expired_certificate`.
    pub allow_expired: bool,
    /// `trust_chain_verification: ACCEPT_UNTRUSTED`.
    pub accept_untrusted: bool,
    /// SPIFFE validator: trust domain to DER roots; replaces `roots` where present.
    pub trust_domains: Vec<(Name, Vec<Vec<u8>>)>,
    /// `verify_certificate_hash` and `verify_certificate_spki`.
    pub pins: Pins,
    /// `max_verify_depth`: how many intermediates may stand between the leaf and the root.
    pub max_depth: Option<u32>,
}

/// Certificates that a peer must show one of, by SHA-256; both lists empty: any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    /// Of the whole leaf.
    pub certificates: Vec<[u8; 32]>,
    /// Of the leaf's `SubjectPublicKeyInfo`.
    pub keys: Vec<[u8; 32]>,
}

impl Pins {
    /// Whether nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.keys.is_empty()
    }
}

/// A certificate by value or by SDS name.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// In the context itself or in a file that it names.
    Inline(Arc<Secret>),
    /// By SDS.
    Sds(SecretId),
}

/// A validation context by value, by SDS name, or both (`combined_validation_context`).
#[derive(Debug, Clone, Default)]
pub struct ValidationSource {
    /// `validation_context` or `default_validation_context`.
    pub inline: Option<Arc<Secret>>,
    /// `validation_context_sds_secret_config`; its lists are appended and its single values win.
    pub sds: Option<SecretId>,
}

/// TLS versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// 1.2.
    V1_2,
    /// 1.3.
    V1_3,
}

/// `CommonTlsContext` of either side.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// Own certificates; several for a server (by SNI or key type).
    pub certificates: Vec<CertificateSource>,
    /// Whom to trust.
    pub validation: ValidationSource,
    /// `alpn_protocols` in order of preference.
    pub alpn: Vec<Box<[u8]>>,
    /// `tls_params.tls_minimum_protocol_version`; default 1.2.
    pub minimum: TlsVersion,
    /// `tls_params.tls_maximum_protocol_version`; default 1.3 for servers, 1.2 for Envoy clients, 1.3 for ours.
    pub maximum: TlsVersion,
    /// `cipher_suites` in OpenSSL's names, filtered to what can be had; empty: the library's default.
    pub ciphers: Vec<Box<str>>,
    /// `ecdh_curves`, filtered to what can be had; empty: the library's default.
    pub curves: Vec<Box<str>>,
}

/// `DownstreamTlsContext`.
#[derive(Debug)]
pub struct ServerTls {
    /// Both sides' part.
    pub settings: TlsSettings,
    /// `require_client_certificate`.
    pub require_client_certificate: bool,
    /// `require_sni`.
    pub require_sni: bool,
    /// `disable_stateless_session_resumption`.
    pub disable_tickets: bool,
    /// `disable_stateful_session_resumption`.
    pub disable_session_cache: bool,
    /// `session_timeout`, seconds; 0: the library's.
    pub session_timeout_seconds: u64,
    /// What the shell derived from this context.
    pub prepared: Prepared,
}

/// `UpstreamTlsContext`.
#[derive(Debug)]
pub struct ClientTls {
    /// Both sides' part.
    pub settings: TlsSettings,
    /// `sni`; empty: none is sent.
    pub sni: Box<str>,
    /// `auto_host_sni`: SNI from the endpoint's host name.
    pub auto_host_sni: bool,
    /// `auto_sni_san_validation`: the certificate must carry the name sent as SNI.
    pub auto_sni_san_validation: bool,
    /// `max_session_keys`, default 1; 0 switches resumption off.
    pub max_session_keys: u32,
    /// Unique in the process, for pool keys. Never 0.
    pub id: u64,
    /// Hash of the context as received and of the files behind it; equal means unchanged within a cluster.
    pub fingerprint: u64,
    /// What the shell derived from this context.
    pub prepared: Prepared,
}

impl ClientTls {
    /// A new value for [`ClientTls::id`].
    pub fn next_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}
