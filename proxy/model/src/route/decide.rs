//! Which route does a request take?
//!
//! A pure function of the table, what is known of the request, and chance (weights, fractions).

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::metadata::Metadata;

use super::{Action, ClientCertificate, RequireTls, Route, RouteTable, VirtualHost, WeightedCluster};

/// What is known of a request when its route is chosen: after normalisation, before any mutation.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// Method.
    pub method: &'a Method,
    /// `http` or `https`, as the client (or a trusted proxy in front of us) used it.
    pub scheme: &'a str,
    /// `:authority` or `host`, with its port if it has one.
    pub authority: &'a str,
    /// Path and query; of a CONNECT without a path: empty.
    pub path_and_query: &'a str,
    /// All other headers.
    pub headers: &'a HeaderMap,
    /// What the client showed in its handshake.
    pub certificate: ClientCertificate,
    /// The request comes from inside the mesh (`x-envoy-internal`), for `require_tls: EXTERNAL_ONLY`.
    pub internal: bool,
    /// What filters noted of it, if they did.
    pub metadata: Option<&'a Metadata>,
}

impl<'a> RequestFacts<'a> {
    /// The path without query and fragment.
    pub fn path(&self) -> &'a str {
        let end = self
            .path_and_query
            .find(['?', '#'])
            .unwrap_or(self.path_and_query.len());
        &self.path_and_query[..end]
    }

    /// The query without `?`, or `""`.
    pub fn query(&self) -> &'a str {
        let before_fragment = self.path_and_query.split('#').next().unwrap_or_default();
        before_fragment.split_once('?').map_or("", |(_, query)| query)
    }
}

/// Where a request goes, or why nowhere.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'t> {
    /// A route was found.
    Taken(Decision<'t>),
    /// The virtual host wants TLS (`require_tls`): redirect to `https`, everything else unchanged.
    RedirectToTls(&'t Arc<VirtualHost>),
    /// No virtual host has this domain.
    NoVirtualHost,
    /// The virtual host has no route for this request.
    NoRoute(&'t Arc<VirtualHost>),
}

/// The route of a request.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'t> {
    /// The table it was found in.
    pub table: &'t RouteTable,
    /// Its virtual host.
    pub virtual_host: &'t Arc<VirtualHost>,
    /// The route.
    pub route: &'t Arc<Route>,
    /// The entry of `weighted_clusters` that was drawn.
    pub weighted: Option<&'t WeightedCluster>,
}

impl RouteTable {
    /// The route for this request.
    pub fn decide(&self, facts: &RequestFacts<'_>, rng: &mut fastrand::Rng) -> Outcome<'_> {
        let (host, path) = match &self.rare {
            None => (facts.authority, Cow::Borrowed(facts.path())),
            Some(rare) => match rare.read(facts) {
                Some(read) => read,
                None => return Outcome::NoVirtualHost,
            },
        };
        let position = self.domains.find(host, self.ignore_port);
        let Some(virtual_host) = position.and_then(|position| self.virtual_hosts.get(position)) else {
            return Outcome::NoVirtualHost;
        };
        if virtual_host.wants_tls(facts) {
            return Outcome::RedirectToTls(virtual_host);
        }
        let matches = |route: &Route| route.criteria.matches(facts, &path, rng);
        match virtual_host.routes.first(&path, matches) {
            Some(route) => {
                let weighted = route.draw(rng);
                Outcome::Taken(Decision {
                    table: self,
                    virtual_host,
                    route,
                    weighted,
                })
            }
            None => Outcome::NoRoute(virtual_host),
        }
    }
}

impl VirtualHost {
    fn wants_tls(&self, facts: &RequestFacts<'_>) -> bool {
        match self.require_tls {
            RequireTls::None => false,
            RequireTls::ExternalOnly => facts.scheme != "https" && !facts.internal,
            RequireTls::All => facts.scheme != "https",
        }
    }
}

impl Route {
    fn draw(&self, rng: &mut fastrand::Rng) -> Option<&WeightedCluster> {
        match &self.action {
            Action::Forward(forward) => forward.cluster.draw(rng)?.1,
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }
}
