//! `internal_redirect_policy`: is a redirect of the upstream followed here, and where does it lead?
//!
//! Decides only. Follows Envoy's router: the location must be absolute, the number of redirects is bounded by the route
//! that answers, and every predicate must accept the route that the target takes.

use http::header::HeaderName;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{StatusCode, Uri};

use crate::Name;

/// One policy.
#[derive(Debug, Clone)]
pub struct InternalRedirect {
    /// `max_internal_redirects`, default 1.
    pub max: u32,
    /// `redirect_response_codes`, 302 if none is named.
    pub codes: Vec<StatusCode>,
    /// `predicates`.
    pub predicates: Vec<RedirectPredicate>,
    /// `allow_cross_scheme_redirect`.
    pub cross_scheme: bool,
    /// `response_headers_to_copy`.
    pub copied: Vec<HeaderName>,
}

/// What the route that a redirect leads to must be.
#[derive(Debug, Clone)]
pub enum RedirectPredicate {
    /// `previous_routes`: none that a redirect of the same route led to before.
    PreviousRoutes,
    /// `allow_listed_routes`: one of these names.
    AllowListed(Vec<Box<str>>),
    /// `safe_cross_scheme`: not from `http` to `https`.
    SafeCrossScheme,
}

/// What a request remembers of the redirects that it followed.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// How many.
    pub count: u32,
    /// From which route to which.
    pub seen: Vec<(Name, Name)>,
}

/// Where a redirect leads.
#[derive(Debug, Clone)]
pub struct RedirectTarget {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host, and port if it has one.
    pub authority: Authority,
    /// Path and query, without a fragment.
    pub path: PathAndQuery,
}

/// Why a redirect is passed on to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFollowed {
    /// The location is missing or not absolute.
    BadLocation,
    /// Another scheme.
    UnsafeScheme,
    /// `max_internal_redirects` were followed.
    TooMany,
    /// No route takes the target.
    NoRoute,
    /// A predicate does not accept the target's route.
    Predicate,
}

impl InternalRedirect {
    /// Whether a response with this status is a redirect that the policy speaks of.
    pub fn concerns(&self, status: StatusCode) -> bool {
        self.codes.contains(&status)
    }

    /// Where the redirect leads for a request that came over https or not.
    ///
    /// # Errors
    /// Why it is not followed.
    pub fn target(
        &self,
        location: Option<&[u8]>,
        https: bool,
        trail: &Trail,
    ) -> Result<RedirectTarget, NotFollowed> {
        let location = location.ok_or(NotFollowed::BadLocation)?;
        let text = std::str::from_utf8(location).map_err(|_| NotFollowed::BadLocation)?;
        let parts = text
            .parse::<Uri>()
            .map_err(|_| NotFollowed::BadLocation)?
            .into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(NotFollowed::BadLocation);
        };
        if !self.cross_scheme && https != (scheme == Scheme::HTTPS) {
            return Err(NotFollowed::UnsafeScheme);
        }
        if trail.count >= self.max {
            return Err(NotFollowed::TooMany);
        }
        Ok(RedirectTarget {
            scheme,
            authority,
            path: parts
                .path_and_query
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
        })
    }

    /// Whether every predicate accepts a redirect from route `from` to route `to`; `schemes` says for both ends whether
    /// they are https.
    pub fn accepts(&self, trail: &Trail, (from, to): (&Name, &Name), schemes: (bool, bool)) -> bool {
        self.predicates.iter().all(|predicate| match predicate {
            RedirectPredicate::PreviousRoutes => !trail
                .seen
                .iter()
                .any(|(source, target)| source == from && target == to),
            RedirectPredicate::AllowListed(names) => names.iter().any(|name| **name == **to),
            RedirectPredicate::SafeCrossScheme => schemes.0 || !schemes.1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(predicates: Vec<RedirectPredicate>) -> InternalRedirect {
        InternalRedirect {
            max: 2,
            codes: vec![StatusCode::FOUND],
            predicates,
            cross_scheme: false,
            copied: Vec::new(),
        }
    }

    #[test]
    fn a_location_is_absolute_and_of_the_same_scheme() {
        let policy = policy(Vec::new());
        let to = |location: &str| {
            policy
                .target(Some(location.as_bytes()), false, &Trail::default())
                .map(|target| format!("{}{}", target.authority, target.path))
        };
        assert_eq!(to("http://a.test:81/x?y=1#z").as_deref(), Ok("a.test:81/x?y=1"));
        assert_eq!(to("http://a.test").as_deref(), Ok("a.test/"));
        assert_eq!(to("/relative"), Err(NotFollowed::BadLocation));
        assert_eq!(to("https://a.test/"), Err(NotFollowed::UnsafeScheme));
        let over = Trail {
            count: 2,
            ..Trail::default()
        };
        let target = policy.target(Some(b"http://a/"), false, &over);
        assert_eq!(target.err(), Some(NotFollowed::TooMany));
        let none = policy.target(None, false, &Trail::default());
        assert_eq!(none.err(), Some(NotFollowed::BadLocation));
    }

    #[test]
    fn predicates_look_at_the_route_that_the_target_takes() {
        let (a, b): (Name, Name) = ("a".into(), "b".into());
        let trail = Trail {
            count: 1,
            seen: vec![(a.clone(), b.clone())],
        };
        let previous = policy(vec![RedirectPredicate::PreviousRoutes]);
        assert!(!previous.accepts(&trail, (&a, &b), (false, false)));
        assert!(previous.accepts(&trail, (&b, &b), (false, false)));
        let listed = policy(vec![RedirectPredicate::AllowListed(vec!["b".into()])]);
        assert!(listed.accepts(&trail, (&a, &b), (false, false)));
        assert!(!listed.accepts(&trail, (&b, &a), (false, false)));
        let safe = policy(vec![RedirectPredicate::SafeCrossScheme]);
        assert!(!safe.accepts(&trail, (&a, &b), (false, true)));
        assert!(safe.accepts(&trail, (&a, &b), (true, false)));
    }
}
