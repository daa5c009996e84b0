//! What a route wants of the client beyond its request line and headers: cookies (`RouteMatch.cookies`) and a
//! certificate (`RouteMatch.tls_context`).

use super::RequestFacts;
use super::hash_policy::cookies;
use crate::matching::StringMatcher;

/// What a client showed in its handshake. Where a session is resumed, that of the session's first handshake counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// No certificate, or no TLS.
    #[default]
    None,
    /// A certificate that nobody verified.
    Shown,
    /// A certificate that was verified.
    Verified,
}

/// Conditions on a client; all must hold.
#[derive(Debug, Clone, Default)]
pub struct ClientMatch {
    /// `cookies`.
    pub cookies: Vec<CookieMatch>,
    /// `tls_context.presented`.
    pub presented: Option<bool>,
    /// `tls_context.validated`.
    pub validated: Option<bool>,
}

/// One `CookieMatcher`.
#[derive(Debug, Clone)]
pub struct CookieMatch {
    /// Name of the cookie.
    pub name: Box<str>,
    /// What the value of the first cookie of this name must be, without its quotes.
    pub value: StringMatcher,
    /// `invert_match`: it must not be that, or not be there.
    pub invert: bool,
}

impl ClientMatch {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.cookies.is_empty() && self.presented.is_none() && self.validated.is_none()
    }

    /// Whether all of it holds.
    pub fn matches(&self, facts: &RequestFacts<'_>) -> bool {
        let (presented, validated) = match facts.certificate {
            ClientCertificate::None => (false, false),
            ClientCertificate::Shown => (true, false),
            ClientCertificate::Verified => (true, true),
        };
        self.presented.is_none_or(|wanted| wanted == presented)
            && self.validated.is_none_or(|wanted| wanted == validated)
            && self.cookies.iter().all(|cookie| cookie.matches(facts))
    }
}

impl CookieMatch {
    fn matches(&self, facts: &RequestFacts<'_>) -> bool {
        let first = cookies(facts.headers, &self.name).next();
        first.is_some_and(|value| self.value.matches(value)) != self.invert
    }
}
