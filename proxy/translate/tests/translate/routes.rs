//! Route configurations.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use remora_model::filter::{RouteFilter, TokenBucket};
use remora_model::listener::HttpTimeouts;
use remora_model::route::{
    Action, AppendAction, ClusterChoice, Forward, HashSource, HeaderPredicate, HeaderValueTemplate,
    HostRewrite, Origin, PathMatch, PathRewrite, RedirectPath, RouteTable, TimeLimit,
};
use remora_model::snapshot::{Edit, Snapshot};

use crate::world::{ROUTES, World, bytes, reason};

fn table(world: &mut World, yaml: &str) -> Arc<RouteTable> {
    remora_translate::route_configuration(&bytes(ROUTES, yaml), &mut world.context())
        .unwrap_or_else(|e| panic!("{e}\n{yaml}"))
}

fn route(fields: &str) -> String {
    format!("{{name: r, virtual_hosts: [{{name: v, domains: ['*'], routes: [{{{fields}}}]}}]}}")
}

fn forward(table: &RouteTable) -> &Forward {
    match &table.virtual_hosts[0].routes[0].action {
        Action::Forward(forward) => forward,
        other => panic!("expected a forward, found {other:?}"),
    }
}

#[test]
fn a_bare_route_has_envoys_defaults() {
    let mut world = World::default();
    let made = table(&mut world, &route("match: {prefix: /}, route: {cluster: c}"));
    let forward = forward(&made);
    assert_eq!(
        (forward.timeout, forward.timeout_said),
        (Some(Duration::from_secs(15)), false)
    );
    assert_eq!(
        (forward.idle_timeout, forward.cluster_not_found),
        (None, StatusCode::SERVICE_UNAVAILABLE)
    );
    assert!(matches!(forward.cluster, ClusterChoice::One(id) if world.clusters.known("c") == Some(id)));
}

/// A route that says nearly everything.
const FULL: &str = "match: {path_separated_prefix: /a, case_sensitive: false, grpc: {}, runtime_fraction: {default_value: {numerator: 5}},
          headers: [{name: x, exact_match: one}, {name: ':method', string_match: {safe_regex: {regex: 'GET|PUT'}}, invert_match: true}, {name: count, range_match: {start: 1, end: 3}}, {name: p}],
          query_parameters: [{name: q, string_match: {contains: z, ignore_case: true}}]},
        request_headers_to_add: [{header: {key: X-A, value: 'v%%'}, append: false}, {header: {key: x-b, value: '%START_TIME%'}, append_action: ADD_IF_ABSENT}],
        response_headers_to_remove: [Server],
        route: {weighted_clusters: {clusters: [{name: a, weight: 90, host_rewrite_literal: h}, {name: b, weight: 10}]}, prefix_rewrite: /z, timeout: 0s, idle_timeout: 0s,
          auto_host_rewrite: true, max_grpc_timeout: 0s, cluster_not_found_response_code: NOT_FOUND, retry_policy: {retry_on: 5xx},
          hash_policy: [{header: {header_name: X-H}, terminal: true}, {cookie: {name: k, ttl: 0s}}, {connection_properties: {source_ip: true}}],
          upgrade_configs: [{upgrade_type: WebSocket, enabled: false}]}";

#[test]
fn a_full_route_keeps_everything() {
    let yaml = route(FULL);
    let mut world = World::default();
    let made = table(&mut world, &yaml);
    let taken = &made.virtual_hosts[0].routes[0];
    assert!(
        matches!(&taken.criteria.path, PathMatch::SeparatedPrefix(p) if p.ignore_case && &*p.literal == "/a")
    );
    assert_eq!(
        (taken.criteria.grpc, taken.criteria.fraction_per_million),
        (true, Some(50_000))
    );
    assert_eq!(taken.criteria.headers.len(), 4);
    assert!(taken.criteria.headers[1].invert);
    assert!(matches!(
        taken.criteria.headers[2].predicate,
        HeaderPredicate::Range(1, 3)
    ));
    assert!(matches!(
        taken.criteria.headers[3].predicate,
        HeaderPredicate::Present(true)
    ));
    let add = &taken.headers.request().add;
    assert_eq!(
        (add[0].action, add[0].name.as_str()),
        (AppendAction::OverwriteIfExistsOrAdd, "x-a")
    );
    assert!(matches!(&add[0].value, HeaderValueTemplate::Constant(value) if value == "v%"));
    assert!(matches!(&add[1].value, HeaderValueTemplate::Format(_)));
    assert_eq!(taken.headers.response().remove[0].as_str(), "server");
    let forward = forward(&made);
    let ClusterChoice::Weighted(weighted) = &forward.cluster else {
        panic!("expected weights")
    };
    assert_eq!((weighted.total, weighted.entries[1].weight), (100, 10));
    assert!(matches!(&forward.path, PathRewrite::Prefix(prefix) if &**prefix == "/z"));
    assert!(matches!(forward.host, HostRewrite::Endpoint));
    assert_eq!(
        (forward.timeout, forward.timeout_said, forward.idle_timeout),
        (None, true, Some(None))
    );
    assert_eq!(
        forward.stream_duration.as_deref().unwrap().grpc_timeout_max,
        Some(Duration::ZERO)
    );
    assert_eq!(forward.cluster_not_found, StatusCode::NOT_FOUND);
    assert_eq!(forward.endpoint.as_ref().unwrap().hash_policies.len(), 3);
    assert!(matches!(
        &forward.endpoint.as_ref().unwrap().hash_policies[1].source,
        HashSource::Cookie {
            ttl: Some(Duration::ZERO),
            ..
        }
    ));
    assert_eq!(forward.upgrades, [(Box::from("websocket"), false)]);
    assert!(forward.retry.is_some());
    assert!(world.ignored_names().is_empty());
}

#[test]
fn redirects_and_answers_are_kept() {
    let mut world = World::default();
    let made = table(
        &mut world,
        &route(
            "match: {safe_regex: {regex: '/x.*'}}, redirect: {https_redirect: true, port_redirect: 8443, response_code: PERMANENT_REDIRECT, regex_rewrite: {pattern: {regex: '^/x(.)'}, substitution: '/y\\1'}}",
        ),
    );
    let Action::Redirect(redirect) = &made.virtual_hosts[0].routes[0].action else {
        panic!("expected a redirect")
    };
    assert_eq!(
        (
            redirect.scheme.as_deref(),
            redirect.port,
            redirect.status.as_u16()
        ),
        (Some("https"), Some(8443), 308)
    );
    assert!(matches!(&redirect.path, RedirectPath::Regex(_, to) if &**to == "/y\\1"));
    world.files.files.insert("/body".into(), b"gone".to_vec());
    let made = table(
        &mut world,
        &route("match: {path: /}, direct_response: {status: 410, body: {filename: /body}}"),
    );
    let Action::Respond(answer) = &made.virtual_hosts[0].routes[0].action else {
        panic!("expected an answer")
    };
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (410, &b"gone"[..]));
}

#[test]
fn an_unchanged_virtual_host_is_shared_with_the_version_before() {
    let yaml = |second: &str| {
        format!(
            "{{name: r, virtual_hosts: [{{name: a, domains: [a], routes: [{{match: {{prefix: /}}, route: {{cluster: a}}}}]}}, {{name: b, domains: [b], routes: [{{match: {{prefix: /}}, route: {{cluster: {second}}}}}]}}]}}"
        )
    };
    let mut world = World::default();
    let before = table(&mut world, &yaml("b"));
    let mut edit = Edit::new(&Snapshot::default());
    edit.set_route_table(world.route_tables.id("r"), before.clone());
    world.previous = Some(edit.finish());
    let after = table(&mut world, &yaml("c"));
    assert!(Arc::ptr_eq(&before.virtual_hosts[0], &after.virtual_hosts[0]));
    assert!(!Arc::ptr_eq(&before.virtual_hosts[1], &after.virtual_hosts[1]));
    assert_ne!(before.fingerprint, after.fingerprint);
    assert_eq!(before.fingerprint, table(&mut world, &yaml("b")).fingerprint);
}

/// Limits by what stands in their `max_tokens`, by route.
fn limits(table: &RouteTable) -> Vec<(u32, Arc<TokenBucket>)> {
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    let said = routes.flat_map(|route| route.filters.iter());
    said.map(|said| match said {
        RouteFilter::LocalRateLimit(limit) => {
            let bucket = limit.buckets.of_everything().unwrap();
            (bucket.fill().max_tokens, Arc::clone(bucket))
        }
        other => panic!("expected a limit, found {other:?}"),
    })
    .collect()
}

#[test]
fn a_rate_limit_keeps_its_bucket_while_its_settings_are_the_same() {
    let limited = |path: &str, tokens: u32| {
        format!(
            "{{match: {{path: {path}}}, route: {{cluster: c}}, typed_per_filter_config: {{limit: {{'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: s, token_bucket: {{max_tokens: {tokens}, fill_interval: 1s}}}}}}}}"
        )
    };
    let yaml = |routes: &[String]| {
        format!(
            "{{name: r, virtual_hosts: [{{name: a, domains: [a], routes: [{}]}}]}}",
            routes.join(", ")
        )
    };
    let mut world = World::default();
    let before = table(
        &mut world,
        &yaml(&[limited("/a", 1), limited("/b", 1), limited("/c", 3)]),
    );
    let mut edit = Edit::new(&Snapshot::default());
    edit.set_route_table(world.route_tables.id("r"), before.clone());
    world.previous = Some(edit.finish());
    let plain = "{match: {path: /new}, route: {cluster: c}}".to_owned();
    let after = table(
        &mut world,
        &yaml(&[plain, limited("/a", 1), limited("/b", 1), limited("/c", 4)]),
    );
    let (before, after) = (limits(&before), limits(&after));
    assert_eq!(
        after.iter().map(|(tokens, _)| *tokens).collect::<Vec<_>>(),
        [1, 1, 4]
    );
    assert!(!Arc::ptr_eq(&before[0].1, &before[1].1), "each route has its own");
    assert!(Arc::ptr_eq(&before[0].1, &after[0].1));
    assert!(Arc::ptr_eq(&before[1].1, &after[1].1));
    assert!(!Arc::ptr_eq(&before[2].1, &after[2].1), "it has other settings");
}

#[test]
fn a_changed_file_changes_the_virtual_host_that_was_read_from_it() {
    let yaml = route("match: {prefix: /}, direct_response: {status: 200, body: {filename: /body}}");
    let mut world = World::default();
    world.files.files.insert("/body".into(), b"one".to_vec());
    let before = table(&mut world, &yaml);
    let mut edit = Edit::new(&Snapshot::default());
    edit.set_route_table(world.route_tables.id("r"), before.clone());
    world.previous = Some(edit.finish());
    world.files.files.insert("/body".into(), b"two".to_vec());
    let after = table(&mut world, &yaml);
    assert_ne!(before.fingerprint, after.fingerprint);
    assert!(!Arc::ptr_eq(&before.virtual_hosts[0], &after.virtual_hosts[0]));
}

/// Fields of a route, and why it is refused.
const REFUSED: &[(&str, &str)] = &[
    ("route: {cluster: c}", "match: expected a match, found none"),
    (
        "match: {}, route: {cluster: c}",
        "match: expected one of prefix, path, safe_regex, connect_matcher, path_separated_prefix, path_match_policy; found none",
    ),
    (
        "match: {prefix: /}",
        "expected one of route, redirect, direct_response; found none",
    ),
    (
        "match: {safe_regex: {regex: '(?=x)'}}, route: {cluster: c}",
        "match.safe_regex.regex: '(?=x)' is not a regular expression: look-around, including look-ahead and look-behind, is not supported",
    ),
    (
        "match: {prefix: /, dynamic_metadata: [{filter: x, path: [{key: a}]}]}, route: {cluster: c}",
        "match.dynamic_metadata[0].value: expected a value, found none",
    ),
    (
        "match: {prefix: /, headers: [{name: x, string_match: {prefix: ''}}]}, route: {cluster: c}",
        "match.headers[0].string_match.prefix: expected a value, found an empty string",
    ),
    (
        "match: {prefix: /}, route: {}",
        "route: expected one of cluster, cluster_header, weighted_clusters; found none",
    ),
    (
        "match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: a, weight: 0}]}}",
        "route.weighted_clusters: Sum of weights in the weighted_cluster must be greater than 0.",
    ),
    (
        "match: {prefix: /}, route: {cluster: c, prefix_rewrite: /x, regex_rewrite: {pattern: {regex: x}}}",
        "route: Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy",
    ),
    (
        "match: {prefix: /}, route: {cluster: c, regex_rewrite: {pattern: {regex: '(x)'}, substitution: '\\2'}}",
        "route.regex_rewrite.substitution: names group 2, but the pattern has 1",
    ),
    (
        "match: {path_match_policy: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/a/**/*'}}}, route: {cluster: c}",
        "match.path_match_policy: path_match_policy.path_template /a/**/* is invalid: Glob after text glob.",
    ),
    (
        "match: {path_match_policy: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: ''}}}, route: {cluster: c}",
        "match.path_match_policy.path_template: value must have between 1 and 256 characters inclusive, found 0",
    ),
    (
        "match: {path_match_policy: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/{a}'}}}, route: {cluster: c, path_rewrite_policy: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig, path_template_rewrite: '/{b}'}}}",
        "route.path_rewrite_policy: mismatch between variables in path_match_policy /{a} and path_rewrite_policy /{b}",
    ),
    (
        "match: {path_match_policy: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/{a}'}}}, route: {cluster: c, prefix_rewrite: /b}",
        "route: Cannot use prefix_rewrite with matcher extension",
    ),
    (
        "match: {path_match_policy: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/{a}'}}}, redirect: {prefix_rewrite: /b}",
        "redirect: Cannot use redirect.prefix_rewrite with path_match_policy",
    ),
    (
        "match: {prefix: /}, route: {cluster: c, path_rewrite_policy: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig, path_template_rewrite: '/b'}}}",
        "route.path_rewrite_policy: unable to use envoy.path.rewrite.uri_template.uri_template_rewriter extension without envoy.path.match.uri_template.uri_template_matcher extension",
    ),
    (
        "match: {prefix: /}, route: {cluster: c, path_rewrite: /a, prefix_rewrite: /b}",
        "route: Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy",
    ),
    (
        "match: {prefix: /}, direct_response: {status: 100}",
        "direct_response.status: expected 200 to 599, found 100",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, request_headers_to_add: [{header: {key: Host, value: x}}]",
        "request_headers_to_add[0].header.key: :-prefixed or host headers may not be modified, found 'Host'",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, request_headers_to_remove: [':path']",
        "request_headers_to_remove[0]: :-prefixed or host headers may not be removed, found ':path'",
    ),
    (
        "match: {prefix: /}, route: {cluster: c, timeout: -1s}",
        "route.timeout: expected a duration of at least 0, found -1s and 0ns",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {b: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute}}",
        "typed_per_filter_config[\"b\"]: is not supported: filter 'b' of type envoy.extensions.filters.http.lua.v3.LuaPerRoute",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {l: {'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: s, token_bucket: {max_tokens: 1, fill_interval: 1s}, descriptors: [{entries: [{key: k, value: v}], token_bucket: {max_tokens: 1, fill_interval: 1s}}, {entries: [{key: k, value: v}], token_bucket: {max_tokens: 1, fill_interval: 1s}}]}}",
        "typed_per_filter_config[\"l\"].descriptors[1]: duplicate descriptor in the local rate descriptor: k=v",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {l: {'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: s, token_bucket: {max_tokens: 1, fill_interval: 1s}, descriptors: [{entries: [{key: k, value: v}], token_bucket: {max_tokens: 1, fill_interval: 0.01s}}]}}",
        "typed_per_filter_config[\"l\"].descriptors[0].token_bucket: local rate limit descriptor token bucket fill timer must be >= 50ms",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {l: {'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: s, token_bucket: {max_tokens: 1, fill_interval: 1s}, rate_limits: [{stage: 1, actions: [{source_cluster: {}}]}]}}",
        "typed_per_filter_config[\"l\"].rate_limits[0]: 'stage' field and 'disable_key' field are not supported",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {l: {'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: s, token_bucket: {max_tokens: 1, fill_interval: 1s}, rate_limits: [{limit: {rate_limit: {requests_per_unit: 1}}, actions: [{source_cluster: {}}]}]}}",
        "typed_per_filter_config[\"l\"].rate_limits[0]: 'limit' field is not supported",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {l: {'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: s, token_bucket: {max_tokens: 1, fill_interval: 1s}, rate_limits: [{hits_addend: {number: 1, format: '%REQ(a)%'}, actions: [{source_cluster: {}}]}]}}",
        "typed_per_filter_config[\"l\"].rate_limits[0].hits_addend: hits_addend must contain either a format or a number",
    ),
    (
        "match: {prefix: /}, route: {cluster: c, rate_limits: [{actions: []}]}",
        "route.rate_limits[0].actions: expected at least one action, found none",
    ),
    (
        "match: {prefix: /}, route: {cluster: c, rate_limits: [{stage: 11, actions: [{source_cluster: {}}]}]}",
        "route.rate_limits[0].stage: expected 0 to 10, found 11",
    ),
    (
        "match: {prefix: /}, route: {cluster: c, rate_limits: [{actions: [{generic_key: {descriptor_key: k}}]}]}",
        "route.rate_limits[0].actions[0].generic_key.descriptor_value: expected a value, found an empty string",
    ),
    (
        "match: {prefix: /}, route: {cluster: c, rate_limits: [{actions: [{metadata: {descriptor_key: k, source: CLUSTER_ENTRY, metadata_key: {key: a, path: [{key: b}]}}}]}]}",
        "route.rate_limits[0].actions[0].metadata.source: is not supported: metadata of clusters and localities",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, metadata: {filter_metadata: {remora.fallback: {clusters: a}}}",
        "metadata.filter_metadata[remora.fallback].clusters: is not supported: no such field",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, metadata: {filter_metadata: {remora.fallback: {}}}",
        "metadata.filter_metadata[remora.fallback]: expected one of cluster, stale, response; found none",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, metadata: {filter_metadata: {remora.fallback: {stale: {max_age: 0s}}}}",
        "metadata.filter_metadata[remora.fallback].stale.max_age: expected a duration above 0, such as 1.5s",
    ),
    (
        "match: {prefix: /}, route: {cluster: c}, metadata: {filter_metadata: {remora.fallback: {response: {status: 99}}}}",
        "metadata.filter_metadata[remora.fallback].response.status: expected a whole number from 200 to 599",
    ),
    (
        "match: {prefix: /}, redirect: {host_redirect: a}, metadata: {filter_metadata: {remora.fallback: {response: {}}}}",
        "metadata.filter_metadata[remora.fallback]: expected a route to a cluster, found another action",
    ),
];

#[test]
fn a_route_that_would_go_elsewhere_is_refused_with_its_reason() {
    let at = "r: virtual_hosts[0].routes[0]";
    for (fields, expected) in REFUSED {
        let separator = if expected.starts_with("expected") {
            ": "
        } else {
            "."
        };
        assert_eq!(
            reason(ROUTES, &route(fields)),
            format!("{at}{separator}{expected}"),
            "{fields}"
        );
    }
}

#[test]
fn tables_refuse_doubled_domains_and_other_sources_of_routes() {
    let two = |a: &str, b: &str| {
        format!("{{name: r, virtual_hosts: [{{name: a, domains: [{a}]}}, {{name: b, domains: [{b}]}}]}}")
    };
    assert_eq!(
        reason(ROUTES, &two("A.b", "a.B")),
        "r: virtual_hosts: Only unique values for domains are permitted. Duplicate entry of domain a.b in route r"
    );
    assert!(
        reason(ROUTES, &two("'*'", "'*'")).starts_with("r: virtual_hosts: Only a single wildcard domain")
    );
    assert_eq!(
        reason(ROUTES, "{name: r, virtual_hosts: [{name: a}]}"),
        "r: virtual_hosts[0].domains: expected at least one domain, found none"
    );
    let vhds = "{config_source: {ads: {}, resource_api_version: V3}}";
    assert_eq!(reason(ROUTES, &format!("{{name: r, vhds: {vhds}}}")), "accepted");
    assert_eq!(
        reason(ROUTES, "{name: r, internal_only_headers: ['a b']}"),
        "r: internal_only_headers[0]: expected a header name, found 'a b'"
    );
}

#[test]
fn copies_are_those_of_the_most_specific_level_that_asks_for_any() {
    let yaml = |table_level: &str| {
        format!(
            "{{name: r, request_mirror_policies: [{{cluster: {table_level}}}], virtual_hosts: [\
              {{name: own, domains: [a], request_mirror_policies: [{{cluster: host}}], routes: [\
                {{match: {{path: /own}}, route: {{cluster: c, request_mirror_policies: [{{cluster: route}}]}}}}, \
                {{match: {{prefix: /}}, route: {{cluster: c}}}}]}}, \
              {{name: none, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: c}}}}]}}]}}"
        )
    };
    let mut world = World::default();
    let made = table(&mut world, &yaml("table"));
    let copies = |world: &World, made: &RouteTable, host: usize, route: usize| {
        let Action::Forward(forward) = &made.virtual_hosts[host].routes[route].action else {
            panic!("not a forward")
        };
        let mirrors = &forward.rare.as_ref().unwrap().mirrors;
        match mirrors[0].cluster {
            ClusterChoice::One(id) => world.clusters.name(id).unwrap().to_string(),
            _ => panic!("not a cluster"),
        }
    };
    assert_eq!(copies(&world, &made, 0, 0), "route");
    assert_eq!(copies(&world, &made, 0, 1), "host");
    assert_eq!(copies(&world, &made, 1, 0), "table");
    // What a virtual host inherits belongs to it: it is made anew though its own bytes are the same.
    let mut edit = Edit::new(&Snapshot::default());
    edit.set_route_table(world.route_tables.id("r"), made);
    world.previous = Some(edit.finish());
    let later = table(&mut world, &yaml("other"));
    assert_eq!(copies(&world, &later, 1, 0), "other");
    assert_eq!(
        reason(ROUTES, &yaml("''")),
        "r: request_mirror_policies[0]: Exactly one of cluster or cluster_header in request mirror policy can be specified"
    );
}

#[test]
fn a_time_limit_knows_whether_somebody_set_it() {
    let limits = |fields: &str| {
        let made = table(
            &mut World::default(),
            &route(&format!("match: {{prefix: /}}, route: {{cluster: c{fields}}}")),
        );
        let timeouts = HttpTimeouts {
            stream_idle: Some(Duration::from_secs(300)),
            ..HttpTimeouts::default()
        };
        forward(&made).time_limits(&timeouts, &HeaderMap::new(), false)
    };
    let said = |limit: Option<TimeLimit>| limit.map(|limit| (limit.limit.as_secs(), limit.from));
    let bare = limits("");
    assert_eq!(said(bare.response), Some((15, Origin::RouteDefault)));
    assert_eq!(said(bare.idle), Some((300, Origin::StreamIdleDefault)));
    assert_eq!((bare.request, bare.stream), (None, None));
    let full = limits(", timeout: 7s, idle_timeout: 9s, max_stream_duration: {max_stream_duration: 3s}");
    assert_eq!(said(full.response), Some((7, Origin::Route)));
    assert_eq!(said(full.idle), Some((9, Origin::RouteIdle)));
    assert_eq!(said(full.stream), Some((3, Origin::RouteDuration)));
}
