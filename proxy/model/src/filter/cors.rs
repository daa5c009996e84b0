//! May a page of another origin use this route? (`envoy.extensions.filters.http.cors.v3.CorsPolicy`, Fetch standard.)
//!
//! Where several levels have a policy, each word is taken from the most specific level that says it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};

use crate::chance;
use crate::matching::StringMatcher;

/// `CorsPolicy` at one level. Values are what the response headers get; `None` is not said.
#[derive(Debug, Clone, Default)]
pub struct CorsPolicy {
    /// `allow_origin_string_match`.
    pub allow_origin: Vec<StringMatcher>,
    /// `allow_methods`.
    pub allow_methods: Option<HeaderValue>,
    /// `allow_headers`.
    pub allow_headers: Option<HeaderValue>,
    /// `expose_headers`.
    pub expose_headers: Option<HeaderValue>,
    /// `max_age`.
    pub max_age: Option<HeaderValue>,
    /// `allow_credentials`.
    pub allow_credentials: Option<bool>,
    /// `allow_private_network_access`.
    pub allow_private_network: Option<bool>,
    /// `filter_enabled` by its default value, out of a million; `None`: always.
    pub enabled_per_million: Option<u32>,
    /// `shadow_enabled` by its default value, out of a million.
    pub shadow_per_million: Option<u32>,
    /// `forward_not_matching_preflights`, default true.
    pub forward_not_matching: Option<bool>,
}

/// What the filter does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsVerdict {
    /// Nothing.
    Pass,
    /// The origin is judged and counted, and nothing else.
    Shadow {
        /// Whether it would be allowed.
        allowed: bool,
    },
    /// The origin is not allowed: the request goes on without CORS headers.
    Forbidden,
    /// A preflight: answered with 200 and these headers.
    Preflight {
        /// Headers of the answer.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// Whether the origin is allowed; the answer says so to the browser by its name.
        allowed: bool,
    },
    /// The response gets these headers.
    Allowed(Vec<(HeaderName, HeaderValue)>),
}

/// What matters of a request.
#[derive(Debug, Clone, Copy)]
pub struct Preflight<'h> {
    /// `origin`.
    pub origin: Option<&'h HeaderValue>,
    /// The method is OPTIONS and `access-control-request-method` is there.
    pub is_preflight: bool,
    /// `access-control-request-private-network: true`.
    pub private_network: bool,
}

impl CorsPolicy {
    /// What the policies of all levels, the most specific first, say of a request.
    pub fn judge(levels: &[Arc<Self>], request: &Preflight<'_>, rng: &mut fastrand::Rng) -> CorsVerdict {
        let (Some(origin), Some(first)) = (request.origin, levels.first()) else {
            return CorsVerdict::Pass;
        };
        if origin.is_empty() {
            return CorsVerdict::Pass;
        }
        let mut drawn = |share: u32| chance::falls(share, rng);
        let enabled = drawn(first.enabled_per_million.unwrap_or(1_000_000));
        let shadow = !enabled && drawn(first.shadow_per_million.unwrap_or(0));
        if !enabled && !shadow {
            return CorsVerdict::Pass;
        }
        let origins = levels
            .iter()
            .map(|level| &level.allow_origin)
            .find(|list| !list.is_empty());
        let allowed = origins.is_some_and(|list| {
            list.iter()
                .any(|matcher| matcher.matches(b"*") || matcher.matches(origin.as_bytes()))
        });
        if shadow {
            return CorsVerdict::Shadow { allowed };
        }
        let forward =
            || said(levels, |level| level.forward_not_matching.as_ref()).is_none_or(|forward| *forward);
        if !allowed && (!request.is_preflight || forward()) {
            return CorsVerdict::Forbidden;
        }
        let mut headers = Vec::new();
        if allowed {
            headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
        }
        if said(levels, |level| level.allow_credentials.as_ref()).is_some_and(|allow| *allow) {
            headers.push((
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            ));
        }
        // Envoy exposes headers in the answer to a preflight too.
        if allowed && let Some(expose) = said(levels, |level| level.expose_headers.as_ref()) {
            headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone()));
        }
        if !request.is_preflight {
            return CorsVerdict::Allowed(headers);
        }
        headers.extend(Self::preflight(levels, request));
        CorsVerdict::Preflight { headers, allowed }
    }

    /// What only the answer to a preflight says.
    fn preflight(
        levels: &[Arc<Self>],
        request: &Preflight<'_>,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
        let private = said(levels, |level| level.allow_private_network.as_ref()).is_some_and(|allow| *allow);
        let truth = HeaderValue::from_static("true");
        [
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                said(levels, |level| level.allow_methods.as_ref()),
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                said(levels, |level| level.allow_headers.as_ref()),
            ),
            (
                header::ACCESS_CONTROL_MAX_AGE,
                said(levels, |level| level.max_age.as_ref()),
            ),
            (
                HeaderName::from_static("access-control-allow-private-network"),
                (private && request.private_network).then_some(&truth),
            ),
        ]
        .map(|(name, value)| value.map(|value| (name, value.clone())))
        .into_iter()
        .flatten()
    }
}

fn said<'l, T>(
    levels: &'l [Arc<CorsPolicy>],
    word: impl Fn(&'l CorsPolicy) -> Option<&'l T>,
) -> Option<&'l T> {
    levels.iter().find_map(|level| word(level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::Pattern;

    fn judge(levels: &[CorsPolicy], origin: &'static str, is_preflight: bool) -> CorsVerdict {
        let levels: Vec<_> = levels.iter().cloned().map(Arc::new).collect();
        let origin = HeaderValue::from_static(origin);
        let request = Preflight {
            origin: Some(&origin),
            is_preflight,
            private_network: false,
        };
        CorsPolicy::judge(&levels, &request, &mut fastrand::Rng::with_seed(1))
    }

    fn from(origin: &str) -> CorsPolicy {
        CorsPolicy {
            allow_origin: vec![StringMatcher::Exact(Pattern::new(origin, false))],
            ..CorsPolicy::default()
        }
    }

    #[test]
    fn each_word_comes_from_the_most_specific_level_that_says_it() {
        let host = CorsPolicy {
            allow_methods: Some(HeaderValue::from_static("GET")),
            max_age: Some(HeaderValue::from_static("9")),
            ..from("b.test")
        };
        let route = CorsPolicy {
            max_age: Some(HeaderValue::from_static("1")),
            ..from("a.test")
        };
        let CorsVerdict::Preflight { headers, .. } = judge(&[route, host], "a.test", true) else {
            panic!("an allowed preflight is answered");
        };
        let said: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        assert_eq!(
            said,
            [
                "access-control-allow-origin: a.test",
                "access-control-allow-methods: GET",
                "access-control-max-age: 1"
            ]
        );
    }

    #[test]
    fn a_foreign_origin_passes_without_headers() {
        assert_eq!(judge(&[from("a.test")], "b.test", true), CorsVerdict::Forbidden);
        let strict = CorsPolicy {
            forward_not_matching: Some(false),
            ..from("a.test")
        };
        let answered = CorsVerdict::Preflight {
            headers: Vec::new(),
            allowed: false,
        };
        assert_eq!(judge(std::slice::from_ref(&strict), "b.test", true), answered);
        assert_eq!(judge(&[strict], "b.test", false), CorsVerdict::Forbidden);
        assert_eq!(judge(&[], "b.test", true), CorsVerdict::Pass);
    }

    #[test]
    fn a_disabled_policy_is_at_most_a_shadow() {
        let off = CorsPolicy {
            enabled_per_million: Some(0),
            ..from("*")
        };
        assert_eq!(
            judge(std::slice::from_ref(&off), "b.test", false),
            CorsVerdict::Pass
        );
        let shadow = CorsPolicy {
            shadow_per_million: Some(1_000_000),
            ..off
        };
        assert_eq!(
            judge(&[shadow], "b.test", false),
            CorsVerdict::Shadow { allowed: true }
        );
    }
}
