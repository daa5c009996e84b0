//! What operators say of the client's TLS session.

use std::borrow::Cow;

use remora_model::log::Field;

use super::Value;
use crate::tls::Session;

/// A downstream TLS field; everything is absent without TLS.
pub(super) fn downstream<'a>(field: Field, session: Option<&'a Session>) -> Value<'a> {
    let Some(session) = session else {
        return Value::Absent;
    };
    let (peer, own) = (session.peer.as_deref(), session.own.as_deref());
    match field {
        Field::DownstreamTlsVersion => Value::text(session.version_name()),
        Field::DownstreamTlsCipher => Value::text(session.cipher),
        Field::DownstreamPeerUriSan => peer.map_or(Value::Absent, |peer| joined(peer.uri_sans())),
        Field::DownstreamPeerDnsSan => peer.map_or(Value::Absent, |peer| joined(peer.dns_sans())),
        Field::DownstreamPeerSubject => Value::maybe(peer.map(|peer| peer.subject())),
        Field::DownstreamPeerIssuer => Value::maybe(peer.map(|peer| peer.issuer())),
        Field::DownstreamPeerSerial => Value::maybe(peer.map(|peer| peer.serial())),
        Field::DownstreamPeerFingerprint256 => Value::maybe(peer.map(|peer| peer.sha256())),
        Field::DownstreamLocalUriSan => own.map_or(Value::Absent, |own| joined(own.uri_sans())),
        Field::DownstreamLocalSubject => Value::maybe(own.map(|own| own.subject())),
        // The session id is the TLS library's own; a failed handshake has no exchange to be logged.
        _ => Value::Absent,
    }
}

/// Names joined by commas; absent if there is none.
pub(super) fn joined<'a>(mut names: impl Iterator<Item = &'a str>) -> Value<'a> {
    let Some(first) = names.next() else {
        return Value::Absent;
    };
    let mut text = Cow::Borrowed(first);
    for name in names {
        let text = text.to_mut();
        text.push(',');
        text.push_str(name);
    }
    Value::Text(text)
}
