//! Rows about the protocol itself: framing, trailers, limits, time, failure, and what must be refused.

use super::table::{Listener, Row, Send, Step, http2, on, steps, text};

/// Bodies both ways.
pub(crate) const BODIES: &[Row] = &[
    text(
        "post with length",
        "POST /p HTTP/1.1\nhost: x\ncontent-length: 5\n\nhello",
        200,
    ),
    text(
        "post chunked",
        "POST /p HTTP/1.1\nhost: x\ntransfer-encoding: chunked\n\n5\nhello\n6;a=b\n world\n0\n\n",
        200,
    ),
    text(
        "post chunked with trailer",
        "POST /p HTTP/1.1\nhost: x\ntransfer-encoding: chunked\ntrailer: x-t\n\n5\nhello\n0\nx-t: 1\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "edge drops a trailer",
        "POST /p HTTP/1.1\nhost: b.test\ntransfer-encoding: chunked\n\n5\nhello\n0\nx-t: 1\n\n",
        200,
    ),
    text(
        "post empty chunked",
        "POST /p HTTP/1.1\nhost: x\ntransfer-encoding: chunked\n\n0\n\n",
        200,
    ),
    text("post without a body", "POST /p HTTP/1.1\nhost: x\n\n", 200),
    text(
        "get with a body",
        "GET /p HTTP/1.1\nhost: x\ncontent-length: 2\n\nhi",
        200,
    ),
    text("delete", "DELETE /p HTTP/1.1\nhost: x\n\n", 200),
    text("unknown method", "BREW /p HTTP/1.1\nhost: x\n\n", 400),
    text("options asterisk", "OPTIONS * HTTP/1.1\nhost: x\n\n", 404),
    text(
        "response chunked",
        "GET / HTTP/1.1\nhost: x\nx-behave: chunked, body=10\n\n",
        200,
    ),
    text(
        "response with trailer",
        "GET / HTTP/1.1\nhost: x\nte: trailers\nx-behave: trailer, body=10\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "edge drops a response trailer",
        "GET / HTTP/1.1\nhost: b.test\nx-behave: trailer, body=3\n\n",
        200,
    ),
    text(
        "response until close",
        "GET / HTTP/1.1\nhost: x\nx-behave: until-close, body=10\n\n",
        200,
    ),
    text(
        "response empty",
        "GET / HTTP/1.1\nhost: x\nx-behave: body=0\n\n",
        200,
    ),
    text(
        "response 204",
        "GET / HTTP/1.1\nhost: x\nx-behave: status=204\n\n",
        204,
    ),
    text(
        "response 304",
        "GET / HTTP/1.1\nhost: x\nx-behave: status=304, body=10\n\n",
        304,
    ),
    text(
        "response 500",
        "GET / HTTP/1.1\nhost: x\nx-behave: status=500, body=10\n\n",
        500,
    ),
    text(
        "response 600",
        "GET / HTTP/1.1\nhost: x\nx-behave: status=600, body=10\n\n",
        600,
    ),
    text("head", "HEAD / HTTP/1.1\nhost: x\nx-behave: body=10\n\n", 200),
    text(
        "head chunked",
        "HEAD / HTTP/1.1\nhost: x\nx-behave: chunked, body=10\n\n",
        200,
    ),
    text(
        "early hints",
        "GET / HTTP/1.1\nhost: x\nx-behave: hints, body=10\n\n",
        200,
    ),
    steps(
        "large request",
        &[
            Step::Text("POST /large HTTP/1.1\nhost: x\nx-behave: body=3\ncontent-length: 3000000\n\n"),
            Step::Fill(3_000_000),
            Step::Response("POST"),
        ],
        200,
    ),
    text(
        "large response",
        "GET / HTTP/1.1\nhost: x\nx-behave: body=3000000\n\n",
        200,
    ),
    text(
        "large response chunked",
        "GET / HTTP/1.1\nhost: x\nx-behave: chunked, body=3000000\n\n",
        200,
    ),
];

/// Conversations that are not one request and one answer.
pub(crate) const CONVERSATIONS: &[Row] = &[
    steps(
        "expect 100-continue",
        &[
            Step::Text("POST / HTTP/1.1\nhost: x\nexpect: 100-continue\ncontent-length: 4\n\n"),
            Step::Head,
            Step::Text("body"),
            Step::Response("POST"),
        ],
        200,
    ),
    steps(
        "two requests in one write",
        &[
            Step::Text("GET /1 HTTP/1.1\nhost: x\n\nGET /2 HTTP/1.1\nhost: b.test\n\n"),
            Step::Response("GET"),
            Step::Response("GET"),
        ],
        200,
    ),
    steps(
        "keep-alive after a direct response",
        &[
            Step::Text("GET / HTTP/1.1\nhost: direct.test\n\n"),
            Step::Response("GET"),
            Step::Text("GET / HTTP/1.1\nhost: x\n\n"),
            Step::Response("GET"),
        ],
        200,
    ),
    steps(
        "websocket",
        &[
            Step::Text(
                "GET /chat HTTP/1.1\nhost: x\nconnection: Upgrade\nupgrade: websocket\nsec-websocket-version: 13\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n\n",
            ),
            Step::Head,
            Step::Text("some octets"),
            Step::Read(11),
            Step::Fill(100_000),
            Step::Read(100_000),
        ],
        101,
    ),
    steps(
        "leading empty line",
        &[
            Step::Text("\nGET / HTTP/1.1\nhost: direct.test\n\n"),
            Step::Response("GET"),
        ],
        418,
    ),
];

/// Time and failure.
pub(crate) const FAILURES: &[Row] = &[
    text(
        "timeout of the route",
        "GET /timeout HTTP/1.1\nhost: limits.test\nx-behave: delay=3000\n\n",
        504,
    ),
    text(
        "timeout not reached",
        "GET /timeout HTTP/1.1\nhost: limits.test\n\n",
        200,
    ),
    text(
        "timeout after the head",
        "GET /timeout HTTP/1.1\nhost: limits.test\nx-behave: stall=3000, body=10\n\n",
        200,
    ),
    text(
        "timeout by header is not taken from outside",
        "GET / HTTP/1.1
host: x
x-envoy-upstream-rq-timeout-ms: 100
x-behave: delay=500

",
        200,
    ),
    text(
        "idle timeout of the route",
        "GET /idle HTTP/1.1\nhost: limits.test\nx-behave: delay=3000\n\n",
        504,
    ),
    on(
        Listener::Plain,
        "idle timeout of the manager",
        "GET / HTTP/1.1\nhost: x\nx-behave: delay=3000\n\n",
        504,
    ),
    text(
        "nobody listens",
        "GET /closed HTTP/1.1\nhost: limits.test\n\n",
        503,
    ),
    text("no endpoints", "GET /empty HTTP/1.1\nhost: limits.test\n\n", 503),
    text(
        "no such cluster",
        "GET /missing HTTP/1.1\nhost: limits.test\n\n",
        503,
    ),
    text(
        "no such cluster as 404",
        "GET /absent HTTP/1.1\nhost: limits.test\n\n",
        404,
    ),
    text(
        "upstream closes without an answer",
        "GET / HTTP/1.1\nhost: x\nx-behave: drop\n\n",
        503,
    ),
    text(
        "upstream closes in the body",
        "GET / HTTP/1.1\nhost: x\nx-behave: cut, body=100\n\n",
        200,
    ),
    text(
        "upstream closes in a chunked body",
        "GET / HTTP/1.1\nhost: x\nx-behave: cut, chunked, body=100\n\n",
        200,
    ),
    http2(
        "h2 timeout",
        "limits.test",
        "/timeout",
        &[("x-behave", "delay=3000")],
        504,
    ),
    http2("h2 nobody listens", "limits.test", "/closed", &[], 503),
    http2("h2 no such cluster", "limits.test", "/missing", &[], 503),
    http2(
        "h2 upstream closes in the body",
        "x",
        "/",
        &[("x-behave", "cut, body=100")],
        200,
    ),
    http2(
        "h2 grpc nobody listens",
        "limits.test",
        "/closed",
        &[("content-type", "application/grpc")],
        200,
    ),
    http2(
        "h2 grpc no such cluster",
        "limits.test",
        "/missing",
        &[("content-type", "application/grpc")],
        200,
    ),
    http2(
        "h2 grpc timeout",
        "limits.test",
        "/timeout",
        &[("content-type", "application/grpc"), ("x-behave", "delay=3000")],
        200,
    ),
];

/// Requests that must not pass, or only just.
pub(crate) const REFUSALS: &[Row] = &[
    text("no host", "GET / HTTP/1.1\nx: y\n\n", 400),
    text("empty host", "GET / HTTP/1.1\nhost:\n\n", 200),
    text("two hosts", "GET / HTTP/1.1\nhost: a\nhost: b\n\n", 200),
    text(
        "length and chunked",
        "POST / HTTP/1.1\nhost: x\ncontent-length: 3\ntransfer-encoding: chunked\n\n0\n\n",
        400,
    ),
    text(
        "two lengths",
        "POST / HTTP/1.1\nhost: x\ncontent-length: 3\ncontent-length: 4\n\nabcd",
        400,
    ),
    text(
        "length no number",
        "POST / HTTP/1.1\nhost: x\ncontent-length: +3\n\nabc",
        400,
    ),
    text(
        "unknown transfer coding",
        "POST / HTTP/1.1\nhost: x\ntransfer-encoding: gzip\n\n",
        501,
    ),
    text(
        "bad chunk size",
        "POST / HTTP/1.1\nhost: direct.test\ntransfer-encoding: chunked\n\nxyz\n\n",
        418,
    ),
    text("space before colon", "GET / HTTP/1.1\nhost: x\nbad : 1\n\n", 400),
    text("folded line", "GET / HTTP/1.1\nhost: x\nfolded: a\n b\n\n", 200),
    text("no colon", "GET / HTTP/1.1\nhost: x\nnothing\n\n", 400),
    text(
        "control character in value",
        "GET / HTTP/1.1\nhost: x\na: b\u{1}c\n\n",
        400,
    ),
    text("space in target", "GET /a b HTTP/1.1\nhost: x\n\n", 400),
    text("unknown version", "GET / HTTP/3.7\nhost: x\n\n", 426),
    text("no version", "GET /\nhost: x\n\n", 426),
    text("nonsense", "hello there\n\n", 400),
    text("connect", "CONNECT x:80 HTTP/1.1\nhost: x:80\n\n", 404),
    text("http/1.0", "GET / HTTP/1.0\nhost: direct.test\n\n", 426),
    on(
        Listener::Plain,
        "plain http/1.0",
        "GET / HTTP/1.0\nhost: x\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "plain http/1.0 without host",
        "GET / HTTP/1.0\n\n",
        418,
    ),
    on(
        Listener::Plain,
        "plain http/1.0 keep-alive",
        "GET / HTTP/1.0\nhost: x\nconnection: keep-alive\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "plain http/1.0 chunked answer",
        "GET / HTTP/1.0\nhost: x\nx-behave: chunked, body=5\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "plain underscore",
        "GET / HTTP/1.1\nhost: x\nunder_score: 1\n\n",
        400,
    ),
    text("underscore", "GET / HTTP/1.1\nhost: x\nunder_score: 1\n\n", 200),
    on(
        Listener::Plain,
        "plain too many fields",
        "GET / HTTP/1.1\nhost: x\na: 1\na: 2\na: 3\na: 4\na: 5\na: 6\na: 7\na: 8\na: 9\na: 10\na: 11\na: 12\na: 13\n\
         a: 14\na: 15\na: 16\na: 17\na: 18\na: 19\na: 20\n\n",
        431,
    ),
    Row {
        name: "plain too large fields",
        listener: Listener::Plain,
        send: Send::Steps(&[
            Step::Text("GET / HTTP/1.1\nhost: x\nlarge: "),
            Step::Fill(9000),
            Step::Text("\n\n"),
            Step::Response("GET"),
        ]),
        status: 431,
    },
    steps(
        "large fields",
        &[
            Step::Text("GET / HTTP/1.1\nhost: direct.test\nlarge: "),
            Step::Fill(50_000),
            Step::Text("\n\n"),
            Step::Response("GET"),
        ],
        418,
    ),
];
