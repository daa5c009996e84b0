//! What each action makes of a request.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::limit::Unit;
use crate::log::parse_format;
use crate::matching::{Pattern, StringMatcher};
use crate::route::{HeaderPredicate, QueryPredicate};

/// Prints the number of pieces, or nothing.
struct Prints(Option<&'static str>);

impl Render for Prints {
    fn render(&self, _: &Format) -> Option<HeaderValue> {
        self.0.map(HeaderValue::from_static)
    }
}

struct World {
    path: &'static str,
    headers: HeaderMap,
    client: &'static str,
    metadata: Vec<(MetadataKey, Name)>,
}

impl Default for World {
    fn default() -> Self {
        let mut headers = HeaderMap::new();
        headers.append("x-user", HeaderValue::from_static("anna"));
        headers.append("x-user", HeaderValue::from_static("bert"));
        Self {
            path: "/p?user=%61nna&empty=&user=bert",
            headers,
            client: "10.1.2.3",
            metadata: vec![(key("ns", &["a", "b"]), "deep".into())],
        }
    }
}

impl World {
    fn of(&self, actions: Vec<Action>) -> Option<Vec<(String, String)>> {
        let rule = Rule {
            actions,
            ..rule(Action::SourceCluster)
        };
        let entries = self.descriptor(&rule)?.entries.into_iter();
        Some(
            entries
                .map(|entry| (entry.key.to_string(), entry.value.to_string()))
                .collect(),
        )
    }

    fn descriptor(&self, rule: &Rule) -> Option<Descriptor> {
        let facts = LimitFacts {
            request: RequestFacts {
                method: &Method::PUT,
                scheme: "https",
                authority: "a.test:8080",
                path_and_query: self.path,
                headers: &self.headers,
                certificate: Default::default(),
                internal: false,
                metadata: None,
            },
            client: self.client.parse().ok(),
            source_cluster: "here",
            destination_cluster: Some("there"),
            route_metadata: &self.metadata,
        };
        rule.descriptor(&facts, &Prints(Some("7.9")))
    }

    fn one(&self, action: Action) -> Option<(String, String)> {
        self.of(vec![action])?.pop()
    }
}

fn rule(action: Action) -> Rule {
    Rule {
        stage: 0,
        has_disable_key: false,
        actions: vec![action],
        limit: None,
        hits: DescriptorHits::Unsaid,
        gives_back: false,
        tell: TellClients::AsFilter,
    }
}

fn key(namespace: &str, path: &[&str]) -> MetadataKey {
    MetadataKey {
        namespace: namespace.into(),
        path: path.iter().map(|segment| Name::from(*segment)).collect(),
    }
}

fn pair(key: &str, value: &str) -> Option<(String, String)> {
    Some((key.to_owned(), value.to_owned()))
}

fn header(name: HeaderPredicateName, skip_if_absent: bool) -> Action {
    Action::RequestHeader {
        name,
        key: "k".into(),
        skip_if_absent,
    }
}

fn query(name: &str, skip_if_absent: bool) -> Action {
    Action::QueryParameter {
        name: name.into(),
        key: "k".into(),
        skip_if_absent,
    }
}

fn metadata(source: MetadataSource, at: &[&str], default: Option<&str>, skip_if_absent: bool) -> Action {
    Action::Metadata {
        source,
        at: key("ns", at),
        key: "k".into(),
        default: default.map(Name::from),
        skip_if_absent,
    }
}

fn exactly(text: &str) -> StringMatcher {
    StringMatcher::Exact(Pattern::new(text, false))
}

#[test]
fn clusters_and_constants() {
    let world = World::default();
    assert_eq!(world.one(Action::SourceCluster), pair("source_cluster", "here"));
    assert_eq!(
        world.one(Action::DestinationCluster),
        pair("destination_cluster", "there")
    );
    assert_eq!(
        world.one(Action::GenericKey(Entry::new("generic_key", "x"))),
        pair("generic_key", "x")
    );
}

#[test]
fn the_first_value_of_a_header_counts() {
    let world = World::default();
    let user = HeaderPredicateName::Header(HeaderName::from_static("x-user"));
    assert_eq!(world.one(header(user, false)), pair("k", "anna"));
    assert_eq!(
        world.one(header(HeaderPredicateName::Path, false)),
        pair("k", world.path)
    );
    assert_eq!(
        world.one(header(HeaderPredicateName::Method, false)),
        pair("k", "PUT")
    );
    assert_eq!(
        world.one(header(HeaderPredicateName::Authority, false)),
        pair("k", "a.test:8080")
    );
    assert_eq!(
        world.one(header(HeaderPredicateName::Scheme, false)),
        pair("k", "https")
    );
}

#[test]
fn what_is_absent_ends_the_rule_unless_it_may_be_left_out() {
    let world = World::default();
    let none = || HeaderPredicateName::Header(HeaderName::from_static("x-none"));
    let other = || Action::GenericKey(Entry::new("g", "v"));
    let only_other = Some(vec![("g".to_owned(), "v".to_owned())]);
    assert_eq!(world.of(vec![header(none(), false), other()]), None);
    assert_eq!(world.of(vec![header(none(), true), other()]), only_other);
    assert_eq!(world.of(vec![query("none", false), other()]), None);
    assert_eq!(world.of(vec![query("none", true), other()]), only_other);
    let absent = |skip| metadata(MetadataSource::Route, &["a"], None, skip);
    assert_eq!(world.of(vec![absent(false), other()]), None);
    assert_eq!(world.of(vec![absent(true), other()]), only_other);
    assert_eq!(
        world.of(vec![header(none(), true)]),
        None,
        "no entry, no descriptor"
    );
}

#[test]
fn query_parameters_are_decoded_and_may_be_empty() {
    let world = World::default();
    assert_eq!(world.one(query("user", false)), pair("k", "anna"));
    assert_eq!(world.one(query("empty", false)), pair("k", ""));
}

#[test]
fn addresses_whole_and_masked() {
    let four = World::default();
    let six = World {
        client: "2001:db8:1:2::3",
        ..World::default()
    };
    let mapped = World {
        client: "::ffff:10.1.2.3",
        ..World::default()
    };
    let unknown = World {
        client: "",
        ..World::default()
    };
    let masked = || Action::MaskedRemoteAddress { v4: 16, v6: 48 };
    assert_eq!(
        four.one(Action::RemoteAddress),
        pair("remote_address", "10.1.2.3")
    );
    assert_eq!(
        mapped.one(Action::RemoteAddress),
        pair("remote_address", "10.1.2.3")
    );
    assert_eq!(unknown.one(Action::RemoteAddress), None);
    assert_eq!(four.one(masked()), pair("masked_remote_address", "10.1.0.0/16"));
    assert_eq!(
        six.one(masked()),
        pair("masked_remote_address", "2001:db8:1::/48")
    );
    assert_eq!(unknown.one(masked()), None);
    let inside = |invert| Action::RemoteAddressMatch {
        entry: Entry::new("m", "in"),
        ranges: vec!["10.0.0.0/8".parse().unwrap()],
        invert,
    };
    assert_eq!(four.one(inside(false)), pair("m", "in"));
    assert_eq!(four.one(inside(true)), None);
    assert_eq!(six.one(inside(true)), pair("m", "in"));
    assert_eq!(unknown.one(inside(true)), None);
}

#[test]
fn matches_give_their_entry_when_they_are_as_expected() {
    let world = World::default();
    let user = |value: &str, expected| Action::HeaderValueMatch {
        entry: Entry::new("header_match", "yes"),
        expected,
        headers: vec![HeaderMatch {
            name: HeaderPredicateName::Header(HeaderName::from_static("x-user")),
            predicate: HeaderPredicate::Text(exactly(value)),
            invert: false,
            missing_as_empty: false,
        }],
    };
    let found = pair("header_match", "yes");
    assert_eq!(world.one(user("anna", true)), found);
    assert_eq!(world.one(user("carl", true)), None);
    assert_eq!(world.one(user("carl", false)), found);
    assert_eq!(world.one(user("anna", false)), None);
    let parameter = |value: &str, expected| Action::QueryParameterValueMatch {
        entry: Entry::new("query_match", "yes"),
        expected,
        parameters: vec![QueryMatch {
            name: "user".into(),
            predicate: QueryPredicate::Text(exactly(value)),
        }],
    };
    let found = pair("query_match", "yes");
    assert_eq!(world.one(parameter("anna", true)), found);
    assert_eq!(world.one(parameter("%61nna", true)), None);
    assert_eq!(world.one(parameter("carl", false)), found);
}

#[test]
fn metadata_of_the_route_or_a_default() {
    let world = World::default();
    let route = MetadataSource::Route;
    assert_eq!(
        world.one(metadata(route, &["a", "b"], Some("d"), false)),
        pair("k", "deep")
    );
    assert_eq!(
        world.one(metadata(route, &["a"], Some("d"), false)),
        pair("k", "d")
    );
    let dynamic = MetadataSource::Dynamic;
    assert_eq!(
        world.one(metadata(dynamic, &["a", "b"], Some("d"), false)),
        pair("k", "d")
    );
    assert_eq!(world.one(metadata(dynamic, &["a", "b"], None, false)), None);
}

#[test]
fn a_descriptor_carries_what_its_rule_says() {
    let world = World::default();
    let limit = LimitOverride {
        requests: 5,
        unit: Unit::Minute,
    };
    let mut said = Rule {
        limit: Some(limit),
        hits: DescriptorHits::Number(3),
        gives_back: true,
        tell: TellClients::Draft03,
        ..rule(Action::SourceCluster)
    };
    let made = world.descriptor(&said).unwrap();
    assert_eq!((made.hits, made.gives_back), (Some(3), true));
    assert_eq!((made.limit, made.tell), (Some(limit), TellClients::Draft03));
    let pieces = parse_format("%REQ(x-hits)%").unwrap();
    said.hits = DescriptorHits::Format(Arc::new(Format::Text {
        pieces,
        omit_empty: true,
    }));
    assert_eq!(world.descriptor(&said).unwrap().hits, Some(7), "7.9 is cut");
    for (text, hits) in [("0", Some(0)), ("-1", None), ("x", None), ("2000000000", None)] {
        assert_eq!(printed_hits(&HeaderValue::from_static(text)), hits, "{text}");
    }
}

#[test]
fn which_rules_count() {
    let limits = |names: &[&str], include_virtual_host| RateLimits {
        rules: names
            .iter()
            .map(|name| rule(Action::GenericKey(Entry::new(name, "v"))))
            .collect(),
        include_virtual_host,
        metadata: Vec::new(),
    };
    let counted = |route: Option<&RateLimits>, sharing| -> Vec<String> {
        let host = limits(&["host"], false);
        let world = World::default();
        RateLimits::applicable(route, Some(&host), sharing)
            .map(|rule| world.descriptor(rule).unwrap().entries[0].key.to_string())
            .collect()
    };
    use VirtualHostLimits::{Ignore, Include, Override};
    let (own, none) = (limits(&["route"], false), limits(&[], false));
    assert_eq!(counted(Some(&own), Override), ["route"]);
    assert_eq!(counted(Some(&own), Include), ["route", "host"]);
    assert_eq!(counted(Some(&own), Ignore), ["route"]);
    assert_eq!(counted(Some(&none), Override), ["host"]);
    assert_eq!(counted(None, Override), ["host"]);
    assert_eq!(counted(None, Ignore), Vec::<String>::new());
    let includes = limits(&["route"], true);
    assert_eq!(counted(Some(&includes), Override), ["route", "host"]);
    assert_eq!(
        counted(Some(&includes), Ignore),
        ["route"],
        "the filter's word wins"
    );
}
