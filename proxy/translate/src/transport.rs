//! `TransportSocket`: plaintext or TLS, on either side.
//!
//! Holds: a transport socket that is not known is refused, never taken for plaintext.

use std::sync::Arc;

use remora_model::cluster::TransportSocket;
use remora_model::identity::{ClientTls, ServerTls};

use crate::context::Work;
use crate::extension::{Extension, unknown};
use crate::pb::envoy::config::core::v3::{self as core, transport_socket::ConfigType};
use crate::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use crate::{fingerprint, proxy_protocol, tls};

const FAMILY: &str = "envoy.extensions.transport_sockets.";

/// The downstream side: `Some(None)` is plaintext, `None` means a problem was noted.
pub(crate) fn downstream(
    work: &mut Work<'_, '_>,
    said: Option<&core::TransportSocket>,
) -> Option<Option<Arc<ServerTls>>> {
    let Some(said) = said else { return Some(None) };
    work.at("transport_socket", |work| {
        let extension = open(work, said)?;
        match extension.kind.strip_prefix(FAMILY) {
            Some("raw_buffer.v3.RawBuffer") => Some(None),
            Some("tls.v3.DownstreamTlsContext") => work.at("typed_config", |work| {
                let context = extension.decode(work)?;
                tls::server(work, &context).map(|tls| Some(Arc::new(tls)))
            }),
            _ => refuse(work, said, &extension.kind),
        }
    })
}

/// The upstream side; nothing said is plaintext.
pub(crate) fn upstream(
    work: &mut Work<'_, '_>,
    said: Option<&core::TransportSocket>,
) -> Option<TransportSocket> {
    let Some(said) = said else {
        return Some(TransportSocket::Plain);
    };
    work.at("transport_socket", |work| {
        let extension = open(work, said)?;
        match extension.kind.strip_prefix(FAMILY) {
            Some("raw_buffer.v3.RawBuffer") => Some(TransportSocket::Plain),
            Some("proxy_protocol.v3.ProxyProtocolUpstreamTransport") => work.at("typed_config", |work| {
                let announced: ProxyProtocolUpstreamTransport = extension.decode(work)?;
                work.review(&announced);
                if announced.transport_socket.is_none() {
                    work.wrong_at("transport_socket", "expected a transport socket, found none");
                }
                let header = work.at("config", |work| {
                    proxy_protocol::header(work, announced.config.as_ref())
                });
                let inner = upstream(work, announced.transport_socket.as_ref());
                Some(TransportSocket::Announced(Arc::new((header?, inner?))))
            }),
            Some("tls.v3.UpstreamTlsContext") => work.at("typed_config", |work| {
                let (tls, files) = work.with_files(|work| {
                    let context = extension.decode(work)?;
                    tls::client(work, &context)
                });
                let fingerprint = fingerprint::of((extension.bytes(), files));
                let tls = ClientTls { fingerprint, ..tls? };
                Some(TransportSocket::Tls(
                    unchanged(work, fingerprint).unwrap_or_else(|| Arc::new(tls)),
                ))
            }),
            _ => refuse(work, said, &extension.kind),
        }
    })
}

/// The context of the cluster's version before with this fingerprint: its connections and sessions stay in use.
fn unchanged(work: &Work<'_, '_>, fingerprint: u64) -> Option<Arc<ClientTls>> {
    work.before
        .iter()
        .find(|before| before.fingerprint == fingerprint)
        .cloned()
}

fn open<'s>(work: &mut Work<'_, '_>, said: &'s core::TransportSocket) -> Option<Extension<'s>> {
    match &said.config_type {
        Some(ConfigType::TypedConfig(any)) => Some(Extension::open(any)),
        None => {
            work.wrong(unknown(&said.name, ""));
            None
        }
    }
}

fn refuse<T>(work: &mut Work<'_, '_>, said: &core::TransportSocket, kind: &str) -> Option<T> {
    if kind.starts_with(FAMILY) {
        work.wrong(format!(
            "is not supported: transport socket '{}' of type {kind}",
            said.name
        ));
    } else {
        work.wrong(unknown(&said.name, kind));
    }
    None
}
