//! TLS where we are the client.
//!
//! Holds: sessions are resumed only within one derived context and one server name, and are forgotten when a certificate
//! behind them ends; an ALPN list of the caller's has its own configuration with the same verifier, key and store.
//! A server that refuses our certificate under TLS 1.3 says so in the first read after [`ClientContext::connect`]:
//! [`TlsFailure::from_io`] reads that error.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remora_model::identity::ClientTls;
use remora_model::snapshot::Snapshot;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::{DnsName, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::TlsConnector;

use super::failure::TlsFailure;
use super::peer::{JudgeId, PeerCertificate, Peers, Session};
use super::secrets::Secrets;
use super::server::NEVER_NEGOTIATED;
use super::sessions::Sessions;
use super::verify::{Judged, Verifier};
use super::{Secured, crypto};
use crate::io::{Io, Socket};

/// ALPN lists of callers that one context keeps a configuration for.
const ALPN_LISTS: usize = 16;

/// A [`ClientTls`] with one generation of its secrets.
#[derive(Debug)]
pub struct ClientContext {
    config: Arc<ClientConfig>,
    /// Configurations with another ALPN list.
    others: Mutex<Vec<Arc<ClientConfig>>>,
    verifier: Arc<Verifier>,
    sessions: Arc<Sessions>,
    own: Option<Arc<PeerCertificate>>,
    peers: Arc<Peers>,
}

/// Whom to reach.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// What to send as SNI ([`server_name`]); empty: nothing.
    pub server_name: &'a str,
    /// The endpoint; stands for the server where no name is sent.
    pub address: IpAddr,
    /// Replaces the context's `alpn_protocols`.
    pub alpn: Option<&'a [Box<[u8]>]>,
}

/// The name to send as SNI, as Envoy ranks them: the caller's (`auto_sni`), the endpoint's host name
/// (`auto_host_sni`), the context's `sni`. Empty: none.
pub fn server_name<'a>(
    tls: &'a ClientTls,
    wanted: Option<&'a str>,
    endpoint_host: Option<&'a str>,
) -> &'a str {
    let host = endpoint_host.filter(|host| tls.auto_host_sni && !host.is_empty());
    wanted.or(host).unwrap_or(&tls.sni)
}

impl ClientContext {
    /// The context for the secrets of this world; derived at the first call after one of them changed.
    ///
    /// # Errors
    /// [`TlsFailure::SecretNotReady`], [`TlsFailure::Misconfigured`].
    pub fn of(tls: &ClientTls, snapshot: &Snapshot) -> Result<Arc<Self>, TlsFailure> {
        let secrets = Secrets::of(&tls.settings, snapshot)?;
        tls.prepared
            .get_or_derive(secrets.generations, |before: Option<Arc<Self>>| {
                let peers = before.map(|before| Arc::clone(&before.peers));
                Self::derive(tls, &secrets, peers.unwrap_or_default()).map(Arc::new)
            })
    }

    fn derive(tls: &ClientTls, secrets: &Secrets<'_>, peers: Arc<Peers>) -> Result<Self, TlsFailure> {
        let provider = crypto::provider(&tls.settings).map_err(TlsFailure::Misconfigured)?;
        let versions = crypto::versions(&tls.settings).map_err(TlsFailure::Misconfigured)?;
        let judged = if tls.auto_sni_san_validation {
            Judged::ServerByName
        } else {
            Judged::Server
        };
        let verifier =
            Verifier::new(secrets.validation()?, judged, &provider).map_err(TlsFailure::Misconfigured)?;
        let verifier = Arc::new(verifier);
        peers.review(JudgeId::next(), &verifier);
        let key: Option<Arc<CertifiedKey>> = secrets.identities(&provider)?.into_iter().next();
        let own = key
            .as_ref()
            .map(|key| Arc::new(PeerCertificate::new(key.cert.clone())));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| TlsFailure::Misconfigured(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<_>);
        let mut config = match key {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        };
        let sessions = Arc::new(Sessions::new(tls.max_session_keys));
        config.resumption = match tls.max_session_keys {
            0 => Resumption::disabled(),
            _ => Resumption::store(Arc::clone(&sessions) as Arc<_>),
        };
        config.alpn_protocols = negotiable(&tls.settings.alpn);
        let (config, others) = (Arc::new(config), Mutex::default());
        Ok(Self {
            config,
            others,
            verifier,
            sessions,
            own,
            peers,
        })
    }

    /// Our certificate, for `/certs`.
    pub fn own_certificate(&self) -> Option<&Arc<PeerCertificate>> {
        self.own.as_ref()
    }

    /// Does the handshake, within `limit` where there is one.
    ///
    /// # Errors
    /// [`TlsFailure`]; the socket is closed then.
    pub async fn connect(
        &self,
        target: Target<'_>,
        socket: Socket,
        limit: Option<Duration>,
    ) -> Result<Secured, TlsFailure> {
        let handshake = Box::pin(self.handshake(target, socket));
        match limit {
            None => handshake.await,
            Some(limit) => tokio::time::timeout(limit, handshake)
                .await
                .unwrap_or(Err(TlsFailure::Timeout(limit))),
        }
    }

    async fn handshake(&self, target: Target<'_>, socket: Socket) -> Result<Secured, TlsFailure> {
        let name = match target.server_name {
            "" => ServerName::from(target.address),
            name => named(name)?,
        };
        let config = match target.alpn {
            None => Arc::clone(&self.config),
            Some(alpn) => self.with_alpn(alpn),
        };
        self.sessions.forget_ended();
        let connecting = TlsConnector::from(config).connect(name, socket);
        let stream = connecting.await.map_err(|error| TlsFailure::from_io(&error))?;
        let mut session = Session::of(stream.get_ref().1, &self.peers);
        session.server_name =
            (!target.server_name.is_empty()).then(|| target.server_name.to_ascii_lowercase().into());
        session.own.clone_from(&self.own);
        session.peer_verified = self.verifier.verifies() && session.peer.is_some();
        session.ends = session.resumable_until(&self.verifier)?;
        if let Some(until) = session.ends {
            self.sessions.limit(until);
        }
        Ok(Secured {
            io: Io::ClientTls(Box::new(stream)),
            session,
        })
    }

    /// The configuration with this ALPN list.
    fn with_alpn(&self, alpn: &[Box<[u8]>]) -> Arc<ClientConfig> {
        let wanted = negotiable(alpn);
        if self.config.alpn_protocols == wanted {
            return Arc::clone(&self.config);
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = others.iter().find(|known| known.alpn_protocols == wanted) {
            return Arc::clone(known);
        }
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = wanted;
        let config = Arc::new(config);
        if others.len() < ALPN_LISTS {
            others.push(Arc::clone(&config));
        }
        config
    }
}

fn negotiable(alpn: &[Box<[u8]>]) -> Vec<Vec<u8>> {
    alpn.iter()
        .filter(|protocol| ***protocol != *NEVER_NEGOTIATED)
        .map(|protocol| protocol.to_vec())
        .collect()
}

fn named(name: &str) -> Result<ServerName<'static>, TlsFailure> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::from(address)),
        Err(_) => DnsName::try_from(name.to_ascii_lowercase())
            .map(ServerName::from)
            .map_err(|_| TlsFailure::Misconfigured(format!("sni: {name:?} is no host name"))),
    }
}
