//! What policies may look at of a connection and of a request on it.
//!
//! Holds: a certificate that was not verified names nobody.

use remora_model::metadata::Metadata;
use remora_model::policy::{AccessFacts, Identity};
use remora_model::proxy_protocol::Metadata as Announced;
use remora_model::route::RequestFacts;

use super::{ConnectionRecord, ExchangeRecord};

static NOTHING: Announced = Vec::new();

impl ConnectionRecord {
    /// The facts of the connection itself.
    pub fn access_facts(&self) -> AccessFacts<'_> {
        let session = self.tls.as_ref();
        let peer = session
            .filter(|session| session.is_mutual())
            .and_then(|session| session.peer.as_deref());
        let by_handshake = session.and_then(|session| session.server_name.as_deref());
        AccessFacts {
            request: None,
            source: self.client,
            direct: self.peer,
            remote: self.client,
            destination: self.local,
            server_name: self.server_name.as_deref().or(by_handshake).unwrap_or_default(),
            tls: session.is_some(),
            identity: peer.map(|peer| Identity {
                names: peer.names(),
                subject: peer.subject(),
            }),
            metadata: None,
            announced: self.header.as_ref().map_or(&NOTHING, |header| &header.metadata),
        }
    }
}

impl ExchangeRecord {
    /// The facts of a request.
    pub fn access_facts<'a>(&'a self, request: RequestFacts<'a>) -> AccessFacts<'a> {
        let metadata: Option<&Metadata> = self.metadata.as_deref();
        AccessFacts {
            request: Some(request),
            remote: self.client,
            metadata,
            ..self.connection.access_facts()
        }
    }
}
