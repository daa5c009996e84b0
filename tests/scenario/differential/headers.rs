//! Rows about the header fields that a request and its answer gain, lose and keep.

use super::table::{Listener, Row, http2, on, text};

/// Header rules of the configuration.
pub(crate) const RULES: &[Row] = &[
    text(
        "rules on a request without the fields",
        "GET /rules HTTP/1.1\nhost: headers.test\nx-unwanted: 1\nx-unwanted-host: 1\nx-unwanted-config: 1\n\n",
        200,
    ),
    text(
        "rules on a request with the fields",
        "GET /rules HTTP/1.1\nhost: headers.test\nx-append: own\nx-absent: own\nx-overwrite: own\n\
         x-if-exists: own\nx-level: own\n\n",
        200,
    ),
    text(
        "rules on a response with the fields",
        "GET /rules HTTP/1.1\nhost: headers.test\nx-behave: header=x-append:up, header=x-absent:up, \
         header=x-overwrite:up, header=x-if-exists:up, header=x-remove:1, header=x-remove-config:1\n\n",
        200,
    ),
    text(
        "rules of host and config only",
        "GET /x HTTP/1.1\nhost: headers.test\n\n",
        200,
    ),
    text(
        "format strings",
        "GET /formats HTTP/1.1\nhost: headers.test\nx-given: here\nx-protocol: forged\n\n",
        200,
    ),
    text(
        "rules on a direct response",
        "GET / HTTP/1.1\nhost: direct.test\n\n",
        418,
    ),
    http2(
        "h2 rules",
        "headers.test",
        "/rules",
        &[("x-append", "own"), ("x-unwanted", "1")],
        200,
    ),
    http2(
        "h2 format strings",
        "headers.test",
        "/formats",
        &[("x-given", "here")],
        200,
    ),
];

/// What a proxy adds by itself.
pub(crate) const FORWARDING: &[Row] = &[
    text("request id made", "GET / HTTP/1.1\nhost: x\n\n", 200),
    text(
        "request id kept",
        "GET / HTTP/1.1\nhost: x\nx-request-id: given-by-client\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "edge replaces a request id",
        "GET / HTTP/1.1\nhost: x\nx-request-id: forged\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "edge request id in the answer",
        "GET / HTTP/1.1\nhost: exact.test\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "plain makes no request id",
        "GET / HTTP/1.1\nhost: x\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "plain keeps a request id",
        "GET / HTTP/1.1\nhost: x\nx-request-id: abc\n\n",
        200,
    ),
    text(
        "forwarded-for kept",
        "GET / HTTP/1.1\nhost: x\nx-forwarded-for: 1.2.3.4\n\n",
        200,
    ),
    text(
        "forwarded-proto kept",
        "GET / HTTP/1.1\nhost: x\nx-forwarded-proto: https\n\n",
        200,
    ),
    text(
        "forwarded-proto nonsense",
        "GET / HTTP/1.1\nhost: x\nx-forwarded-proto: gopher\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "edge forwarded-for added",
        "GET / HTTP/1.1\nhost: x\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "edge forwarded-for appended",
        "GET / HTTP/1.1\nhost: x\nx-forwarded-for: 1.2.3.4\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "edge forwarded-proto replaced",
        "GET / HTTP/1.1\nhost: x\nx-forwarded-proto: https\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "edge removes internal fields",
        "GET / HTTP/1.1\nhost: x\nx-envoy-internal: true\nx-envoy-upstream-rq-timeout-ms: 5000\n\
         x-envoy-expected-rq-timeout-ms: 7\nx-envoy-original-path: /y\nx-envoy-external-address: 9.9.9.9\n\
         x-forwarded-for: 8.8.8.8\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "edge server name",
        "GET / HTTP/1.1\nhost: x\nx-behave: header=server:theirs\n\n",
        200,
    ),
    text(
        "server name replaced",
        "GET / HTTP/1.1\nhost: x\nx-behave: header=server:theirs\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "plain server name kept",
        "GET / HTTP/1.1\nhost: x\nx-behave: header=server:theirs\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "plain ports do not count",
        "GET / HTTP/1.1\nhost: exact.test:99\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "plain port of the authority",
        "GET / HTTP/1.1\nhost: x:99\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "plain forwarded-for as it was",
        "GET / HTTP/1.1\nhost: x\nx-forwarded-for: 1.1.1.1\n\n",
        200,
    ),
    text(
        "upstream timeout header is taken and told",
        "GET / HTTP/1.1\nhost: x\nx-envoy-upstream-rq-timeout-ms: 5000\n\n",
        200,
    ),
    text(
        "user agent kept",
        "GET / HTTP/1.1\nhost: x\nuser-agent: me/1\naccept: */*\ncookie: a=b\ncookie: c=d\n\n",
        200,
    ),
    text(
        "header case is lost",
        "GET / HTTP/1.1\nHost: x\nX-MiXed: Value\n\n",
        200,
    ),
    text(
        "same field twice",
        "GET / HTTP/1.1\nhost: x\nx-a: 1\nx-b: 2\nx-a: 3\n\n",
        200,
    ),
    text(
        "date kept",
        "GET / HTTP/1.1\nhost: x\nx-behave: header=date:yesterday\n\n",
        200,
    ),
    http2(
        "h2 forwarded",
        "x",
        "/",
        &[("x-forwarded-for", "1.2.3.4"), ("x-request-id", "given")],
        200,
    ),
    http2(
        "h2 cookies are joined",
        "x",
        "/",
        &[("cookie", "a=b"), ("cookie", "c=d")],
        200,
    ),
];

/// What does not pass a proxy.
pub(crate) const HOP_BY_HOP: &[Row] = &[
    text(
        "hop-by-hop fields of a request",
        "GET / HTTP/1.1\nhost: x\nconnection: keep-alive, x-mine\nkeep-alive: 5\nproxy-connection: keep-alive\n\
         x-mine: 1\nproxy-authorization: p\n\n",
        200,
    ),
    text(
        "hop-by-hop fields of a response",
        "GET / HTTP/1.1\nhost: x\nx-behave: hop\n\n",
        200,
    ),
    text(
        "connection close",
        "GET / HTTP/1.1\nhost: x\nconnection: close\n\n",
        200,
    ),
    text(
        "upstream closes",
        "GET / HTTP/1.1\nhost: x\nx-behave: close\n\n",
        200,
    ),
    text("te trailers", "GET / HTTP/1.1\nhost: x\nte: trailers\n\n", 200),
    text("te gzip", "GET / HTTP/1.1\nhost: x\nte: gzip\n\n", 200),
    text(
        "te gzip and trailers",
        "GET / HTTP/1.1\nhost: x\nte: gzip, trailers\n\n",
        200,
    ),
    text(
        "upgrade nobody allowed",
        "GET / HTTP/1.1\nhost: x\nconnection: upgrade\nupgrade: foo\n\n",
        403,
    ),
    on(
        Listener::Edge,
        "edge websocket not allowed",
        "GET / HTTP/1.1\nhost: x\nconnection: Upgrade\nupgrade: websocket\nsec-websocket-version: 13\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n\n",
        403,
    ),
    text(
        "upgrade h2c",
        "GET / HTTP/1.1\nhost: x\nconnection: Upgrade, HTTP2-Settings\nupgrade: h2c\nhttp2-settings: AAMAAABkAAQAAP__\n\n",
        200,
    ),
    http2("h2 te trailers", "x", "/", &[("te", "trailers")], 200),
];
