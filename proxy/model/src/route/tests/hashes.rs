//! Hashes of requests; what they choose stands beside the ring.

use super::*;
use crate::balance::hash::xx64;

fn policy(source: HashSource, terminal: bool) -> HashPolicy {
    HashPolicy { source, terminal }
}

fn hash(policies: &[HashPolicy], headers: &HeaderMap, path: &str) -> Option<u64> {
    let source = Some([127, 0, 0, 1].into());
    request_hash(policies, &facts("h", path, headers), source, || 0xab).hash
}

#[test]
fn the_order_of_header_values_does_not_change_the_hash() {
    let policies = [policy(HashSource::Header(HeaderName::from_static("x-h")), false)];
    let one = hash(&policies, &headers(&[("x-h", "b"), ("x-h", "a")]), "/");
    assert_eq!(one, hash(&policies, &headers(&[("x-h", "a"), ("x-h", "b")]), "/"));
    assert_eq!(one, Some(xx64(b"b", xx64(b"a", 0))));
    assert_eq!(hash(&policies, &HeaderMap::new(), "/"), None);
}

#[test]
fn a_missing_cookie_with_a_lifetime_is_made() {
    let cookie = |ttl| {
        policy(
            HashSource::Cookie {
                name: "c".into(),
                ttl,
                path: "/p".into(),
            },
            false,
        )
    };
    assert_eq!(hash(&[cookie(None)], &HeaderMap::new(), "/"), None);
    assert_eq!(
        hash(&[cookie(None)], &headers(&[("cookie", "z=1; c=\"v\"; c=w")]), "/"),
        Some(xx64(b"v", 0))
    );
    let policies = [cookie(Some(Duration::from_secs(9)))];
    let empty = HeaderMap::new();
    let made = request_hash(&policies, &facts("h", "/", &empty), None, || 0xab);
    let wanted = made.cookie.unwrap();
    assert_eq!(
        wanted.header(),
        "c=\"00000000000000ab\"; Max-Age=9; Path=/p; HttpOnly"
    );
    assert_eq!(made.hash, Some(xx64(b"00000000000000ab", 0)));
}
