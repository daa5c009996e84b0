//! Rows about which virtual host and route a request gets, and what the route makes of its path and host.

use super::table::{Listener, Row, http2, on, text};

/// Virtual hosts.
pub(crate) const HOSTS: &[Row] = &[
    text("host exact", "GET / HTTP/1.1\nhost: exact.test\n\n", 200),
    text("host without case", "GET / HTTP/1.1\nhost: EXACT.Test\n\n", 200),
    text(
        "host exact with a port goes elsewhere",
        "GET / HTTP/1.1\nhost: exact.test:80\n\n",
        200,
    ),
    text(
        "host with a port in the domain",
        "GET / HTTP/1.1\nhost: ported.test:8080\n\n",
        200,
    ),
    text(
        "host without the port of the domain",
        "GET / HTTP/1.1\nhost: ported.test\n\n",
        200,
    ),
    text(
        "host exact before suffix",
        "GET / HTTP/1.1\nhost: exact.wild.test\n\n",
        200,
    ),
    text("host suffix", "GET / HTTP/1.1\nhost: any.wild.test\n\n", 200),
    text(
        "host longest suffix",
        "GET / HTTP/1.1\nhost: x.deep.wild.test\n\n",
        200,
    ),
    text(
        "host suffix needs something before it",
        "GET / HTTP/1.1\nhost: .wild.test\n\n",
        200,
    ),
    text(
        "host suffix is not the bare domain",
        "GET / HTTP/1.1\nhost: wild.test\n\n",
        200,
    ),
    text("host dash suffix", "GET / HTTP/1.1\nhost: a-dash.test\n\n", 200),
    text("host prefix", "GET / HTTP/1.1\nhost: pre.example\n\n", 200),
    text(
        "host longest prefix",
        "GET / HTTP/1.1\nhost: pre.long.example\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "host with a dot at its end",
        "GET / HTTP/1.1\nhost: exact.test.\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "host with a dot before its port",
        "GET / HTTP/1.1\nhost: ported.test.:8080\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "path with an escaped slash is redirected",
        "GET /a%2Fb%5c%41?x=%2F HTTP/1.1\nhost: exact.test\n\n",
        307,
    ),
    on(
        Listener::Edge,
        "query with an escaped slash is none of it",
        "GET /a?x=%2F HTTP/1.1\nhost: exact.test\n\n",
        200,
    ),
    on(
        Listener::Edge,
        "path with an escaped slash of a gRPC request is refused",
        "POST /a%2fb HTTP/1.1\nhost: exact.test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
        200,
    ),
    on(
        Listener::Plain,
        "path with an escaped slash is refused",
        "GET /a%2Fb HTTP/1.1\nhost: exact.test\n\n",
        400,
    ),
    text("host any", "GET / HTTP/1.1\nhost: nobody.knows\n\n", 200),
    text(
        "host without a route",
        "GET /other HTTP/1.1\nhost: none.test\n\n",
        404,
    ),
    text(
        "absolute form",
        "GET http://exact.test/x HTTP/1.1\nhost: ignored.test\n\n",
        200,
    ),
    text(
        "absolute form to an upstream",
        "GET http://abs.test:81/x?y HTTP/1.1\nhost: ignored.test\n\n",
        200,
    ),
    http2("h2 host suffix", "any.wild.test", "/", &[], 200),
    http2("h2 host without a route", "none.test", "/other", &[], 404),
];

/// Routes.
pub(crate) const ROUTES: &[Row] = &[
    text("path exact", "GET /exact HTTP/1.1\nhost: match.test\n\n", 200),
    text(
        "path exact with query",
        "GET /exact?x=/y HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path exact is not a prefix",
        "GET /exact/ HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path case matters",
        "GET /Exact HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path without case",
        "GET /nocASE HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path regex whole",
        "GET /re/12/x?q HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path regex not whole",
        "GET /re/12/xyz HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path separated prefix itself",
        "GET /sep HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path separated prefix below",
        "GET /sep/a HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path separated prefix with query",
        "GET /sep?a HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path separated prefix needs a slash",
        "GET /separate HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text("path prefix", "GET /prefixed HTTP/1.1\nhost: match.test\n\n", 200),
    text(
        "path escapes are not decoded",
        "GET /%65xact HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path dots are kept",
        "GET /x/../exact HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "path fragment",
        "GET /exact#part HTTP/1.1\nhost: match.test\n\n",
        400,
    ),
    text(
        "method post",
        "POST /method HTTP/1.1\nhost: match.test\ncontent-length: 0\n\n",
        200,
    ),
    text(
        "method other",
        "PUT /method HTTP/1.1\nhost: match.test\ncontent-length: 0\n\n",
        200,
    ),
    text(
        "authority as header",
        "GET /authority HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "header exact",
        "GET /header HTTP/1.1\nhost: match.test\nX-Exact: yes\n\n",
        200,
    ),
    text(
        "header exact case",
        "GET /header HTTP/1.1\nhost: match.test\nx-exact: Yes\n\n",
        200,
    ),
    text(
        "header without case",
        "GET /header HTTP/1.1\nhost: match.test\nx-nocase: YES\n\n",
        200,
    ),
    text(
        "header twice joined",
        "GET /header HTTP/1.1\nhost: match.test\nx-exact: yes\nx-exact: no\n\n",
        200,
    ),
    text(
        "header prefix",
        "GET /header HTTP/1.1\nhost: match.test\nx-prefix: prefix\n\n",
        200,
    ),
    text(
        "header suffix",
        "GET /header HTTP/1.1\nhost: match.test\nx-suffix: suffix\n\n",
        200,
    ),
    text(
        "header contains",
        "GET /header HTTP/1.1\nhost: match.test\nx-contains: amidst\n\n",
        200,
    ),
    text(
        "header regex",
        "GET /header HTTP/1.1\nhost: match.test\nx-regex: abc\n\n",
        200,
    ),
    text(
        "header regex must match whole",
        "GET /header HTTP/1.1\nhost: match.test\nx-regex: abcd\n\n",
        200,
    ),
    text(
        "header range start",
        "GET /header HTTP/1.1\nhost: match.test\nx-range: -5\n\n",
        200,
    ),
    text(
        "header range end is outside",
        "GET /header HTTP/1.1\nhost: match.test\nx-range: 10\n\n",
        200,
    ),
    text(
        "header range no number",
        "GET /header HTTP/1.1\nhost: match.test\nx-range: 1a\n\n",
        200,
    ),
    text(
        "header present but empty",
        "GET /header HTTP/1.1\nhost: match.test\nx-present:\n\n",
        200,
    ),
    text(
        "header two, one inverted",
        "GET /header HTTP/1.1\nhost: match.test\nx-one: 1\nx-two: 3\n\n",
        200,
    ),
    text(
        "header two, inverted one absent",
        "GET /header HTTP/1.1\nhost: match.test\nx-one: 1\n\n",
        200,
    ),
    text(
        "header two, inverted one matches",
        "GET /header HTTP/1.1\nhost: match.test\nx-one: 1\nx-two: 2\n\n",
        200,
    ),
    text(
        "header absent as empty",
        "GET /header HTTP/1.1\nhost: match.test\nx-as-empty: not-empty\n\n",
        200,
    ),
    text(
        "query exact",
        "GET /query?a=2&q=1 HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "query first of two",
        "GET /query?q=2&q=1 HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "query present without value",
        "GET /query?p HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "query regex",
        "GET /query?r=abc HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "query regex whole",
        "GET /query?r=abc1 HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    text(
        "query escaped",
        "GET /query?q=%31 HTTP/1.1\nhost: match.test\n\n",
        200,
    ),
    http2("h2 path exact", "match.test", "/exact", &[], 200),
    http2(
        "h2 header suffix",
        "match.test",
        "/header",
        &[("x-suffix", "suffix")],
        200,
    ),
    http2(
        "h2 grpc route",
        "match.test",
        "/a.b/C",
        &[("content-type", "application/grpc+proto")],
        200,
    ),
    http2(
        "h2 grpc no such host",
        "none.test",
        "/a.b/C",
        &[("content-type", "application/grpc")],
        200,
    ),
];

/// Rewrites, redirects and answers without an upstream.
pub(crate) const ACTIONS: &[Row] = &[
    text(
        "rewrite prefix",
        "GET /prefix/a?b=c HTTP/1.1\nhost: rewrite.test\n\n",
        200,
    ),
    text(
        "rewrite prefix to longer",
        "GET /longer/a HTTP/1.1\nhost: rewrite.test\n\n",
        200,
    ),
    text(
        "rewrite regex",
        "GET /regex/one/two/three?q HTTP/1.1\nhost: rewrite.test\n\n",
        200,
    ),
    text("rewrite host", "GET /host HTTP/1.1\nhost: rewrite.test\n\n", 200),
    text(
        "rewrite host from header",
        "GET /header-host HTTP/1.1\nhost: rewrite.test\nx-new-host: from.header\n\n",
        200,
    ),
    text(
        "rewrite host keeps the old one",
        "GET /forwarded-host HTTP/1.1\nhost: rewrite.test\n\n",
        200,
    ),
    text(
        "rewrite whole path",
        "GET /whole?x HTTP/1.1\nhost: rewrite.test\n\n",
        200,
    ),
    text(
        "rewrite separated prefix",
        "GET /sep/more?x HTTP/1.1\nhost: rewrite.test\n\n",
        200,
    ),
    text(
        "redirect host",
        "GET /host/a?b HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text(
        "redirect path",
        "GET /path/a?b HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text(
        "redirect path with query",
        "GET /query-path?b HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text(
        "redirect prefix",
        "GET /prefix/a?b HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text(
        "redirect regex",
        "GET /regex/12/34?5 HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text(
        "redirect https",
        "GET /https HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text(
        "redirect scheme",
        "GET /scheme HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text(
        "redirect port",
        "GET /port HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text(
        "redirect without query",
        "GET /strip?a=b HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text("redirect 302", "GET /302 HTTP/1.1\nhost: redirect.test\n\n", 302),
    text(
        "redirect 303",
        "POST /303 HTTP/1.1\nhost: redirect.test\ncontent-length: 0\n\n",
        303,
    ),
    text("redirect 307", "GET /307 HTTP/1.1\nhost: redirect.test\n\n", 307),
    text("redirect 308", "GET /308 HTTP/1.1\nhost: redirect.test\n\n", 308),
    text(
        "redirect everything",
        "GET /all/x?y HTTP/1.1\nhost: redirect.test\n\n",
        301,
    ),
    text("direct with body", "GET / HTTP/1.1\nhost: direct.test\n\n", 418),
    text("direct to HEAD", "HEAD / HTTP/1.1\nhost: direct.test\n\n", 418),
    text(
        "direct without body",
        "GET /empty HTTP/1.1\nhost: direct.test\n\n",
        403,
    ),
    text("direct 204", "GET /204 HTTP/1.1\nhost: direct.test\n\n", 204),
    text(
        "direct with a media type",
        "GET /typed HTTP/1.1\nhost: direct.test\n\n",
        200,
    ),
    text(
        "direct to a request with a body",
        "POST / HTTP/1.1\nhost: direct.test\ncontent-length: 3\n\nabc",
        418,
    ),
    text("weights all to a", "GET /a HTTP/1.1\nhost: weights.test\n\n", 200),
    text("weights all to b", "GET /b HTTP/1.1\nhost: weights.test\n\n", 200),
    http2("h2 redirect host", "redirect.test", "/host/a", &[], 301),
    http2("h2 direct", "direct.test", "/", &[], 418),
    http2("h2 rewrite prefix", "rewrite.test", "/prefix/a", &[], 200),
];
