//! How do the test's own clients and servers speak TLS?
//!
//! Both sides trust one authority and nothing else. The client checks the chain but, as SPIFFE leaves carry no DNS
//! name, not the name: whoever cares compares [`peer_leaf`] with the leaf that it expects.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates::{Authority, Leaf};

/// A client configuration: trusts `authority`, shows `leaf` if there is one, offers `alpn`.
pub fn client_config(authority: &Authority, leaf: Option<&Leaf>, alpn: &[&str]) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots(authority)?), Arc::clone(&provider));
    let verifier = Arc::new(ChainOnly {
        chain: chain.build()?,
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match leaf {
        Some(leaf) => builder.with_client_auth_cert(vec![leaf.der.clone()], key(leaf)?)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// A server configuration: shows `leaf`, demands a client certificate of `authority`, accepts `alpn`.
pub fn server_config(authority: &Authority, leaf: &Leaf, alpn: &[&str]) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), Arc::clone(&provider))
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![leaf.der.clone()], key(leaf)?)?;
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// A server configuration that asks nobody for a certificate: shows `leaf`, accepts `alpn`.
pub fn open_server_config(leaf: &Leaf, alpn: &[&str]) -> Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der.clone()], key(leaf)?)?;
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// A TLS connection over `stream`, with `server_name` as SNI.
pub async fn connect(
    config: Arc<ClientConfig>,
    server_name: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(server_name.to_owned())?;
    Ok(TlsConnector::from(config).connect(name, stream).await?)
}

/// The leaf certificate that the peer showed.
pub fn peer_leaf(connection: &CommonState) -> Result<CertificateDer<'static>> {
    let chain = connection
        .peer_certificates()
        .context("the peer showed no certificate")?;
    Ok(chain
        .first()
        .context("the peer showed an empty chain")?
        .clone()
        .into_owned())
}

fn roots(authority: &Authority) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    Ok(roots)
}

fn key(leaf: &Leaf) -> Result<PrivateKeyDer<'static>> {
    Ok(PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes())?)
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

/// The library's verifier, whose last step (the name) may fail.
#[derive(Debug)]
struct ChainOnly {
    chain: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self
            .chain
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The crypto library for the whole process, where a library asks for a default.
pub fn install_default_provider() {
    if CryptoProvider::get_default().is_none() {
        let _ = aws_lc_rs::default_provider().install_default();
    }
}
