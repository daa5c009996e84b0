//! Headers, query parameters and paths.

use super::*;
use crate::matching::{StringMatcher, whole_match};

fn header_match(predicate: HeaderPredicate, invert: bool, missing_as_empty: bool) -> HeaderMatch {
    let name = HeaderPredicateName::Header(HeaderName::from_static("x-t"));
    HeaderMatch {
        name,
        predicate,
        invert,
        missing_as_empty,
    }
}

fn exact(literal: &str) -> HeaderPredicate {
    HeaderPredicate::Text(StringMatcher::Exact(Pattern::new(literal, false)))
}

/// What is asked, and which of the headers below satisfy it in Envoy.
fn header_cases() -> Vec<(&'static str, HeaderMatch, &'static [&'static str])> {
    let range = || HeaderPredicate::Range(-3, 5);
    vec![
        (
            "exact, inverted",
            header_match(exact("a"), true, false),
            &["b", "empty", "3", "+3", "-2", "3x"],
        ),
        ("range", header_match(range(), false, false), &["3", "+3", "-2"]),
        (
            "range, inverted",
            header_match(range(), true, false),
            &["a", "b", "empty", "3x", "two"],
        ),
        (
            "range, inverted, missing is empty",
            header_match(range(), true, true),
            &["missing", "a", "b", "empty", "3x", "two"],
        ),
        (
            "present, inverted",
            header_match(HeaderPredicate::Present(true), true, false),
            &["missing"],
        ),
        (
            "absent",
            header_match(HeaderPredicate::Present(false), false, false),
            &["missing"],
        ),
        (
            "empty, missing is empty",
            header_match(exact(""), false, true),
            &["missing", "empty"],
        ),
        (
            "exact, inverted, missing is empty",
            header_match(exact("a"), true, true),
            &["missing", "b", "empty", "3", "+3", "-2", "3x"],
        ),
        ("joined", header_match(exact("a,b"), false, false), &[]),
        (
            "second value",
            header_match(exact("b"), false, false),
            &["b", "two"],
        ),
        (
            "present, missing is empty",
            header_match(HeaderPredicate::Present(true), false, true),
            &["missing", "a", "b", "empty", "3", "+3", "-2", "3x", "two"],
        ),
    ]
}

#[test]
fn header_predicates_hold_as_envoys_do() {
    let values: &[(&str, &[&str])] = &[
        ("missing", &[]),
        ("a", &["a"]),
        ("b", &["b"]),
        ("empty", &[""]),
        ("3", &["3"]),
        ("+3", &["+3"]),
        ("-2", &["-2"]),
        ("3x", &["3x"]),
        ("two", &["a", "b"]),
    ];
    for (case, matcher, expected) in header_cases() {
        let holding: Vec<&str> = values
            .iter()
            .filter(|(_, values)| {
                let pairs: Vec<_> = values.iter().map(|value| ("x-t", *value)).collect();
                matcher.matches(&facts("h", "/", &headers(&pairs)))
            })
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(holding, expected, "{case}");
    }
}

#[test]
fn pseudo_headers_can_be_matched() {
    let empty = HeaderMap::new();
    let facts = facts("h:1", "/a?b", &empty);
    for (name, value) in [
        (HeaderPredicateName::Method, "GET"),
        (HeaderPredicateName::Path, "/a?b"),
        (HeaderPredicateName::Authority, "h:1"),
        (HeaderPredicateName::Scheme, "http"),
    ] {
        let matcher = HeaderMatch {
            name,
            predicate: exact(value),
            invert: false,
            missing_as_empty: false,
        };
        assert!(matcher.matches(&facts), "{value}");
    }
}

#[test]
fn query_predicates_hold_as_envoys_do() {
    let queries = [
        "",
        "k",
        "k=",
        "k=a%20b",
        "k=a+b",
        "k=x&k=a%20b",
        "k=a%20b&k=x",
        "%6B=a%20b",
        "K=a%20b",
    ];
    let holding = |predicate: QueryPredicate| -> Vec<&str> {
        let matcher = QueryMatch {
            name: "k".into(),
            predicate,
        };
        queries
            .iter()
            .copied()
            .filter(|query| matcher.matches(query))
            .collect()
    };
    let text = |value| QueryPredicate::Text(StringMatcher::Exact(Pattern::new(value, false)));
    assert!(holding(text("a b")).is_empty());
    assert_eq!(holding(text("a%20b")), ["k=a%20b", "k=a%20b&k=x"]);
    assert_eq!(holding(text("")), ["k", "k="]);
    assert_eq!(
        holding(QueryPredicate::Present(false)),
        ["", "%6B=a%20b", "K=a%20b"]
    );
}

#[test]
fn grpc_routes_want_grpc_content() {
    let mut criteria = route(prefix("/"), respond()).criteria.clone();
    criteria.grpc = true;
    let mut rng = fastrand::Rng::with_seed(1);
    for (content_type, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;x", false),
        ("application/grpc-web", false),
        ("APPLICATION/grpc", false),
    ] {
        let headers = headers(&[("content-type", content_type)]);
        assert_eq!(
            criteria.matches(&facts("h", "/", &headers), "/", &mut rng),
            expected,
            "{content_type}"
        );
    }
}

#[test]
fn paths_match_as_in_envoy() {
    let separated = |literal, ignore_case| PathMatch::SeparatedPrefix(Pattern::new(literal, ignore_case));
    let routes = [
        ("exact", PathMatch::Exact(Pattern::new("/Exact", true))),
        ("sep", separated("/sep", false)),
        ("isep", separated("/Isep", true)),
        ("re", PathMatch::Regex(whole_match("/re.*x").unwrap())),
        ("pre", prefix("/pre")),
        ("rest", prefix("")),
    ];
    let empty = HeaderMap::new();
    for (path, expected) in [
        ("/exact", "exact"),
        ("/EXACT?x", "exact"),
        ("/exact/", "rest"),
        ("/sep", "sep"),
        ("/sep/", "sep"),
        ("/sep/x", "sep"),
        ("/sepx", "rest"),
        ("/sep?x", "sep"),
        ("/isep/x", "isep"),
        ("/ISEP", "isep"),
        ("/reax", "re"),
        ("/reax?z", "re"),
        ("/reay", "rest"),
        ("/prefix", "pre"),
        ("/a", "rest"),
    ] {
        let path_alone = facts("h", path, &empty).path();
        let found = routes
            .iter()
            .find(|(_, route)| route.matches(path_alone, &Method::GET));
        assert_eq!(found.map(|(name, _)| *name), Some(expected), "{path}");
    }
}

#[test]
fn a_client_is_asked_for_its_first_cookie_and_its_certificate() {
    let cookie = |name: &str, value: &str, invert| ClientMatch {
        cookies: vec![CookieMatch {
            name: name.into(),
            value: StringMatcher::Exact(Pattern::new(value, false)),
            invert,
        }],
        ..ClientMatch::default()
    };
    for (said, name, value, invert, holds) in [
        ("a=1; b=2", "b", "2", false, true),
        ("a=2; a=1", "a", "1", false, false),
        ("a=; a=1", "a", "", false, true),
        ("a=\"1\"", "a", "1", false, true),
        ("a = 1", "a", "1", false, false),
        ("b=1", "a", "1", true, true),
        ("a=1", "a", "1", true, false),
        ("b=1", "a", "", false, false),
    ] {
        let headers = headers(&[("cookie", said)]);
        let found = cookie(name, value, invert).matches(&facts("h", "/", &headers));
        assert_eq!(found, holds, "{said} {name} {value} {invert}");
    }
    let none = headers(&[]);
    for (certificate, presented, validated) in [
        (ClientCertificate::None, false, false),
        (ClientCertificate::Shown, true, false),
        (ClientCertificate::Verified, true, true),
    ] {
        let facts = RequestFacts {
            certificate,
            ..facts("h", "/", &none)
        };
        for wanted in [true, false] {
            let by_showing = ClientMatch {
                presented: Some(wanted),
                ..ClientMatch::default()
            };
            let by_proof = ClientMatch {
                validated: Some(wanted),
                ..ClientMatch::default()
            };
            assert_eq!(by_showing.matches(&facts), wanted == presented, "{certificate:?}");
            assert_eq!(by_proof.matches(&facts), wanted == validated, "{certificate:?}");
        }
    }
}

#[test]
fn a_table_may_look_elsewhere_for_host_and_path() {
    let mut table = table(
        vec![host("x", &["x"], vec![route(prefix("/s"), respond())])],
        false,
    );
    table.rare = Some(Box::new(RareTable {
        host_header: Some(HeaderName::from_static("x-host")),
        ignore_path_parameters: true,
        internal_only: vec![HeaderName::from_static("x-inside")],
    }));
    let taken = |path: &str, pairs: &[(&str, &str)]| {
        let outside = headers(pairs);
        let outcome = table.decide(&facts("x", path, &outside), &mut fastrand::Rng::with_seed(1));
        matches!(outcome, Outcome::Taken(_))
    };
    assert!(taken("/s;v=1/t", &[("x-host", "X")]));
    assert!(!taken("/;v=1/s", &[("x-host", "x")]));
    assert!(!taken("/s", &[]) && !taken("/s", &[("x-host", "y")]));
    let mut said = headers(&[("x-inside", "1"), ("x-other", "1")]);
    let rare = table.rare.as_ref().unwrap();
    rare.strip(&mut said, true);
    assert_eq!(said.len(), 2);
    rare.strip(&mut said, false);
    assert!(said.len() == 1 && said.contains_key("x-other"));
}
