//! `x-forwarded-client-cert`: what the next hop hears of the client's certificate
//! (`forward_client_cert_details`, `set_current_client_cert_details`).
//!
//! Holds: only a client that proved its certificate is spoken of; by default the header of a client is removed.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use remora_model::listener::{ClientCertificateDetails, ForwardClientCertificate};

use crate::tls::Session;

const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Removes, keeps, appends to or replaces the header.
pub fn apply(headers: &mut HeaderMap, details: ClientCertificateDetails, session: Option<&Session>) {
    use ForwardClientCertificate as Mode;
    if details.mode == Mode::AlwaysForwardOnly {
        return;
    }
    let Some(session) = session.filter(|session| session.is_mutual() && details.mode != Mode::Sanitize)
    else {
        headers.remove(XFCC);
        return;
    };
    if details.mode == Mode::ForwardOnly {
        return;
    }
    let Some(element) = element(details, session) else {
        return;
    };
    let before: Vec<HeaderValue> = headers.get_all(XFCC).iter().cloned().collect();
    let mut text = String::new();
    if details.mode == Mode::AppendForward {
        for value in before.iter().filter_map(|value| value.to_str().ok()) {
            text.push_str(value);
            text.push(',');
        }
    }
    text.push_str(&element);
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(XFCC, value);
    }
}

/// This hop's element: `By=...;Hash=...;Subject="...";URI=...`, in Envoy's order.
fn element(details: ClientCertificateDetails, session: &Session) -> Option<String> {
    let peer = session.peer.as_ref()?;
    let mut parts = Vec::new();
    let own = session
        .own
        .as_ref()
        .and_then(|own| own.uri_sans().next().map(ToOwned::to_owned));
    if let Some(own) = own {
        parts.push(format!("By={own}"));
    }
    parts.push(format!("Hash={}", peer.sha256()));
    if details.cert {
        parts.push(format!("Cert=\"{}\"", peer.url_encoded_pem()));
    }
    if details.chain {
        parts.push(format!("Chain=\"{}\"", peer.url_encoded_chain()));
    }
    if details.subject {
        parts.push(format!("Subject=\"{}\"", peer.subject().replace('"', "\\\"")));
    }
    if details.uri {
        parts.extend(peer.uri_sans().map(|uri| format!("URI={uri}")));
    }
    if details.dns {
        parts.extend(peer.dns_sans().map(|dns| format!("DNS={dns}")));
    }
    if details.issuer {
        parts.push(format!("Issuer=\"{}\"", peer.issuer().replace('"', "\\\"")));
    }
    Some(parts.join(";"))
}
