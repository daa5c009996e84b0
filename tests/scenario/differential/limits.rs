//! Rows about local rate limits: buckets that hold a few tokens and fill once an hour, so that the rows of one bucket are
//! a sequence.

use serde_json::{Value, json};

use super::config::{self, to};
use super::filters::{config, says};
use super::table::{Row, Step, http2, http2_post, steps, text};

pub(crate) fn limit(fields: Value) -> Value {
    let always = json!({"default_value": {"numerator": 100}});
    let mut all = json!({"stat_prefix": "route", "filter_enabled": always, "filter_enforced": always});
    harness::bootstrap::merge(&mut all, &fields);
    config("local_ratelimit.v3.LocalRateLimit", all)
}

pub(crate) fn bucket(tokens: u32) -> Value {
    json!({"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": "3600s"})
}

fn route(path: &str, fields: Value) -> Value {
    says(path, json!({"limit": limit(fields)}))
}

/// The virtual host of these rows.
pub(crate) fn host() -> Value {
    let never = json!({"default_value": {"numerator": 0}});
    let told = json!([{"header": {"key": "x-limited", "value": "by %REQ(:path)% as %RESPONSE_CODE%"}}]);
    let marked = json!([{"header": {"key": "x-over", "value": "%REQ(x-word)%"}}]);
    let routes = vec![
        route("/two", json!({"token_bucket": bucket(2)})),
        route(
            "/status",
            json!({"token_bucket": bucket(0), "status": {"code": 503}, "response_headers_to_add": told}),
        ),
        route(
            "/low-status",
            json!({"token_bucket": bucket(0), "status": {"code": 200}}),
        ),
        route(
            "/headers",
            json!({"token_bucket": bucket(2), "enable_x_ratelimit_headers": "DRAFT_VERSION_03"}),
        ),
        route(
            "/shadow",
            json!({"token_bucket": bucket(1), "filter_enforced": never,
                "request_headers_to_add_when_not_enforced": marked, "response_headers_to_add": told}),
        ),
        route(
            "/off",
            json!({"token_bucket": bucket(0), "filter_enabled": never}),
        ),
        route("/grpc", json!({"token_bucket": bucket(0)})),
        route(
            "/exhausted",
            json!({"token_bucket": bucket(0), "rate_limited_as_resource_exhausted": true}),
        ),
        route(
            "/connection",
            json!({"token_bucket": bucket(1), "local_rate_limit_per_downstream_connection": true}),
        ),
        says(
            "/disabled",
            json!({"limit": {"@type": harness::bootstrap::type_url("config.route.v3.FilterConfig"), "disabled": true}}),
        ),
        to("a", "/", json!({})),
    ];
    let mut host = config::host("limited", &["limit.test"], routes);
    host["typed_per_filter_config"] = json!({"limit": limit(json!({"token_bucket": bucket(1)}))});
    host
}

const CONNECTION: &str = "GET /connection HTTP/1.1\nhost: limit.test\n\n";

pub(crate) const ROWS: &[Row] = &[
    text(
        "limit, one of two",
        "GET /two HTTP/1.1\nhost: limit.test\n\n",
        200,
    ),
    text(
        "limit, two of two",
        "GET /two HTTP/1.1\nhost: limit.test\n\n",
        200,
    ),
    text("limit reached", "GET /two HTTP/1.1\nhost: limit.test\n\n", 429),
    text(
        "limit reached by HEAD",
        "HEAD /two HTTP/1.1\nhost: limit.test\n\n",
        429,
    ),
    http2("h2 limit reached", "limit.test", "/two", &[], 429),
    text(
        "limit with a status and a header",
        "GET /status HTTP/1.1\nhost: limit.test\n\n",
        503,
    ),
    text(
        "limit with a status below 400",
        "GET /low-status HTTP/1.1\nhost: limit.test\n\n",
        429,
    ),
    text(
        "limit told, one of two",
        "GET /headers HTTP/1.1\nhost: limit.test\n\n",
        200,
    ),
    text(
        "limit told, two of two",
        "GET /headers HTTP/1.1\nhost: limit.test\n\n",
        200,
    ),
    text(
        "limit told, reached",
        "GET /headers HTTP/1.1\nhost: limit.test\n\n",
        429,
    ),
    text(
        "limit in shadow",
        "GET /shadow HTTP/1.1\nhost: limit.test\nx-word: w\n\n",
        200,
    ),
    text(
        "limit in shadow, reached",
        "GET /shadow HTTP/1.1\nhost: limit.test\nx-word: w\n\n",
        200,
    ),
    text("limit off", "GET /off HTTP/1.1\nhost: limit.test\n\n", 200),
    text(
        "limit of a grpc request",
        "POST /grpc HTTP/1.1\nhost: limit.test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
        200,
    ),
    text(
        "limit of a grpc request as exhausted",
        "POST /exhausted HTTP/1.1\nhost: limit.test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
        200,
    ),
    http2_post(
        "h2 limit of the virtual host",
        "limit.test",
        &[],
        "body",
        &[],
        200,
    ),
    text(
        "limit of the virtual host, reached",
        "GET /x HTTP/1.1\nhost: limit.test\n\n",
        429,
    ),
    text(
        "limit disabled by the route",
        "GET /disabled HTTP/1.1\nhost: limit.test\n\n",
        200,
    ),
    steps(
        "limit of a connection",
        &[
            Step::Text(CONNECTION),
            Step::Response("GET"),
            Step::Text(CONNECTION),
            Step::Response("GET"),
        ],
        429,
    ),
    text("limit of another connection", CONNECTION, 200),
];
