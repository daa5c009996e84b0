//! Rows about descriptors: what a request counts as. A descriptor's bucket is empty, so a request that has exactly that
//! descriptor is refused, and any other passes.

use harness::bootstrap::{merge, type_url};
use serde_json::{Value, json};

use super::config::{self, to};
use super::limits::{bucket, limit};
use super::table::{Row, Step, http2, steps, text};

fn described(entries: &[(&str, &str)], tokens: u32) -> Value {
    let entries: Vec<Value> = entries
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    json!({"entries": entries, "token_bucket": bucket(tokens)})
}

/// A route whose actions make a descriptor that is refused when it has these entries.
fn refuses(path: &str, actions: Value, entries: &[(&str, &str)]) -> Value {
    let fields = json!({"descriptors": [described(entries, 0)]});
    counts(path, json!([{"actions": actions}]), fields)
}

fn counts(path: &str, rules: Value, fields: Value) -> Value {
    let mut all = json!({"token_bucket": bucket(1000)});
    merge(&mut all, &fields);
    let mut route = to("a", path, json!({"rate_limits": rules}));
    route["typed_per_filter_config"] = json!({"limit": limit(all)});
    route
}

fn key(value: &str) -> Value {
    json!({"generic_key": {"descriptor_value": value}})
}

fn user(skip: bool) -> Value {
    json!({"request_headers": {"header_name": "x-user", "descriptor_key": "user", "skip_if_absent": skip}})
}

fn of_query(skip: bool) -> Value {
    json!({"query_parameters": {"query_parameter_name": "user", "descriptor_key": "user", "skip_if_absent": skip}})
}

fn of_metadata(fields: Value) -> Value {
    let mut all = json!({"descriptor_key": "m", "source": "ROUTE_ENTRY",
        "metadata_key": {"key": "ns", "path": [{"key": "a"}, {"key": "b"}]}});
    merge(&mut all, &fields);
    json!({"metadata": all})
}

fn with_metadata(mut route: Value) -> Value {
    route["metadata"] = json!({"filter_metadata": {"ns": {"a": {"b": "deep", "empty": ""}}}});
    route
}

fn of_the_request() -> Vec<Value> {
    vec![
        refuses("/generic", json!([key("v")]), &[("generic_key", "v")]),
        refuses(
            "/operator",
            json!([key("%REQ(x-user)%")]),
            &[("generic_key", "%REQ(x-user)%")],
        ),
        refuses(
            "/named",
            json!([{"generic_key": {"descriptor_key": "k", "descriptor_value": "v"}}]),
            &[("k", "v")],
        ),
        refuses(
            "/source",
            json!([{"source_cluster": {}}]),
            &[("source_cluster", "test")],
        ),
        refuses(
            "/destination",
            json!([{"destination_cluster": {}}]),
            &[("destination_cluster", "a")],
        ),
        refuses(
            "/header",
            json!([user(false), key("v")]),
            &[("user", "bad"), ("generic_key", "v")],
        ),
        refuses(
            "/no-header",
            json!([user(false), key("v")]),
            &[("generic_key", "v")],
        ),
        refuses(
            "/skipped-header",
            json!([user(true), key("v")]),
            &[("generic_key", "v")],
        ),
        refuses(
            "/pseudo",
            json!([{"request_headers": {"header_name": ":path", "descriptor_key": "path"}}]),
            &[("path", "/pseudo?a")],
        ),
        refuses("/query", json!([of_query(false)]), &[("user", "a b")]),
        refuses(
            "/no-query",
            json!([of_query(false), key("v")]),
            &[("generic_key", "v")],
        ),
        refuses(
            "/skipped-query",
            json!([of_query(true), key("v")]),
            &[("generic_key", "v")],
        ),
    ]
}

fn of_matches_and_metadata() -> Vec<Value> {
    let yes = json!({"name": "x-user", "string_match": {"exact": "yes"}});
    let parameter = json!({"name": "user", "string_match": {"exact": "a b"}});
    vec![
        refuses(
            "/remote",
            json!([{"remote_address": {}}]),
            &[("remote_address", "127.0.0.1")],
        ),
        refuses(
            "/masked",
            json!([{"masked_remote_address": {"v4_prefix_mask_len": 8}}]),
            &[("masked_remote_address", "127.0.0.0/8")],
        ),
        refuses(
            "/match",
            json!([{"header_value_match": {"descriptor_value": "v", "headers": [yes]}}]),
            &[("header_match", "v")],
        ),
        refuses(
            "/unlike",
            json!([{"header_value_match": {"descriptor_key": "k", "descriptor_value": "v", "expect_match": false,
                "headers": [yes]}}]),
            &[("k", "v")],
        ),
        refuses(
            "/query-match",
            json!([{"query_parameter_value_match": {"descriptor_value": "v", "query_parameters": [parameter]}}]),
            &[("query_match", "v")],
        ),
        with_metadata(refuses(
            "/metadata",
            json!([of_metadata(json!({}))]),
            &[("m", "deep")],
        )),
        refuses(
            "/default",
            json!([of_metadata(json!({"default_value": "d"}))]),
            &[("m", "d")],
        ),
        refuses(
            "/no-metadata",
            json!([of_metadata(json!({})), key("v")]),
            &[("generic_key", "v")],
        ),
        refuses(
            "/skipped-metadata",
            json!([of_metadata(json!({"skip_if_absent": true})), key("v")]),
            &[("generic_key", "v")],
        ),
    ]
}

fn of_the_buckets() -> Vec<Value> {
    let v = [("generic_key", "v")];
    let w = [("generic_key", "w")];
    let both = json!([{"actions": [key("v")]}, {"actions": [key("w")]}]);
    let by_user = json!([{"actions": [user(false)]}]);
    let one = json!([{"actions": [key("v")]}]);
    let hits = |path: &str, hits: Value, tokens: u32| {
        let rules = json!([{"actions": [key("v")], "hits_addend": hits}]);
        counts(
            path,
            json!([]),
            json!({"descriptors": [described(&v, tokens)], "rate_limits": rules}),
        )
    };
    let draft = "DRAFT_VERSION_03";
    let told = json!([{"actions": [key("v")], "x_ratelimit_option": draft}]);
    let untold = json!([{"actions": [key("v")], "x_ratelimit_option": "OFF"}]);
    let second = json!({"max_tokens": 9, "tokens_per_fill": 1, "fill_interval": "3600s"});
    vec![
        hits("/three", json!({"number": 3}), 5),
        hits("/free", json!({"number": 0}), 1),
        hits("/asked", json!({"format": "%REQ(x-hits)%"}), 5),
        counts(
            "/one",
            json!([{"actions": [key("v")], "hits_addend": {"number": 3}}]),
            json!({"descriptors": [described(&v, 2)]}),
        ),
        counts(
            "/anybody",
            by_user,
            json!({"descriptors": [described(&[("user", "")], 1), described(&[("user", "vip")], 3)], "max_dynamic_descriptors": 2}),
        ),
        counts(
            "/spared",
            one.clone(),
            json!({"descriptors": [described(&v, 1)], "token_bucket": bucket(0), "always_consume_default_token_bucket": false}),
        ),
        counts(
            "/spent",
            one,
            json!({"descriptors": [described(&v, 5)], "token_bucket": bucket(1)}),
        ),
        counts(
            "/told",
            both,
            json!({"descriptors": [{"entries": [{"key": "generic_key", "value": "v"}], "token_bucket": second}, described(&w, 1)],
                "enable_x_ratelimit_headers": draft}),
        ),
        counts("/rule-tells", told, json!({"descriptors": [described(&v, 7)]})),
        counts(
            "/rule-is-silent",
            untold,
            json!({"descriptors": [described(&v, 7)], "enable_x_ratelimit_headers": draft}),
        ),
    ]
}

fn of_stages() -> Vec<Value> {
    let v = [("generic_key", "v")];
    let w = [("generic_key", "w")];
    let one = json!([{"actions": [key("v")]}]);
    let mut of_nobody = counts(
        "/of-nobody",
        one.clone(),
        json!({"descriptors": [described(&v, 0)], "stage": 1}),
    );
    of_nobody["route"]["rate_limits"][0]["disable_key"] = json!("key");
    vec![
        counts(
            "/stage",
            json!([{"actions": [key("v")], "stage": 1}]),
            json!({"descriptors": [described(&v, 0)]}),
        ),
        counts(
            "/first-stage",
            json!([{"actions": [key("v")], "stage": 1}]),
            json!({"descriptors": [described(&v, 0)], "stage": 1}),
        ),
        of_nobody,
        counts(
            "/disabled-key",
            json!([{"actions": [key("v")], "disable_key": "key"}]),
            json!({"descriptors": [described(&v, 0)]}),
        ),
        counts(
            "/own-rules",
            json!([{"actions": [key("w")]}]),
            json!({"descriptors": [described(&v, 0), described(&w, 9)], "rate_limits": [{"actions": [key("v")]}]}),
        ),
        counts(
            "/connection",
            one.clone(),
            json!({"descriptors": [described(&v, 1)], "local_rate_limit_per_downstream_connection": true}),
        ),
        counts(
            "/later",
            one.clone(),
            json!({"descriptors": [described(&v, 1)], "enable_retry_after_header": true}),
        ),
        counts(
            "/retry-after",
            one,
            json!({"descriptors": [described(&v, 0)], "enable_retry_after_header": true}),
        ),
    ]
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let mut routes = of_the_request();
    routes.extend(of_matches_and_metadata());
    routes.extend(of_the_buckets());
    routes.extend(of_stages());
    vec![
        config::host("descriptors", &["descriptor.test"], routes),
        shared_host(),
    ]
}

/// A virtual host with rules of its own.
fn shared_host() -> Value {
    let refuses_host = |fields: Value| {
        let mut all =
            json!({"token_bucket": bucket(1000), "descriptors": [described(&[("generic_key", "host")], 0)]});
        merge(&mut all, &fields);
        json!({"limit": limit(all)})
    };
    let shared = |path: &str, action: Value, fields: Value| {
        let mut route = to("a", path, action);
        route["typed_per_filter_config"] = refuses_host(fields);
        route
    };
    let own = json!([{"actions": [key("route")]}]);
    let shared_routes = vec![
        shared("/without", json!({}), json!({})),
        shared("/override", json!({"rate_limits": own}), json!({})),
        shared(
            "/includes",
            json!({"rate_limits": own, "include_vh_rate_limits": true}),
            json!({}),
        ),
        shared(
            "/include",
            json!({"rate_limits": own}),
            json!({"vh_rate_limits": "INCLUDE"}),
        ),
        shared("/ignore", json!({}), json!({"vh_rate_limits": "IGNORE"})),
        shared(
            "/ignore-included",
            json!({"include_vh_rate_limits": true}),
            json!({"vh_rate_limits": "IGNORE"}),
        ),
        shared(
            "/other-stage",
            json!({"rate_limits": [{"actions": [key("route")], "stage": 3}]}),
            json!({}),
        ),
        with_metadata(shared(
            "/metadata",
            json!({}),
            json!({"descriptors": [described(&[("m", "deep")], 0)]}),
        )),
        {
            let mut answers = json!({"match": {"prefix": "/answers"}, "direct_response": {"status": 204}});
            answers["typed_per_filter_config"] = refuses_host(json!({}));
            answers
        },
        {
            let mut disabled = to("a", "/off", json!({}));
            disabled["typed_per_filter_config"] =
                json!({"limit": {"@type": type_url("config.route.v3.FilterConfig"), "disabled": true}});
            disabled
        },
    ];
    let mut shared_host = config::host("shared-limits", &["shared.test"], shared_routes);
    shared_host["rate_limits"] = json!([{"actions": [key("host")]}, {"actions": [of_metadata(json!({}))]}]);
    shared_host
}

/// Requests, in order: what they show, their text, and Envoy's status.
macro_rules! rows {
    ($($name:literal: $request:literal => $status:literal;)+) => {
        &[$(text(concat!("descriptor ", $name), concat!("GET ", $request, "\n\n"), $status)),+]
    };
}

pub(crate) const ROWS: &[Row] = rows! {
    "of a key": "/generic HTTP/1.1\nhost: descriptor.test" => 429;
    "of a key with an operator": "/operator HTTP/1.1\nhost: descriptor.test\nx-user: u" => 429;
    "of a named key": "/named HTTP/1.1\nhost: descriptor.test" => 429;
    "of the source cluster": "/source HTTP/1.1\nhost: descriptor.test" => 429;
    "of the destination cluster": "/destination HTTP/1.1\nhost: descriptor.test" => 429;
    "of a header": "/header HTTP/1.1\nhost: descriptor.test\nx-user: bad" => 429;
    "of another header": "/header HTTP/1.1\nhost: descriptor.test\nx-user: good" => 200;
    "of a header twice": "/header HTTP/1.1\nhost: descriptor.test\nx-user: bad\nx-user: good" => 429;
    "of a header twice, the other first": "/header HTTP/1.1\nhost: descriptor.test\nx-user: good\nx-user: bad" => 200;
    "of a header that is empty": "/header HTTP/1.1\nhost: descriptor.test\nx-user:" => 200;
    "without its header": "/no-header HTTP/1.1\nhost: descriptor.test" => 200;
    "without a header that may be left out": "/skipped-header HTTP/1.1\nhost: descriptor.test" => 429;
    "with a header that may be left out": "/skipped-header HTTP/1.1\nhost: descriptor.test\nx-user: u" => 200;
    "of the path": "/pseudo?a HTTP/1.1\nhost: descriptor.test" => 429;
    "of a parameter": "/query?user=a%20b HTTP/1.1\nhost: descriptor.test" => 429;
    "of a parameter with a plus": "/query?user=a+b HTTP/1.1\nhost: descriptor.test" => 200;
    "of the first parameter": "/query?user=x&user=a%20b HTTP/1.1\nhost: descriptor.test" => 200;
    "of a parameter with a decoded name": "/query?%75ser=a%20b HTTP/1.1\nhost: descriptor.test" => 429;
    "without its parameter": "/no-query HTTP/1.1\nhost: descriptor.test" => 200;
    "without a parameter that may be left out": "/skipped-query HTTP/1.1\nhost: descriptor.test" => 429;
    "of the client": "/remote HTTP/1.1\nhost: descriptor.test" => 429;
    "of a forwarded client": "/remote HTTP/1.1\nhost: descriptor.test\nx-forwarded-for: 10.9.9.9" => 200;
    "of the client's network": "/masked HTTP/1.1\nhost: descriptor.test" => 429;
    "of a match": "/match HTTP/1.1\nhost: descriptor.test\nx-user: yes" => 429;
    "of no match": "/match HTTP/1.1\nhost: descriptor.test\nx-user: no" => 200;
    "of a match that is not expected": "/unlike HTTP/1.1\nhost: descriptor.test\nx-user: yes" => 200;
    "of no match as expected": "/unlike HTTP/1.1\nhost: descriptor.test\nx-user: no" => 429;
    "of a matching parameter": "/query-match?user=a%20b HTTP/1.1\nhost: descriptor.test" => 429;
    "of another parameter": "/query-match?user=x HTTP/1.1\nhost: descriptor.test" => 200;
    "of the route's metadata": "/metadata HTTP/1.1\nhost: descriptor.test" => 429;
    "of a default": "/default HTTP/1.1\nhost: descriptor.test" => 429;
    "without its metadata": "/no-metadata HTTP/1.1\nhost: descriptor.test" => 200;
    "without metadata that may be left out": "/skipped-metadata HTTP/1.1\nhost: descriptor.test" => 429;
    "of three hits": "/three HTTP/1.1\nhost: descriptor.test" => 200;
    "of three more hits": "/three HTTP/1.1\nhost: descriptor.test" => 429;
    "of hits that a route says": "/one HTTP/1.1\nhost: descriptor.test" => 200;
    "of no hits": "/free HTTP/1.1\nhost: descriptor.test" => 429;
    "of no hits again": "/free HTTP/1.1\nhost: descriptor.test" => 429;
    "of two hits by header": "/asked HTTP/1.1\nhost: descriptor.test\nx-hits: 2" => 200;
    "of hits by a missing header": "/asked HTTP/1.1\nhost: descriptor.test" => 200;
    "of hits by a header without a number": "/asked HTTP/1.1\nhost: descriptor.test\nx-hits: many" => 200;
    "of four hits by header": "/asked HTTP/1.1\nhost: descriptor.test\nx-hits: 4" => 429;
    "of three hits by header": "/asked HTTP/1.1\nhost: descriptor.test\nx-hits: 3.7" => 200;
    "of one hit too many": "/asked HTTP/1.1\nhost: descriptor.test\nx-hits: 1" => 429;
    "of anybody": "/anybody HTTP/1.1\nhost: descriptor.test\nx-user: a" => 200;
    "of anybody again": "/anybody HTTP/1.1\nhost: descriptor.test\nx-user: a" => 429;
    "of somebody": "/anybody HTTP/1.1\nhost: descriptor.test\nx-user: vip" => 200;
    "of somebody again": "/anybody HTTP/1.1\nhost: descriptor.test\nx-user: vip" => 200;
    "of another": "/anybody HTTP/1.1\nhost: descriptor.test\nx-user: b" => 200;
    "of the third, who makes the first forgotten": "/anybody HTTP/1.1\nhost: descriptor.test\nx-user: c" => 200;
    "of the second, who is remembered": "/anybody HTTP/1.1\nhost: descriptor.test\nx-user: b" => 429;
    "of the first, who is not": "/anybody HTTP/1.1\nhost: descriptor.test\nx-user: a" => 200;
    "that spares the default": "/spared HTTP/1.1\nhost: descriptor.test" => 200;
    "that spares the default, reached": "/spared HTTP/1.1\nhost: descriptor.test" => 429;
    "beside the default": "/spent HTTP/1.1\nhost: descriptor.test" => 200;
    "beside the default, reached": "/spent HTTP/1.1\nhost: descriptor.test" => 429;
    "told": "/told HTTP/1.1\nhost: descriptor.test" => 200;
    "told, reached": "/told HTTP/1.1\nhost: descriptor.test" => 429;
    "told by the rule's word": "/rule-tells HTTP/1.1\nhost: descriptor.test" => 200;
    "not told by the rule's word": "/rule-is-silent HTTP/1.1\nhost: descriptor.test" => 200;
    "of another stage": "/stage HTTP/1.1\nhost: descriptor.test" => 200;
    "of the first stage": "/first-stage HTTP/1.1\nhost: descriptor.test" => 429;
    "with a key in another stage": "/of-nobody HTTP/1.1\nhost: descriptor.test" => 200;
    "with a key that disables it": "/disabled-key HTTP/1.1\nhost: descriptor.test" => 200;
    "of the filter's own rules": "/own-rules HTTP/1.1\nhost: descriptor.test" => 429;
    "with advice, before it": "/later HTTP/1.1\nhost: descriptor.test" => 200;
    "with advice, reached": "/later HTTP/1.1\nhost: descriptor.test" => 429;
    "with advice": "/retry-after HTTP/1.1\nhost: descriptor.test" => 429;
    "of the host": "/without HTTP/1.1\nhost: shared.test" => 429;
    "of the host, overridden": "/override HTTP/1.1\nhost: shared.test" => 200;
    "of the host, included by the route": "/includes HTTP/1.1\nhost: shared.test" => 429;
    "of the host, included": "/include HTTP/1.1\nhost: shared.test" => 429;
    "of the host, ignored": "/ignore HTTP/1.1\nhost: shared.test" => 200;
    "of the host, ignored and included": "/ignore-included HTTP/1.1\nhost: shared.test" => 200;
    "of the host, overridden in another stage": "/other-stage HTTP/1.1\nhost: shared.test" => 200;
    "of the host by the route's metadata": "/metadata HTTP/1.1\nhost: shared.test" => 429;
    "of a direct response": "/answers HTTP/1.1\nhost: shared.test" => 204;
    "switched off": "/off HTTP/1.1\nhost: shared.test" => 200;
};

const CONNECTION: &str = "GET /connection HTTP/1.1\nhost: descriptor.test\n\n";

pub(crate) const CONVERSATIONS: &[Row] = &[
    http2("h2 descriptor of a key", "descriptor.test", "/generic", &[], 429),
    steps(
        "descriptor of a connection",
        &[
            Step::Text(CONNECTION),
            Step::Response("GET"),
            Step::Text(CONNECTION),
            Step::Response("GET"),
        ],
        429,
    ),
    text("descriptor of another connection", CONNECTION, 200),
];
