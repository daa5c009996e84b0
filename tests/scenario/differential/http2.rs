//! Rows about HTTP/2 on either side, and what becomes of a message that changes its protocol on the way.

use super::table::{Row, http2, http2_post, text};

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    http2("h2 in, http/1 out", "x", "/a?b", &[("x-a", "1")], 200),
    http2("h2 in, h2 out", "h2.test", "/a?b", &[("x-a", "1")], 200),
    http2("h2 in, same out", "same.test", "/a", &[], 200),
    text(
        "http/1 in, h2 out",
        "GET /a?b HTTP/1.1\nhost: h2.test\nx-A: 1\n\n",
        200,
    ),
    text("http/1 in, same out", "GET /a HTTP/1.1\nhost: same.test\n\n", 200),
    text(
        "http/1 post in, h2 out",
        "POST / HTTP/1.1\nhost: h2.test\ncontent-length: 5\n\nhello",
        200,
    ),
    text(
        "http/1 chunked with trailer in, h2 out",
        "POST / HTTP/1.1\nhost: h2.test\ntransfer-encoding: chunked\n\n5\nhello\n0\nx-t: 1\n\n",
        200,
    ),
    text(
        "http/1 in, h2 out with trailer",
        "GET / HTTP/1.1\nhost: h2.test\nx-behave: trailer, body=4\n\n",
        200,
    ),
    text(
        "http/1 in, h2 reset",
        "GET / HTTP/1.1\nhost: h2.test\nx-behave: drop\n\n",
        503,
    ),
    text(
        "http/1 head in, h2 out",
        "HEAD / HTTP/1.1\nhost: h2.test\n\n",
        200,
    ),
    http2_post("h2 post in, http/1 out", "x", &[], "hello", &[], 200),
    http2_post(
        "h2 post with length in, http/1 out",
        "x",
        &[("content-length", "5")],
        "hello",
        &[],
        200,
    ),
    http2_post(
        "h2 post with trailer in, http/1 out",
        "x",
        &[],
        "hello",
        &[("x-t", "1")],
        200,
    ),
    http2_post(
        "h2 post with trailer in, h2 out",
        "h2.test",
        &[],
        "hello",
        &[("x-t", "1")],
        200,
    ),
    http2(
        "h2 trailer from http/1",
        "x",
        "/",
        &[("x-behave", "trailer, body=4")],
        200,
    ),
    http2(
        "h2 trailer from h2",
        "h2.test",
        "/",
        &[("x-behave", "trailer, body=4")],
        200,
    ),
    http2(
        "h2 grpc from h2",
        "h2.test",
        "/a.b/C",
        &[("x-behave", "grpc, body=4"), ("te", "trailers")],
        200,
    ),
    http2(
        "h2 early hints from http/1",
        "x",
        "/",
        &[("x-behave", "hints, body=4")],
        200,
    ),
    http2(
        "h2 large response",
        "x",
        "/",
        &[("x-behave", "body=3000000")],
        200,
    ),
    http2(
        "h2 large response from h2",
        "h2.test",
        "/",
        &[("x-behave", "body=3000000")],
        200,
    ),
    http2(
        "h2 hop-by-hop fields of an answer",
        "x",
        "/",
        &[("x-behave", "hop")],
        200,
    ),
    http2("h2 reset from h2", "h2.test", "/", &[("x-behave", "drop")], 503),
    http2(
        "h2 until close from http/1",
        "x",
        "/",
        &[("x-behave", "until-close, body=4")],
        200,
    ),
];
