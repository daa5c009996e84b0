//! What a connection knows of its TLS session and of its peer: for access logs, `x-forwarded-client-cert` and metrics.
//!
//! Holds: nothing of a certificate is read before somebody asks; connections of one peer share one [`PeerCertificate`].

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use base64::Engine as _;
use remora_model::identity::{SubjectAltName, TlsVersion};
use rustls::pki_types::CertificateDer;
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use super::crypto;
use super::failure::TlsFailure;
use super::leaf::{Leaf, hexadecimal, text};
use super::sessions::unix_now;
use super::verify::Verifier;

/// One side's certificate chain, read on demand.
pub struct PeerCertificate {
    chain: Vec<CertificateDer<'static>>,
    leaf: OnceLock<Option<Leaf>>,
    sha256: OnceLock<String>,
    /// Who judged it last, after its handshake.
    judge: AtomicU64,
    /// Why it would not be let in any more.
    refusal: OnceLock<TlsFailure>,
}

/// Stands for one derived context, which judges its predecessors' peers by its own secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JudgeId(u64);

impl JudgeId {
    /// One that nobody has.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl PeerCertificate {
    /// A chain, leaf first.
    pub(super) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            chain,
            leaf: OnceLock::new(),
            sha256: OnceLock::new(),
            judge: AtomicU64::new(0),
            refusal: OnceLock::new(),
        }
    }

    /// What this verifier says of the chain; asked once per judge. A refusal is for ever: whoever is let in again shows
    /// the chain again.
    ///
    /// # Errors
    /// Why the peer would not be let in.
    pub(super) fn judged(&self, judge: JudgeId, verifier: &Verifier) -> Result<(), TlsFailure> {
        if let Some(refusal) = self.refusal.get() {
            return Err(refusal.clone());
        }
        if self.judge.swap(judge.0, Ordering::Relaxed) == judge.0 {
            return Ok(());
        }
        verifier
            .admits(&self.chain)
            .map_err(|refusal| self.refusal.get_or_init(|| refusal).clone())
    }

    /// Whether it was let in and would not be any more.
    pub fn is_refused(&self) -> bool {
        self.refusal.get().is_some()
    }

    /// DER certificates as shown, leaf first.
    pub fn chain(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.chain.iter().map(|der| der.as_ref())
    }

    pub(super) fn leaf(&self) -> Option<&Leaf> {
        self.leaf
            .get_or_init(|| Leaf::read(self.chain.first()?).ok())
            .as_ref()
    }

    /// Subject in RFC 2253 form; empty where there is none.
    pub fn subject(&self) -> &str {
        self.leaf().map_or("", |leaf| &leaf.subject)
    }

    /// Issuer in RFC 2253 form.
    pub fn issuer(&self) -> &str {
        self.leaf().map_or("", |leaf| &leaf.issuer)
    }

    /// Serial number, lower-case hexadecimal.
    pub fn serial(&self) -> &str {
        self.leaf().map_or("", |leaf| &leaf.serial)
    }

    /// All subject alternative names in the order of the certificate.
    pub fn names(&self) -> &[SubjectAltName] {
        self.leaf().map_or(&[], |leaf| &leaf.names)
    }

    /// URI names.
    pub fn uri_sans(&self) -> impl Iterator<Item = &str> {
        self.names()
            .iter()
            .filter(|name| matches!(name, SubjectAltName::Uri(_)))
            .map(text)
    }

    /// DNS names.
    pub fn dns_sans(&self) -> impl Iterator<Item = &str> {
        self.names()
            .iter()
            .filter(|name| matches!(name, SubjectAltName::Dns(_)))
            .map(text)
    }

    /// IP addresses.
    pub fn ip_sans(&self) -> impl Iterator<Item = &str> {
        self.names()
            .iter()
            .filter(|name| matches!(name, SubjectAltName::Ip(_)))
            .map(text)
    }

    /// E-mail addresses.
    pub fn email_sans(&self) -> impl Iterator<Item = &str> {
        self.names()
            .iter()
            .filter(|name| matches!(name, SubjectAltName::Email(_)))
            .map(text)
    }

    /// Beginning and end of validity, seconds since 1970.
    pub fn validity(&self) -> Option<(i64, i64)> {
        self.leaf().map(|leaf| (leaf.not_before, leaf.not_after))
    }

    /// SHA-256 of the leaf, lower-case hexadecimal (XFCC's `Hash`).
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| {
            let leaf = self.chain.first().map_or(&[][..], AsRef::as_ref);
            hexadecimal(crypto::sha256(leaf).as_ref())
        })
    }

    /// The leaf as URL-encoded PEM (XFCC's `Cert`).
    pub fn url_encoded_pem(&self) -> String {
        self.chain
            .iter()
            .take(1)
            .map(|der| url_encoded_pem(der))
            .collect()
    }

    /// The chain as URL-encoded PEM (XFCC's `Chain`).
    pub fn url_encoded_chain(&self) -> String {
        self.chain.iter().map(|der| url_encoded_pem(der)).collect()
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerCertificate")
            .field(&self.subject())
            .field(&self.names())
            .finish()
    }
}

/// PEM with the characters replaced that Envoy replaces.
fn url_encoded_pem(der: &[u8]) -> String {
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = String::with_capacity(base64.len() + base64.len() / 8 + 96);
    text.push_str("-----BEGIN%20CERTIFICATE-----%0A");
    for (index, character) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push_str("%0A");
        }
        match character {
            '+' => text.push_str("%2B"),
            '/' => text.push_str("%2F"),
            '=' => text.push_str("%3D"),
            other => text.push(other),
        }
    }
    text.push_str("%0A-----END%20CERTIFICATE-----%0A");
    text
}

/// What one handshake settled.
#[derive(Debug, Clone)]
pub struct Session {
    /// Version.
    pub version: TlsVersion,
    /// Cipher suite in OpenSSL's name, as access logs write it.
    pub cipher: &'static str,
    /// Group of the key exchange in BoringSSL's name; `None`: a resumption without one.
    pub curve: Option<&'static str>,
    /// Negotiated ALPN; `None`: there was no common protocol, or nobody asked.
    pub alpn: Option<Box<[u8]>>,
    /// The SNI that was sent, in lower case; `None`: none.
    pub server_name: Option<Box<str>>,
    /// The session was resumed (`ssl.session_reused`).
    pub resumed: bool,
    /// The peer's certificate; `None`: it showed none (`ssl.no_certificate`).
    pub peer: Option<Arc<PeerCertificate>>,
    /// The peer's certificate was verified against roots; false with a certificate: anyone was welcome.
    pub peer_verified: bool,
    /// When the peer's certificate ends, seconds since 1970; `None`: its dates do not matter.
    pub ends: Option<i64>,
    /// The certificate that we showed, or would have shown.
    pub own: Option<Arc<PeerCertificate>>,
}

impl Session {
    /// `TLSv1.2` or `TLSv1.3`, as access logs write it.
    pub fn version_name(&self) -> &'static str {
        match self.version {
            TlsVersion::V1_2 => "TLSv1.2",
            TlsVersion::V1_3 => "TLSv1.3",
        }
    }

    /// Mutual TLS: the peer showed a certificate and it was verified.
    pub fn is_mutual(&self) -> bool {
        self.peer.is_some() && self.peer_verified
    }

    /// Until when this session may be resumed, seconds since 1970; `None`: the peer's dates do not matter.
    ///
    /// # Errors
    /// A resumed session whose peer's certificate has ended: rustls took it from the session and nothing looked again.
    pub(super) fn resumable_until(&self, verifier: &Verifier) -> Result<Option<i64>, TlsFailure> {
        let leaf = self.peer.as_ref().and_then(|peer| peer.leaf());
        let Some((leaf, until)) = leaf.and_then(|leaf| Some((leaf, verifier.resumable_until(leaf)?))) else {
            return Ok(None);
        };
        if self.resumed && until < unix_now() {
            return Err(TlsFailure::Untrusted(format!(
                "it ended since the session began ({})",
                leaf.described()
            )));
        }
        Ok(Some(until))
    }

    /// Reads what rustls negotiated.
    pub(super) fn of(connection: &CommonState, peers: &Peers) -> Self {
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
                _ => TlsVersion::V1_3,
            },
            cipher: connection
                .negotiated_cipher_suite()
                .map_or("-", |suite| crypto::openssl_name(suite.suite())),
            curve: connection
                .negotiated_key_exchange_group()
                .map(|group| crypto::curve_name(group.name())),
            alpn: connection.alpn_protocol().map(Into::into),
            server_name: None,
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            peer: connection
                .peer_certificates()
                .and_then(|chain| peers.shared(chain)),
            peer_verified: false,
            ends: None,
            own: None,
        }
    }
}

/// Peers of one context and of those that it replaced, so that a thousand connections of one workload hold its
/// certificate once, and all of them can be judged again.
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: Mutex<HashMap<u64, Weak<PeerCertificate>>>,
    hasher: RandomState,
}

impl Peers {
    /// Entries before those without connections are dropped for the first time.
    const ROOM: usize = 256;

    fn shared(&self, chain: &[CertificateDer<'static>]) -> Option<Arc<PeerCertificate>> {
        chain.first()?;
        let key = self.hasher.hash_one(chain);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = known.get(&key).and_then(Weak::upgrade)
            && peer.chain == chain
            && !peer.is_refused()
        {
            return Some(peer);
        }
        // Grown to twice what was alive the last time: each entry is looked at a constant number of times.
        if known.len() >= Self::ROOM && known.len() == known.capacity() {
            known.retain(|_, peer| peer.strong_count() > 0);
        }
        let peer = Arc::new(PeerCertificate::new(chain.to_vec()));
        known.insert(key, Arc::downgrade(&peer));
        Some(peer)
    }

    /// Judges everybody who is connected.
    pub(super) fn review(&self, judge: JudgeId, verifier: &Verifier) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let connected: Vec<_> = known.values().filter_map(Weak::upgrade).collect();
        drop(known);
        for peer in connected {
            // Who is refused is found by whoever looks after the connections.
            let _ = peer.judged(judge, verifier);
        }
    }
}
