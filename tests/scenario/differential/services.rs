//! Rows about filters that ask a service: the request brings the words by which the service answers, and what the service
//! was asked is part of what is compared.

use harness::bootstrap::merge;
use serde_json::{Value, json};

use super::config::{host, to};
use super::filters::config;
use super::table::{Row, grpc, http2, text};

/// A service, with the word by which rows know who asks.
fn service(cluster: &str, name: &str) -> Value {
    json!({"transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": cluster},
        "initial_metadata": [{"key": "x-asked-by", "value": name}, {"key": "x-path", "value": "%REQ(:PATH)%"}]}})
}

/// A filter that asks, switched on by the routes that name it.
fn limits(name: &str, fields: Value) -> Value {
    let mut all =
        json!({"domain": "table", "timeout": "20s", "rate_limit_service": service("services", name)});
    merge(&mut all, &fields);
    json!({"name": name, "disabled": true, "typed_config": config("ratelimit.v3.RateLimit", all)})
}

/// The filters of the main listener, which routes switch on.
pub(crate) fn chain() -> Vec<Value> {
    let none = json!({"default_value": {"numerator": 0}});
    let all = json!({"default_value": {"numerator": 100}});
    let draft = "DRAFT_VERSION_03";
    let word = json!([{"header": {"key": "x-refused", "value": "%REQ(x-script)% %RESPONSE_FLAGS%"}}]);
    vec![
        limits("rls", json!({})),
        limits(
            "rls-told",
            json!({"enable_x_ratelimit_headers": draft, "stat_prefix": "told", "rate_limited_as_resource_exhausted": true,
                "rate_limited_status": {"code": 503}, "response_headers_to_add": word, "metadata_namespace": "told"}),
        ),
        limits(
            "rls-when",
            json!({"enable_retry_after_header": true, "disable_x_envoy_ratelimited_header": true}),
        ),
        limits(
            "rls-deny",
            json!({"failure_mode_deny": true, "status_on_error": {"code": 502}}),
        ),
        limits(
            "rls-shadow",
            json!({"filter_enforced": none, "enable_x_ratelimit_headers": draft}),
        ),
        limits("rls-off", json!({"filter_enabled": none})),
        limits(
            "rls-spares",
            json!({"failure_mode_deny": true, "failure_mode_deny_percent": none}),
        ),
        limits("rls-denies", json!({"failure_mode_deny_percent": all})),
        limits("rls-slow", json!({"timeout": "0.1s", "failure_mode_deny": true})),
        limits(
            "rls-gone",
            json!({"rate_limit_service": service("closed", "rls-gone"), "failure_mode_deny": true}),
        ),
        limits("rls-internal", json!({"request_type": "internal"})),
        limits("rls-external", json!({"request_type": "external"})),
        limits("rls-stage", json!({"stage": 2})),
        limits(
            "rls-rules",
            json!({"rate_limits": [{"actions": [script(), key("own")]}]}),
        ),
    ]
}

fn key(value: &str) -> Value {
    json!({"generic_key": {"descriptor_value": value}})
}

fn script() -> Value {
    json!({"request_headers": {"header_name": "x-script", "descriptor_key": "script", "skip_if_absent": true}})
}

/// A route that asks by this filter, with these rules.
fn route(path: &str, filter: &str, rules: Value, said: Value) -> Value {
    let mut route = to("a", path, json!({"rate_limits": rules}));
    route["typed_per_filter_config"] = json!({filter: config("ratelimit.v3.RateLimitPerRoute", said)});
    route
}

/// A route that asks as the script says.
fn asks(path: &str, filter: &str) -> Value {
    route(
        path,
        filter,
        json!([{"actions": [script(), key("v")]}]),
        json!({}),
    )
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let one = json!([{"actions": [script(), key("v")]}]);
    let mut host = host("asked", &["asked.test"], of_the_answer());
    let more = [
        route(
            "/two",
            "rls",
            json!([{"actions": [script(), key("v")]}, {"actions": [key("w"), {"remote_address": {}}]}]),
            json!({}),
        ),
        route(
            "/hits",
            "rls",
            json!([{"actions": [key("v")], "hits_addend": {"number": 7}}]),
            json!({}),
        ),
        route(
            "/limit",
            "rls",
            json!([{"actions": [key("v")], "limit": {"rate_limit": {"requests_per_unit": 9, "unit": "HOUR"}}}]),
            json!({}),
        ),
        route("/domain", "rls", one.clone(), json!({"domain": "of the route"})),
        route(
            "/stage-two",
            "rls-stage",
            json!([{"actions": [key("v")], "stage": 2}, {"actions": [key("w")]}]),
            json!({}),
        ),
        route(
            "/include",
            "rls",
            one.clone(),
            json!({"vh_rate_limits": "INCLUDE"}),
        ),
        route("/ignore", "rls", json!([]), json!({"vh_rate_limits": "IGNORE"})),
        route("/override", "rls", json!([]), json!({})),
        route("/rules", "rls-rules", one.clone(), json!({})),
        route(
            "/route-rules",
            "rls-rules",
            one.clone(),
            json!({"rate_limits": [{"actions": [script(), key("route")], "hits_addend": {"number": 3}}]}),
        ),
        json!({"match": {"prefix": "/direct"}, "direct_response": {"status": 200}, "typed_per_filter_config": {
            "rls": config("ratelimit.v3.RateLimitPerRoute", json!({}))}}),
    ];
    let mut older = route("/older", "rls", one, json!({"vh_rate_limits": "IGNORE"}));
    older["route"]["include_vh_rate_limits"] = json!(true);
    if let Some(routes) = host["routes"].as_array_mut() {
        routes.extend(more);
        routes.push(older);
    }
    host["rate_limits"] = json!([{"actions": [key("of the host")]}]);
    host["response_headers_to_add"] = json!([
        {"header": {"key": "x-noted", "value": "%DYNAMIC_METADATA(envoy.filters.http.ratelimit)%"}},
        {"header": {"key": "x-noted-text", "value": "%DYNAMIC_METADATA(told:text)%"}},
        {"header": {"key": "x-noted-number", "value": "%DYNAMIC_METADATA(told:number)%"}},
        {"header": {"key": "x-noted-list", "value": "%DYNAMIC_METADATA(told:inner:list)%"}}]);
    vec![host]
}

fn of_the_answer() -> Vec<Value> {
    let mut routes: Vec<Value> = [
        "rls-told",
        "rls-when",
        "rls-deny",
        "rls-shadow",
        "rls-off",
        "rls-spares",
        "rls-denies",
        "rls-slow",
        "rls-gone",
        "rls-internal",
        "rls-external",
    ]
    .iter()
    .map(|filter| asks(&format!("/{filter}"), filter))
    .collect();
    routes.push(asks("/plain", "rls"));
    routes
}

/// A request over HTTP/1 with a script.
macro_rules! asked {
    ($name:literal, $path:literal, $script:literal, $status:literal) => {
        text(
            $name,
            concat!(
                "GET ",
                $path,
                " HTTP/1.1\nhost: asked.test\nx-script: ",
                $script,
                "\n\n"
            ),
            $status,
        )
    };
}

pub(crate) const ROWS: &[Row] = &[
    asked!("service says yes", "/plain?x=1", "ok", 200),
    asked!("service says no", "/plain", "over", 429),
    asked!("service says no with headers", "/plain", "over headers", 429),
    asked!("service says no with a body", "/plain", "over body", 429),
    asked!(
        "service says no with a typed body",
        "/plain",
        "over body typed",
        429
    ),
    asked!("service says yes with headers", "/plain", "ok headers", 200),
    asked!("service says yes with a body", "/plain", "ok body", 200),
    asked!("service notes metadata", "/plain", "ok metadata", 200),
    asked!("service fails", "/plain", "error", 200),
    http2(
        "h2 service says no",
        "asked.test",
        "/plain",
        &[("x-script", "over headers body")],
        429,
    ),
    grpc(
        "h2 grpc service says no",
        "asked.test",
        "/plain",
        &[
            ("content-type", "application/grpc"),
            ("x-script", "over body headers"),
        ],
    ),
    grpc(
        "h2 grpc service says no, exhausted",
        "asked.test",
        "/rls-told",
        &[("content-type", "application/grpc"), ("x-script", "over body")],
    ),
    asked!(
        "service tells of limits",
        "/rls-told",
        "ok statuses metadata",
        200
    ),
    asked!(
        "service tells of limits and no",
        "/rls-told",
        "over statuses headers",
        503
    ),
    asked!("service tells of no limits", "/rls-told", "over", 503),
    asked!("service says when", "/rls-when", "over statuses", 429),
    asked!("service does not say when", "/rls-when", "over", 429),
    asked!("service says yes, not when", "/rls-when", "ok statuses", 200),
    asked!("service fails and denies", "/rls-deny", "error", 502),
    asked!("service says yes where failure denies", "/rls-deny", "ok", 200),
    asked!(
        "service in shadow",
        "/rls-shadow",
        "over headers statuses body",
        200
    ),
    asked!("service is not asked", "/rls-off", "over", 200),
    asked!(
        "service fails and a percentage spares",
        "/rls-spares",
        "error",
        200
    ),
    asked!(
        "service fails and a percentage denies",
        "/rls-denies",
        "error",
        500
    ),
    asked!("service is silent", "/rls-slow", "never", 500),
    asked!("service is gone", "/rls-gone", "ok", 500),
    asked!(
        "service of the inside, from outside",
        "/rls-internal",
        "over",
        200
    ),
    asked!(
        "service of the outside, from outside",
        "/rls-external",
        "over",
        429
    ),
    text(
        "service of the inside, from inside",
        "GET /rls-internal HTTP/1.1\nhost: asked.test\nx-forwarded-for: 10.0.0.7\nx-script: over\n\n",
        429,
    ),
    text(
        "service of the outside, from inside",
        "GET /rls-external HTTP/1.1\nhost: asked.test\nx-forwarded-for: 10.0.0.7\nx-script: over\n\n",
        200,
    ),
    asked!("service and two descriptors", "/two", "ok", 200),
    asked!("service and hits", "/hits", "ok", 200),
    asked!("service and a limit of the route", "/limit", "ok", 200),
    asked!("service and a domain of the route", "/domain", "ok", 200),
    asked!("service and a stage", "/stage-two", "ok", 200),
    asked!("service and the rules of the host", "/include", "ok", 200),
    asked!("service without the rules of the host", "/ignore", "over", 200),
    asked!("service and the rules of the host alone", "/override", "ok", 200),
    asked!("service and the older word", "/older", "ok", 200),
    asked!("service and the rules of the filter", "/rules", "ok", 200),
    asked!("service and the rules of the route", "/route-rules", "ok", 200),
    asked!("service and a direct response", "/direct", "over", 200),
    text(
        "service without a script",
        "GET /plain HTTP/1.1\nhost: asked.test\n\n",
        200,
    ),
];

/// The cluster of the services.
pub(crate) fn cluster(at: std::net::SocketAddr) -> Value {
    let mut cluster = harness::bootstrap::http2_cluster("services", &[at]);
    cluster["connect_timeout"] = json!("5s");
    cluster
}
