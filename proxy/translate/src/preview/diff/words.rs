//! Matches and actions of routes, in words.

use remora_model::matching::StringMatcher;
use remora_model::route::{
    Action, ClusterChoice, HeaderPredicate, HeaderPredicateName, PathMatch, QueryPredicate, RouteMatch,
};
use remora_model::snapshot::ClusterId;

use super::Sides;

/// `prefix /api, header x-user = bob`.
pub(super) fn criteria(said: &RouteMatch) -> String {
    let mut words = vec![match &said.path {
        PathMatch::Prefix(pattern) => format!("prefix {}", pattern.literal),
        PathMatch::Exact(pattern) => format!("path {}", pattern.literal),
        PathMatch::SeparatedPrefix(pattern) => format!("path {0} or below {0}/", pattern.literal),
        PathMatch::Regex(regex) => format!("path ~ {regex}"),
        PathMatch::Template(template) => format!("path of {}", template.text()),
        PathMatch::Connect => "CONNECT".to_owned(),
    }];
    for header in &said.headers {
        let name = match &header.name {
            HeaderPredicateName::Method => ":method",
            HeaderPredicateName::Path => ":path",
            HeaderPredicateName::Authority => ":authority",
            HeaderPredicateName::Scheme => ":scheme",
            HeaderPredicateName::Status => ":status",
            HeaderPredicateName::Header(name) => name.as_str(),
        };
        let not = if header.invert { "not " } else { "" };
        words.push(match &header.predicate {
            HeaderPredicate::Present(true) => format!("{not}header {name} present"),
            HeaderPredicate::Present(false) => format!("{not}header {name} absent"),
            HeaderPredicate::Range(from, to) => format!("{not}header {name} from {from} below {to}"),
            HeaderPredicate::Text(matcher) => format!("{not}header {name} {}", text(matcher)),
        });
    }
    for query in &said.query {
        words.push(match &query.predicate {
            QueryPredicate::Present(_) => format!("query {} present", query.name),
            QueryPredicate::Text(matcher) => format!("query {} {}", query.name, text(matcher)),
        });
    }
    if said.grpc {
        words.push("gRPC".to_owned());
    }
    for matcher in said.noted.iter().flat_map(|noted| &noted.metadata) {
        let path: Vec<&str> = matcher.path.iter().map(|key| &**key).collect();
        words.push(format!("metadata {}:{}", matcher.namespace, path.join(":")));
    }
    for matcher in said.noted.iter().flat_map(|noted| &noted.state) {
        words.push(format!("filter state {} {}", matcher.key, text(&matcher.text)));
    }
    if let Some(fraction) = said.fraction_per_million {
        words.push(format!("{}% of requests", f64::from(fraction) / 10_000.0));
    }
    words.join(", ")
}

/// `= bob`.
pub(super) fn text(matcher: &StringMatcher) -> String {
    match matcher {
        StringMatcher::Exact(pattern) => format!("= {}", pattern.literal),
        StringMatcher::Prefix(pattern) => format!("= {}*", pattern.literal),
        StringMatcher::Suffix(pattern) => format!("= *{}", pattern.literal),
        StringMatcher::Contains(pattern) => format!("= *{}*", pattern.literal),
        StringMatcher::Regex(regex) => format!("~ {regex}"),
    }
}

/// Where a route leads.
pub(super) fn action(sides: &Sides, action: &Action) -> String {
    match action {
        Action::Forward(forward) => target(sides, &forward.cluster),
        Action::Redirect(redirect) => {
            let host = redirect.host.as_deref().unwrap_or("the same host");
            format!("a redirect ({}) to {host}", redirect.status.as_u16())
        }
        Action::Respond(response) => format!("a direct response ({})", response.status.as_u16()),
    }
}

/// `cluster a`, or `a (80 of 100) and b (20 of 100)`.
pub(super) fn target(sides: &Sides, choice: &ClusterChoice) -> String {
    let name = |id: ClusterId| {
        let name = sides.world.clusters.name(id);
        name.map_or_else(|| "?".to_owned(), ToString::to_string)
    };
    match choice {
        ClusterChoice::One(id) => format!("cluster {}", name(*id)),
        ClusterChoice::Weighted(clusters) => {
            let entries: Vec<String> = clusters
                .entries
                .iter()
                .map(|entry| format!("{} ({} of {})", name(entry.cluster), entry.weight, clusters.total))
                .collect();
            format!("clusters {}", entries.join(", "))
        }
        ClusterChoice::Header(header) => format!("the cluster that header {header} names"),
    }
}
