//! Rows about what filters leave for others: filter state, and routes that are chosen again by it.

use serde_json::{Value, json};

use super::config::{host, to};
use super::filters::config;
use super::table::{Row, http2, text};

fn set(key: &str, factory: &str, format: &str) -> Value {
    json!({"object_key": key, "factory_key": factory, "format_string": {"text_format_source": {"inline_string": format}}})
}

fn mine(format: &str) -> Value {
    set("mine", "envoy.string", format)
}

fn state(values: Value) -> Value {
    config(
        "set_filter_state.v3.Config",
        json!({"on_request_headers": values}),
    )
}

fn off(name: &str, mut filter: Value, fields: Value) -> Value {
    harness::bootstrap::merge(&mut filter, &fields);
    json!({"name": name, "disabled": true, "typed_config": filter})
}

/// The filters of the main listener, which routes switch on.
pub(crate) fn chain() -> Vec<Value> {
    let mut spared = mine("%REQ(x-b)%");
    spared["skip_if_empty"] = json!(true);
    spared["format_string"]["omit_empty_values"] = json!(true);
    let absent = set("absent", "envoy.string", "%REQ(x-none)%");
    let mut omitted = set("omitted", "envoy.string", "<%REQ(x-none)%>");
    omitted["format_string"]["omit_empty_values"] = json!(true);
    let own = json!([
        mine("%REQ(x-a)% of %REQ(:AUTHORITY)%"),
        spared,
        absent,
        omitted,
        set("hash", "envoy.hashable_string", "%REQ(x-a)%"),
        set("hits", "envoy.ratelimit.hits_addend", "%REQ(x-hits)%"),
    ]);
    vec![
        off("state", state(own), json!({})),
        off(
            "state-again",
            state(json!([mine("%REQ(x-a)%")])),
            json!({"clear_route_cache": true}),
        ),
        off(
            "state-hits",
            state(json!([set("envoy.ratelimit.hits_addend", "", "%REQ(x-hits)%")])),
            json!({}),
        ),
    ]
}

fn with(mut route: Value, filters: Value) -> Value {
    route["typed_per_filter_config"] = filters;
    route
}

/// The virtual host of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let enabled =
        json!({"@type": harness::bootstrap::type_url("config.route.v3.FilterConfig"), "config": {}});
    let chosen = |value: &str, name: &str| {
        json!({"match": {"prefix": "/again", "filter_state": [{"key": "mine", "string_match": {"prefix": value}}]},
            "direct_response": {"status": 200, "body": {"inline_string": name}}})
    };
    let hits = json!({"rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "v"}}]}]});
    let asks = config("ratelimit.v3.RateLimitPerRoute", json!({}));
    let said = state(json!([
        mine("the route says %REQ(x-a)%"),
        set("new", "envoy.string", "n")
    ]));
    let mut host = host(
        "state",
        &["state.test"],
        vec![
            chosen("red", "the red route"),
            chosen("blue", "the blue route"),
            with(to("a", "/again", json!({})), json!({"state-again": enabled})),
            with(to("a", "/set", json!({})), json!({"state": enabled})),
            with(to("a", "/route", json!({})), json!({"state": said})),
            with(
                to("a", "/hits", hits),
                json!({"state-hits": enabled, "rls": asks}),
            ),
            to("a", "/", json!({})),
        ],
    );
    let shown =
        |name: &str, what: &str| json!({"header": {"key": name, "value": format!("%FILTER_STATE({what})%")}});
    host["response_headers_to_add"] = json!([
        shown("x-plain", "mine:PLAIN"),
        shown("x-typed", "mine:TYPED"),
        shown("x-default", "mine"),
        shown("x-absent", "absent:PLAIN"),
        shown("x-omitted", "omitted:PLAIN"),
        shown("x-none", "none:PLAIN"),
        shown("x-hash", "hash:PLAIN"),
        shown("x-typed-hash", "hash"),
        shown("x-hits", "hits:PLAIN"),
        shown("x-typed-hits", "hits"),
        shown("x-new", "new:PLAIN")
    ]);
    vec![host]
}

pub(crate) const ROWS: &[Row] = &[
    text(
        "state of a request",
        "GET /set HTTP/1.1\nhost: state.test\nx-a: one \"two\"\nx-hits: 5\n\n",
        200,
    ),
    text(
        "state of a request, said twice",
        "GET /set HTTP/1.1\nhost: state.test\nx-a: one\nx-b: two\nx-hits: many\n\n",
        200,
    ),
    text(
        "state that nobody set",
        "GET /none HTTP/1.1\nhost: state.test\nx-a: one\n\n",
        200,
    ),
    text(
        "state by the route",
        "GET /route HTTP/1.1\nhost: state.test\nx-a: one\n\n",
        200,
    ),
    http2(
        "h2 state of a request",
        "state.test",
        "/set",
        &[("x-a", "one")],
        200,
    ),
    text(
        "state chooses a route",
        "GET /again HTTP/1.1\nhost: state.test\nx-a: red one\n\n",
        200,
    ),
    text(
        "state chooses another route",
        "GET /again HTTP/1.1\nhost: state.test\nx-a: blue\n\n",
        200,
    ),
    text(
        "state chooses the same route",
        "GET /again HTTP/1.1\nhost: state.test\nx-a: green\n\n",
        200,
    ),
    text(
        "state of hits",
        "GET /hits HTTP/1.1\nhost: state.test\nx-hits: 12\n\n",
        200,
    ),
    text(
        "state of no hits",
        "GET /hits HTTP/1.1\nhost: state.test\nx-hits: many\n\n",
        200,
    ),
];
