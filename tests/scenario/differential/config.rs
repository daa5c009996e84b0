//! The one bootstrap that both proxies get: every route, header rule and cluster that the table of requests needs.

use std::net::SocketAddr;

use harness::bootstrap::{
    cluster, fixed, http_connection_manager, http_protocol, http2_cluster, listener, merge, type_url,
};
use serde_json::{Value, json};

/// Where everything listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) admin: SocketAddr,
    pub(crate) main: SocketAddr,
    pub(crate) edge: SocketAddr,
    pub(crate) plain: SocketAddr,
    pub(crate) timed: SocketAddr,
    pub(crate) rare: SocketAddr,
    pub(crate) replies: SocketAddr,
    pub(crate) tuned: SocketAddr,
    pub(crate) announce: SocketAddr,
    pub(crate) little: SocketAddr,
    pub(crate) a: SocketAddr,
    pub(crate) b: SocketAddr,
    pub(crate) closed: SocketAddr,
    pub(crate) services: SocketAddr,
}

/// `main` is a sidecar's listener, `edge` trusts nobody's forwarding headers, `plain` changes the limits and leaves
/// requests alone.
pub(crate) fn bootstrap(at: &Addresses) -> Value {
    let routes = routes();
    let main = json!({
        "route_config": routes, "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_protocol_options": {"enable_trailers": true},
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}, "http_filters": super::filters::chain(),
    });
    let edge = json!({
        "route_config": routes, "use_remote_address": true, "server_name": "edge-server",
        "always_set_request_id_in_response": true, "strip_trailing_host_dot": true,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
    });
    let plain = json!({
        "route_config": routes, "generate_request_id": false, "server_header_transformation": "PASS_THROUGH",
        "http_protocol_options": {"accept_http_10": true, "default_host_for_http_10": "direct.test"},
        "max_request_headers_kb": 8, "stream_idle_timeout": "0.4s", "preserve_external_request_id": true,
        "common_http_protocol_options": {"max_headers_count": 20, "headers_with_underscores_action": "REJECT_REQUEST"},
        "skip_xff_append": true, "strip_any_host_port": true,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
    });
    let mut timed = super::timeouts::manager();
    merge(&mut timed, &json!({"route_config": routes}));
    let [all, little] = super::announce::managers();
    let listeners = vec![
        listener("announce", at.announce, http_connection_manager(&all)),
        listener("little", at.little, http_connection_manager(&little)),
        listener("main", at.main, http_connection_manager(&main)),
        listener("edge", at.edge, http_connection_manager(&edge)),
        listener("plain", at.plain, http_connection_manager(&plain)),
        listener("timed", at.timed, http_connection_manager(&timed)),
        listener(
            "rare",
            at.rare,
            http_connection_manager(&super::conditions::manager()),
        ),
        listener(
            "replies",
            at.replies,
            http_connection_manager(&super::replies::manager()),
        ),
        super::managers::listener(at.tuned),
    ];
    fixed(at.admin, listeners, clusters(at))
}

fn clusters(at: &Addresses) -> Vec<Value> {
    let mut a = cluster("a", &[at.a]);
    let options = http_protocol(&json!({"http_protocol_options": {"enable_trailers": true}}));
    merge(&mut a, &json!({"typed_extension_protocol_options": options}));
    let mut same = cluster("downstream-protocol", &[at.b]);
    merge(
        &mut same,
        &json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": type_url("extensions.upstreams.http.v3.HttpProtocolOptions"),
            "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}}}),
    );
    let mut brief = cluster("brief", &[at.a]);
    merge(
        &mut brief,
        &json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": type_url("extensions.upstreams.http.v3.HttpProtocolOptions"),
            "common_http_protocol_options": {"max_stream_duration": "0.3s"},
            "explicit_http_config": {"http_protocol_options": {}}}}}),
    );
    let mut all = vec![
        a,
        brief,
        cluster("b", &[at.b]),
        http2_cluster("h2", &[at.b]),
        same,
        super::services::cluster(at.services),
        cluster("closed", &[at.closed]),
        cluster("empty", &[]),
    ];
    // As many rows as there are try again: what is allowed where nothing is said would not last for them.
    let retries = json!({"circuit_breakers": {"thresholds": [{"max_retries": 1000}]}});
    all.iter_mut().for_each(|cluster| merge(cluster, &retries));
    all
}

/// A route that answers by itself with its own name: shows which one matched.
pub(crate) fn says(name: &str, matches: Value) -> Value {
    json!({"match": matches, "direct_response": {"status": 200, "body": {"inline_string": name}}})
}

/// A route to a cluster, with further fields of the action.
pub(crate) fn to(cluster: &str, prefix: &str, action: Value) -> Value {
    let mut route = json!({"cluster": cluster});
    merge(&mut route, &action);
    json!({"match": {"prefix": prefix}, "route": route})
}

pub(crate) fn host(name: &str, domains: &[&str], routes: Vec<Value>) -> Value {
    json!({"name": name, "domains": domains, "routes": routes})
}

fn routes() -> Value {
    let any = json!({"prefix": "/"});
    let mut hosts = vec![
        host(
            "exact",
            &["exact.test", "ported.test:8080"],
            vec![says("exact host", any.clone())],
        ),
        host(
            "exact-in-wild",
            &["exact.wild.test"],
            vec![says("exact in wild", any.clone())],
        ),
        host("wild", &["*.wild.test"], vec![says("suffix", any.clone())]),
        host(
            "deep",
            &["*.deep.wild.test"],
            vec![says("longer suffix", any.clone())],
        ),
        host("dash", &["*-dash.test"], vec![says("dash suffix", any.clone())]),
        host("pre", &["pre.*"], vec![says("prefix host", any.clone())]),
        host("pre-long", &["pre.long.*"], vec![says("longer prefix host", any)]),
        host("match", &["match.test"], match_routes()),
        host("rewrite", &["rewrite.test"], rewrite_routes()),
        host("redirect", &["redirect.test"], redirect_routes()),
        host("direct", &["direct.test"], direct_routes()),
        host(
            "none",
            &["none.test"],
            vec![says("only this", json!({"path": "/only"}))],
        ),
        host("h2", &["h2.test"], vec![to("h2", "/", json!({}))]),
        host(
            "same",
            &["same.test"],
            vec![to("downstream-protocol", "/", json!({}))],
        ),
        host("b", &["b.test"], vec![to("b", "/", json!({}))]),
        host("limits", &["limits.test"], limit_routes()),
        host("weights", &["weights.test"], weight_routes()),
        headers_host(),
    ];
    hosts.extend(hosts_of_parts());
    hosts.push(host("all", &["*"], vec![to("a", "/", json!({}))]));
    json!({
        "name": "table", "virtual_hosts": hosts, "validate_clusters": false,
        "request_headers_to_add": [
            {"header": {"key": "x-level", "value": "config"}},
            {"header": {"key": "x-config-only", "value": "1"}}],
        "response_headers_to_add": [{"header": {"key": "x-response-level", "value": "config"}},
            {"header": {"key": "x-flags", "value": "%RESPONSE_FLAGS%"}},
            {"header": {"key": "x-details", "value": "%RESPONSE_CODE_DETAILS%"}},
            {"header": {"key": "x-cluster", "value": "%UPSTREAM_CLUSTER%"}}],
        "response_headers_to_remove": ["x-remove-config"], "request_headers_to_remove": ["x-unwanted-config"],
    })
}

/// What the parts of the table bring for their own rows.
fn hosts_of_parts() -> Vec<Value> {
    let parts = [
        super::filters::hosts(),
        super::retries::hosts(),
        super::mirrors::hosts(),
        super::redirects::hosts(),
        super::replies::hosts(),
        super::conditions::hosts(),
        super::templates::hosts(),
        super::generated::hosts(),
        super::bodies::hosts(),
        super::timeouts::hosts(),
        super::compression::hosts(),
        super::cache::hosts(),
        super::authorization::hosts(),
        super::services::hosts(),
        super::state::hosts(),
    ];
    parts.concat()
}

fn match_routes() -> Vec<Value> {
    let mut routes = vec![
        says("path", json!({"path": "/exact"})),
        says(
            "path without case",
            json!({"path": "/NoCase", "case_sensitive": false}),
        ),
        says("regex", json!({"safe_regex": {"regex": "/re/[0-9]+(/x)?"}})),
        says("separated prefix", json!({"path_separated_prefix": "/sep"})),
        says(
            "post",
            json!({"prefix": "/method", "headers": [matcher(":method", string(json!({"exact": "POST"})))]}),
        ),
        says("other method", json!({"prefix": "/method"})),
        says(
            "authority",
            json!({"prefix": "/authority", "headers": [matcher(":authority", string(json!({"exact": "match.test"})))]}),
        ),
    ];
    routes.extend(header_routes());
    routes.extend(query_routes());
    routes.extend([
        says("grpc", json!({"prefix": "/", "grpc": {}})),
        says("prefix", json!({"prefix": "/pre"})),
        says("rest", json!({"prefix": "/"})),
    ]);
    routes
}

/// A header or query parameter matcher.
fn matcher(name: &str, how: Value) -> Value {
    let mut matcher = json!({"name": name});
    merge(&mut matcher, &how);
    matcher
}

fn string(how: Value) -> Value {
    json!({"string_match": how})
}

fn header_routes() -> Vec<Value> {
    let header = |name: &str, how: Value| json!({"prefix": "/header", "headers": [matcher(name, how)]});
    vec![
        says("header exact", header("x-exact", string(json!({"exact": "yes"})))),
        says(
            "header exact without case",
            header("x-nocase", string(json!({"exact": "Yes", "ignore_case": true}))),
        ),
        says(
            "header prefix",
            header("x-prefix", string(json!({"prefix": "pre"}))),
        ),
        says(
            "header suffix",
            header("x-suffix", string(json!({"suffix": "fix"}))),
        ),
        says(
            "header contains",
            header("x-contains", string(json!({"contains": "mid"}))),
        ),
        says(
            "header regex",
            header("x-regex", string(json!({"safe_regex": {"regex": "a.c"}}))),
        ),
        says(
            "header range",
            header("x-range", json!({"range_match": {"start": "-5", "end": "10"}})),
        ),
        says(
            "header present",
            header("x-present", json!({"present_match": true})),
        ),
        says(
            "header two",
            json!({"prefix": "/header", "headers": [
                matcher("x-one", string(json!({"exact": "1"}))),
                {"name": "x-two", "string_match": {"exact": "2"}, "invert_match": true}]}),
        ),
        says(
            "header missing as empty",
            header(
                "x-as-empty",
                json!({"string_match": {"exact": "not-empty"}, "invert_match": true,
                    "treat_missing_header_as_empty": true}),
            ),
        ),
    ]
}

fn query_routes() -> Vec<Value> {
    let query =
        |name: &str, how: Value| json!({"prefix": "/query", "query_parameters": [matcher(name, how)]});
    vec![
        says("query exact", query("q", string(json!({"exact": "1"})))),
        says("query present", query("p", json!({"present_match": true}))),
        says(
            "query regex",
            query("r", string(json!({"safe_regex": {"regex": "[a-z]+"}}))),
        ),
    ]
}

fn rewrite_routes() -> Vec<Value> {
    vec![
        to("a", "/prefix/", json!({"prefix_rewrite": "/"})),
        to("a", "/longer", json!({"prefix_rewrite": "/api/v2"})),
        to(
            "a",
            "/regex",
            json!({"regex_rewrite": {
            "pattern": {"regex": "^/regex/([^/]+)/(.*)$"}, "substitution": "/\\2/by/\\1"}}),
        ),
        to("a", "/host", json!({"host_rewrite_literal": "rewritten.test"})),
        to("a", "/header-host", json!({"host_rewrite_header": "x-new-host"})),
        to(
            "a",
            "/forwarded-host",
            json!({"host_rewrite_literal": "rewritten.test", "append_x_forwarded_host": true}),
        ),
        json!({"match": {"path": "/whole"}, "route": {"cluster": "a", "prefix_rewrite": "/replaced"}}),
        json!({"match": {"path_separated_prefix": "/sep"}, "route": {"cluster": "a", "prefix_rewrite": "/new"}}),
    ]
}

fn redirect_routes() -> Vec<Value> {
    let route = |path: &str, how: Value| json!({"match": {"prefix": path}, "redirect": how});
    vec![
        route("/host", json!({"host_redirect": "other.test"})),
        route("/path", json!({"path_redirect": "/elsewhere"})),
        route("/query-path", json!({"path_redirect": "/elsewhere?new=1"})),
        route("/prefix", json!({"prefix_rewrite": "/new"})),
        route(
            "/regex",
            json!({"regex_rewrite": {"pattern": {"regex": "[0-9]+"}, "substitution": "N"}}),
        ),
        route("/https", json!({"https_redirect": true})),
        route("/scheme", json!({"scheme_redirect": "ftp"})),
        route("/port", json!({"port_redirect": 8443})),
        route(
            "/strip",
            json!({"path_redirect": "/stripped", "strip_query": true}),
        ),
        route(
            "/302",
            json!({"host_redirect": "other.test", "response_code": "FOUND"}),
        ),
        route(
            "/303",
            json!({"host_redirect": "other.test", "response_code": "SEE_OTHER"}),
        ),
        route(
            "/307",
            json!({"host_redirect": "other.test", "response_code": "TEMPORARY_REDIRECT"}),
        ),
        route(
            "/308",
            json!({"host_redirect": "other.test", "response_code": "PERMANENT_REDIRECT"}),
        ),
        route(
            "/all",
            json!({
            "https_redirect": true, "host_redirect": "other.test", "port_redirect": 444, "prefix_rewrite": "/"}),
        ),
    ]
}

fn direct_routes() -> Vec<Value> {
    let route = |path: &str, how: Value| json!({"match": {"prefix": path}, "direct_response": how});
    vec![
        route("/empty", json!({"status": 403})),
        route("/204", json!({"status": 204})),
        json!({"match": {"prefix": "/typed"},
            "direct_response": {"status": 200, "body": {"inline_string": "{\"a\":1}"}},
            "response_headers_to_add": [{"header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}),
        route(
            "/",
            json!({"status": 418, "body": {"inline_string": "short and stout"}}),
        ),
    ]
}

fn limit_routes() -> Vec<Value> {
    vec![
        to("a", "/timeout", json!({"timeout": "0.2s"})),
        to("a", "/idle", json!({"timeout": "0s", "idle_timeout": "0.2s"})),
        to("closed", "/closed", json!({})),
        to("empty", "/empty", json!({})),
        to("missing", "/missing", json!({})),
        to(
            "missing",
            "/absent",
            json!({"cluster_not_found_response_code": "NOT_FOUND"}),
        ),
    ]
}

fn weight_routes() -> Vec<Value> {
    let weighted = |a: u32, b: u32| {
        json!({"weighted_clusters": {"clusters": [
            {"name": "a", "weight": a, "request_headers_to_add": [{"header": {"key": "x-weighted", "value": "a"}}]},
            {"name": "b", "weight": b, "response_headers_to_add": [{"header": {"key": "x-weighted", "value": "b"}}]}]}})
    };
    vec![
        json!({"match": {"prefix": "/a"}, "route": weighted(100, 0)}),
        json!({"match": {"prefix": "/b"}, "route": weighted(0, 100)}),
    ]
}

/// Header rules on the virtual host and on its routes, each kind of append action once.
fn headers_host() -> Value {
    let add = |key: &str, value: &str, action: &str| json!({"header": {"key": key, "value": value}, "append_action": action});
    let all = |side: &str| {
        json!([
            add("x-append", side, "APPEND_IF_EXISTS_OR_ADD"),
            add("x-absent", side, "ADD_IF_ABSENT"),
            add("x-overwrite", side, "OVERWRITE_IF_EXISTS_OR_ADD"),
            add("x-if-exists", side, "OVERWRITE_IF_EXISTS"),
            add("x-level", "route", "APPEND_IF_EXISTS_OR_ADD"),
        ])
    };
    let mut rules = to("a", "/rules", json!({}));
    merge(
        &mut rules,
        &json!({
            "request_headers_to_add": all("request"), "response_headers_to_add": all("response"),
            "request_headers_to_remove": ["x-unwanted"], "response_headers_to_remove": ["x-remove", "x-upstream"],
        }),
    );
    let mut formats = to("a", "/formats", json!({}));
    merge(
        &mut formats,
        &json!({"request_headers_to_add": [
            add("x-protocol", "%PROTOCOL%", "OVERWRITE_IF_EXISTS_OR_ADD"),
            add("x-was", "%REQ(x-given)% %REQ(x-not-given)%", "OVERWRITE_IF_EXISTS_OR_ADD"),
            add("x-downstream", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "OVERWRITE_IF_EXISTS_OR_ADD"),
            add("x-percent", "100%%", "OVERWRITE_IF_EXISTS_OR_ADD")]}),
    );
    json!({
        "name": "headers", "domains": ["headers.test"],
        "routes": [rules, formats, to("a", "/", json!({}))],
        "request_headers_to_add": [{"header": {"key": "x-level", "value": "host"}}],
        "response_headers_to_add": [{"header": {"key": "x-response-level", "value": "host"}}],
        "request_headers_to_remove": ["x-unwanted-host"],
    })
}
