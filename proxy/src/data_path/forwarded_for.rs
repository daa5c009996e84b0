//! Whose address is the client's, and what `x-forwarded-for` and `x-forwarded-proto` say of it.
//!
//! Follows Envoy's `use_remote_address`, `xff_num_trusted_hops` and `skip_xff_append`: as the edge we append the peer's
//! address and overwrite the protocol; inside the mesh both pass untouched and the protocol is only filled in.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderName, VIA};
use http::{HeaderMap, HeaderValue};
use remora_model::listener::HttpManager;

/// `x-forwarded-for`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Writes both headers and returns the client's address.
pub fn apply(headers: &mut HeaderMap, manager: &HttpManager, peer: SocketAddr, tls: bool) -> SocketAddr {
    let proto = HeaderValue::from_static(if tls { "https" } else { "http" });
    if !manager.use_remote_address {
        if !headers.contains_key(X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, proto);
        }
        let client = from_end(headers, manager.trusted_hops);
        return client.map_or(peer, |ip| SocketAddr::new(ip, 0));
    }
    let trusted = manager
        .trusted_hops
        .checked_sub(1)
        .and_then(|hops| from_end(headers, hops));
    if !manager.skip_xff_append {
        append(headers, peer.ip());
    }
    if manager.trusted_hops == 0 || !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, proto);
    }
    trusted.map_or(peer, |ip| SocketAddr::new(ip, 0))
}

/// Adds what `via` says of us to what others said, in one line (RFC 9110 section 7.6.3), as Envoy does.
pub fn pass_via(headers: &mut HeaderMap, own: &HeaderValue) {
    let before = headers.get_all(VIA).iter().map(HeaderValue::as_bytes);
    let all: Vec<&[u8]> = before.chain([own.as_bytes()]).collect();
    if let Ok(all) = HeaderValue::from_bytes(&all.join(&b", "[..])) {
        headers.insert(VIA, all);
    }
}

/// Whether the request comes from one of `internal_address_config`, straight: over no other proxy
/// (Envoy's `x-envoy-internal`). Asked before [`apply`].
pub fn is_internal(headers: &HeaderMap, manager: &HttpManager, peer: IpAddr) -> bool {
    if manager.internal_addresses.is_empty() {
        return false;
    }
    let mut said = headers.get_all(X_FORWARDED_FOR).iter();
    let client = match (manager.use_remote_address, said.next(), said.next()) {
        (true, None, _) if manager.trusted_hops == 0 => Some(peer),
        (false, Some(only), None) if manager.trusted_hops == 0 => {
            only.to_str().ok().and_then(|only| only.trim().parse().ok())
        }
        _ => None,
    };
    client.is_some_and(|client: IpAddr| {
        let client = client.to_canonical();
        manager
            .internal_addresses
            .iter()
            .any(|range| range.contains(&client))
    })
}

/// The address `skip` places before the last of all `x-forwarded-for` values.
fn from_end(headers: &HeaderMap, skip: u32) -> Option<IpAddr> {
    let mut seen = 0;
    for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        for part in value.to_str().ok()?.rsplit(',') {
            if seen == skip {
                return part.trim().parse().ok();
            }
            seen += 1;
        }
    }
    None
}

/// Appends one address, joined with what is there.
pub fn append(headers: &mut HeaderMap, address: IpAddr) {
    let mut joined = String::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        if let Ok(value) = value.to_str() {
            joined.push_str(value);
            joined.push(',');
        }
    }
    joined.push_str(&address.to_canonical().to_string());
    if let Ok(value) = HeaderValue::from_str(&joined) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_count_from_the_end_over_several_header_lines() {
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("1.1.1.1, 2.2.2.2"));
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("3.3.3.3"));
        let at = |skip| from_end(&headers, skip).map(|ip| ip.to_string());
        assert_eq!(at(0).as_deref(), Some("3.3.3.3"));
        assert_eq!(at(1).as_deref(), Some("2.2.2.2"));
        assert_eq!(at(3), None);
    }

    #[test]
    fn the_edge_appends_with_a_comma() {
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"));
        append(&mut headers, IpAddr::from([9, 9, 9, 9]));
        assert_eq!(
            headers.get(X_FORWARDED_FOR),
            Some(&HeaderValue::from_static("1.1.1.1,9.9.9.9"))
        );
    }
}
