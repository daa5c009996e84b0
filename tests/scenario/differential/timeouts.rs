//! Rows about time limits. A limit is far below what the upstream takes, so that no machine is too slow for a row.

use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{Listener, Row, Send, Step, http2, on, text};

/// The listener whose connection manager has limits of every kind.
pub(crate) fn manager() -> Value {
    json!({
        "request_timeout": "0.8s", "request_headers_timeout": "0.3s",
        "common_http_protocol_options": {"max_stream_duration": "1.2s", "max_requests_per_connection": 2},
    })
}

/// The virtual host of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let duration = |fields: Value| json!({"timeout": "0s", "max_stream_duration": fields});
    let wait = |more: Value| {
        let mut policy = json!({"retry_on": "5xx", "num_retries": 1,
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.005s"}});
        harness::bootstrap::merge(&mut policy, &more);
        policy
    };
    let mut routes = vec![
        to("a", "/duration", duration(json!({"max_stream_duration": "0.3s"}))),
        to(
            "a",
            "/duration-off",
            duration(json!({"max_stream_duration": "0s"})),
        ),
        to("a", "/grpc", duration(json!({"grpc_timeout_header_max": "0s"}))),
        to(
            "a",
            "/grpc-max",
            duration(json!({"grpc_timeout_header_max": "0.2s"})),
        ),
        to(
            "a",
            "/grpc-offset",
            duration(json!({"grpc_timeout_header_max": "0s", "grpc_timeout_header_offset": "0.9s"})),
        ),
        to(
            "a",
            "/grpc-else",
            duration(json!({"max_stream_duration": "0.3s", "grpc_timeout_header_max": "0s"})),
        ),
        to("a", "/idle", json!({"timeout": "0s", "idle_timeout": "0.3s"})),
        to("a", "/first", json!({"timeout": "0.3s", "idle_timeout": "5s"})),
        to(
            "a",
            "/per-try",
            json!({"timeout": "2s", "retry_policy": wait(json!({"per_try_timeout": "0.2s"}))}),
        ),
        to(
            "a",
            "/per-try-later",
            json!({"timeout": "0.3s", "retry_policy": wait(json!({"per_try_timeout": "4s"}))}),
        ),
        to(
            "a",
            "/idle-try",
            json!({"timeout": "2s", "retry_policy": wait(json!({"per_try_idle_timeout": "0.2s"}))}),
        ),
        to("brief", "/cluster", json!({"timeout": "5s"})),
        to(
            "brief",
            "/cluster-retried",
            json!({"timeout": "2s", "retry_policy": wait(json!({}))}),
        ),
        to("a", "/", json!({"timeout": "3s"})),
    ];
    // The longest prefix first.
    routes.sort_by_key(|route| std::cmp::Reverse(route["match"]["prefix"].as_str().map(str::len)));
    vec![host("timed", &["timed.test"], routes)]
}

macro_rules! get {
    ($name:literal, $path:literal, $lines:literal, $status:literal) => {
        text(
            $name,
            concat!("GET ", $path, " HTTP/1.1\nhost: timed.test\n", $lines, "\n"),
            $status,
        )
    };
}

const fn steps(name: &'static str, steps: &'static [Step], status: u16) -> Row {
    Row {
        name,
        listener: Listener::Timed,
        send: Send::Steps(steps),
        status,
    }
}

const SLOW: &[(&str, &str)] = &[("x-behave", "delay=4000")];

pub(crate) const ROWS: &[Row] = &[
    get!("time for a stream", "/duration", "x-behave: delay=4000\n", 504),
    get!("time for a stream enough", "/duration", "", 200),
    get!(
        "time for a stream after the head",
        "/duration",
        "x-behave: stall=4000,body=10\n",
        200
    ),
    get!(
        "time for a stream off",
        "/duration-off",
        "x-behave: delay=300\n",
        200
    ),
    get!(
        "time of grpc-timeout",
        "/grpc",
        "grpc-timeout: 200m\nx-behave: delay=4000\n",
        504
    ),
    get!(
        "time of grpc-timeout of a gRPC request",
        "/grpc",
        "content-type: application/grpc\ngrpc-timeout: 200m\nx-behave: delay=4000\n",
        200
    ),
    get!("time of grpc-timeout enough", "/grpc", "grpc-timeout: 5S\n", 200),
    get!(
        "time of grpc-timeout above its maximum",
        "/grpc-max",
        "grpc-timeout: 9S\nx-behave: delay=4000\n",
        504
    ),
    get!(
        "time of grpc-timeout with an offset",
        "/grpc-offset",
        "grpc-timeout: 1S\nx-behave: delay=4000\n",
        504
    ),
    get!(
        "time without grpc-timeout",
        "/grpc-else",
        "x-behave: delay=4000\n",
        504
    ),
    get!(
        "time of grpc-timeout that says nothing",
        "/grpc-else",
        "grpc-timeout: never\nx-behave: delay=4000\n",
        504
    ),
    get!("time idle", "/idle", "x-behave: delay=4000\n", 504),
    get!(
        "time idle after the head",
        "/idle",
        "x-behave: stall=4000,body=10\n",
        200
    ),
    get!(
        "time of the route before the idle limit",
        "/first",
        "x-behave: delay=4000\n",
        504
    ),
    get!(
        "time of a try, tried again",
        "/per-try",
        "x-behave: delay=4000\n",
        504
    ),
    get!(
        "time of the route before that of a try",
        "/per-try-later",
        "x-behave: delay=4000\n",
        504
    ),
    get!("time of an idle try", "/idle-try", "x-behave: delay=4000\n", 504),
    get!("time of the cluster", "/cluster", "x-behave: delay=4000\n", 504),
    get!("time of the cluster enough", "/cluster", "", 200),
    get!(
        "time of the cluster after the head",
        "/cluster",
        "x-behave: stall=4000,body=10\n",
        200
    ),
    get!(
        "time of the cluster tried again",
        "/cluster-retried",
        "x-behave: delay=4000\n",
        504
    ),
    on(
        Listener::Timed,
        "time for a stream of the listener",
        "GET / HTTP/1.1\nhost: timed.test\nx-behave: delay=4000\n\n",
        504,
    ),
    on(
        Listener::Timed,
        "time for a stream of the listener after the head",
        "GET / HTTP/1.1\nhost: timed.test\nx-behave: stall=4000,body=10\n\n",
        200,
    ),
    on(
        Listener::Timed,
        "time for a stream of the listener but of the route first",
        "GET /duration HTTP/1.1\nhost: timed.test\nx-behave: delay=4000\n\n",
        504,
    ),
    on(
        Listener::Timed,
        "time for a stream of the listener, off by the route",
        "GET /duration-off HTTP/1.1\nhost: timed.test\nx-behave: delay=2000\n\n",
        200,
    ),
    steps(
        "time for a request",
        &[
            Step::Text("POST / HTTP/1.1\nhost: timed.test\ncontent-length: 10\n\nabc"),
            Step::Response("POST"),
        ],
        408,
    ),
    steps(
        "time for a request enough",
        &[
            Step::Text("POST / HTTP/1.1\nhost: timed.test\ncontent-length: 6\n\nabc"),
            Step::Text("def"),
            Step::Response("POST"),
        ],
        200,
    ),
    steps(
        "time for a head",
        &[Step::Text("GET / HTTP/1.1\nhost: time"), Step::Response("GET")],
        408,
    ),
    steps(
        "requests of a connection",
        &[
            Step::Text("GET /1 HTTP/1.1\nhost: timed.test\n\n"),
            Step::Response("GET"),
            Step::Text("GET /2 HTTP/1.1\nhost: timed.test\n\n"),
            Step::Response("GET"),
        ],
        200,
    ),
    http2("h2 time for a stream", "timed.test", "/duration", SLOW, 504),
    http2("h2 time idle", "timed.test", "/idle", SLOW, 504),
    http2("h2 time of the cluster", "timed.test", "/cluster", SLOW, 504),
    http2(
        "h2 time of grpc-timeout",
        "timed.test",
        "/grpc",
        &[
            ("content-type", "application/grpc"),
            ("grpc-timeout", "200m"),
            ("x-behave", "delay=4000"),
        ],
        200,
    ),
];
