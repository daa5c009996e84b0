//! Rows about copies of requests. Upstream `b` gets them; what it received is compared as what `a` received.

use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{Row, http2_post, text};

fn mirrored(path: &str, policies: Value) -> Value {
    to("a", path, json!({"request_mirror_policies": policies}))
}

fn routes() -> Vec<Value> {
    let append = json!({"append": {"header": {"key": "x-copy", "value": "%REQ(x-asked)%"}}});
    let fraction =
        |numerator: u32| json!({"default_value": {"numerator": numerator, "denominator": "HUNDRED"}});
    vec![
        mirrored("/plain", json!([{"cluster": "b"}])),
        mirrored("/header", json!([{"cluster_header": "x-mirror-to"}])),
        mirrored(
            "/never",
            json!([{"cluster": "b", "runtime_fraction": fraction(0)}]),
        ),
        mirrored(
            "/always",
            json!([{"cluster": "b", "runtime_fraction": fraction(100)}]),
        ),
        mirrored(
            "/kept",
            json!([{"cluster": "b", "disable_shadow_host_suffix_append": true}]),
        ),
        mirrored(
            "/literal",
            json!([{"cluster": "b", "host_rewrite_literal": "copy.test:81"}]),
        ),
        mirrored(
            "/mutated",
            json!([{"cluster": "b", "request_headers_mutations": [append, {"remove": "x-secret"}]}]),
        ),
        mirrored("/two", json!([{"cluster": "closed"}, {"cluster": "b"}])),
        mirrored("/h2", json!([{"cluster": "h2"}])),
        to(
            "a",
            "/rewritten",
            json!({"request_mirror_policies": [{"cluster": "b"}], "prefix_rewrite": "/new",
                "host_rewrite_literal": "rewritten.test", "timeout": "3s"}),
        ),
        to(
            "closed",
            "/main-fails",
            json!({"request_mirror_policies": [{"cluster": "b"}]}),
        ),
        to(
            "a",
            "/retried",
            json!({"request_mirror_policies": [{"cluster": "b"}], "timeout": "2s",
                "retry_policy": {"retry_on": "5xx", "retry_back_off": {"base_interval": "0.001s"}}}),
        ),
    ]
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let mut inheriting = host(
        "mirroring",
        &["mirrors.test"],
        vec![
            json!({"match": {"prefix": "/direct"}, "direct_response": {"status": 204}}),
            mirrored(
                "/own",
                json!([{"cluster": "b", "disable_shadow_host_suffix_append": true}]),
            ),
            to("a", "/", json!({})),
        ],
    );
    harness::bootstrap::merge(
        &mut inheriting,
        &json!({"request_mirror_policies": [{"cluster": "b"}]}),
    );
    let mut own = host("mirror", &["mirror.test", "mirror.test:8080"], routes());
    harness::bootstrap::merge(&mut own, &json!({"include_request_attempt_count": true}));
    vec![own, inheriting]
}

/// A `GET` on the virtual host whose upstreams together must have received as many requests as it says.
macro_rules! get {
    ($name:literal, $path:literal, $awaits:literal, $status:literal) => {
        get!($name, $path, $awaits, "", $status)
    };
    ($name:literal, $path:literal, $awaits:literal, $more:literal, $status:literal) => {
        text(
            $name,
            concat!(
                "GET ",
                $path,
                " HTTP/1.1\nhost: mirror.test\nx-await: ",
                $awaits,
                "\n",
                $more,
                "\n"
            ),
            $status,
        )
    };
}

pub(crate) const ROWS: &[Row] = &[
    get!("mirror plain", "/plain?q=1", "2", 200),
    get!("mirror by header", "/header", "2", "x-mirror-to: b\n", 200),
    get!(
        "mirror by a header that names nothing",
        "/header",
        "1",
        "x-mirror-to: nothing\n",
        200
    ),
    get!("mirror without the header", "/header", "1", 200),
    get!("mirror never", "/never", "1", 200),
    get!("mirror always", "/always", "2", 200),
    get!("mirror without suffix", "/kept", "2", 200),
    get!("mirror with another host", "/literal", "2", 200),
    get!(
        "mirror with other fields",
        "/mutated",
        "2",
        "x-asked: yes\nx-secret: 1\n",
        200
    ),
    get!("mirror twice and once in vain", "/two", "2", 200),
    get!("mirror over http2", "/h2", "2", 200),
    get!("mirror of what is rewritten", "/rewritten/x", "2", 200),
    get!("mirror of a request that fails", "/main-fails", "1", 503),
    get!(
        "mirror of a request that is tried again",
        "/retried",
        "3",
        "x-behave: status=503,first=1\n",
        200
    ),
    text(
        "mirror with a port",
        "GET /plain HTTP/1.1\nhost: mirror.test:8080\nx-await: 2\n\n",
        200,
    ),
    text(
        "mirror of a body",
        "POST /plain HTTP/1.1\nhost: mirror.test\nx-await: 2\ncontent-length: 5\n\nhello",
        200,
    ),
    text(
        "mirror of chunks and trailers",
        "POST /plain HTTP/1.1\nhost: mirror.test\nx-await: 2\ntransfer-encoding: chunked\n\n5\nhello\n0\nx-trailer: 1\n\n",
        200,
    ),
    text(
        "mirror of a request that is never answered",
        "POST /plain HTTP/1.1\nhost: mirror.test\nx-await: 2\nx-behave: drop\ncontent-length: 0\n\n",
        503,
    ),
    text(
        "mirror of the virtual host",
        "GET / HTTP/1.1\nhost: mirrors.test\nx-await: 2\n\n",
        200,
    ),
    text(
        "mirror of the route instead",
        "GET /own HTTP/1.1\nhost: mirrors.test\nx-await: 2\n\n",
        200,
    ),
    text(
        "mirror not of a direct response",
        "GET /direct HTTP/1.1\nhost: mirrors.test\n\n",
        204,
    ),
    http2_post(
        "h2 mirror",
        "mirrors.test",
        &[("x-await", "2")],
        "over two",
        &[("x-trailer", "1")],
        200,
    ),
];
