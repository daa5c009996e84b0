//! Rows about compressed bodies. What was compressed is compared as it reads.

use harness::bootstrap::type_url;
use serde_json::{Value, json};

use super::config::{host, to};
use super::filters::{config, says};
use super::table::{Row, http2, text};

fn library(name: &str, kind: &str) -> Value {
    json!({"name": name, "typed_config": {"@type": type_url(&format!("extensions.compression.{kind}"))}})
}

fn filter(name: &str, kind: &str, library: Value, fields: Value) -> Value {
    let field = if kind == "Compressor" {
        "compressor_library"
    } else {
        "decompressor_library"
    };
    let package = kind.to_ascii_lowercase();
    let mut typed = config(&format!("{package}.v3.{kind}"), fields);
    typed[field] = library;
    json!({"name": name, "disabled": true, "typed_config": typed})
}

/// The filters of the main listener, which routes switch on.
pub(crate) fn chain() -> Vec<Value> {
    let (gzip, brotli, zstd) = (
        "gzip.compressor.v3.Gzip",
        "brotli.compressor.v3.Brotli",
        "zstd.compressor.v3.Zstd",
    );
    vec![
        filter(
            "gz",
            "Compressor",
            library("gz", gzip),
            json!({"response_direction_config": {
            "common_config": {"min_content_length": 50}, "uncompressible_response_codes": [206, 418]}}),
        ),
        filter("br", "Compressor", library("br", brotli), json!({})),
        filter(
            "zstd",
            "Compressor",
            library("zs", zstd),
            json!({
            "content_length": 20, "content_type": ["text/html", "application/json"]}),
        ),
        filter(
            "first",
            "Compressor",
            library("first", brotli),
            json!({"choose_first": true}),
        ),
        filter(
            "told",
            "Compressor",
            library("told", gzip),
            json!({"response_direction_config": {
            "status_header_enabled": true, "disable_on_etag_header": true, "remove_accept_encoding_header": true}}),
        ),
        filter(
            "up",
            "Compressor",
            library("up", gzip),
            json!({
            "request_direction_config": {"common_config": {"min_content_length": 10}},
            "response_direction_config": {"common_config": {"enabled": {"default_value": false, "runtime_key": "no"}}}}),
        ),
        filter(
            "gunzip",
            "Decompressor",
            library("gunzip", "gzip.decompressor.v3.Gzip"),
            json!({}),
        ),
        filter(
            "gunzip-down",
            "Decompressor",
            library("down", "gzip.decompressor.v3.Gzip"),
            json!({
            "request_direction_config": {"common_config": {"enabled": {"default_value": false, "runtime_key": "no"}}, "advertise_accept_encoding": false}}),
        ),
    ]
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let on = || json!({"@type": type_url("config.route.v3.FilterConfig"), "config": {}});
    let enabled = |domain: &str, filters: &[&str], routes: Vec<Value>| {
        let mut host = host(domain, &[domain], routes);
        for filter in filters {
            host["typed_per_filter_config"][*filter] = on();
        }
        host
    };
    let route = |fields: Value| config("compressor.v3.CompressorPerRoute", fields);
    let direct = json!({"match": {"prefix": "/direct"}, "direct_response": {"status": 200,
        "body": {"inline_string": "a text that is long enough to be worth the trouble of compressing it"}}});
    vec![
        enabled(
            "gzip.test",
            &["gz"],
            vec![
                direct,
                says("/off", json!({"gz": route(json!({"disabled": true}))})),
                to("a", "/", json!({})),
            ],
        ),
        enabled(
            "three.test",
            &["gz", "br", "zstd"],
            vec![
                says("/without", json!({"gz": route(json!({"disabled": true}))})),
                to("a", "/", json!({})),
            ],
        ),
        enabled("first.test", &["gz", "first"], vec![to("a", "/", json!({}))]),
        enabled(
            "told.test",
            &["told"],
            vec![
                says(
                    "/keep",
                    json!({"told": route(json!({"overrides": {"response_direction_config": {"remove_accept_encoding_header": false}}}))}),
                ),
                to("a", "/", json!({})),
            ],
        ),
        enabled(
            "up.test",
            &["up"],
            vec![
                says(
                    "/both",
                    json!({"up": route(json!({"overrides": {"response_direction_config": {}}}))}),
                ),
                to("a", "/", json!({})),
            ],
        ),
        enabled("undo.test", &["gunzip"], vec![to("a", "/", json!({}))]),
        enabled("down.test", &["up", "gunzip-down"], vec![to("a", "/", json!({}))]),
        // Packed by one filter and unpacked by the next.
        enabled("again.test", &["up", "gunzip"], vec![to("a", "/", json!({}))]),
    ]
}

macro_rules! get {
    ($name:literal, $host:literal, $path:literal, $fields:literal, $status:literal) => {
        text(
            $name,
            concat!("GET ", $path, " HTTP/1.1\nhost: ", $host, "\n", $fields, "\n"),
            $status,
        )
    };
}

pub(crate) const RESPONSES: &[Row] = &[
    get!("gzip", "gzip.test", "/", "accept-encoding: gzip\n", 200),
    get!(
        "gzip among others",
        "gzip.test",
        "/",
        "accept-encoding: br, deflate;q=0.5, GZIP, gzip;q=0.1\n",
        200
    ),
    get!(
        "gzip not accepted",
        "gzip.test",
        "/",
        "accept-encoding: br\n",
        200
    ),
    get!(
        "gzip refused by quality",
        "gzip.test",
        "/",
        "accept-encoding: gzip;q=0, identity\n",
        200
    ),
    get!("gzip by wildcard", "gzip.test", "/", "accept-encoding: *\n", 200),
    get!(
        "gzip wildcard refused",
        "gzip.test",
        "/",
        "accept-encoding: *;q=0\n",
        200
    ),
    get!(
        "gzip after identity",
        "gzip.test",
        "/",
        "accept-encoding: identity, gzip\n",
        200
    ),
    get!(
        "gzip with a strange quality",
        "gzip.test",
        "/",
        "accept-encoding: gzip;q=x\n",
        200
    ),
    get!(
        "gzip with another parameter",
        "gzip.test",
        "/",
        "accept-encoding: gzip;level=9\n",
        200
    ),
    get!("gzip without accept-encoding", "gzip.test", "/", "", 200),
    get!(
        "gzip of nothing asked",
        "gzip.test",
        "/",
        "accept-encoding:\n",
        200
    ),
    get!(
        "gzip of chunks",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: chunked\n",
        200
    ),
    get!(
        "gzip with trailers",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: trailer\n",
        200
    ),
    get!(
        "gzip until close",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: until-close\n",
        200
    ),
    get!(
        "gzip of few bytes",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: body=49\n",
        200
    ),
    get!(
        "gzip of just enough bytes",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: body=50\n",
        200
    ),
    get!(
        "gzip of no bytes",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: body=0\n",
        200
    ),
    get!(
        "gzip of a compressed answer",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: header=content-encoding:x-own\n",
        200
    ),
    get!(
        "gzip with a strong tag",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: header=etag:\"abc\"\n",
        200
    ),
    get!(
        "gzip with a weak tag",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: header=etag:W/\"abc\"\n",
        200
    ),
    get!(
        "gzip forbidden",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: header=cache-control:no-transform\n",
        200
    ),
    get!(
        "gzip that varies",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: header=vary:cookie\n",
        200
    ),
    get!(
        "gzip that varies already",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: header=vary:Accept-Encoding\n",
        200
    ),
    get!(
        "gzip of an error",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: status=404\n",
        404
    ),
    get!(
        "gzip of a part",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: status=206\n",
        206
    ),
    get!(
        "gzip of 204",
        "gzip.test",
        "/",
        "accept-encoding: gzip\nx-behave: status=204\n",
        204
    ),
    get!(
        "gzip of a direct response",
        "gzip.test",
        "/direct",
        "accept-encoding: gzip\n",
        200
    ),
    get!(
        "gzip off at the route",
        "gzip.test",
        "/off",
        "accept-encoding: gzip\n",
        200
    ),
    text(
        "gzip of a head",
        "HEAD / HTTP/1.1\nhost: gzip.test\naccept-encoding: gzip\n\n",
        200,
    ),
    http2("h2 gzip", "gzip.test", "/", &[("accept-encoding", "gzip")], 200),
    http2(
        "h2 gzip of a part",
        "gzip.test",
        "/",
        &[("accept-encoding", "gzip"), ("x-behave", "body=10")],
        200,
    ),
];

pub(crate) const CHOICES: &[Row] = &[
    get!(
        "coding by order",
        "three.test",
        "/",
        "accept-encoding: zstd, br, gzip\n",
        200
    ),
    get!(
        "coding by quality",
        "three.test",
        "/",
        "accept-encoding: gzip;q=0.5, br;q=0.9, zstd;q=0.8\n",
        200
    ),
    get!("coding zstd", "three.test", "/", "accept-encoding: zstd\n", 200),
    get!(
        "coding by wildcard",
        "three.test",
        "/",
        "accept-encoding: gzip;q=0.1, *\n",
        200
    ),
    get!(
        "coding first refused",
        "three.test",
        "/without",
        "accept-encoding: gzip, br;q=0.5\n",
        200
    ),
    get!(
        "coding for few bytes",
        "three.test",
        "/",
        "accept-encoding: gzip;q=0.5, br;q=0.4\nx-behave: body=40\n",
        200
    ),
    get!(
        "coding that is preferred",
        "first.test",
        "/",
        "accept-encoding: gzip, br\n",
        200
    ),
    get!(
        "coding that is preferred but worse",
        "first.test",
        "/",
        "accept-encoding: gzip, br;q=0.9\n",
        200
    ),
    get!("coding told", "told.test", "/", "accept-encoding: gzip\n", 200),
    get!(
        "coding told of few bytes",
        "told.test",
        "/",
        "accept-encoding: gzip\nx-behave: body=10\n",
        200
    ),
    get!(
        "coding told of a tag",
        "told.test",
        "/",
        "accept-encoding: gzip\nx-behave: header=etag:\"abc\"\n",
        200
    ),
    get!(
        "coding told of chunks",
        "told.test",
        "/",
        "accept-encoding: gzip\nx-behave: chunked\n",
        200
    ),
    get!(
        "coding not removed from the request",
        "told.test",
        "/keep",
        "accept-encoding: gzip\n",
        200
    ),
];

pub(crate) const REQUESTS: &[Row] = &[
    text(
        "gzip of a request",
        "POST / HTTP/1.1\nhost: up.test\ncontent-type: text/plain\ncontent-length: 20\n\n01234567890123456789",
        200,
    ),
    text(
        "gzip of a request in chunks",
        "POST / HTTP/1.1\nhost: up.test\ntransfer-encoding: chunked\n\n5\nhello\n6\n world\n0\n\n",
        200,
    ),
    text(
        "gzip of a request that is too short",
        "POST / HTTP/1.1\nhost: up.test\ncontent-length: 5\n\nhello",
        200,
    ),
    text(
        "gzip of a request of another kind",
        "POST / HTTP/1.1\nhost: up.test\ncontent-type: image/png\ncontent-length: 20\n\n01234567890123456789",
        200,
    ),
    text(
        "gzip of both",
        "POST /both HTTP/1.1\nhost: up.test\naccept-encoding: gzip\ncontent-length: 20\n\n01234567890123456789",
        200,
    ),
    get!(
        "gzip up of no body",
        "up.test",
        "/",
        "accept-encoding: gzip\n",
        200
    ),
    get!(
        "gunzip advertises",
        "undo.test",
        "/",
        "accept-encoding: br;q=0.3, gzip;q=0.1\n",
        200
    ),
    get!("gunzip of a plain answer", "undo.test", "/", "", 200),
    text(
        "gunzip of a plain request",
        "POST / HTTP/1.1\nhost: undo.test\ncontent-encoding: br\ncontent-length: 5\n\nhello",
        200,
    ),
    text(
        "gunzip of what was just packed",
        "POST / HTTP/1.1\nhost: again.test\ncontent-length: 20\n\n01234567890123456789",
        200,
    ),
    text(
        "gunzip of an answer",
        "POST / HTTP/1.1\nhost: down.test\nx-behave: echo,header=content-encoding:gzip\ncontent-length: 20\n\n01234567890123456789",
        200,
    ),
];
