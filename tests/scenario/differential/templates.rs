//! Rows about URI templates, and about paths and hosts that formats make.

use harness::bootstrap::type_url;
use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{Row, http2, text};

fn extension(kind: &str, field: &str, template: &str) -> Value {
    json!({"name": kind, "typed_config": {"@type": type_url(&format!("extensions.path.{kind}")), field: template}})
}

/// A route of a template with what else it matches or does.
fn templated(template: &str, action: Value) -> Value {
    let mut route = to("a", "/", action);
    let policy = extension(
        "match.uri_template.v3.UriTemplateMatchConfig",
        "path_template",
        template,
    );
    route["match"] = json!({"path_match_policy": policy});
    route
}

/// A route of a template, and the rewrite of its path.
fn rewritten(template: &str, rewrite: &str) -> Value {
    let kind = "rewrite.uri_template.v3.UriTemplateRewriteConfig";
    templated(
        template,
        json!({"path_rewrite_policy": extension(kind, "path_template_rewrite", rewrite)}),
    )
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let mut tagged = templated("/tagged/{x}", json!({}));
    tagged["match"]["headers"] = json!([{"name": "x-tag", "present_match": true}]);
    let redirect =
        |path: &str| json!({"match": {"prefix": path}, "redirect": {"path_rewrite": "/moved/%REQ(x-part)%"}});
    let templates = vec![
        rewritten("/one/*", "/matched/one"),
        rewritten("/any/**", "/matched/any"),
        rewritten("/named/{first}/{second}", "/{second}/and/{first}"),
        rewritten("/deep/{rest=**}/end", "/{rest}"),
        rewritten("/fixed/{part=books/*}", "/{part}/{part}"),
        rewritten("/file/{name}.html", "/{name}"),
        rewritten("/**.m3u8", "/playlist"),
        rewritten("/special/$(a)+b.c", "/matched/special"),
        templated(
            "/regex/{x}",
            json!({"regex_rewrite": {"pattern": {"regex": "^/regex/(.)"}, "substitution": "/\\1"}}),
        ),
        tagged,
        to("b", "/", json!({})),
    ];
    let formats = vec![
        to("a", "/path", json!({"path_rewrite": "/made/%REQ(x-part)%"})),
        to("a", "/host", json!({"host_rewrite": "made-%REQ(x-part)%.test"})),
        to(
            "a",
            "/kept",
            json!({"host_rewrite": "%REQ(x-part)%", "append_x_forwarded_host": true}),
        ),
        to(
            "a",
            "/both",
            json!({"path_rewrite": "/%REQ(:METHOD)%%REQ(:PATH)%", "host_rewrite": "h%REQ(x-part)%.test"}),
        ),
        redirect("/redirect"),
    ];
    vec![
        host("templates", &["template.test"], templates),
        host("formats", &["format.test"], formats),
    ]
}

macro_rules! get {
    ($name:literal, $host:literal, $path:literal, $headers:literal, $result:literal) => {
        text(
            $name,
            concat!(
                "GET ",
                $path,
                " HTTP/1.1\nhost: ",
                $host,
                ".test\n",
                $headers,
                "\n"
            ),
            $result,
        )
    };
}

pub(crate) const ROWS: &[Row] = &[
    get!("template one segment", "template", "/one/a?q=1", "", 200),
    get!("template one segment of nothing", "template", "/one/", "", 200),
    get!("template one segment of two", "template", "/one/a/b", "", 200),
    get!("template one segment without case", "template", "/ONE/a", "", 200),
    get!("template one escaped segment", "template", "/one/a%2Fb", "", 200),
    get!("template one odd segment", "template", "/one/a\"b", "", 200),
    get!("template one segment with =", "template", "/one/a=b*c", "", 200),
    get!("template any segments", "template", "/any/a/b/c", "", 200),
    get!("template any segments of none", "template", "/any/", "", 200),
    get!(
        "template any segments without a slash",
        "template",
        "/any",
        "",
        200
    ),
    get!(
        "template any segments twice a slash",
        "template",
        "/any//a",
        "",
        200
    ),
    get!(
        "template two names",
        "template",
        "/named/x/y?q=/named/1/2",
        "",
        200
    ),
    get!(
        "template two names with a slash more",
        "template",
        "/named/x/y/",
        "",
        200
    ),
    get!("template deep", "template", "/deep/a/b/end", "", 200),
    get!("template deep end", "template", "/deep/end/end/end", "", 200),
    get!("template deep without an end", "template", "/deep/a/b", "", 200),
    get!("template with a pattern", "template", "/fixed/books/7", "", 200),
    get!(
        "template with another pattern",
        "template",
        "/fixed/films/7",
        "",
        200
    ),
    get!(
        "template with literals around",
        "template",
        "/file/a.b.html",
        "",
        200
    ),
    get!("template with a dot", "template", "/file/axhtml", "", 200),
    get!("template with an end", "template", "/a/b/c.m3u8", "", 200),
    get!(
        "template of special letters",
        "template",
        "/special/$(a)+b.c",
        "",
        200
    ),
    get!(
        "template of special letters that are none",
        "template",
        "/special/$(aa)bxc",
        "",
        200
    ),
    get!("template with a regex", "template", "/regex/ab?q", "", 200),
    get!(
        "template with a field",
        "template",
        "/tagged/x",
        "x-tag: 1\n",
        200
    ),
    get!("template without the field", "template", "/tagged/x", "", 200),
    get!(
        "template over an original path",
        "template",
        "/one/x",
        "x-envoy-original-path: /own\n",
        200
    ),
    get!("format of a path", "format", "/path/x?q=1", "x-part: p\n", 200),
    get!("format of a path with nothing", "format", "/path/x?q=1", "", 200),
    get!(
        "format of a path with a query",
        "format",
        "/path/x?q=1",
        "x-part: p?r=2\n",
        200
    ),
    get!("format of a host", "format", "/host", "x-part: p\n", 200),
    get!("format of a host with nothing", "format", "/host", "", 200),
    get!(
        "format of a host appended",
        "format",
        "/kept",
        "x-part: other.test\n",
        200
    ),
    get!("format of both", "format", "/both?q=1", "x-part: p\n", 200),
    get!(
        "format of a redirect",
        "format",
        "/redirect?q=1",
        "x-part: p\n",
        301
    ),
    get!(
        "format of a redirect with a query",
        "format",
        "/redirect?q=1",
        "x-part: p?r=2\n",
        301
    ),
    get!(
        "format of a redirect with nothing",
        "format",
        "/redirect?q=1",
        "",
        301
    ),
    http2(
        "h2 template two names",
        "template.test",
        "/named/x/y?q=1",
        &[],
        200,
    ),
    http2(
        "h2 format of a path",
        "format.test",
        "/path/x?q=1",
        &[("x-part", "p")],
        200,
    ),
];
