//! Decisions of the route engine against answers observed from Envoy 1.40 on the same configuration.

mod hashes;
mod lists;
mod predicates;
mod rewrites;
mod templates;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::*;
use crate::filter::FilterSettings;
use crate::matching::Pattern;
use crate::snapshot::ClusterId;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect()
}

fn facts<'a>(authority: &'a str, path_and_query: &'a str, headers: &'a HeaderMap) -> RequestFacts<'a> {
    RequestFacts {
        method: &Method::GET,
        scheme: "http",
        authority,
        path_and_query,
        headers,
        certificate: Default::default(),
        internal: false,
        metadata: None,
    }
}

fn route(path: PathMatch, action: Action) -> Arc<Route> {
    let criteria = RouteMatch {
        path,
        headers: Vec::new(),
        query: Vec::new(),
        grpc: false,
        fraction_per_million: None,
        noted: None,
        client: None,
    };
    Arc::new(Route {
        name: "".into(),
        criteria,
        action,
        headers: HeaderMutationPair::default(),
        filters: FilterSettings::default(),
    })
}

fn respond() -> Action {
    Action::Respond(DirectResponse {
        status: StatusCode::OK,
        body: Bytes::new(),
        format: None,
    })
}

fn prefix(literal: &str) -> PathMatch {
    PathMatch::Prefix(Pattern::new(literal, false))
}

fn host(name: &str, domains: &[&str], routes: Vec<Arc<Route>>) -> Arc<VirtualHost> {
    Arc::new(VirtualHost {
        name: name.into(),
        domains: domains.iter().map(|domain| (*domain).into()).collect(),
        routes: routes.into(),
        headers: HeaderMutationPair::default(),
        include_attempt_count: false,
        attempt_count_in_response: false,
        include_is_timeout_retry: false,
        require_tls: RequireTls::None,
        filters: FilterSettings::default(),
        fingerprint: 0,
    })
}

fn table(virtual_hosts: Vec<Arc<VirtualHost>>, ignore_port: bool) -> RouteTable {
    let domains = Arc::new(DomainIndex::new(&virtual_hosts, "rc").unwrap());
    RouteTable {
        name: "rc".into(),
        virtual_hosts,
        domains,
        ignore_port,
        headers: HeaderMutationPair::default(),
        most_specific_wins: false,
        filters: FilterSettings::default(),
        rare: None,
        fingerprint: 0,
    }
}

fn virtual_host<'t>(table: &'t RouteTable, authority: &str) -> &'t str {
    let empty = HeaderMap::new();
    match table.decide(&facts(authority, "/", &empty), &mut fastrand::Rng::with_seed(1)) {
        Outcome::Taken(decision) => &decision.virtual_host.name,
        _ => "none",
    }
}

#[test]
fn domains_are_found_as_envoy_finds_them() {
    let domains = [
        "exact.com",
        "*.com",
        "*-bar.com",
        "*",
        "foo.*",
        "foo-bar.*",
        "UPPER.case",
        "withport:8080",
        "*ort:8080",
        "[::1]",
    ];
    let hosts = || {
        domains
            .iter()
            .map(|d| host(d, &[d], vec![route(prefix("/"), respond())]))
            .collect()
    };
    let (table, without_port) = (table(hosts(), false), table(hosts(), true));
    for (authority, expected, ignoring_port) in [
        ("exact.com", "exact.com", "exact.com"),
        ("EXACT.com", "exact.com", "exact.com"),
        ("exact.com:80", "*", "exact.com"),
        ("x.com", "*.com", "*.com"),
        (".com", "*", "*"),
        ("com", "*", "*"),
        ("a-bar.com", "*-bar.com", "*-bar.com"),
        ("-bar.com", "*.com", "*.com"),
        ("foo.org", "foo.*", "foo.*"),
        ("foo.", "*", "*"),
        ("foo.com", "*.com", "*.com"),
        ("foo-bar.x", "foo-bar.*", "foo-bar.*"),
        ("foo.x:1", "foo.*", "foo.*"),
        ("upper.CASE", "UPPER.case", "UPPER.case"),
        ("withport:8080", "withport:8080", "*"),
        ("xort:8080", "*ort:8080", "*"),
        ("ort:8080", "*", "*"),
        ("[::1]", "[::1]", "[::1]"),
        ("[::1]:80", "*", "[::1]"),
    ] {
        assert_eq!(virtual_host(&table, authority), expected, "{authority}");
        assert_eq!(
            virtual_host(&without_port, authority),
            ignoring_port,
            "{authority} without port"
        );
    }
}

#[test]
fn a_domain_may_stand_once() {
    let index = |domains: &[&str]| DomainIndex::new(&[host("a", domains, vec![])], "rc").map(|_| ());
    assert_eq!(
        index(&["a.b", "A.b"]).unwrap_err().to_string(),
        "Only unique values for domains are permitted. Duplicate entry of domain a.b in route rc"
    );
    assert_eq!(
        index(&["*", "*"]).unwrap_err().to_string(),
        "Only a single wildcard domain is permitted in route rc"
    );
    assert!(index(&["a.b", "*.b", "a.*", "*"]).is_ok());
}

#[test]
fn no_virtual_host_and_no_route_are_told_apart() {
    let table = table(
        vec![host("a", &["a"], vec![route(prefix("/x"), respond())])],
        false,
    );
    let (empty, mut rng) = (HeaderMap::new(), fastrand::Rng::with_seed(1));
    assert!(matches!(
        table.decide(&facts("b", "/x", &empty), &mut rng),
        Outcome::NoVirtualHost
    ));
    assert!(matches!(
        table.decide(&facts("a", "/y", &empty), &mut rng),
        Outcome::NoRoute(_)
    ));
    assert!(matches!(
        table.decide(&facts("a", "/x?y", &empty), &mut rng),
        Outcome::Taken(_)
    ));
}

fn forward(cluster: ClusterChoice) -> Action {
    Action::Forward(Box::new(Forward {
        cluster,
        cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
        path: PathRewrite::Keep,
        host: HostRewrite::Keep,
        append_x_forwarded_host: false,
        priority: crate::cluster::RequestPriority::Default,
        timeout: None,
        timeout_said: false,
        idle_timeout: None,
        stream_duration: None,
        endpoint: None,
        upgrades: Vec::new(),
        retry: None,
        buffer_limit: None,
        rare: None,
    }))
}

#[test]
fn weighted_clusters_get_their_shares() {
    let entry = |index, weight| WeightedCluster {
        labels: None,
        cluster: ClusterId::from_index(index),
        weight,
        host_rewrite: None,
        headers: HeaderMutationPair::default(),
        filters: FilterSettings::default(),
    };
    let clusters = WeightedClusters {
        entries: vec![entry(0, 1), entry(1, 0), entry(2, 3)],
        total: 4,
    };
    let action = forward(ClusterChoice::Weighted(Arc::new(clusters)));
    let table = table(vec![host("a", &["*"], vec![route(prefix("/"), action)])], false);
    let (empty, mut rng) = (HeaderMap::new(), fastrand::Rng::with_seed(5));
    let mut counts = [0u32; 3];
    for _ in 0..40_000 {
        let Outcome::Taken(decision) = table.decide(&facts("a", "/", &empty), &mut rng) else {
            panic!()
        };
        counts[decision.weighted.unwrap().cluster.index()] += 1;
    }
    assert_eq!(counts[1], 0);
    assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
}

#[test]
fn a_fraction_takes_its_share_and_leaves_the_rest_to_the_next_route() {
    let mut some = Arc::into_inner(route(prefix("/"), respond())).unwrap();
    some.criteria.fraction_per_million = Some(250_000);
    let table = table(
        vec![host(
            "a",
            &["*"],
            vec![Arc::new(some), route(prefix("/"), respond())],
        )],
        false,
    );
    let (empty, mut rng) = (HeaderMap::new(), fastrand::Rng::with_seed(5));
    let first = &table.virtual_hosts[0].routes[0];
    let taken = (0..40_000)
        .filter(|_| match table.decide(&facts("a", "/", &empty), &mut rng) {
            Outcome::Taken(decision) => Arc::ptr_eq(decision.route, first),
            _ => false,
        })
        .count();
    assert!((9_500..10_500).contains(&taken), "{taken}");
}

#[test]
fn plaintext_is_redirected_where_the_virtual_host_wants_tls() {
    let mut wants = Arc::into_inner(host("a", &["*"], vec![route(prefix("/"), respond())])).unwrap();
    wants.require_tls = RequireTls::ExternalOnly;
    let table = table(vec![Arc::new(wants)], false);
    let (empty, mut rng) = (HeaderMap::new(), fastrand::Rng::with_seed(5));
    let plain = facts("a", "/", &empty);
    assert!(matches!(
        table.decide(&plain, &mut rng),
        Outcome::RedirectToTls(_)
    ));
    let inside = RequestFacts {
        internal: true,
        ..plain
    };
    assert!(matches!(table.decide(&inside, &mut rng), Outcome::Taken(_)));
    let tls = RequestFacts {
        scheme: "https",
        ..plain
    };
    assert!(matches!(table.decide(&tls, &mut rng), Outcome::Taken(_)));
}
