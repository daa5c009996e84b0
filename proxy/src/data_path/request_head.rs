//! What happens to a request's head before a route is chosen, in Envoy's order: host rules, path normalisation,
//! hop-by-hop headers, addresses, identity, request id.
//!
//! Holds: after this the head is canonical, and what a matcher sees is what the upstream gets.

use std::borrow::Cow;

use http::header::{self, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use remora_model::filter::HttpFilter;
use remora_model::listener::{EscapedSlashes, HttpManager, StripPort, Underscores};
use remora_model::retry::NO_RETRY;
use remora_model::route::{merge_slashes, normalize_path, unescape_slashes};

use super::client_certificate;
use super::forwarded_for;
use super::local_reply::is_grpc;
use crate::exchange::{HeadError, RequestHead};
use crate::failure::Failure;
use crate::observe::{ConnectionRecord, ExchangeRecord};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// `x-request-id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Headers by which a mesh steers its own proxies; a client outside must not (Envoy's edge sanitising).
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const ONLY_INTERNAL: [HeaderName; 14] = [
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-envoy-original-host"),
    INTERNAL,
    HeaderName::from_static("x-envoy-external-address"),
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-original-url"),
];

/// What no proxy forwards (RFC 9110 section 7.6.1): removed with everything that `Connection` lists. `te: trailers`
/// survives, and so does the upgrade itself, which lives in the head's own field. `x-remora-no-retry` goes too; whether it
/// was there is returned.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> bool {
    // One look over the names is cheaper than a look-up for each of these, and most messages have none of them.
    let any = headers.keys().any(|name| {
        matches!(
            name.as_str(),
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "transfer-encoding"
                | "upgrade"
                | "te"
                | "x-remora-no-retry"
        )
    });
    if !any {
        return false;
    }
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
            .filter(|name| *name != header::TE)
            .collect();
        headers.remove(header::CONNECTION);
        for name in listed {
            headers.remove(name);
        }
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION] {
        headers.remove(name);
    }
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    if let Some(te) = headers.get(header::TE) {
        let trailers = te.to_str().is_ok_and(|te| {
            te.split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("trailers"))
        });
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(header::TE);
        }
    }
    headers.remove(NO_RETRY).is_some()
}

/// What comes after the head is canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// A route is chosen.
    Go,
    /// The client is sent to the canonical path (`UNESCAPE_AND_REDIRECT`).
    Redirect,
}

/// Takes from a client outside what only clients inside may say.
fn who_is_inside(
    head: &mut RequestHead,
    manager: &HttpManager,
    connection: &ConnectionRecord,
    record: &mut ExchangeRecord,
) {
    record.internal = forwarded_for::is_internal(&head.headers, manager, connection.client.ip());
    head.headers.remove(INTERNAL);
    if record.internal {
        head.headers.insert(INTERNAL, HeaderValue::from_static("true"));
    } else if manager.use_remote_address {
        for name in &ONLY_INTERNAL {
            head.headers.remove(name);
        }
    }
}

/// Makes the head canonical and enters what the client sent into the record.
///
/// # Errors
/// [`Failure::BadRequest`] with Envoy's status and details.
pub fn prepare(
    head: &mut RequestHead,
    manager: &HttpManager,
    connection: &ConnectionRecord,
    record: &mut ExchangeRecord,
    rng: &mut fastrand::Rng,
) -> Result<Prepared, Failure> {
    let refuse = |status, details| Err(Failure::BadRequest(HeadError { status, details }));
    record.version = Some(head.version);
    record.method = head.method.clone();
    record.path = Some(head.path.clone());
    if head.version == Version::HTTP_10 && !manager.http1.accept_http_10 {
        record.authority = head.authority.clone();
        return refuse(StatusCode::UPGRADE_REQUIRED, "low_version");
    }
    if head.authority.is_none() {
        head.authority = manager
            .http1
            .default_host_for_http_10
            .as_deref()
            .and_then(|host| Authority::try_from(host).ok());
    }
    record.authority = head.authority.clone();
    if head.authority.is_none() {
        return refuse(StatusCode::BAD_REQUEST, "missing_host_header");
    }
    if canonical_path(head, manager)? == Prepared::Redirect {
        return Ok(Prepared::Redirect);
    }
    if manager.strip_trailing_host_dot {
        strip_trailing_dot(head);
    }
    strip_port(head, manager, connection);
    strip_hop_by_hop(&mut head.headers);
    underscores(&mut head.headers, manager)?;
    who_is_inside(head, manager, connection, record);
    for filter in &manager.filters {
        if matches!(filter.filter, HttpFilter::StripPeerMetadata) {
            head.headers.remove("x-envoy-peer-metadata");
            head.headers.remove("x-envoy-peer-metadata-id");
        }
    }
    let tls = connection.tls.is_some();
    record.client = forwarded_for::apply(&mut head.headers, manager, connection.client, tls);
    if manager.use_remote_address
        && let Ok(client) = HeaderValue::try_from(record.client.ip().to_canonical().to_string())
    {
        head.headers.insert(EXTERNAL_ADDRESS, client);
    }
    if head.scheme.is_none() || !tls {
        head.scheme = Some(scheme_of(&head.headers));
    }
    client_certificate::apply(
        &mut head.headers,
        manager.client_certificate_details,
        connection.tls.as_ref(),
    );
    request_id(&mut head.headers, manager, rng);
    if let Some(via) = &manager.via {
        forwarded_for::pass_via(&mut head.headers, via);
    }
    Ok(Prepared::Go)
}

fn canonical_path(head: &mut RequestHead, manager: &HttpManager) -> Result<Prepared, Failure> {
    let keep = manager.escaped_slashes == EscapedSlashes::Keep;
    if head.method == Method::CONNECT || keep && !manager.normalize_path && !manager.merge_slashes {
        return Ok(Prepared::Go);
    }
    let failed = || {
        Failure::BadRequest(HeadError {
            status: StatusCode::BAD_REQUEST,
            details: "path_normalization_failed",
        })
    };
    let as_sent = head.path.as_str();
    let mut prepared = Prepared::Go;
    let mut canonical = Cow::Borrowed(as_sent);
    if !keep && let Some(unescaped) = unescape_slashes(as_sent) {
        let redirect = manager.escaped_slashes == EscapedSlashes::UnescapeAndRedirect;
        if manager.escaped_slashes == EscapedSlashes::Reject || redirect && is_grpc(&head.headers) {
            return Err(failed());
        }
        if redirect {
            prepared = Prepared::Redirect;
        }
        canonical = Cow::Owned(unescaped);
    }
    if manager.normalize_path {
        canonical = match canonical {
            Cow::Borrowed(path) => normalize_path(path).ok_or_else(failed)?,
            Cow::Owned(path) => Cow::Owned(normalize_path(&path).ok_or_else(failed)?.into_owned()),
        };
    }
    if manager.merge_slashes {
        canonical = Cow::Owned(merge_slashes(&canonical).into_owned());
    }
    if canonical != as_sent {
        head.path = PathAndQuery::try_from(canonical.into_owned()).map_err(|_| failed())?;
    }
    Ok(prepared)
}

/// `example.com.` and `example.com.:443` lose their dot.
fn strip_trailing_dot(head: &mut RequestHead) {
    let Some(authority) = &head.authority else { return };
    let stripped = match authority.as_str().rsplit_once(':') {
        Some((host, port)) => host.strip_suffix('.').map(|host| format!("{host}:{port}")),
        None => authority.as_str().strip_suffix('.').map(str::to_owned),
    };
    if let Some(stripped) = stripped.and_then(|text| Authority::try_from(text).ok()) {
        head.authority = Some(stripped);
    }
}

fn strip_port(head: &mut RequestHead, manager: &HttpManager, connection: &ConnectionRecord) {
    let Some(authority) = &head.authority else { return };
    let Some(port) = authority.port_u16() else { return };
    let strip = match manager.strip_port {
        StripPort::Never => false,
        StripPort::Matching => port == connection.local.port(),
        StripPort::Any => true,
    };
    if strip && head.method != Method::CONNECT {
        let text = authority.as_str();
        let end = text.rfind(':').unwrap_or(text.len());
        if let Ok(stripped) = Authority::try_from(&text[..end]) {
            head.authority = Some(stripped);
        }
    }
}

fn underscores(headers: &mut HeaderMap, manager: &HttpManager) -> Result<(), Failure> {
    if manager.limits.underscores == Underscores::Allow {
        return Ok(());
    }
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .cloned()
        .collect();
    if !found.is_empty() && manager.limits.underscores == Underscores::Reject {
        let details = "http1.unexpected_underscore";
        return Err(Failure::BadRequest(HeadError {
            status: StatusCode::BAD_REQUEST,
            details,
        }));
    }
    for name in found {
        headers.remove(name);
    }
    Ok(())
}

fn scheme_of(headers: &HeaderMap) -> Scheme {
    match headers.get(forwarded_for::X_FORWARDED_PROTO) {
        Some(proto) if proto.as_bytes().eq_ignore_ascii_case(b"https") => Scheme::HTTPS,
        _ => Scheme::HTTP,
    }
}

/// `x-request-id`: made where it is missing, and always at the edge unless the client's own is to be kept.
fn request_id(headers: &mut HeaderMap, manager: &HttpManager, rng: &mut fastrand::Rng) {
    if !manager.generate_request_id {
        return;
    }
    let external = manager.use_remote_address && !manager.preserve_external_request_id;
    if external || !headers.contains_key(X_REQUEST_ID) {
        let id = uuid_v4(rng);
        if let Ok(value) = HeaderValue::from_bytes(&id) {
            headers.insert(X_REQUEST_ID, value);
        }
    }
}

/// A random UUID (RFC 9562 section 5.4) as text.
fn uuid_v4(rng: &mut fastrand::Rng) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bits = rng.u128(..);
    let mut text = [b'-'; 36];
    for (i, cell) in text.iter_mut().enumerate() {
        if matches!(i, 8 | 13 | 18 | 23) {
            continue;
        }
        let nibble = (bits & 15) as usize;
        bits >>= 4;
        *cell = match i {
            14 => b'4',
            19 => HEX[8 + (nibble & 3)],
            _ => HEX[nibble],
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_connection_lists_goes_and_te_trailers_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-secret, te"),
            ("x-secret", "1"),
            ("te", "trailers, gzip"),
            ("keep-alive", "5"),
            ("x-remora-no-retry", "1"),
            ("a", "b"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert!(strip_hop_by_hop(&mut headers));
        let left: Vec<_> = headers
            .iter()
            .map(|(n, v)| format!("{n}:{}", v.to_str().unwrap_or("")))
            .collect();
        assert_eq!(left.len(), 2);
        assert!(left.contains(&"te:trailers".to_owned()) && left.contains(&"a:b".to_owned()));
    }

    #[test]
    fn a_request_id_is_a_version_4_uuid() {
        let id = String::from_utf8(uuid_v4(&mut fastrand::Rng::with_seed(1)).to_vec()).unwrap();
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]));
    }
}
