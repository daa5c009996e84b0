//! Rows about what a connection manager says of itself: `Proxy-Status`, `x-forwarded-port`, a scheme, a user agent, and
//! a router that is told to be quiet.

use harness::bootstrap::{merge, type_url};
use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{Listener, Row, on};

fn routes() -> Value {
    let mut counted = host(
        "announce",
        &["announce.test"],
        vec![
            to("missing", "/no-cluster", json!({})),
            to("empty", "/empty", json!({})),
            to("closed", "/closed", json!({})),
            to("a", "/slow", json!({"timeout": "0.2s"})),
            to(
                "a",
                "/retried",
                json!({"timeout": "0s", "retry_policy": {"retry_on": "5xx", "retry_back_off": {"base_interval": "0.001s"}}}),
            ),
            json!({"match": {"prefix": "/direct"}, "direct_response": {"status": 404}}),
            to(
                "a",
                "/rewrite",
                json!({"prefix_rewrite": "/new", "host_rewrite_literal": "new.test"}),
            ),
            to("a", "/upstream", json!({})),
        ],
    );
    merge(&mut counted, &json!({"include_request_attempt_count": true}));
    json!({"name": "announce", "virtual_hosts": [counted], "validate_clusters": false})
}

fn router(fields: Value) -> Value {
    let mut config = json!({"@type": type_url("extensions.filters.http.router.v3.Router")});
    merge(&mut config, &fields);
    json!([{"name": "router", "typed_config": config}])
}

/// The managers of these rows: one that says all, one that says little.
pub(crate) fn managers() -> [Value; 2] {
    let all = json!({
        "route_config": routes(), "append_x_forwarded_port": true, "add_user_agent": true,
        "scheme_header_transformation": {"scheme_to_overwrite": "https"}, "proxy_status_config": {},
    });
    let little = json!({
        "route_config": routes(), "use_remote_address": true, "skip_xff_append": true, "append_x_forwarded_port": true,
        "http_filters": router(json!({"suppress_envoy_headers": true})),
        "proxy_status_config": {
            "literal_proxy_name": "a proxy", "remove_response_flags": true, "set_recommended_response_code": true},
    });
    [all, little]
}

macro_rules! get {
    ($listener:ident, $name:literal, $path:literal, $headers:literal, $result:literal) => {
        on(
            Listener::$listener,
            $name,
            concat!("GET ", $path, " HTTP/1.1\nhost: announce.test\n", $headers, "\n"),
            $result,
        )
    };
}

pub(crate) const ROWS: &[Row] = &[
    get!(Announce, "announce nothing of an answer", "/upstream", "", 200),
    get!(Announce, "announce no route", "/nowhere", "", 404),
    get!(Announce, "announce no cluster", "/no-cluster", "", 503),
    get!(Announce, "announce no endpoint", "/empty", "", 503),
    get!(Announce, "announce no connection", "/closed", "", 503),
    get!(
        Announce,
        "announce a time limit",
        "/slow",
        "x-behave: delay=2000\n",
        504
    ),
    get!(Announce, "announce a reset", "/upstream", "x-behave: drop\n", 503),
    get!(
        Announce,
        "announce too many attempts",
        "/retried",
        "x-behave: status=503\n",
        503
    ),
    get!(
        Announce,
        "announce nothing of a direct response",
        "/direct",
        "",
        404
    ),
    get!(
        Announce,
        "announce after another proxy",
        "/upstream",
        "x-behave: status=503,header=proxy-status:other\n",
        503
    ),
    get!(
        Announce,
        "announce a port, an agent and a scheme over others",
        "/upstream",
        "x-forwarded-port: 99\nuser-agent: me\nx-forwarded-proto: http\nx-envoy-downstream-service-cluster: c\n",
        200
    ),
    get!(
        Little,
        "announce little of an answer",
        "/upstream",
        "x-forwarded-port: 99\n",
        200
    ),
    get!(Little, "announce little of no route", "/nowhere", "", 500),
    get!(Little, "announce little of no connection", "/closed", "", 502),
    get!(Little, "announce little of no cluster", "/no-cluster", "", 503),
    get!(Little, "announce no rewrite", "/rewrite", "", 200),
    get!(
        Little,
        "announce no time limit",
        "/upstream",
        "x-envoy-expected-rq-timeout-ms: 7\n",
        200
    ),
];
