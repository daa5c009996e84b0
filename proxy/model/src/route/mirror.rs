//! `request_mirror_policies`: copies of a request whose answers nobody sees.

use http::HeaderValue;
use http::uri::Authority;

use super::ClusterChoice;
use crate::chance;
use crate::filter::HeaderOperation;

/// One `RequestMirrorPolicy`.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Where the copy goes.
    pub cluster: ClusterChoice,
    /// `runtime_fraction` by its default value: numerator out of a million; `None`: always.
    pub fraction_per_million: Option<u32>,
    /// What the copy's host becomes.
    pub host: MirrorHost,
    /// `request_headers_mutations`, in order.
    pub headers: Vec<HeaderOperation>,
}

/// The host of a copy.
#[derive(Debug, Clone, Default)]
pub enum MirrorHost {
    /// With `-shadow` behind its name, so that logs upstream can tell it.
    #[default]
    Suffixed,
    /// As it is (`disable_shadow_host_suffix_append`).
    Kept,
    /// `host_rewrite_literal`.
    Literal(HeaderValue),
}

impl Mirror {
    /// Whether this request is copied.
    pub fn wants(&self, rng: &mut fastrand::Rng) -> bool {
        self.fraction_per_million
            .is_none_or(|fraction| chance::falls(fraction, rng))
    }
}

impl MirrorHost {
    /// The copy's host, or `None` if it stays.
    pub fn apply(&self, authority: &str) -> Option<Authority> {
        match self {
            Self::Kept => None,
            Self::Literal(host) => Authority::try_from(host.as_bytes()).ok(),
            Self::Suffixed => {
                let host = super::domains::without_port(authority);
                let port = &authority[host.len()..];
                Authority::try_from(format!("{host}-shadow{port}")).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_stands_before_the_port() {
        let suffixed = |host: &str| MirrorHost::Suffixed.apply(host).map(|host| host.to_string());
        assert_eq!(suffixed("a.test").as_deref(), Some("a.test-shadow"));
        assert_eq!(suffixed("a.test:80").as_deref(), Some("a.test-shadow:80"));
        assert!(MirrorHost::Kept.apply("a").is_none());
        let literal = MirrorHost::Literal(HeaderValue::from_static("b:1"));
        assert_eq!(literal.apply("a").unwrap().as_str(), "b:1");
    }

    #[test]
    fn a_fraction_is_a_share_of_the_requests() {
        let mirror = |fraction| Mirror {
            cluster: ClusterChoice::Header(http::header::HOST),
            fraction_per_million: fraction,
            host: MirrorHost::default(),
            headers: Vec::new(),
        };
        let mut rng = fastrand::Rng::with_seed(3);
        let mut share = |fraction| (0..10_000).filter(|_| mirror(fraction).wants(&mut rng)).count();
        assert_eq!(
            (share(None), share(Some(0)), share(Some(1_000_000))),
            (10_000, 0, 10_000)
        );
        assert!((2_300..2_700).contains(&share(Some(250_000))));
    }
}
