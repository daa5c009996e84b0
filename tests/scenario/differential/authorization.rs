//! Rows about external authorization: what the service is asked, and what its answer does.

use harness::bootstrap::merge;
use serde_json::{Value, json};

use super::config::{host, to};
use super::filters::config;
use super::table::{Row, grpc, http2, text};

/// A filter that asks, switched on by the routes that name it.
fn asks(name: &str, fields: Value) -> Value {
    let service = json!({"timeout": "20s", "envoy_grpc": {"cluster_name": "services"}});
    let mut all = json!({"transport_api_version": "V3", "grpc_service": service});
    merge(&mut all, &fields);
    json!({"name": name, "disabled": true, "typed_config": config("ext_authz.v3.ExtAuthz", all)})
}

/// The filters of the main listener, which routes switch on.
pub(crate) fn chain() -> Vec<Value> {
    let none = json!({"default_value": {"numerator": 0}, "runtime_key": "none"});
    let named = |name: &str| json!({"patterns": [{"exact": name}, {"prefix": ":"}, {"exact": "x-script"}]});
    let nobody = json!({"envoy_grpc": {"cluster_name": "closed"}});
    vec![
        asks(
            "az",
            json!({"metadata_context_namespaces": ["envoy.filters.http.ext_authz", "none"]}),
        ),
        asks("az-again", json!({"clear_route_cache": true})),
        asks(
            "az-allows",
            json!({"failure_mode_allow": true, "failure_mode_allow_header_add": true, "stat_prefix": "allows"}),
        ),
        asks("az-status", json!({"status_on_error": {"code": 503}})),
        asks("az-gone", json!({"grpc_service": nobody})),
        asks("az-body", json!({"with_request_body": {"max_request_bytes": 10}})),
        asks(
            "az-bytes",
            json!({"with_request_body": {"max_request_bytes": 10, "pack_as_bytes": true}}),
        ),
        asks("az-some", json!({"allowed_headers": named("x-a")})),
        asks(
            "az-others",
            json!({"disallowed_headers": {"patterns": [{"exact": "x-a"}]}}),
        ),
        asks("az-off", json!({"filter_enabled": none})),
        asks("az-strict", json!({"validate_mutations": true})),
        asks("az-deaf", json!({"enable_dynamic_metadata_ingestion": false})),
    ]
}

fn enabled() -> Value {
    config("ext_authz.v3.ExtAuthzPerRoute", json!({"check_settings": {}}))
}

fn by(path: &str, filters: Value) -> Value {
    let mut route = to("a", path, json!({}));
    route["typed_per_filter_config"] = filters;
    route
}

/// The virtual host of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let filters = [
        "az-allows",
        "az-status",
        "az-gone",
        "az-body",
        "az-bytes",
        "az-some",
        "az-others",
        "az-off",
        "az-strict",
        "az-deaf",
    ];
    let mut routes: Vec<Value> = filters
        .iter()
        .map(|filter| by(&format!("/{filter}"), json!({*filter: enabled()})))
        .collect();
    let said = json!({"check_settings": {"context_extensions": {"one": "1", "two": "2"}}});
    let bodiless = json!({"check_settings": {"disable_request_body_buffering": true}});
    let more = [
        json!({"match": {"prefix": "/again", "headers": [{"name": "x-set", "string_match": {"exact": "by the service"}}]},
            "direct_response": {"status": 200, "body": {"inline_string": "chosen again"}}}),
        by("/again", json!({"az-again": enabled()})),
        by(
            "/said",
            json!({"az": config("ext_authz.v3.ExtAuthzPerRoute", said)}),
        ),
        by(
            "/bodiless",
            json!({"az-body": config("ext_authz.v3.ExtAuthzPerRoute", bodiless)}),
        ),
        by(
            "/not",
            json!({"az": config("ext_authz.v3.ExtAuthzPerRoute", json!({"disabled": true}))}),
        ),
        json!({"match": {"prefix": "/direct"}, "direct_response": {"status": 200}, "typed_per_filter_config": {"az": enabled()}}),
        by("/", json!({"az": enabled()})),
    ];
    routes.extend(more);
    let mut host = host("authorized", &["az.test"], routes);
    host["response_headers_to_add"] = json!([
        {"header": {"key": "x-noted", "value": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:text)%"}}]);
    vec![host]
}

/// A request over HTTP/1 with a script.
macro_rules! asked {
    ($name:literal, $path:literal, $script:literal, $status:literal) => {
        text(
            $name,
            concat!(
                "GET ",
                $path,
                " HTTP/1.1\nhost: az.test\nx-script: ",
                $script,
                "\nx-there: here\nx-a: 1\nx-a: 2\n\n"
            ),
            $status,
        )
    };
}

macro_rules! post {
    ($name:literal, $path:literal, $script:literal, $body:literal, $length:literal, $status:literal) => {
        text(
            $name,
            concat!(
                "POST ",
                $path,
                " HTTP/1.1\nhost: az.test\nx-script: ",
                $script,
                "\ncontent-length: ",
                $length,
                "\n\n",
                $body
            ),
            $status,
        )
    };
}

pub(crate) const ROWS: &[Row] = &[
    asked!("authorized", "/x?set=old&gone=1&keep=2", "ok", 200),
    asked!("authorized without a word", "/", "bare", 200),
    asked!("authorized with headers", "/", "headers", 200),
    asked!("authorized with removals", "/", "headers remove", 200),
    asked!(
        "authorized with parameters",
        "/x?set=old&gone=1&keep=2&gone=3",
        "query",
        200
    ),
    asked!("authorized with parameters of none", "/x", "query", 200),
    asked!("authorized with metadata", "/", "metadata", 200),
    asked!("authorized without metadata", "/az-deaf", "metadata", 200),
    asked!("not authorized", "/", "deny", 403),
    asked!("not authorized without a word", "/", "deny bare", 403),
    asked!(
        "not authorized with everything",
        "/",
        "deny teapot headers body metadata",
        409
    ),
    asked!("authorization fails", "/", "error", 403),
    asked!("authorization fails with a status", "/az-status", "error", 503),
    asked!("authorization fails and allows", "/az-allows", "error", 200),
    asked!("authorization is gone", "/az-gone", "ok", 403),
    asked!("authorization chooses a route", "/again", "headers", 200),
    asked!("authorization chooses no route", "/again", "ok", 200),
    asked!("authorization is told some headers", "/az-some", "ok", 200),
    asked!("authorization is told other headers", "/az-others", "ok", 200),
    asked!("authorization with settings", "/said", "ok", 200),
    asked!("authorization that is off", "/az-off", "deny", 200),
    asked!("authorization disabled by the route", "/not", "deny", 200),
    asked!("authorization with a bad header", "/az-strict", "invalid", 500),
    post!("authorization with a body", "/az-body", "ok", "hello", "5", 200),
    post!("authorization with bytes", "/az-bytes", "ok", "hello", "5", 200),
    post!(
        "authorization with too long a body",
        "/az-body",
        "ok",
        "hello hello",
        "11",
        413
    ),
    post!(
        "authorization without the body",
        "/bodiless",
        "ok",
        "hello",
        "5",
        200
    ),
    post!(
        "authorization of a body that it does not want",
        "/",
        "ok",
        "hello",
        "5",
        200
    ),
    http2(
        "h2 authorized",
        "az.test",
        "/x",
        &[("x-script", "headers"), ("x-there", "here")],
        200,
    ),
    http2(
        "h2 not authorized",
        "az.test",
        "/x",
        &[("x-script", "deny teapot body headers")],
        409,
    ),
    grpc(
        "h2 grpc not authorized",
        "az.test",
        "/call",
        &[("content-type", "application/grpc"), ("x-script", "deny body")],
    ),
];
