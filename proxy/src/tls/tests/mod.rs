//! Handshakes between our own two sides, over memory, with throw-away CAs.

mod alpn_and_versions;
mod judged_again;
mod names;
mod pins;
mod resumption;
mod secrets;
mod trust;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use remora_model::identity::{
    Certificate, CertificateSource, ClientTls, KeyEncoding, Prepared, PrivateKey, SanKind, SanMatcher,
    Secret, SecretKind, ServerTls, TlsSettings, TlsVersion, Validation, ValidationSource,
};
use remora_model::matching::{Pattern, StringMatcher};
use remora_model::snapshot::{SecretId, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ClientContext, Secured, ServerContext, Target, TlsFailure};
use crate::io::{Io, Socket, Transport};

pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn root(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// A certificate authority that this one vouches for.
    pub(super) fn intermediate(&self, name: &str) -> Self {
        Self(CertifiedIssuer::signed_by(authority(name), KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// A workload's certificate by this intermediate, with it in the chain.
    pub(super) fn below(&self, id: &str) -> Secret {
        let mut secret = self.svid(id);
        if let SecretKind::Certificate(certificate) = &mut secret.kind {
            certificate.chain.push(self.root());
        }
        secret
    }

    /// A workload's certificate, changed before it is signed.
    pub(super) fn signs(&self, names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams)) -> Secret {
        let key = KeyPair::generate().unwrap();
        let mut params = workload(names);
        change(&mut params);
        let leaf = params.signed_by(&key, &self.0).unwrap();
        certificate_secret(vec![leaf.der().to_vec()], &key)
    }

    /// A workload's certificate.
    pub(super) fn svid(&self, id: &str) -> Secret {
        self.signs(vec![uri(id)], |_| ())
    }

    pub(super) fn validation(&self, names: Vec<SanMatcher>) -> Validation {
        Validation {
            roots: vec![self.root()],
            names,
            ..Validation::default()
        }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(super) fn certificate_secret(chain: Vec<Vec<u8>>, key: &KeyPair) -> Secret {
    let key = PrivateKey {
        encoding: KeyEncoding::Pkcs8,
        der: key.serialize_der(),
    };
    Secret::new("own".into(), SecretKind::Certificate(Certificate { chain, key }))
}

pub(super) fn workload(names: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(super) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

pub(super) fn exact(kind: SanKind, text: &str) -> SanMatcher {
    SanMatcher {
        kind,
        matcher: StringMatcher::Exact(Pattern::new(text, false)),
    }
}

pub(super) fn settings(certificate: Option<Secret>, validation: Option<Validation>) -> TlsSettings {
    let inline = |kind| Arc::new(Secret::new("".into(), kind));
    TlsSettings {
        certificates: certificate
            .into_iter()
            .map(|secret| CertificateSource::Inline(Arc::new(secret)))
            .collect(),
        validation: ValidationSource {
            inline: validation.map(|validation| inline(SecretKind::Validation(validation))),
            sds: None,
        },
        alpn: Vec::new(),
        minimum: TlsVersion::V1_2,
        maximum: TlsVersion::V1_3,
        ciphers: Vec::new(),
        curves: Vec::new(),
    }
}

pub(super) fn server(settings: TlsSettings) -> ServerTls {
    ServerTls {
        settings,
        require_client_certificate: true,
        require_sni: false,
        disable_tickets: false,
        disable_session_cache: false,
        session_timeout_seconds: 0,
        prepared: Prepared::default(),
    }
}

pub(super) fn client(settings: TlsSettings) -> ClientTls {
    ClientTls {
        settings,
        sni: "server.example".into(),
        auto_host_sni: false,
        auto_sni_san_validation: false,
        max_session_keys: 4,
        id: ClientTls::next_id(),
        fingerprint: 0,
        prepared: Prepared::default(),
    }
}

pub(super) fn protocols(names: &[&str]) -> Vec<Box<[u8]>> {
    names.iter().map(|name| name.as_bytes().into()).collect()
}

pub(super) const SECRET: u32 = 7;

pub(super) fn world(secrets: Vec<(u32, Secret)>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (id, secret) in secrets {
        snapshot
            .secrets
            .set(SecretId::from_index(id), Some(Arc::new(secret)));
    }
    snapshot
}

pub(super) fn target(name: &str) -> Target<'_> {
    Target {
        server_name: name,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        alpn: None,
    }
}

/// What each side made of a handshake.
pub(super) type Outcome = (Result<Secured, TlsFailure>, Result<Secured, TlsFailure>);

/// One handshake in one world; `(server, client)`.
pub(super) async fn handshake(server: &ServerTls, client: &ClientTls, world: &Snapshot) -> Outcome {
    let server = ServerContext::of(server, world).unwrap();
    let client = ClientContext::of(client, world).unwrap();
    meet(&server, &client, target("server.example")).await
}

/// One handshake, and then a byte in each direction, so that tickets and late refusals arrive.
pub(super) async fn meet(server: &ServerContext, client: &ClientContext, target: Target<'_>) -> Outcome {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let socket = |stream| Socket::new(Transport::Memory(stream));
    let limit = Some(Duration::from_secs(10));
    let serve = async {
        let mut served = server.accept(socket(near), limit).await?;
        greet(&mut served.io)
            .await
            .map_err(|error| TlsFailure::from_io(&error))?;
        Ok(served)
    };
    let connect = async {
        let mut connected = client.connect(target, socket(far), limit).await?;
        greet(&mut connected.io)
            .await
            .map_err(|error| TlsFailure::from_io(&error))?;
        Ok(connected)
    };
    tokio::join!(serve, connect)
}

/// Writes a byte and reads one.
pub(super) async fn greet(io: &mut Io) -> std::io::Result<()> {
    let mut byte = [0];
    io.write_all(b"x").await?;
    io.flush().await?;
    io.read_exact(&mut byte).await?;
    Ok(())
}

pub(super) fn both(outcome: Outcome) -> (Secured, Secured) {
    (outcome.0.unwrap(), outcome.1.unwrap())
}
