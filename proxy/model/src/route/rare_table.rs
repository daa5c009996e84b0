//! What few route configurations say of how their requests are read.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::RequestFacts;

/// Rare settings of a route configuration.
#[derive(Debug, Default)]
pub struct RareTable {
    /// `internal_only_headers`: taken from requests that do not come from inside the mesh.
    pub internal_only: Vec<HeaderName>,
    /// `vhost_header`: the virtual host is the one of this header's value.
    pub host_header: Option<HeaderName>,
    /// `ignore_path_parameters_in_path_matching`: paths are matched without the `;parameters` of their segments.
    pub ignore_path_parameters: bool,
}

impl RareTable {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.internal_only.is_empty() && self.host_header.is_none() && !self.ignore_path_parameters
    }

    /// Takes what only those inside may say from a request that comes from outside.
    pub fn strip(&self, headers: &mut HeaderMap, internal: bool) {
        for name in self.internal_only.iter().filter(|_| !internal) {
            headers.remove(name);
        }
    }

    /// The host whose virtual host is looked for, and the path that is matched; `None` without a host.
    pub(super) fn read<'a>(&self, facts: &RequestFacts<'a>) -> Option<(&'a str, Cow<'a, str>)> {
        let host = match &self.host_header {
            Some(name) => facts.headers.get(name)?.to_str().ok()?,
            None => facts.authority,
        };
        let path = facts.path();
        let path = if self.ignore_path_parameters && path.contains(';') {
            Cow::Owned(without_parameters(path))
        } else {
            Cow::Borrowed(path)
        };
        Some((host, path))
    }
}

/// A path whose segments end at their first `;` (RFC 3986 section 3.3).
fn without_parameters(path: &str) -> String {
    let mut kept = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            kept.push('/');
        }
        kept.push_str(segment.split(';').next().unwrap_or_default());
    }
    kept
}
