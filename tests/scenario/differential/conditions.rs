//! Rows about cookies that a route wants, and about tables that look elsewhere for host and path.

use serde_json::{Value, json};

use super::config::{host, says, to};
use super::table::{Listener, Row, on, text};

/// The virtual hosts of the rows about cookies.
pub(crate) fn hosts() -> Vec<Value> {
    let cookie = |name: &str, how: Value| json!({"name": name, "string_match": how});
    let wants = |cookies: Value| json!({"prefix": "/", "cookies": cookies});
    let without = json!({"name": "b", "string_match": {"exact": "1"}, "invert_match": true});
    let routes = vec![
        says("exact", wants(json!([cookie("a", json!({"exact": "1"}))]))),
        says(
            "two",
            wants(json!([without, cookie("z", json!({"prefix": "y"}))])),
        ),
        says("empty", wants(json!([cookie("e", json!({"exact": ""}))]))),
        says("quoted", wants(json!([cookie("q", json!({"exact": "v w"}))]))),
        says("rest", json!({"prefix": "/"})),
    ];
    vec![host("cookies", &["cookie.test"], routes)]
}

/// A route table that takes its host from a header, ignores path parameters, and knows headers of the inside.
pub(crate) fn manager() -> Value {
    let routes = vec![
        says("path", json!({"path": "/exact"})),
        says("prefix", json!({"prefix": "/pre/"})),
        says("regex", json!({"safe_regex": {"regex": "/re/[a-z]+"}})),
        says("separated", json!({"path_separated_prefix": "/sep"})),
        says(
            "secret",
            json!({"prefix": "/secret", "headers": [{"name": "x-secret", "present_match": true}]}),
        ),
        json!({"match": {"path": "/whole"}, "route": {"cluster": "a", "prefix_rewrite": "/new"}}),
        to("a", "/rewrite", json!({"prefix_rewrite": "/new"})),
        to(
            "a",
            "/substitute",
            json!({"regex_rewrite": {"pattern": {"regex": "x"}, "substitution": "y"}}),
        ),
        to("b", "/", json!({})),
    ];
    let hosts = vec![
        host("named", &["named.test", "named.test:80"], routes),
        host(
            "suffix",
            &["*.named.test"],
            vec![says("suffix", json!({"prefix": "/"}))],
        ),
        host("any", &["*"], vec![says("any", json!({"prefix": "/"}))]),
    ];
    json!({
        "route_config": {
            "name": "rare", "virtual_hosts": hosts, "vhost_header": "x-virtual-host",
            "ignore_path_parameters_in_path_matching": true, "internal_only_headers": ["x-secret"],
        },
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]},
    })
}

macro_rules! cookie {
    ($name:literal, $headers:literal) => {
        text(
            $name,
            concat!("GET / HTTP/1.1\nhost: cookie.test\n", $headers, "\n"),
            200,
        )
    };
}

macro_rules! rare {
    ($name:literal, $path:literal, $headers:literal, $result:literal) => {
        on(
            Listener::Rare,
            $name,
            concat!("GET ", $path, " HTTP/1.1\nhost: other.test\n", $headers, "\n"),
            $result,
        )
    };
    ($name:literal, $path:literal) => {
        rare!($name, $path, "x-virtual-host: named.test\n", 200)
    };
}

pub(crate) const ROWS: &[Row] = &[
    cookie!("cookie exact", "cookie: a=1\n"),
    cookie!("cookie of another value", "cookie: a=2\n"),
    cookie!("cookie without case", "cookie: A=1\n"),
    cookie!("cookie among others", "cookie: x=1; a=1; y=2\n"),
    cookie!("cookie without blanks", "cookie: x=1;a=1;y=2\n"),
    cookie!("cookie twice", "cookie: a=1; a=2\n"),
    cookie!("cookie twice the other way", "cookie: a=2; a=1\n"),
    cookie!("cookie in a second line", "cookie: x=1\ncookie: a=1\n"),
    cookie!("cookie in two lines", "cookie: a=2\ncookie: a=1\n"),
    cookie!("cookie with blanks", "cookie:  a = 1\n"),
    cookie!("cookie in quotes", "cookie: a=\"1\"\n"),
    cookie!("cookie in half a quote", "cookie: a=\"1\n"),
    cookie!("cookie of words in quotes", "cookie: q=\"v w\"\n"),
    cookie!("cookie two and one not there", "cookie: z=yes\n"),
    cookie!("cookie two and one otherwise", "cookie: z=yes; b=2\n"),
    cookie!("cookie two and one unwanted", "cookie: z=yes; b=1\n"),
    cookie!("cookie that is empty", "cookie: e=\n"),
    cookie!("cookie without a value", "cookie: e\n"),
    cookie!("cookie none", ""),
    rare!("virtual host of a header", "/pre/x"),
    rare!(
        "virtual host of a header in capitals",
        "/pre/x",
        "x-virtual-host: NAMED.Test\n",
        200
    ),
    rare!(
        "virtual host of a header with a port",
        "/pre/x",
        "x-virtual-host: named.test:80\n",
        200
    ),
    rare!(
        "virtual host of a header with another port",
        "/pre/x",
        "x-virtual-host: named.test:81\n",
        200
    ),
    rare!(
        "virtual host of a header by suffix",
        "/pre/x",
        "x-virtual-host: a.named.test\n",
        200
    ),
    rare!(
        "virtual host of a header that nobody knows",
        "/pre/x",
        "x-virtual-host: nobody\n",
        200
    ),
    rare!(
        "virtual host of an empty header",
        "/pre/x",
        "x-virtual-host:\n",
        200
    ),
    rare!(
        "virtual host of two headers",
        "/pre/x",
        "x-virtual-host: named.test\nx-virtual-host: nobody\n",
        200
    ),
    rare!("virtual host of no header", "/pre/x", "", 404),
    rare!("parameters behind a path", "/exact;a=b?q;c"),
    rare!("parameters inside of a prefix", "/pre;a/x"),
    rare!("parameters behind a prefix", "/pre/;a"),
    rare!("parameters behind a regex", "/re/x;1"),
    rare!("parameters in the middle of a regex", "/re;1/x;2/y"),
    rare!("parameters of a separated prefix", "/sep;a/b;c"),
    rare!("parameters in a query", "/exact?;x"),
    rare!("parameters and a whole rewrite", "/whole;a?q"),
    rare!("parameters and a rewrite", "/rewrite;a/b?q"),
    rare!("parameters and a substitution", "/substitute/x;x?x"),
    rare!("parameters elsewhere", "/other;a=b"),
    rare!(
        "inner field from outside",
        "/secret",
        "x-virtual-host: named.test\nx-secret: 1\n",
        200
    ),
    rare!(
        "inner field from outside upstream",
        "/",
        "x-virtual-host: named.test\nx-secret: 1\n",
        200
    ),
    rare!(
        "inner field from inside",
        "/secret",
        "x-virtual-host: named.test\nx-secret: 1\nx-forwarded-for: 10.0.0.1\n",
        200
    ),
];
