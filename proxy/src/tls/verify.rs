//! Is the peer who its context demands? The verifier of both sides.
//!
//! Holds: the chain is `webpki`'s work (RFC 5280: dates, path length, name constraints, key purpose, CRLs), without its
//! name check; then one matcher must match one name of the leaf, as Envoy has it. Stricter than Envoy: a leaf that
//! claims a SPIFFE ID must carry well-formed ones of one trust domain and no right to sign, whatever the matcher; under
//! the SPIFFE validator (`trust_domains`) it carries exactly one URI (X509-SVID section 2).

use std::cell::Cell;
use std::sync::Arc;

use remora_model::identity::{Pins, SanKind, SanMatcher, Validation};
use remora_model::matching::StringMatcher;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::crypto;
use super::failure::TlsFailure;
use super::leaf::{Leaf, hexadecimal, public_key};
use super::material::{Anchors, anchors, revocations};
use super::spiffe::{SpiffeId, claims_spiffe};

/// Whose certificate is judged, and what that side may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// We are the server; a client without a certificate is welcome.
    OptionalClient,
    /// We are the server; a client must show a certificate.
    RequiredClient,
    /// We are the client.
    Server,
    /// We are the client, and the certificate must carry the name that we sent as SNI.
    ServerByName,
}

/// Judges peers by one validation context.
#[derive(Debug)]
pub(super) struct Verifier {
    judged: Judged,
    trust: Trust,
    names: Vec<SanMatcher>,
    pins: Pins,
    max_depth: Option<u32>,
    revocations: Vec<CertRevocationList<'static>>,
    depth: RevocationCheckDepth,
    allow_expired: bool,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Trust {
    /// No roots, or `ACCEPT_UNTRUSTED`: the peer proves that it has its key and nothing else.
    Anyone,
    Roots(Anchors),
    /// By trust domain.
    Domains(Vec<(remora_model::Name, Anchors)>),
}

/// A refusal that is ours, inside the library's error.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Refusal {
    /// No matcher matched.
    #[error("names {found}; expected {expected}")]
    WrongName { found: String, expected: String },
    /// The certificate breaks a rule.
    #[error("{0}")]
    Unfit(String),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

impl Verifier {
    /// A verifier for this context (`None`: anyone).
    ///
    /// # Errors
    /// A sentence: roots or CRLs that cannot be read, or names demanded of certificates that nobody vouches for.
    pub(super) fn new(
        validation: Option<Validation>,
        judged: Judged,
        provider: &CryptoProvider,
    ) -> Result<Self, String> {
        let validation = validation.unwrap_or_default();
        let trust = if validation.accept_untrusted {
            Trust::Anyone
        } else if !validation.trust_domains.is_empty() {
            let domain =
                |(name, roots): &(remora_model::Name, Vec<Vec<u8>>)| Ok((name.clone(), anchors(roots)?));
            Trust::Domains(
                validation
                    .trust_domains
                    .iter()
                    .map(domain)
                    .collect::<Result<_, String>>()?,
            )
        } else if validation.roots.is_empty() {
            if !validation.names.is_empty() {
                return Err(
                    "subject alternative names are matched, but there is no trusted_ca to vouch for them"
                        .into(),
                );
            }
            Trust::Anyone
        } else {
            Trust::Roots(anchors(&validation.roots)?)
        };
        if matches!(trust, Trust::Anyone) && judged == Judged::ServerByName && !validation.accept_untrusted {
            return Err(
                "auto_sni_san_validation is set, but there is no trusted_ca to vouch for the name".into(),
            );
        }
        Ok(Self {
            judged,
            hints: trust.subjects(),
            trust,
            names: validation.names,
            pins: match validation.accept_untrusted {
                true => Pins::default(),
                false => validation.pins,
            },
            max_depth: validation.max_depth,
            revocations: revocations(&validation.revocations)?,
            depth: match validation.revocations_leaf_only {
                true => RevocationCheckDepth::EndEntity,
                false => RevocationCheckDepth::Chain,
            },
            allow_expired: validation.allow_expired,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Whether a peer's certificate is verified at all.
    pub(super) fn verifies(&self) -> bool {
        self.has_roots() || !self.pins.is_empty()
    }

    fn has_roots(&self) -> bool {
        !matches!(self.trust, Trust::Anyone)
    }

    /// Until when a session with this peer may be resumed, seconds since 1970; `None`: its dates do not matter.
    pub(super) fn resumable_until(&self, leaf: &Leaf) -> Option<i64> {
        (self.has_roots() && !self.allow_expired).then_some(leaf.not_after)
    }

    /// The judgement of a chain that was accepted once, without the name that the handshake asked for.
    ///
    /// # Errors
    /// Why it would not be accepted now.
    pub(super) fn admits(&self, chain: &[CertificateDer<'_>]) -> Result<(), TlsFailure> {
        match chain.split_first() {
            None => Ok(()),
            Some((leaf, intermediates)) => self
                .judge(leaf, intermediates, None, UnixTime::now())
                .map_err(|error| TlsFailure::from_tls(&error)),
        }
    }

    /// The whole judgement of a full handshake.
    fn judge(
        &self,
        leaf_der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if !self.verifies() {
            return Ok(());
        }
        self.pinned(leaf_der)?;
        let leaf = Leaf::read(leaf_der).map_err(|_| CertificateError::BadEncoding)?;
        let id = self.svid(&leaf)?;
        let roots = match &self.trust {
            Trust::Anyone => return Ok(()),
            Trust::Roots(roots) => roots,
            Trust::Domains(domains) => roots_of(domains, id, &leaf)?,
        };
        let end_entity = EndEntityCert::try_from(leaf_der).map_err(chain_error)?;
        self.verify_chain(&end_entity, &leaf, intermediates, roots, now)?;
        if let (Judged::ServerByName, Some(name)) = (self.judged, server_name) {
            end_entity
                .verify_is_valid_for_subject_name(name)
                .map_err(|_| Refusal::WrongName {
                    found: leaf.described(),
                    expected: name.to_str().into_owned(),
                })?;
        }
        let named = self.names.is_empty()
            || leaf
                .names
                .iter()
                .any(|name| self.names.iter().any(|matcher| matcher.matches(name)));
        if named {
            Ok(())
        } else {
            Err(self.wrong_name(&leaf).into())
        }
    }

    /// One of the pins is this certificate's, or its key's, where there are any.
    fn pinned(&self, leaf: &[u8]) -> Result<(), Error> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let key = public_key(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let is = |pins: &[[u8; 32]], hash: &[u8]| pins.iter().any(|pin| pin == hash);
        let (whole, key) = (crypto::sha256(leaf), crypto::sha256(key));
        if is(&self.pins.certificates, whole.as_ref()) || is(&self.pins.keys, key.as_ref()) {
            return Ok(());
        }
        Err(Refusal::Unfit(format!(
            "neither it (SHA-256 {}) nor its public key is pinned",
            hexadecimal(whole.as_ref())
        ))
        .into())
    }

    fn wrong_name(&self, leaf: &Leaf) -> Refusal {
        const SHOWN: usize = 4;
        let mut expected = self
            .names
            .iter()
            .take(SHOWN)
            .map(described)
            .collect::<Vec<_>>()
            .join(" or ");
        if let Some(more @ 1..) = self.names.len().checked_sub(SHOWN) {
            expected.push_str(&format!(" or one of {more} more"));
        }
        Refusal::WrongName {
            found: leaf.described(),
            expected,
        }
    }

    fn verify_chain(
        &self,
        end_entity: &EndEntityCert<'_>,
        leaf: &Leaf,
        intermediates: &[CertificateDer<'_>],
        roots: &[TrustAnchor<'static>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let too_long = Cell::new(0);
        let verify_at = |time| {
            let lists: Vec<_> = self.revocations.iter().collect();
            let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
                options
                    .with_depth(self.depth)
                    .with_status_policy(UnknownStatusPolicy::Deny)
                    .with_expiration_policy(ExpirationPolicy::Enforce)
                    .build()
            });
            let usage = match self.judged {
                Judged::OptionalClient | Judged::RequiredClient => KeyUsage::client_auth(),
                Judged::Server | Judged::ServerByName => KeyUsage::server_auth(),
            };
            let algorithms = self.algorithms.all;
            let short = |path: &VerifiedPath<'_>| self.short_enough(path, &too_long);
            end_entity
                .verify_for_usage(
                    algorithms,
                    roots,
                    intermediates,
                    time,
                    usage,
                    revocation,
                    Some(&short),
                )
                .map(drop)
        };
        let verdict = match verify_at(now) {
            Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. })
                if self.allow_expired =>
            {
                verify_at(common_time(leaf, intermediates))
            }
            other => other,
        };
        verdict.map_err(|error| match (too_long.get(), self.max_depth) {
            (found @ 1.., Some(most)) => Refusal::Unfit(format!(
                "its chain has {found} intermediate certificates, expected at most {most} (max_verify_depth)"
            ))
            .into(),
            _ => chain_error(error),
        })
    }

    /// Whether no more intermediates stand on a path than `max_verify_depth` allows; else their number is noted.
    fn short_enough(&self, path: &VerifiedPath<'_>, too_long: &Cell<usize>) -> Result<(), webpki::Error> {
        let most = self.max_depth.map_or(usize::MAX, |depth| depth as usize);
        match path.intermediate_certificates().count() {
            count if count > most => {
                too_long.set(count);
                Err(webpki::Error::MaximumPathDepthExceeded)
            }
            _ => Ok(()),
        }
    }

    /// The SPIFFE rules for a leaf that claims an ID: SPIFFE ID 2.1 to 2.4, X509-SVID 2 and 4.3.
    fn svid<'l>(&self, leaf: &'l Leaf) -> Result<Option<SpiffeId<'l>>, Refusal> {
        let unfit = |what: String| Err(Refusal::Unfit(what));
        let by_domain = matches!(self.trust, Trust::Domains(_));
        let mut id: Option<SpiffeId<'_>> = None;
        for uri in leaf.uris().filter(|uri| claims_spiffe(uri)) {
            match (SpiffeId::parse(uri).filter(|id| !id.path.is_empty()), id) {
                (None, _) => return unfit(format!("{uri:?} is not a well-formed SPIFFE ID of a workload")),
                (Some(new), Some(old)) if new.trust_domain != old.trust_domain => {
                    return unfit(format!("it names two trust domains ({})", leaf.described()));
                }
                (new, _) => id = new,
            }
        }
        if by_domain && leaf.uris().count() > 1 {
            return unfit(format!(
                "a SPIFFE identity has exactly one URI, and it has more ({})",
                leaf.described()
            ));
        }
        if id.is_some()
            && let Some(usage) = leaf.key_usage
            && (usage.signs_certificates || !usage.digital_signature)
        {
            return unfit(
                "the key usage of a SPIFFE identity must allow digitalSignature and no signing of \
                certificates or CRLs"
                    .into(),
            );
        }
        Ok(id)
    }
}

impl Trust {
    /// Subjects of the roots, as hints to a client that has several certificates.
    fn subjects(&self) -> Vec<DistinguishedName> {
        let subject = |anchor: &TrustAnchor<'_>| DistinguishedName::in_sequence(&anchor.subject);
        match self {
            Self::Anyone => Vec::new(),
            Self::Roots(roots) => roots.iter().map(subject).collect(),
            Self::Domains(domains) => domains.iter().flat_map(|(_, roots)| roots).map(subject).collect(),
        }
    }
}

fn roots_of<'d>(
    domains: &'d [(remora_model::Name, Anchors)],
    id: Option<SpiffeId<'_>>,
    leaf: &Leaf,
) -> Result<&'d Anchors, Refusal> {
    let expected = || {
        let names: Vec<_> = domains
            .iter()
            .map(|(name, _)| format!("spiffe://{name}/…"))
            .collect();
        names.join(" or ")
    };
    let found = id.and_then(|id| domains.iter().find(|(name, _)| **name == *id.trust_domain));
    found.map(|(_, roots)| roots).ok_or_else(|| Refusal::WrongName {
        found: leaf.described(),
        expected: expected(),
    })
}

/// A time at which every certificate shown may have been valid: the first end of validity among them.
fn common_time(leaf: &Leaf, intermediates: &[CertificateDer<'_>]) -> UnixTime {
    let ends = intermediates
        .iter()
        .filter_map(|der| Leaf::read(der).ok())
        .map(|read| read.not_after);
    let first = ends.fold(leaf.not_after, i64::min);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(first.max(0).unsigned_abs()))
}

/// The matcher for a sentence.
fn described(matcher: &SanMatcher) -> String {
    let text = match &matcher.matcher {
        StringMatcher::Exact(pattern) => pattern.literal.to_string(),
        StringMatcher::Prefix(pattern) => format!("{}*", pattern.literal),
        StringMatcher::Suffix(pattern) => format!("*{}", pattern.literal),
        StringMatcher::Contains(pattern) => format!("*{}*", pattern.literal),
        StringMatcher::Regex(regex) => format!("/{regex}/"),
    };
    match matcher.kind {
        SanKind::Any | SanKind::Uri => text,
        SanKind::Dns => format!("DNS {text}"),
        SanKind::Ip => format!("IP {text}"),
        SanKind::Email => format!("e-mail {text}"),
    }
}

/// The library's error with the alert that fits it.
fn chain_error(error: webpki::Error) -> Error {
    use webpki::Error as Pki;
    match error {
        Pki::BadDer | Pki::BadDerTime | Pki::TrailingData(_) => CertificateError::BadEncoding,
        Pki::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        Pki::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        Pki::UnknownIssuer => CertificateError::UnknownIssuer,
        Pki::CertRevoked => CertificateError::Revoked,
        Pki::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        Pki::CrlExpired { time, next_update } => {
            CertificateError::ExpiredRevocationListContext { time, next_update }
        }
        Pki::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
    .into()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, Some(server_name), now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.judged == Judged::RequiredClient
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, None, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
