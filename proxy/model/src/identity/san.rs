//! Matching of subject alternative names (`match_typed_subject_alt_names` and the deprecated untyped list).

use crate::matching::StringMatcher;

/// The type of a subject alternative name that a matcher asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanKind {
    /// rfc822Name.
    Email,
    /// dNSName.
    Dns,
    /// uniformResourceIdentifier.
    Uri,
    /// iPAddress.
    Ip,
    /// Any of DNS, URI, IP and e-mail (the deprecated matcher).
    Any,
}

/// One name of a certificate, as the shell read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectAltName {
    /// dNSName.
    Dns(String),
    /// uniformResourceIdentifier.
    Uri(String),
    /// iPAddress, printed.
    Ip(String),
    /// rfc822Name.
    Email(String),
}

/// One matcher over subject alternative names.
#[derive(Debug, Clone)]
pub struct SanMatcher {
    /// Which names it looks at.
    pub kind: SanKind,
    /// What they must be.
    pub matcher: StringMatcher,
}

impl SanMatcher {
    /// Whether this name satisfies the matcher. An exact DNS matcher honours a wildcard in the certificate's leftmost
    /// label, as Envoy does.
    pub fn matches(&self, name: &SubjectAltName) -> bool {
        let (kind, text) = match name {
            SubjectAltName::Dns(text) => (SanKind::Dns, text),
            SubjectAltName::Uri(text) => (SanKind::Uri, text),
            SubjectAltName::Ip(text) => (SanKind::Ip, text),
            SubjectAltName::Email(text) => (SanKind::Email, text),
        };
        if self.kind != SanKind::Any && self.kind != kind {
            return false;
        }
        if kind == SanKind::Dns
            && let StringMatcher::Exact(pattern) = &self.matcher
            && let Some(parent) = text.strip_prefix("*.")
        {
            return pattern
                .literal
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent));
        }
        self.matcher.matches(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::Pattern;

    fn exact(kind: SanKind, literal: &str) -> SanMatcher {
        SanMatcher {
            kind,
            matcher: StringMatcher::Exact(Pattern::new(literal, false)),
        }
    }

    #[test]
    fn the_type_of_the_name_counts() {
        let name = SubjectAltName::Uri("spiffe://a/b".into());
        assert!(exact(SanKind::Uri, "spiffe://a/b").matches(&name));
        assert!(exact(SanKind::Any, "spiffe://a/b").matches(&name));
        assert!(!exact(SanKind::Dns, "spiffe://a/b").matches(&name));
    }

    #[test]
    fn a_wildcard_certificate_covers_one_label() {
        let name = SubjectAltName::Dns("*.example.com".into());
        assert!(exact(SanKind::Dns, "a.example.com").matches(&name));
        assert!(!exact(SanKind::Dns, "a.b.example.com").matches(&name));
        assert!(!exact(SanKind::Dns, "example.com").matches(&name));
    }
}
