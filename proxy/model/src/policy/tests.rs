use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::endpoint::{LabelValue, Labels};
use crate::identity::{SanKind, SanMatcher, SubjectAltName};
use crate::matching::{Pattern, StringMatcher};
use crate::metadata::{Metadata, MetadataMatcher, StateKind, StateMatcher, StateObject, ValueMatcher};
use crate::route::{HeaderMatch, HeaderPredicate, HeaderPredicateName, RequestFacts};

static GET: Method = Method::GET;

fn exact(text: &str) -> StringMatcher {
    StringMatcher::Exact(Pattern::new(text, false))
}

fn prefix(text: &str) -> StringMatcher {
    StringMatcher::Prefix(Pattern::new(text, false))
}

fn headers(values: &[&'static str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append("x", HeaderValue::from_static(value));
    }
    headers
}

fn request<'h>(path: &'h str, headers: &'h HeaderMap) -> RequestFacts<'h> {
    RequestFacts {
        method: &GET,
        scheme: "http",
        authority: "a.test",
        path_and_query: path,
        headers,
        certificate: Default::default(),
        metadata: None,
        internal: false,
    }
}

static NOTHING: crate::proxy_protocol::Metadata = Vec::new();

fn facts<'a>(request: Option<RequestFacts<'a>>) -> AccessFacts<'a> {
    AccessFacts {
        request,
        source: ([10, 0, 0, 1], 5000).into(),
        direct: ([10, 0, 0, 2], 6000).into(),
        remote: ([10, 0, 0, 3], 0).into(),
        destination: ([10, 9, 9, 9], 8080).into(),
        server_name: "",
        tls: true,
        identity: None,
        metadata: None,
        announced: &NOTHING,
    }
}

fn x(predicate: StringMatcher) -> Condition {
    Condition::Header(HeaderMatch {
        name: HeaderPredicateName::Header(HeaderName::from_static("x")),
        predicate: HeaderPredicate::Text(predicate),
        invert: false,
        missing_as_empty: false,
    })
}

fn rules(action: Action, condition: Condition) -> Engine {
    let policies = vec![("p".into(), condition)];
    Engine::Rules(Rules { action, policies })
}

fn allows(engine: &Engine, values: &[&'static str]) -> bool {
    let headers = headers(values);
    engine.judge(&facts(Some(request("/", &headers)))).allowed
}

#[test]
fn no_policy_at_all_allows_nobody_and_denies_nobody() {
    let none = |action| {
        Engine::Rules(Rules {
            action,
            policies: vec![],
        })
    };
    assert!(!none(Action::Allow).judge(&facts(None)).allowed);
    assert!(none(Action::Deny).judge(&facts(None)).allowed);
    assert!(none(Action::Log).judge(&facts(None)).allowed);
}

#[test]
fn the_first_policy_that_matches_is_named() {
    let engine = Engine::Rules(Rules {
        action: Action::Deny,
        policies: vec![
            ("a".into(), x(exact("1"))),
            ("b".into(), Condition::Always),
            ("c".into(), Condition::Always),
        ],
    });
    let verdict = engine.judge(&facts(None));
    assert_eq!(
        (verdict.allowed, verdict.policy.map(|name| &**name)),
        (false, Some("b"))
    );
}

#[test]
fn log_lets_everybody_pass_and_says_who_matched() {
    let engine = rules(Action::Log, x(exact("a")));
    let headers = headers(&["a"]);
    let verdict = engine.judge(&facts(Some(request("/", &headers))));
    assert_eq!((verdict.allowed, verdict.log), (true, Some(true)));
    assert_eq!(engine.judge(&facts(None)).log, Some(false));
}

/// CVE-2026-31838: a second value must neither hide the first from a DENY nor lend itself to an ALLOW.
#[test]
fn several_values_of_a_header_open_no_door() {
    let deny = rules(Action::Deny, x(exact("bad")));
    assert!(!allows(&deny, &["bad", "good"]) && !allows(&deny, &["good", "bad"]));
    assert!(allows(&deny, &["good", "better"]));
    let deny_joined = rules(Action::Deny, x(exact("a,b")));
    assert!(!allows(&deny_joined, &["a", "b"]));
    let allow = rules(Action::Allow, x(exact("good")));
    assert!(!allows(&allow, &["bad", "good"]) && !allows(&allow, &["good", "bad"]));
    assert!(allows(&allow, &["good", "good"]) && allows(&allow, &["good"]));
    let not = |condition| Condition::Not(Box::new(condition));
    let allow_others = rules(Action::Allow, not(x(exact("bad"))));
    assert!(!allows(&allow_others, &["bad", "good"]) && allows(&allow_others, &["good", "fine"]));
    let deny_others = rules(Action::Deny, not(x(exact("good"))));
    assert!(!allows(&deny_others, &["good", "bad"]) && allows(&deny_others, &["good", "good"]));
}

#[test]
fn a_condition_that_depends_on_the_reading_spoils_no_other() {
    let all = Condition::All(vec![x(exact("a")), Condition::Path(prefix("/open"))]);
    let deny = rules(Action::Deny, all.clone());
    let allow = rules(
        Action::Allow,
        Condition::Any(vec![all, Condition::Path(exact("/free"))]),
    );
    let headers = headers(&["a", "b"]);
    let judged = |engine: &Engine, path| engine.judge(&facts(Some(request(path, &headers)))).allowed;
    assert!(!judged(&deny, "/open/1") && judged(&deny, "/closed"));
    assert!(!judged(&allow, "/open/1") && judged(&allow, "/free?x=/closed"));
}

#[test]
fn addresses_are_told_apart_by_their_role() {
    let of = |role, range: &str| Condition::Address(role, range.parse().unwrap()).truth(&facts(None));
    assert_eq!(of(AddressRole::Source, "10.0.0.1/32"), Truth::Yes);
    assert_eq!(of(AddressRole::Direct, "10.0.0.1/32"), Truth::No);
    assert_eq!(of(AddressRole::Direct, "10.0.0.2/32"), Truth::Yes);
    assert_eq!(of(AddressRole::Remote, "10.0.0.3/32"), Truth::Yes);
    assert_eq!(of(AddressRole::Destination, "10.9.0.0/16"), Truth::Yes);
    let mapped = AccessFacts {
        source: "[::ffff:10.1.1.1]:9".parse().unwrap(),
        ..facts(None)
    };
    let ten = Condition::Address(AddressRole::Source, "10.0.0.0/8".parse().unwrap());
    assert_eq!(ten.truth(&mapped), Truth::Yes);
    // A Unix socket is in no range, not even in the one of everything.
    let unix = AccessFacts {
        source: ([0, 0, 0, 0], 0).into(),
        ..facts(None)
    };
    let all = Condition::Address(AddressRole::Source, "0.0.0.0/0".parse().unwrap());
    assert_eq!(all.truth(&unix), Truth::No);
    assert_eq!(
        Condition::DestinationPort(8080..=8080).truth(&facts(None)),
        Truth::Yes
    );
    assert_eq!(
        Condition::DestinationPort(1..=8079).truth(&facts(None)),
        Truth::No
    );
}

fn with_names(names: &[SubjectAltName], judge: impl Fn(&AccessFacts<'_>) -> bool) -> bool {
    judge(&AccessFacts {
        identity: Some(Identity {
            names,
            subject: "CN=web,O=mesh",
        }),
        ..facts(None)
    })
}

#[test]
fn a_principal_is_named_by_uri_then_dns_then_subject() {
    let names = [
        SubjectAltName::Dns("web.test".into()),
        SubjectAltName::Uri("spiffe://mesh/web".into()),
    ];
    let named = |matcher: StringMatcher, names: &[SubjectAltName]| {
        let condition = Condition::Authenticated(Some(matcher));
        with_names(names, |facts| condition.truth(facts) == Truth::Yes)
    };
    assert!(named(exact("spiffe://mesh/web"), &names));
    assert!(named(exact("web.test"), &names));
    assert!(named(exact("CN=web,O=mesh"), &[]));
    assert!(!named(exact("spiffe://mesh/db"), &names));
}

/// Envoy takes a client without a certificate for authenticated where no name is asked for; it is not.
#[test]
fn nobody_is_authenticated_without_a_certificate() {
    for condition in [Condition::Authenticated(None), Condition::MutualTls(None)] {
        assert_eq!(condition.truth(&facts(None)), Truth::No);
        assert!(with_names(&[], |facts| condition.truth(facts) == Truth::Yes));
    }
    let any_name = Condition::Authenticated(Some(StringMatcher::regex(".*").unwrap()));
    assert_eq!(any_name.truth(&facts(None)), Truth::No);
    let dns = Condition::MutualTls(Some(SanMatcher {
        kind: SanKind::Dns,
        matcher: exact("web.test"),
    }));
    let names = [SubjectAltName::Uri("web.test".into())];
    assert!(!with_names(&names, |facts| dns.truth(facts) == Truth::Yes));
}

#[test]
fn metadata_of_filters_and_of_a_proxy_header_counts() {
    let mut noted = Metadata::default();
    let groups = LabelValue::List(vec![LabelValue::Text("admin".into())].into());
    noted.note("jwt", Labels::new(vec![("groups".into(), groups)]));
    let announced = vec![("proxy".into(), "zone".into(), "a".to_owned())];
    let facts = AccessFacts {
        metadata: Some(&noted),
        announced: &announced,
        ..facts(None)
    };
    let truth = |namespace: &str, key: &str, value: ValueMatcher, invert| {
        let matcher = MetadataMatcher {
            namespace: namespace.into(),
            path: [key.into()].into(),
            value,
            invert,
        };
        Condition::Metadata(Box::new(matcher)).truth(&facts)
    };
    let admin = || ValueMatcher::OneOf(Box::new(ValueMatcher::Text(exact("admin"))));
    assert_eq!(truth("jwt", "groups", admin(), false), Truth::Yes);
    assert_eq!(truth("jwt", "groups", admin(), true), Truth::No);
    assert_eq!(truth("jwt", "other", admin(), true), Truth::Yes);
    let zone = |text| ValueMatcher::Text(exact(text));
    assert_eq!(truth("proxy", "zone", zone("a"), false), Truth::Yes);
    assert_eq!(truth("proxy", "zone", zone("b"), false), Truth::No);
}

fn leaf(name: &str, action: Action) -> Reaction {
    Reaction::Leaf(Leaf {
        name: name.into(),
        action,
    })
}

fn tree(selection: Selection, otherwise: Option<Reaction>) -> MatchTree {
    MatchTree {
        selection,
        otherwise: otherwise.map(Box::new),
        logs: false,
    }
}

fn header_x() -> Input {
    Input::Header(HeaderPredicateName::Header(HeaderName::from_static("x")))
}

fn judged(tree: &MatchTree, values: &[&'static str]) -> (bool, Option<String>) {
    let headers = headers(values);
    let verdict = tree.judge(&facts(Some(request("/", &headers))));
    (verdict.allowed, verdict.policy.map(|name| name.to_string()))
}

#[test]
fn a_list_takes_the_first_that_holds_and_no_match_is_a_refusal() {
    let branch = |text, reaction| Branch {
        condition: Condition::Input(header_x(), InputMatch::Text(prefix(text))),
        reaction,
    };
    let list = || {
        Selection::List(vec![
            branch("ab", leaf("deny", Action::Deny)),
            branch("a", leaf("allow", Action::Allow)),
        ])
    };
    let open = tree(list(), Some(leaf("rest", Action::Log)));
    assert_eq!(judged(&open, &["abc"]), (false, Some("deny".into())));
    assert_eq!(judged(&open, &["ac"]), (true, Some("allow".into())));
    assert_eq!(judged(&open, &[]), (true, Some("rest".into())));
    assert_eq!(judged(&tree(list(), None), &["z"]), (false, None));
    // Either may be what the application reads.
    assert_eq!(judged(&open, &["ac", "abc"]), (false, Some("deny".into())));
    assert_eq!(judged(&tree(list(), None), &["ac", "z"]), (false, None));
}

#[test]
fn maps_look_up_whole_texts_and_longest_beginnings() {
    let exactly = [("a", Action::Allow), ("b", Action::Deny)];
    let map = exactly
        .iter()
        .map(|(text, action)| (text.as_bytes().into(), leaf(text, *action)));
    let map = tree(Selection::Exact(header_x(), map.collect()), None);
    assert_eq!(judged(&map, &["a"]), (true, Some("a".into())));
    assert_eq!(judged(&map, &["aa"]), (false, None));
    assert_eq!(judged(&map, &["a", "b"]), (false, Some("b".into())));
    let nested = tree(Selection::Nothing, None);
    let prefixes = vec![
        (Box::from(&b"abc"[..]), Reaction::Tree(Box::new(nested))),
        (Box::from(&b"ab"[..]), leaf("ab", Action::Allow)),
        (Box::from(&b"a"[..]), leaf("a", Action::Deny)),
    ];
    let map = tree(Selection::Prefix(header_x(), prefixes), None);
    assert_eq!(judged(&map, &["abc"]), (true, Some("ab".into())));
    assert_eq!(judged(&map, &["ac"]), (false, Some("a".into())));
}

#[test]
fn names_of_a_certificate_are_joined_and_each_may_close_a_door() {
    let names = [
        SubjectAltName::Uri("spiffe://mesh/a".into()),
        SubjectAltName::Uri("spiffe://mesh/b".into()),
    ];
    let with = |text: &str, action| {
        let branch = Branch {
            condition: Condition::Input(Input::UriSan, InputMatch::Text(exact(text))),
            reaction: leaf("it", action),
        };
        let other = match action {
            Action::Deny => Action::Allow,
            _ => Action::Deny,
        };
        let tree = tree(Selection::List(vec![branch]), Some(leaf("rest", other)));
        with_names(&names, |facts| tree.judge(facts).allowed)
    };
    assert!(with("spiffe://mesh/a,spiffe://mesh/b", Action::Allow));
    assert!(!with("spiffe://mesh/a", Action::Allow));
    assert!(!with("spiffe://mesh/b", Action::Deny));
}

#[test]
fn a_name_is_not_known_without_tls_and_then_nobody_is_let_in() {
    let by_name = |kind: fn(Vec<Condition>) -> Condition| {
        let name = Condition::Input(Input::UriSan, InputMatch::Text(exact("spiffe://mesh/a")));
        let branch = Branch {
            condition: kind(vec![Condition::Path(prefix("/named")), name]),
            reaction: leaf("named", Action::Allow),
        };
        tree(Selection::List(vec![branch]), Some(leaf("rest", Action::Allow)))
    };
    let headers = HeaderMap::new();
    let judged = |tree: &MatchTree, path, tls| {
        let facts = AccessFacts {
            tls,
            ..facts(Some(request(path, &headers)))
        };
        let verdict = tree.judge(&facts);
        (verdict.allowed, verdict.policy.is_some())
    };
    let both = by_name(Condition::All);
    assert_eq!(judged(&both, "/named", true), (true, true));
    assert_eq!(judged(&both, "/named", false), (false, false));
    // Nobody asks for the name here.
    assert_eq!(judged(&both, "/other", false), (true, true));
    let either = by_name(Condition::Any);
    assert_eq!(judged(&either, "/named", false), (true, true));
    assert_eq!(judged(&either, "/other", false), (false, false));
}

#[test]
fn filter_state_counts_only_where_a_filter_left_it() {
    let condition = Condition::State(Box::new(StateMatcher {
        key: "team".into(),
        text: exact("a"),
    }));
    let mut noted = Metadata::default();
    let deny = rules(Action::Deny, condition);
    let judged = |noted: &Metadata| {
        let facts = AccessFacts {
            metadata: Some(noted),
            ..facts(None)
        };
        deny.judge(&facts).allowed
    };
    assert!(judged(&noted));
    let object = StateObject::new(StateKind::Text, "a").unwrap();
    noted.set_object(&"team".into(), object);
    assert!(!judged(&noted));
}
