//! Is this URI a SPIFFE ID, and of which trust domain?
//!
//! Follows the SPIFFE ID standard, sections 2.1 to 2.4: lower-case scheme and trust domain, no user, port, query,
//! fragment or percent-encoding, no empty or dot segments, at most 2048 bytes.

/// A well-formed SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpiffeId<'a> {
    /// `cluster.local` in `spiffe://cluster.local/ns/a/sa/b`.
    pub trust_domain: &'a str,
    /// `/ns/a/sa/b`, or empty.
    pub path: &'a str,
}

impl<'a> SpiffeId<'a> {
    /// Reads an ID; `None` where it breaks a rule of the standard.
    pub fn parse(uri: &'a str) -> Option<Self> {
        const LONGEST_ID: usize = 2048;
        const LONGEST_TRUST_DOMAIN: usize = 255;
        let rest = uri
            .strip_prefix("spiffe://")
            .filter(|_| uri.len() <= LONGEST_ID)?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let domain_byte =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if !(1..=LONGEST_TRUST_DOMAIN).contains(&trust_domain.len()) || !trust_domain.bytes().all(domain_byte)
        {
            return None;
        }
        let path_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(path_byte);
        if !path.is_empty() && !path[1..].split('/').all(segment) {
            return None;
        }
        Some(Self { trust_domain, path })
    }
}

/// Whether a URI means to be a SPIFFE ID, well-formed or not.
pub(super) fn claims_spiffe(uri: &str) -> bool {
    uri.get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_ids_are_read() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/web_1-x.y").unwrap();
        assert_eq!(
            (id.trust_domain, id.path),
            ("cluster.local", "/ns/default/sa/web_1-x.y")
        );
        assert_eq!(SpiffeId::parse("spiffe://td").unwrap().path, "");
        let longest = format!("spiffe://td/{}", "a".repeat(2048 - 12));
        assert!(SpiffeId::parse(&longest).is_some());
        assert!(SpiffeId::parse(&format!("{longest}a")).is_none());
    }

    #[test]
    fn what_breaks_a_rule_is_no_id() {
        for uri in [
            "spiffe://",
            "spiffe:///a",
            "spiffe:/td/a",
            "SPIFFE://td/a",
            "http://td/a",
            "spiffe://TD/a",
            "spiffe://td:80/a",
            "spiffe://user@td/a",
            "spiffe://td/a?q",
            "spiffe://td/a#f",
            "spiffe://td?q",
            "spiffe://td/%61",
            "spiffe://td/",
            "spiffe://td/a/",
            "spiffe://td//a",
            "spiffe://td/./a",
            "spiffe://td/../a",
            "spiffe://td/a b",
            "spiffe://td/a\0",
            "spiffe://td/\u{e4}",
            "spiffe://t\u{e4}/a",
        ] {
            assert_eq!(SpiffeId::parse(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_claim_is_seen_whatever_its_form() {
        assert!(claims_spiffe("SPIFFE:x") && claims_spiffe("spiffe://td/a"));
        assert!(!claims_spiffe("kuma://spiffe:") && !claims_spiffe("spiffe"));
    }
}
