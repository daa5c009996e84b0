//! TLS where we are the server.
//!
//! Holds: the certificate and the application protocol are chosen after the ClientHello, by looking up one of a few
//! ready-made configurations (certificates x (protocols + 1)) that share one verifier, one ticket key and one session
//! cache. They are derived once per generation of the secrets and shared by all workers, so a client resumes at any.
//! Server preference decides the protocol; without overlap the handshake completes without one.

use std::sync::Arc;
use std::time::Duration;

use remora_model::identity::{ServerTls, TlsSettings};
use remora_model::snapshot::Snapshot;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::crypto::{CryptoProvider, GetRandomFailed};
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::ticketer::TicketRotator;
use rustls::{ServerConfig, SignatureAlgorithm};
use tokio_rustls::LazyConfigAcceptor;

use super::failure::TlsFailure;
use super::peer::{JudgeId, PeerCertificate, Peers, Session};
use super::secrets::Secrets;
use super::verify::{Judged, Verifier};
use super::{Secured, crypto};
use crate::io::{Io, Socket};

/// `istio-peer-exchange` obliges both sides to exchange metadata inside the byte stream, which we do not.
pub(super) const NEVER_NEGOTIATED: &[u8] = b"istio-peer-exchange";

/// Sessions that clients without tickets may resume.
const SESSION_CACHE: usize = 256;

/// BoringSSL's session timeout, seconds.
const SESSION_TIMEOUT: u64 = 2 * 60 * 60;

/// A [`ServerTls`] with one generation of its secrets.
#[derive(Debug)]
pub struct ServerContext {
    identities: Vec<Identity>,
    alpn: Vec<Box<[u8]>>,
    verifier: Option<Arc<Verifier>>,
    require_sni: bool,
    peers: Arc<Peers>,
    judge: JudgeId,
}

/// One own certificate.
#[derive(Debug)]
struct Identity {
    key: Arc<CertifiedKey>,
    certificate: Arc<PeerCertificate>,
    /// One per protocol in `alpn`, and at the end one without.
    configs: Vec<Arc<ServerConfig>>,
}

impl ServerContext {
    /// The context for the secrets of this world; derived at the first call after one of them changed.
    ///
    /// # Errors
    /// [`TlsFailure::SecretNotReady`], [`TlsFailure::Misconfigured`].
    pub fn of(tls: &ServerTls, snapshot: &Snapshot) -> Result<Arc<Self>, TlsFailure> {
        let secrets = Secrets::of(&tls.settings, snapshot)?;
        tls.prepared
            .get_or_derive(secrets.generations, |before: Option<Arc<Self>>| {
                let peers = before.map(|before| Arc::clone(&before.peers));
                Self::derive(tls, &secrets, peers.unwrap_or_default()).map(Arc::new)
            })
    }

    fn derive(tls: &ServerTls, secrets: &Secrets<'_>, peers: Arc<Peers>) -> Result<Self, TlsFailure> {
        let provider = crypto::provider(&tls.settings).map_err(TlsFailure::Misconfigured)?;
        let judged = match tls.require_client_certificate {
            true => Judged::RequiredClient,
            false => Judged::OptionalClient,
        };
        let verifier =
            Verifier::new(secrets.validation()?, judged, &provider).map_err(TlsFailure::Misconfigured)?;
        // Without roots and without demand there is nothing to ask a client for.
        let verifier = (tls.require_client_certificate || verifier.verifies()).then(|| Arc::new(verifier));
        let keys = secrets.identities(&provider)?;
        if keys.is_empty() {
            return Err(TlsFailure::Misconfigured(
                "a server needs a certificate, and the context has none".into(),
            ));
        }
        let alpn: Vec<_> = negotiable(&tls.settings).cloned().collect();
        let base = base_config(tls, &provider, verifier.clone(), &keys[0])?;
        let identity = |key: Arc<CertifiedKey>| Identity {
            certificate: Arc::new(PeerCertificate::new(key.cert.clone())),
            configs: configs(&base, &key, &alpn),
            key,
        };
        let identities = keys.into_iter().map(identity).collect();
        let judge = JudgeId::next();
        if let Some(verifier) = &verifier {
            peers.review(judge, verifier);
        }
        Ok(Self {
            identities,
            alpn,
            verifier,
            require_sni: tls.require_sni,
            peers,
            judge,
        })
    }

    /// Whether a client that was let in before would be let in now.
    ///
    /// # Errors
    /// Why not.
    pub fn still_admits(&self, peer: &PeerCertificate) -> Result<(), TlsFailure> {
        match &self.verifier {
            Some(verifier) => peer.judged(self.judge, verifier),
            None => Ok(()),
        }
    }

    /// Our certificates, for `/certs`.
    pub fn own_certificates(&self) -> impl Iterator<Item = &Arc<PeerCertificate>> {
        self.identities.iter().map(|identity| &identity.certificate)
    }

    /// Does the handshake, within `limit` where there is one. A refused peer has been sent its alert.
    ///
    /// # Errors
    /// [`TlsFailure`]; the socket is closed then.
    pub async fn accept(&self, socket: Socket, limit: Option<Duration>) -> Result<Secured, TlsFailure> {
        let handshake = Box::pin(self.handshake(socket));
        match limit {
            None => handshake.await,
            Some(limit) => tokio::time::timeout(limit, handshake)
                .await
                .unwrap_or(Err(TlsFailure::Timeout(limit))),
        }
    }

    async fn handshake(&self, socket: Socket) -> Result<Secured, TlsFailure> {
        let failed = |error: std::io::Error| TlsFailure::from_io(&error);
        let start = LazyConfigAcceptor::new(Acceptor::default(), socket)
            .await
            .map_err(failed)?;
        let hello = start.client_hello();
        let server_name: Option<Box<str>> = hello.server_name().map(|name| name.to_ascii_lowercase().into());
        if self.require_sni && server_name.is_none() {
            return Err(TlsFailure::NoServerName);
        }
        let identity = self.identity_for(&hello, server_name.as_deref());
        let config = Arc::clone(&identity.configs[self.protocol_for(&hello)]);
        let stream = start.into_stream(config).await.map_err(failed)?;
        let mut session = Session::of(stream.get_ref().1, &self.peers);
        session.server_name = server_name;
        session.own = Some(Arc::clone(&identity.certificate));
        if let Some(verifier) = &self.verifier {
            session.peer_verified = session.peer.is_some() && verifier.verifies();
            session.ends = session.resumable_until(verifier)?;
        }
        Ok(Secured {
            io: Io::ServerTls(Box::new(stream)),
            session,
        })
    }

    /// Envoy's choice among several certificates: one whose DNS names cover the SNI, exact before wildcard, and an
    /// elliptic-curve key where the client can verify one; else the first.
    fn identity_for(&self, hello: &ClientHello<'_>, server_name: Option<&str>) -> &Identity {
        let first = &self.identities[0];
        if self.identities.len() == 1 {
            return first;
        }
        let rank = |identity: &Identity| {
            let covers = server_name.map_or(0, |name| coverage(&identity.certificate, name));
            let usable = identity
                .key
                .key
                .choose_scheme(hello.signature_schemes())
                .is_some();
            let curve = identity.key.key.algorithm() == SignatureAlgorithm::ECDSA;
            (usable, covers, curve)
        };
        // `max_by_key` takes the last of equals; the first certificate shall win.
        self.identities
            .iter()
            .rev()
            .max_by_key(|identity| rank(identity))
            .unwrap_or(first)
    }

    /// Index of the configuration with the first of our protocols that the client offers.
    fn protocol_for(&self, hello: &ClientHello<'_>) -> usize {
        let offers = |ours: &[u8]| {
            hello
                .alpn()
                .is_some_and(|mut theirs| theirs.any(|offer| offer == ours))
        };
        self.alpn
            .iter()
            .position(|ours| offers(ours))
            .unwrap_or(self.alpn.len())
    }
}

/// What of a context's ALPN list may be negotiated.
fn negotiable(settings: &TlsSettings) -> impl Iterator<Item = &Box<[u8]>> {
    settings
        .alpn
        .iter()
        .filter(|protocol| ***protocol != *NEVER_NEGOTIATED)
}

/// How well a certificate covers a name: 2 exactly, 1 by a wildcard, 0 not.
fn coverage(certificate: &PeerCertificate, name: &str) -> u8 {
    let parent = name.split_once('.').map(|(_, parent)| parent);
    let cover = |dns: &str| match dns.strip_prefix("*.") {
        Some(covered) => u8::from(parent.is_some_and(|parent| covered.eq_ignore_ascii_case(parent))),
        None => 2 * u8::from(dns.eq_ignore_ascii_case(name)),
    };
    certificate.dns_sans().map(cover).max().unwrap_or(0)
}

/// The configuration that all variants share their parts with.
fn base_config(
    tls: &ServerTls,
    provider: &Arc<CryptoProvider>,
    verifier: Option<Arc<Verifier>>,
    key: &Arc<CertifiedKey>,
) -> Result<ServerConfig, TlsFailure> {
    let misconfigured = |error: rustls::Error| TlsFailure::Misconfigured(error.to_string());
    let versions = crypto::versions(&tls.settings).map_err(TlsFailure::Misconfigured)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions)
        .map_err(misconfigured)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))));
    config.ignore_client_order = true;
    config.session_storage = match tls.disable_session_cache {
        true => Arc::new(NoServerSessionStorage {}),
        false => ServerSessionMemoryCache::new(SESSION_CACHE),
    };
    if tls.disable_tickets {
        config.send_tls13_tickets = 0;
    } else {
        let timeout = if tls.session_timeout_seconds == 0 {
            SESSION_TIMEOUT
        } else {
            tls.session_timeout_seconds
        };
        // A key seals for one lifetime and opens for two, so that no ticket is good for longer than the timeout.
        let lifetime = u32::try_from(timeout / 2).unwrap_or(u32::MAX).max(1);
        config.ticketer = Arc::new(TicketRotator::new(lifetime, ticket_key).map_err(misconfigured)?);
    }
    Ok(config)
}

fn configs(base: &ServerConfig, key: &Arc<CertifiedKey>, alpn: &[Box<[u8]>]) -> Vec<Arc<ServerConfig>> {
    let variant = |protocol: Option<&Box<[u8]>>| {
        let mut config = base.clone();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(key)));
        config.alpn_protocols = protocol.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    };
    alpn.iter().map(Some).chain([None]).map(variant).collect()
}

fn ticket_key() -> Result<Box<dyn ProducesTickets>, GetRandomFailed> {
    Ok(Box::new(TicketKey(Ticketer::new().map_err(|_| GetRandomFailed)?)))
}

/// The library's ticket key, which comes in an `Arc` where its rotator wants a `Box`.
#[derive(Debug)]
struct TicketKey(Arc<dyn ProducesTickets>);

impl ProducesTickets for TicketKey {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}
