//! Rows about retries and the time limits of attempts. What the upstream received shows how often it was asked.

use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{Row, http2, text};

fn policy(on: &str, retries: u32, more: Value) -> Value {
    let mut policy = json!({"retry_on": on, "num_retries": retries,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.005s"}});
    harness::bootstrap::merge(&mut policy, &more);
    policy
}

fn route(path: &str, cluster: &str, policy: Value) -> Value {
    to(cluster, path, json!({"retry_policy": policy, "timeout": "2s"}))
}

fn routes() -> Vec<Value> {
    let none = || json!({});
    let wait = || json!({"per_try_timeout": "0.1s"});
    let named = |name: &str| json!({"retriable_headers": [{"name": name, "present_match": true}]});
    let asked = json!({"retriable_request_headers": [{"name": "x-again", "string_match": {"exact": "yes"}}]});
    vec![
        route("/5xx", "a", policy("5xx", 2, none())),
        route("/gateway", "a", policy("gateway-error", 2, none())),
        route("/reset", "a", policy("reset", 2, none())),
        route("/reset-before", "a", policy("reset-before-request", 2, none())),
        route("/4xx", "a", policy("retriable-4xx", 2, none())),
        route(
            "/codes",
            "a",
            policy(
                "retriable-status-codes",
                2,
                json!({"retriable_status_codes": [404, 418]}),
            ),
        ),
        route("/headers", "a", policy("retriable-headers", 2, named("x-retry"))),
        route("/request-headers", "a", policy("5xx", 2, asked)),
        route("/limited", "a", policy("envoy-ratelimited", 2, none())),
        route("/connect", "closed", policy("connect-failure", 2, none())),
        route("/refused", "closed", policy("refused-stream", 2, none())),
        route("/connect-5xx", "closed", policy("5xx", 1, none())),
        route("/per-try", "a", policy("5xx", 1, wait())),
        route("/per-try-alone", "a", wait()),
        route(
            "/per-try-idle",
            "a",
            policy("5xx", 1, json!({"per_try_idle_timeout": "0.1s"})),
        ),
        route("/grpc", "h2", policy("unavailable,cancelled", 2, none())),
        route("/default", "a", json!({"retry_on": "5xx"})),
        route("/none", "a", policy("5xx", 0, none())),
        route("/words", "a", policy("nonsense,5xx, retriable-4xx", 1, none())),
        route(
            "/back-off",
            "a",
            policy(
                "5xx",
                1,
                json!({"rate_limited_retry_back_off": {
            "reset_headers": [{"name": "retry-after", "format": "SECONDS"}], "max_interval": "2s"}}),
            ),
        ),
        to("a", "/host", json!({"timeout": "2s"})),
        to(
            "empty",
            "/empty",
            json!({"retry_policy": policy("5xx", 2, none())}),
        ),
    ]
}

/// Each try has 0.2 s, then another one is made beside it.
fn hedged(path: &str, retries: u32, more: Value) -> Value {
    let mut route = route(
        path,
        "a",
        policy("5xx", retries, json!({"per_try_timeout": "0.2s"})),
    );
    let hedging = json!({"hedge_policy": {"hedge_on_per_try_timeout": true}, "timeout": "8s"});
    harness::bootstrap::merge(&mut route["route"], &hedging);
    harness::bootstrap::merge(&mut route["route"], &more);
    route
}

fn hedging() -> Vec<Value> {
    vec![
        hedged("/hedge-none", 0, json!({})),
        hedged("/hedge-h2", 1, json!({"cluster": "h2"})),
        hedged("/hedge-limit", 1, json!({"timeout": "0.9s"})),
        hedged(
            "/hedge-not",
            1,
            json!({"hedge_policy": {"hedge_on_per_try_timeout": false}}),
        ),
        hedged("/hedge", 1, json!({})),
    ]
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let mut retrying = host("retries", &["retry.test"], [hedging(), routes()].concat());
    harness::bootstrap::merge(
        &mut retrying,
        &json!({"include_request_attempt_count": true, "include_attempt_count_in_response": true,
            "include_is_timeout_retry_header": true,
            "retry_policy": policy("retriable-status-codes", 1, json!({"retriable_status_codes": [418]}))}),
    );
    let plain = host(
        "asking",
        &["asking.test"],
        vec![to("a", "/", json!({"timeout": "2s"}))],
    );
    vec![retrying, plain]
}

/// `text` with a behaviour of the upstream.
macro_rules! row {
    ($name:literal, $path:literal, $behave:literal, $status:literal) => {
        row!($name, $path, $behave, "", $status)
    };
    ($name:literal, $path:literal, $behave:literal, $more:literal, $status:literal) => {
        text(
            $name,
            concat!(
                "GET ",
                $path,
                " HTTP/1.1\nhost: retry.test\nx-behave: ",
                $behave,
                "\n",
                $more,
                "\n"
            ),
            $status,
        )
    };
}

pub(crate) const ROWS: &[Row] = &[
    row!("retry 5xx until it is well", "/5xx", "status=503,first=1", 200),
    row!("retry 5xx twice", "/5xx", "status=500,first=2", 200),
    row!("retry 5xx in vain", "/5xx", "status=500", 500),
    row!("retry not a 404", "/5xx", "status=404", 404),
    row!("retry after a drop", "/5xx", "drop,first=1", 200),
    row!("retry drops in vain", "/5xx", "drop", 503),
    row!("retry gateway error 502", "/gateway", "status=502,first=1", 200),
    row!("retry gateway error not 500", "/gateway", "status=500", 500),
    row!(
        "retry gateway error after a drop",
        "/gateway",
        "drop,first=1",
        200
    ),
    row!("retry reset", "/reset", "drop,first=1", 200),
    row!("retry reset not 503", "/reset", "status=503", 503),
    row!(
        "retry reset before request, which was sent",
        "/reset-before",
        "drop",
        503
    ),
    row!("retry 409", "/4xx", "status=409,first=1", 200),
    row!("retry 4xx not 404", "/4xx", "status=404", 404),
    row!("retry a code", "/codes", "status=418,first=2", 200),
    row!("retry a code not of the list", "/codes", "status=503", 503),
    row!(
        "retry by response header",
        "/headers",
        "header=x-retry:1,first=1",
        200
    ),
    row!(
        "retry not without the response header",
        "/headers",
        "status=503",
        503
    ),
    row!(
        "retry by request header",
        "/request-headers",
        "status=503,first=1",
        "x-again: yes\n",
        200
    ),
    row!(
        "retry not without the request header",
        "/request-headers",
        "status=503",
        503
    ),
    row!(
        "retry what is rate limited",
        "/limited",
        "status=429,header=x-envoy-ratelimited:1,first=1",
        200
    ),
    row!(
        "retry 5xx not what is rate limited",
        "/5xx",
        "status=503,header=x-envoy-ratelimited:1",
        503
    ),
    row!(
        "retry 5xx of what is overloaded",
        "/5xx",
        "status=503,header=x-envoy-overloaded:true,first=1",
        200
    ),
    row!("retry of a refused connection", "/connect", "", 503),
    row!(
        "retry of a refused connection is no refused stream",
        "/refused",
        "",
        503
    ),
    row!("retry of a refused connection by 5xx", "/connect-5xx", "", 503),
    row!("retry after a slow try", "/per-try", "delay=400,first=1", 200),
    row!("retry slow tries in vain", "/per-try", "delay=400", 504),
    row!(
        "retry nothing but limit the try",
        "/per-try-alone",
        "delay=400",
        504
    ),
    row!(
        "retry after an idle try",
        "/per-try-idle",
        "delay=400,first=1",
        200
    ),
    row!("retry once by default", "/default", "status=503,first=1", 200),
    row!("retry once by default and no more", "/default", "status=503", 503),
    row!("retry none", "/none", "status=503", 503),
    row!(
        "retry words with unknown ones between",
        "/words",
        "status=409,first=1",
        200
    ),
    row!(
        "retry when the server says",
        "/back-off",
        "status=503,header=retry-after:1,first=1",
        200
    ),
    row!(
        "retry later than allowed",
        "/back-off",
        "status=503,header=retry-after:9,first=1",
        200
    ),
    row!(
        "retry by the policy of the virtual host",
        "/host",
        "status=418,first=1",
        200
    ),
    row!("hedge: the second is faster", "/hedge", "delay=3000,first=1", 200),
    row!("hedge: the first is still faster", "/hedge", "delay=1000", 200),
    row!(
        "hedge: the first fails after the second",
        "/hedge",
        "delay=800,status=503,first=1",
        200
    ),
    row!("hedge: both fail", "/hedge", "delay=700,status=503", 503),
    row!("hedge: both are dropped", "/hedge", "delay=700,drop", 503),
    row!("hedge not what is in time", "/hedge", "status=503,first=1", 200),
    row!("hedge without a retry left", "/hedge-none", "delay=600", 200),
    row!("hedge in vain", "/hedge-limit", "delay=4000", 504),
    row!("hedge over h2", "/hedge-h2", "delay=3000,first=1", 200),
    row!("hedge switched off", "/hedge-not", "delay=3000,first=1", 200),
    text(
        "hedge with a body",
        "POST /hedge HTTP/1.1\nhost: retry.test\nx-behave: delay=3000,first=1\ncontent-length: 5\n\nhello",
        200,
    ),
    row!("retry without endpoints", "/empty", "", 503),
    text(
        "retry with a body",
        "POST /5xx HTTP/1.1\nhost: retry.test\nx-behave: status=503,first=2\ncontent-length: 5\n\nhello",
        200,
    ),
    text(
        "retry reset before request with a body",
        "POST /reset-before HTTP/1.1\nhost: retry.test\nx-behave: drop\ncontent-length: 5\n\nhello",
        503,
    ),
    text(
        "retry with a chunked body",
        "POST /5xx HTTP/1.1\nhost: retry.test\nx-behave: drop,first=1\ntransfer-encoding: chunked\n\n5\nhello\n0\n\n",
        200,
    ),
    text(
        "retry asked for by header",
        "GET / HTTP/1.1\nhost: asking.test\nx-forwarded-for: 10.1.2.3\nx-envoy-retry-on: 5xx\nx-behave: status=503\n\n",
        503,
    ),
    text(
        "retry asked for three times by header",
        "GET / HTTP/1.1\nhost: asking.test\nx-forwarded-for: 10.1.2.3\nx-envoy-retry-on: 5xx\nx-envoy-max-retries: 3\nx-behave: status=503\n\n",
        503,
    ),
    text(
        "retry limit by header, on top of the route",
        "GET /5xx HTTP/1.1\nhost: retry.test\nx-forwarded-for: 10.1.2.3\nx-envoy-max-retries: 1\nx-behave: status=503\n\n",
        503,
    ),
    text(
        "retry asked for by a stranger",
        "GET / HTTP/1.1\nhost: asking.test\nx-forwarded-for: 10.1.2.3, 8.8.8.8\nx-envoy-internal: true\nx-envoy-retry-on: 5xx\nx-envoy-upstream-rq-timeout-ms: 100\nx-behave: status=503,delay=150\n\n",
        503,
    ),
    text(
        "retry codes by header",
        "GET / HTTP/1.1\nhost: asking.test\nx-forwarded-for: 10.1.2.3\nx-envoy-retry-on: retriable-status-codes\nx-envoy-retriable-status-codes: 404,499\nx-behave: status=404\n\n",
        404,
    ),
    text(
        "retry by header with a limit of the try",
        "GET / HTTP/1.1\nhost: asking.test\nx-forwarded-for: 10.1.2.3\nx-envoy-retry-on: 5xx\nx-envoy-upstream-rq-per-try-timeout-ms: 100\nx-behave: delay=400\n\n",
        504,
    ),
    text(
        "timeout by header",
        "GET / HTTP/1.1\nhost: asking.test\nx-forwarded-for: 10.1.2.3\nx-envoy-upstream-rq-timeout-ms: 100\nx-behave: delay=400\n\n",
        504,
    ),
    http2(
        "h2 retry 5xx",
        "retry.test",
        "/5xx",
        &[("x-behave", "status=503,first=1")],
        200,
    ),
    http2(
        "h2 retry by grpc status",
        "retry.test",
        "/grpc",
        &[("x-behave", "header=grpc-status:14,first=1")],
        200,
    ),
    http2(
        "h2 retry by another grpc status",
        "retry.test",
        "/grpc",
        &[("x-behave", "header=grpc-status:5")],
        200,
    ),
];
