//! Rows about answers that are kept. Each address is asked for by rows that follow each other.
//!
//! They are sent to the proxy under test alone: Envoy 1.40 (its cache filter is marked as work in progress) keeps nothing
//! that came without `date`, and ends when it takes an answer with `vary`. So each row says whether the application is asked.

use harness::bootstrap::type_url;
use serde_json::{Value, json};

use super::config::{host, to};
use super::filters::config;
use super::table::{Row, http2, text};

fn cache(fields: Value) -> Value {
    let mut typed = config("cache.v3.CacheConfig", fields);
    typed["typed_config"] =
        json!({"@type": type_url("extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig")});
    typed
}

/// The filters of the main listener, which routes switch on.
pub(crate) fn chain() -> Vec<Value> {
    vec![
        json!({"name": "cache", "disabled": true, "typed_config": cache(json!({"allowed_vary_headers": [{"exact": "accept"}]}))}),
        json!({"name": "deaf-cache", "disabled": true, "typed_config": cache(json!({"ignore_request_cache_control_header": true}))}),
    ]
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let on = || json!({"@type": type_url("config.route.v3.FilterConfig"), "config": {}});
    let kept = |domain: &str, filter: &str| {
        let mut host = host(domain, &[domain], vec![to("a", "/", json!({}))]);
        host["typed_per_filter_config"][filter] = on();
        host
    };
    vec![kept("kept.test", "cache"), kept("deaf.test", "deaf-cache")]
}

macro_rules! get {
    ($name:literal, $path:literal, $fields:literal, $status:literal) => {
        text(
            $name,
            concat!("GET ", $path, " HTTP/1.1\nhost: kept.test\n", $fields, "\n"),
            $status,
        )
    };
}

/// A row, and how often the application is asked.
pub(crate) const ROWS: &[(Row, usize)] = &[
    (
        get!(
            "cache takes",
            "/a",
            "x-behave: header=cache-control:max-age=3600\n",
            200
        ),
        1,
    ),
    (get!("cache answers", "/a", "", 200), 0),
    (get!("cache of another query", "/a?x", "", 200), 1),
    (http2("h2 cache answers", "kept.test", "/a", &[], 200), 0),
    (
        text("cache answers HEAD", "HEAD /a HTTP/1.1\nhost: kept.test\n\n", 200),
        0,
    ),
    (
        get!(
            "cache and a request for fresh",
            "/a",
            "cache-control: no-cache\n",
            200
        ),
        1,
    ),
    (
        get!("cache and authorization", "/a", "authorization: x\n", 200),
        1,
    ),
    (
        get!("cache and a condition", "/a", "if-none-match: \"a\"\n", 200),
        1,
    ),
    (get!("cache without a lifetime takes", "/b", "", 200), 1),
    (get!("cache without a lifetime", "/b", "", 200), 1),
    (
        get!(
            "cache of no-store takes",
            "/c",
            "x-behave: header=cache-control:no-store\n",
            200
        ),
        1,
    ),
    (get!("cache of no-store", "/c", "", 200), 1),
    (
        get!(
            "cache of private takes",
            "/d",
            "x-behave: header=cache-control:private\n",
            200
        ),
        1,
    ),
    (get!("cache of private", "/d", "", 200), 1),
    (
        get!(
            "cache of an absence takes",
            "/e",
            "x-behave: status=404,header=cache-control:max-age=3600\n",
            404
        ),
        1,
    ),
    (get!("cache of an absence", "/e", "", 404), 0),
    (
        get!(
            "cache of an error takes",
            "/f",
            "x-behave: status=500,header=cache-control:max-age=3600\n",
            500
        ),
        1,
    ),
    (get!("cache of an error", "/f", "", 200), 1),
    (
        get!(
            "cache that varies takes",
            "/g",
            "accept: x/y\nx-behave: header=cache-control:max-age=3600,header=vary:accept\n",
            200
        ),
        1,
    ),
    (get!("cache that varies", "/g", "accept: x/y\n", 200), 0),
    (get!("cache that varies otherwise", "/g", "accept: x/z\n", 200), 1),
    (
        get!(
            "cache that varies too much takes",
            "/h",
            "x-behave: header=cache-control:max-age=3600,header=vary:cookie\n",
            200
        ),
        1,
    ),
    (get!("cache that varies too much", "/h", "", 200), 1),
    (
        get!(
            "cache of ten bytes takes",
            "/i",
            "x-behave: body=10,header=cache-control:max-age=3600\n",
            200
        ),
        1,
    ),
    (get!("cache of a part", "/i", "range: bytes=2-4\n", 206), 0),
    (get!("cache of the end", "/i", "range: bytes=-3\n", 206), 0),
    (
        get!("cache of what is not there", "/i", "range: bytes=10-\n", 416),
        0,
    ),
    (
        get!(
            "cache of chunks takes",
            "/j",
            "x-behave: chunked,header=cache-control:max-age=3600\n",
            200
        ),
        1,
    ),
    (get!("cache of chunks", "/j", "", 200), 0),
    (
        get!(
            "cache to be asked takes",
            "/k",
            "x-behave: header=cache-control:no-cache,header=etag:\"abc\"\n",
            200
        ),
        1,
    ),
    (
        get!(
            "cache that was asked",
            "/k",
            "x-behave: status=304,header=x-new:1\n",
            200
        ),
        1,
    ),
    (
        get!(
            "cache that changed",
            "/k",
            "x-behave: body=5,header=cache-control:max-age=3600\n",
            200
        ),
        1,
    ),
    (get!("cache after the change", "/k", "", 200), 0),
    (
        get!("cache or nothing", "/l", "cache-control: only-if-cached\n", 504),
        0,
    ),
    (
        text(
            "cache takes nothing posted",
            "POST /m HTTP/1.1\nhost: kept.test\nx-behave: header=cache-control:max-age=3600\ncontent-length: 0\n\n",
            200,
        ),
        1,
    ),
    (get!("cache of what was posted", "/m", "", 200), 1),
    (
        text(
            "deaf cache takes",
            "GET /a HTTP/1.1\nhost: deaf.test\nx-behave: header=cache-control:max-age=3600\n\n",
            200,
        ),
        1,
    ),
    (
        text(
            "deaf cache",
            "GET /a HTTP/1.1\nhost: deaf.test\ncache-control: no-cache\n\n",
            200,
        ),
        0,
    ),
];
