//! Rows about what a connection manager and a table of routes say beside their hosts: paths made plain, who a client is,
//! ports, levels of header rules, large direct answers, shares of requests.

use std::net::SocketAddr;

use harness::bootstrap::{self, http_connection_manager, type_url};
use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{Listener, Row, Send, Step, on};

/// The listener `tuned`, with a table of its own.
pub(crate) fn listener(at: SocketAddr) -> Value {
    let mut listener = bootstrap::listener("tuned", at, http_connection_manager(&manager()));
    listener["per_connection_buffer_limit_bytes"] = 2000.into();
    listener
}

fn manager() -> Value {
    json!({
        "route_config": routes(), "use_remote_address": true, "xff_num_trusted_hops": 1, "skip_xff_append": true, "via": "1.1 tuned",
        "normalize_path": true, "merge_slashes": true, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
        "strip_matching_host_port": true, "server_header_transformation": "APPEND_IF_ABSENT", "server_name": "tuned",
        "codec_type": "HTTP1", "max_request_headers_kb": 96, "proxy_100_continue": true,
        "preserve_external_request_id": true, "delayed_close_timeout": "0.2s", "drain_timeout": "1s",
        "request_id_extension": {"typed_config": {
            "@type": type_url("extensions.request_id.uuid.v3.UuidRequestIdConfig"),
            "pack_trace_reason": false, "use_request_id_for_trace_sampling": false}},
        "common_http_protocol_options": {"headers_with_underscores_action": "DROP_HEADER"},
        "http_protocol_options": {"allow_absolute_url": true},
        "upgrade_configs": [{"upgrade_type": "websocket", "enabled": false}],
    })
}

fn level(name: &str) -> Value {
    json!([
        {"header": {"key": "x-last", "value": name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        {"header": {"key": "x-all", "value": name}},
        {"header": {"key": "x-keep", "value": ""}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "keep_empty_value": true},
    ])
}

fn routes() -> Value {
    let share = |path: &str, numerator: u32, denominator: &str| {
        json!({"match": {"prefix": path, "runtime_fraction": {
            "default_value": {"numerator": numerator, "denominator": denominator}, "runtime_key": "none.such"}},
            "direct_response": {"status": 200, "body": {"inline_string": format!("share {numerator}")}}})
    };
    let mut levels = to("a", "/levels", json!({}));
    levels["request_headers_to_add"] = level("route");
    levels["response_headers_to_add"] = level("route");
    let mut weighed = json!({"match": {"prefix": "/weighed"}, "route": {"weighted_clusters": {"clusters": [
        {"name": "a", "weight": 3, "request_headers_to_add": level("cluster"),
            "response_headers_to_add": level("cluster"), "host_rewrite_literal": "weighed.test"},
        {"name": "b", "weight": 0}]}}});
    weighed["request_headers_to_add"] = level("route");
    let large = "l".repeat(6000);
    let mut tuned = host(
        "tuned",
        &["tuned.test"],
        vec![
            share("/share-none", 0, "HUNDRED"),
            share("/share-all", 1_000_000, "MILLION"),
            levels,
            weighed,
            json!({"match": {"prefix": "/large"},
                "direct_response": {"status": 200, "body": {"inline_string": large}}}),
            to(
                "a",
                "/again",
                json!({"timeout": "0s", "retry_policy": {"retry_on": "5xx", "num_retries": 1,
                "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}}),
            ),
            to(
                "a",
                "/",
                json!({"upgrade_configs": [{"upgrade_type": "websocket"}]}),
            ),
        ],
    );
    tuned["request_headers_to_add"] = level("host");
    tuned["response_headers_to_add"] = level("host");
    tuned["include_request_attempt_count"] = true.into();
    json!({
        "name": "tuned", "virtual_hosts": [tuned, host("all", &["*"], vec![to("b", "/", json!({}))])],
        "ignore_port_in_host_matching": true, "most_specific_header_mutations_wins": true,
        "max_direct_response_body_size_bytes": 8000, "validate_clusters": false,
        "request_headers_to_add": level("table"), "response_headers_to_add": level("table"),
    })
}

macro_rules! row {
    ($name:literal, $path:literal, $lines:literal, $status:literal) => {
        on(
            Listener::Tuned,
            $name,
            concat!("GET ", $path, " HTTP/1.1\nhost: tuned.test\n", $lines, "\n"),
            $status,
        )
    };
}

/// A body of so many octets that would have to be sent twice.
macro_rules! again {
    ($name:literal, $length:literal, $octets:literal, $status:literal) => {
        Row {
            name: $name,
            listener: Listener::Tuned,
            send: Send::Steps(&[
                Step::Text(concat!(
                    "POST /again HTTP/1.1\nhost: tuned.test\nx-behave: status=503,first=1\ncontent-length: ",
                    $length,
                    "\n\n"
                )),
                Step::Fill($octets),
                Step::Response("POST"),
            ]),
            status: $status,
        }
    };
}

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    row!("tuned path with dots", "/a/./b/../c", "", 200),
    row!("tuned path with dots beyond the root", "/../../a", "", 200),
    row!("tuned path with encoded dots", "/a/%2e%2E/c", "", 200),
    row!("tuned path with a backslash", "/a\\b", "", 200),
    row!("tuned path with unreserved escapes", "/%41%7E%2d", "", 200),
    row!("tuned path with reserved escapes", "/%3b%20", "", 200),
    row!("tuned path with slashes in a row", "//a///b//?x=//", "", 200),
    row!("tuned path with an escaped slash", "/a%2Fb%5cc", "", 200),
    row!(
        "tuned path with an escaped slash and dots",
        "/a%2F..%2Fc",
        "",
        200
    ),
    row!("tuned path in a query", "/q?p=/a/../b%2F", "", 200),
    row!("tuned share of none", "/share-none", "", 200),
    row!("tuned share of all", "/share-all", "", 200),
    row!("tuned levels", "/levels", "x-all: mine\n", 200),
    row!(
        "tuned levels of an answer",
        "/levels",
        "x-behave: header=x-last:app,header=x-all:app\n",
        200
    ),
    row!("tuned levels of a weighted cluster", "/weighed", "", 200),
    row!("tuned large direct answer", "/large", "", 200),
    row!(
        "tuned server name kept",
        "/",
        "x-behave: header=server:app\n",
        200
    ),
    row!("tuned forwarded by one", "/", "x-forwarded-for: 1.2.3.4\n", 200),
    row!(
        "tuned forwarded by two",
        "/",
        "x-forwarded-for: 1.2.3.4, 5.6.7.8\n",
        200
    ),
    row!(
        "tuned forwarded from inside",
        "/",
        "x-forwarded-for: 10.1.2.3\nx-envoy-retry-on: 5xx\n",
        200
    ),
    row!("tuned via of another", "/", "via: 1.0 other\n", 200),
    row!(
        "tuned via of the application",
        "/",
        "x-behave: header=via:1.1 app\n",
        200
    ),
    row!("tuned underscore dropped", "/", "x_drop: 1\nx-keep-me: 2\n", 200),
    row!(
        "tuned request id kept",
        "/",
        "x-request-id: 5d1b8a36-4a2e-4c77-9e51-3f0a6d7b9c12\n",
        200
    ),
    row!("tuned request id that is none", "/", "x-request-id: mine\n", 200),
    on(
        Listener::Tuned,
        "tuned host with any port",
        "GET / HTTP/1.1\nhost: tuned.test:1234\n\n",
        200,
    ),
    on(
        Listener::Tuned,
        "tuned absolute form with a port",
        "GET http://tuned.test:99/x HTTP/1.1\nhost: other.test\n\n",
        200,
    ),
    on(
        Listener::Tuned,
        "tuned upgrade of the route",
        "GET /ws HTTP/1.1\nhost: tuned.test\nconnection: Upgrade\nupgrade: websocket\n\n",
        super::table::ANY,
    ),
    on(
        Listener::Tuned,
        "tuned upgrade of another route",
        "GET /ws HTTP/1.1\nhost: other.test\nconnection: Upgrade\nupgrade: websocket\n\n",
        403,
    ),
    again!("tuned body within the limit of the listener", "1900", 1900, 200),
    again!("tuned body beyond the limit of the listener", "2100", 2100, 503),
    on(
        Listener::Tuned,
        "tuned second version",
        "PRI * HTTP/2.0\n\nSM\n\n",
        super::table::ANY,
    ),
    Row {
        name: "tuned expectation passed on",
        listener: Listener::Tuned,
        send: Send::Steps(&[
            Step::Text("POST / HTTP/1.1\nhost: tuned.test\nexpect: 100-continue\ncontent-length: 3\n\n"),
            Step::Head,
            Step::Text("abc"),
            Step::Response("POST"),
        ]),
        status: 200,
    },
];
