//! Rows about filters that wait for a body, change it or count what is in it.

use harness::bootstrap::type_url;
use serde_json::{Value, json};

use super::config::{host, to};
use super::filters::{config, says};
use super::table::Step;
use super::table::{Http2, Listener, Row, Send, http2, steps, text};

/// What both proxies must have counted the same after all rows.
pub(crate) const COUNTED: &str = r"^(cluster\.[a-z]+\.(grpc|ratelimit|ext_authz)|http\.[a-z_]+\.(fault|health_check|compressor|decompressor|rbac))";

/// The filters of the main listener, which routes switch on.
pub(crate) fn chain() -> Vec<Value> {
    let off = |name: &str, kind: &str, fields: Value| json!({"name": name, "disabled": true, "typed_config": config(kind, fields)});
    let path = |path: &str| json!([{"name": ":path", "string_match": {"exact": path}}]);
    let health = |fields: Value| off_named("health_check.v3.HealthCheck", fields);
    let named = |name: &str, mut filter: Value| {
        filter["name"] = name.into();
        filter
    };
    vec![
        named(
            "health",
            health(json!({"pass_through_mode": false, "headers": path("/health")})),
        ),
        named(
            "health-passed",
            health(json!({"pass_through_mode": true, "headers": path("/passed"), "cache_time": "600s"})),
        ),
        named(
            "health-clusters",
            health(json!({"pass_through_mode": false, "headers": path("/clusters"),
            "cluster_min_healthy_percentages": {"a": {"value": 50}}})),
        ),
        named(
            "health-empty",
            health(json!({"pass_through_mode": false, "headers": path("/empty"),
            "cluster_min_healthy_percentages": {"empty": {"value": 1}}})),
        ),
        named(
            "health-missing",
            health(json!({"pass_through_mode": false, "headers": path("/missing"),
            "cluster_min_healthy_percentages": {"missing": {"value": 0}}})),
        ),
        off("grpc-web", "grpc_web.v3.GrpcWeb", json!({})),
        json!({"name": "grpc-stats", "disabled": true, "typed_config": config("grpc_stats.v3.FilterConfig",
            json!({"individual_method_stats_allowlist": {"services": [{"name": "a.Greeter", "method_names": ["Hello"]}]},
                "replace_dots_in_grpc_service_name": true}))}),
        off("buffer", "buffer.v3.Buffer", json!({"max_request_bytes": 20})),
    ]
}

fn off_named(kind: &str, fields: Value) -> Value {
    json!({"disabled": true, "typed_config": config(kind, fields)})
}

fn on() -> Value {
    json!({"@type": type_url("config.route.v3.FilterConfig"), "config": {}})
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let buffer = |fields: Value| json!({"buffer": config("buffer.v3.BufferPerRoute", fields)});
    let mut buffered = host(
        "buffer",
        &["buffer.test"],
        vec![
            says("/more", buffer(json!({"buffer": {"max_request_bytes": 40}}))),
            says("/off", buffer(json!({"disabled": true}))),
            to("a", "/", json!({})),
        ],
    );
    buffered["typed_per_filter_config"] = json!({"buffer": on()});
    let mut health = host("health", &["health.test"], vec![to("a", "/", json!({}))]);
    health["typed_per_filter_config"] = json!({"health": on(), "health-passed": on(), "health-clusters": on(),
        "health-empty": on(), "health-missing": on()});
    let mut browser = host(
        "grpc-web",
        &["web.test"],
        vec![
            to("closed", "/closed.Service", json!({})),
            to("a", "/", json!({})),
        ],
    );
    browser["typed_per_filter_config"] = json!({"grpc-web": on()});
    let mut calls = host("grpc-stats", &["calls.test"], vec![to("a", "/", json!({}))]);
    calls["typed_per_filter_config"] = json!({"grpc-stats": on()});
    vec![buffered, health, browser, calls, changed_host(), slow_host()]
}

/// Query parameters and trailers that the mutation filter changes.
fn changed_host() -> Value {
    let parameter = |key: &str, value: &str, action: &str| json!({"append": {"record": {"key": key, "value": value}, "action": action}});
    let trailer = |key: &str, value: &str| json!({"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}});
    let mutations = |level: &str| {
        config(
            "header_mutation.v3.HeaderMutationPerRoute",
            json!({"mutations": {
            "query_parameter_mutations": [
                parameter("added", level, "APPEND_IF_EXISTS_OR_ADD"), parameter("absent", level, "ADD_IF_ABSENT"),
                parameter("over", level, "OVERWRITE_IF_EXISTS_OR_ADD"), parameter("there", "%REQ(x-word)%", "OVERWRITE_IF_EXISTS"),
                {"remove": "gone"}],
            "request_trailers_mutations": [trailer("x-up", level), {"remove": "x-t"}],
            "response_trailers_mutations": [trailer("x-down", "%RESPONSE_CODE%"), {"remove": "x-not-there"}]}}),
        )
    };
    let mut changed = host(
        "changed",
        &["changed.test"],
        vec![
            says("/route", json!({"mutation": mutations("route")})),
            to("a", "/", json!({})),
        ],
    );
    changed["typed_per_filter_config"] = json!({"mutation": mutations("host")});
    changed
}

/// Responses that the fault filter slows down.
fn slow_host() -> Value {
    let always = json!({"numerator": 100});
    let limit = |fields: Value| {
        let mut fields = fields;
        fields["percentage"] = always.clone();
        json!({"envoy.filters.http.fault": config("fault.v3.HTTPFault", json!({"response_rate_limit": fields}))})
    };
    host(
        "slow",
        &["slow.test"],
        vec![
            says("/fixed", limit(json!({"fixed_limit": {"limit_kbps": 64}}))),
            says("/header", limit(json!({"header_limit": {}}))),
        ],
    )
}

/// A call over HTTP/2.
const fn call(
    name: &'static str,
    authority: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    status: u16,
) -> Row {
    let send = Send::Http2(Http2 {
        method: "POST",
        authority,
        path,
        headers,
        body,
        trailers: &[],
    });
    Row {
        name,
        listener: Listener::Main,
        send,
        status,
    }
}

const GRPC: &[(&str, &str)] = &[
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("x-behave", "grpc,echo"),
];

pub(crate) const BUFFER: &[Row] = &[
    text("buffer of no body", "GET /x HTTP/1.1\nhost: buffer.test\n\n", 200),
    text(
        "buffer",
        "POST /x HTTP/1.1\nhost: buffer.test\ncontent-length: 5\n\nhello",
        200,
    ),
    text(
        "buffer of chunks",
        "POST /x HTTP/1.1\nhost: buffer.test\ntransfer-encoding: chunked\n\n5\nhello\n1\n!\n0\n\n",
        200,
    ),
    text(
        "buffer of chunks with trailers",
        "POST /x HTTP/1.1\nhost: buffer.test\ntransfer-encoding: chunked\ntrailer: x-t\n\n5\nhello\n0\nx-t: 1\n\n",
        200,
    ),
    text(
        "buffer that is just full",
        "POST /x HTTP/1.1\nhost: buffer.test\ncontent-length: 20\n\n12345678901234567890",
        200,
    ),
    text(
        "buffer that is too small",
        "POST /x HTTP/1.1\nhost: buffer.test\ncontent-length: 21\n\n123456789012345678901",
        413,
    ),
    text(
        "buffer that is too small for chunks",
        "POST /x HTTP/1.1\nhost: buffer.test\ntransfer-encoding: chunked\n\n15\n123456789012345678901\n0\n\n",
        413,
    ),
    text(
        "buffer of the route",
        "POST /more HTTP/1.1\nhost: buffer.test\ncontent-length: 21\n\n123456789012345678901",
        200,
    ),
    text(
        "buffer of the route that is too small",
        "POST /more HTTP/1.1\nhost: buffer.test\ncontent-length: 41\n\n12345678901234567890123456789012345678901",
        413,
    ),
    text(
        "buffer off",
        "POST /off HTTP/1.1\nhost: buffer.test\ncontent-length: 21\n\n123456789012345678901",
        200,
    ),
    steps(
        "buffer with an expectation",
        &[
            Step::Text("POST /x HTTP/1.1\nhost: buffer.test\ncontent-length: 5\nexpect: 100-continue\n\n"),
            Step::Head,
            Step::Text("hello"),
            Step::Response("POST"),
        ],
        200,
    ),
    call("h2 buffer", "buffer.test", "/x", &[], "hello", 200),
    call(
        "h2 buffer that is too small",
        "buffer.test",
        "/x",
        &[],
        "123456789012345678901",
        200,
    ),
];

pub(crate) const CHANGED: &[Row] = &[
    text(
        "query changed",
        "GET /x?over=1&gone=2&z&there=3&b=4&over=5&absent=6 HTTP/1.1\nhost: changed.test\nx-word: w\n\n",
        200,
    ),
    text("query made", "GET /x HTTP/1.1\nhost: changed.test\n\n", 200),
    text(
        "query changed twice",
        "GET /route?added=0&&c HTTP/1.1\nhost: changed.test\n\n",
        200,
    ),
    text(
        "trailers changed",
        "POST /x HTTP/1.1\nhost: changed.test\ntransfer-encoding: chunked\nx-behave: trailer\n\n2\nab\n0\nx-t: 1\n\n",
        200,
    ),
    text(
        "trailers that are not there",
        "POST /x HTTP/1.1\nhost: changed.test\ncontent-length: 2\n\nab",
        200,
    ),
    text(
        "slowed down",
        "GET /fixed HTTP/1.1\nhost: slow.test\nx-behave: body=10000\n\n",
        200,
    ),
    text(
        "slowed down by header",
        "GET /header HTTP/1.1\nhost: slow.test\nx-envoy-fault-throughput-response: 100\nx-behave: body=10000,trailer\n\n",
        200,
    ),
    text(
        "not slowed down",
        "GET /header HTTP/1.1\nhost: slow.test\nx-behave: body=10000\n\n",
        200,
    ),
    http2(
        "h2 slowed down",
        "slow.test",
        "/fixed",
        &[("x-behave", "body=10000")],
        200,
    ),
];

pub(crate) const HEALTH: &[Row] = &[
    text("health", "GET /health HTTP/1.1\nhost: health.test\n\n", 200),
    text(
        "health of another path",
        "GET /health/x HTTP/1.1\nhost: health.test\n\n",
        200,
    ),
    text(
        "health of clusters",
        "GET /clusters HTTP/1.1\nhost: health.test\n\n",
        200,
    ),
    text(
        "health of an empty cluster",
        "GET /empty HTTP/1.1\nhost: health.test\n\n",
        503,
    ),
    text(
        "health of a missing cluster",
        "GET /missing HTTP/1.1\nhost: health.test\n\n",
        503,
    ),
    text(
        "health by the application",
        "GET /passed HTTP/1.1\nhost: health.test\nx-behave: status=404,header=x-envoy-degraded:yes\n\n",
        404,
    ),
    text(
        "health as the application said before",
        "GET /passed HTTP/1.1\nhost: health.test\n\n",
        404,
    ),
    text(
        "health elsewhere",
        "GET /health HTTP/1.1\nhost: buffer.test\n\n",
        200,
    ),
    http2("h2 health", "health.test", "/health", &[], 200),
];

pub(crate) const CALLS: &[Row] = &[
    call(
        "grpc call",
        "calls.test",
        "/a.Greeter/Hello",
        GRPC,
        "\0\0\0\0\x02ab\0\0\0\0\0",
        200,
    ),
    call(
        "grpc call of another method",
        "calls.test",
        "/a.Greeter/Bye",
        GRPC,
        "\0\0\0\0\x01a",
        200,
    ),
    call(
        "grpc call that fails",
        "calls.test",
        "/a.Greeter/Hello",
        &[
            ("content-type", "application/grpc+proto"),
            ("x-behave", "status=503"),
        ],
        "\0\0\0\0\x01a",
        503,
    ),
    call(
        "grpc call with an answer of headers alone",
        "calls.test",
        "/a.Greeter/Hello",
        &[
            ("content-type", "application/grpc"),
            ("x-behave", "body=0,header=grpc-status:7"),
        ],
        "\0\0\0\0\x01a",
        200,
    ),
    call(
        "grpc path without a method",
        "calls.test",
        "/greeter",
        GRPC,
        "\0\0\0\0\x01a",
        200,
    ),
    call(
        "no grpc call",
        "calls.test",
        "/a.Greeter/Hello",
        &[("x-behave", "echo")],
        "\0\0\0\0\x01a",
        200,
    ),
];

pub(crate) const WEB: &[Row] = &[
    text(
        "grpc-web",
        "POST /a.B/C HTTP/1.1\nhost: web.test\ncontent-type: application/grpc-web+proto\nx-grpc-web: 1\nx-behave: grpc,echo\ncontent-length: 7\n\n\0\0\0\0\x02ab",
        200,
    ),
    text(
        "grpc-web as text",
        "POST /a.B/C HTTP/1.1\nhost: web.test\ncontent-type: application/grpc-web-text\naccept: application/grpc-web-text\nx-behave: grpc,echo\ncontent-length: 12\n\nAAAAAAJhYg==",
        200,
    ),
    text(
        "grpc-web as text, answered in bytes",
        "POST /a.B/C HTTP/1.1\nhost: web.test\ncontent-type: application/grpc-web-text+proto\nx-behave: grpc,echo\ncontent-length: 12\n\nAAAAAAJhYg==",
        200,
    ),
    text(
        "grpc-web that is not base64",
        "POST /a.B/C HTTP/1.1\nhost: web.test\ncontent-type: application/grpc-web-text\nx-behave: grpc,echo\ncontent-length: 4\n\n....",
        400,
    ),
    text(
        "grpc-web without a length",
        "POST /a.B/C HTTP/1.1\nhost: web.test\ncontent-type: application/grpc-web\nx-behave: grpc,echo\ntransfer-encoding: chunked\n\n7\n\0\0\0\0\x02ab\n0\n\n",
        200,
    ),
    text(
        "grpc-web answered with headers alone",
        "POST /a.B/C HTTP/1.1\nhost: web.test\ncontent-type: application/grpc-web\nx-behave: body=0,header=grpc-status:5\ncontent-length: 5\n\n\0\0\0\0\0",
        200,
    ),
    text(
        "grpc-web without an upstream",
        "POST /closed.Service/C HTTP/1.1\nhost: web.test\ncontent-type: application/grpc-web\ncontent-length: 5\n\n\0\0\0\0\0",
        503,
    ),
    text(
        "grpc-web of another content type",
        "POST /a.B/C HTTP/1.1\nhost: web.test\ncontent-type: application/json\nx-behave: grpc,echo\ncontent-length: 2\n\n{}",
        200,
    ),
    call(
        "h2 grpc-web",
        "web.test",
        "/a.B/C",
        &[
            ("content-type", "application/grpc-web"),
            ("x-behave", "grpc,echo"),
        ],
        "\0\0\0\0\x02ab",
        200,
    ),
];
