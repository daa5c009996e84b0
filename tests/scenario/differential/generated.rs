//! Rows that are made from tables: every matcher, rewrite, redirect, header action and retry condition with every
//! request that tells its cases apart. What a row must give is what Envoy gives; its status stands in no table.

use std::fmt::Write as _;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{ANY, Listener, Row, Send};

/// Configurations and the requests that are sent to each.
pub(crate) struct Table {
    hosts: Vec<Value>,
    rows: Vec<Row>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table {
        hosts: Vec::new(),
        rows: Vec::new(),
    };
    paths(&mut table);
    headers(&mut table);
    queries(&mut table);
    rewrites(&mut table);
    redirects(&mut table);
    mutations(&mut table);
    retries(&mut table);
    super::policies::add(&mut table);
    table
});

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    TABLE.hosts.clone()
}

/// The rows.
pub(crate) fn rows() -> &'static [Row] {
    &TABLE.rows
}

impl Table {
    /// A configuration and its requests: what is asked for, and further header lines.
    pub(crate) fn add(&mut self, what: &str, routes: Vec<Value>, requests: &[(String, String)]) {
        let number = self.hosts.len();
        let domain = format!("g{number}.test");
        self.hosts
            .push(host(&format!("generated-{number}"), &[&domain], routes));
        for (path, lines) in requests {
            let method = if lines.contains("content-length") {
                "POST"
            } else {
                "GET"
            };
            let shown = lines.trim_end().replace('\n', ", ");
            let name = format!("{what} | {path} {shown}");
            let text = format!("{method} {path} HTTP/1.1\nhost: {domain}\n{lines}\n");
            self.rows.push(Row {
                name: name.trim_end().to_owned().leak(),
                listener: Listener::Main,
                send: Send::Text(text.leak()),
                status: ANY,
            });
        }
    }
}

/// The route that says that it was taken, and the one that says that it was not.
fn taken_or_not(matches: Value) -> Vec<Value> {
    let says = |word: &str, matches: Value| json!({"match": matches, "direct_response": {"status": 200, "body": {"inline_string": word}}});
    vec![says("taken", matches), says("not taken", json!({"prefix": "/"}))]
}

fn plain(paths: &[&str]) -> Vec<(String, String)> {
    paths
        .iter()
        .map(|path| ((*path).to_owned(), String::new()))
        .collect()
}

fn path_matchers() -> Vec<(&'static str, Value)> {
    vec![
        ("prefix", json!({"prefix": "/a"})),
        ("path", json!({"path": "/a"})),
        ("separated", json!({"path_separated_prefix": "/a"})),
        ("regex", json!({"safe_regex": {"regex": "/a[0-9]*"}})),
    ]
}

fn paths(table: &mut Table) {
    let requests = plain(&[
        "/a", "/A", "/a/", "/a/b", "/ab", "/a1", "/a?x=1", "/a?", "/", "/a%2Fb", "/a;p=1", "/a./b",
    ]);
    for (name, matcher) in path_matchers() {
        for case_sensitive in [true, false] {
            let mut matcher = matcher.clone();
            if !case_sensitive {
                if name == "regex" {
                    continue;
                }
                matcher["case_sensitive"] = false.into();
            }
            let what = format!("path {name}{}", if case_sensitive { "" } else { " without case" });
            table.add(&what, taken_or_not(matcher), &requests);
        }
    }
}

fn headers(table: &mut Table) {
    let text = |how: Value| json!({"string_match": how});
    let forms = [
        ("exact", text(json!({"exact": "one"}))),
        ("prefix", text(json!({"prefix": "on"}))),
        ("suffix", text(json!({"suffix": "ne"}))),
        ("contains", text(json!({"contains": "n"}))),
        ("regex", text(json!({"safe_regex": {"regex": "o.e"}}))),
        ("without case", text(json!({"exact": "ONE", "ignore_case": true}))),
        ("range", json!({"range_match": {"start": 1, "end": 10}})),
        ("present", json!({"present_match": true})),
        ("absent", json!({"present_match": false})),
    ];
    let requests: Vec<(String, String)> = [
        "",
        "x-h: one\n",
        "x-h: two\n",
        "x-h:\n",
        "x-h: 7\n",
        "x-h: two\nx-h: one\n",
    ]
    .iter()
    .map(|lines| ("/".to_owned(), (*lines).to_owned()))
    .collect();
    for (name, form) in forms {
        for (mark, more) in [
            ("", json!({})),
            (" inverted", json!({"invert_match": true})),
            (
                " missing as empty",
                json!({"treat_missing_header_as_empty": true}),
            ),
            (
                " inverted, missing as empty",
                json!({"invert_match": true, "treat_missing_header_as_empty": true}),
            ),
        ] {
            let mut matcher = json!({"name": "x-h"});
            harness::bootstrap::merge(&mut matcher, &form);
            harness::bootstrap::merge(&mut matcher, &more);
            let matches = json!({"prefix": "/", "headers": [matcher]});
            table.add(&format!("header {name}{mark}"), taken_or_not(matches), &requests);
        }
    }
}

fn queries(table: &mut Table) {
    let text = |how: Value| json!({"string_match": how});
    let requests = plain(&[
        "/",
        "/?q=one",
        "/?q=two&q=one",
        "/?q",
        "/?q=",
        "/?p=1&q=ONE",
        "/?q=o%6Ee",
    ]);
    for (name, form) in [
        ("exact", text(json!({"exact": "one"}))),
        ("prefix", text(json!({"prefix": "on"}))),
        ("suffix", text(json!({"suffix": "ne"}))),
        ("contains", text(json!({"contains": "n"}))),
        ("regex", text(json!({"safe_regex": {"regex": "[a-z]+"}}))),
        ("without case", text(json!({"exact": "one", "ignore_case": true}))),
        ("present", json!({"present_match": true})),
    ] {
        let mut matcher = json!({"name": "q"});
        harness::bootstrap::merge(&mut matcher, &form);
        let matches = json!({"prefix": "/", "query_parameters": [matcher]});
        table.add(&format!("query {name}"), taken_or_not(matches), &requests);
    }
}

fn rewrites(table: &mut Table) {
    let regex = |pattern: &str, substitution: &str| json!({"regex_rewrite": {"pattern": {"regex": pattern}, "substitution": substitution}});
    let requests = plain(&["/a", "/a/b?x=/a", "/a1", "/a/a/a"]);
    for (name, matcher) in path_matchers() {
        for (mark, action) in [
            ("to root", json!({"prefix_rewrite": "/"})),
            ("to a path", json!({"prefix_rewrite": "/new"})),
            ("to a folder", json!({"prefix_rewrite": "/new/"})),
            ("by expression", regex("/a", "/z")),
            ("by groups", regex("^/(a)(.*)$", "/\\2/\\1\\\\")),
            (
                "host by path",
                json!({"host_rewrite_path_regex": {"pattern": {"regex": "^/(.).*$"}, "substitution": "\\1.test"}}),
            ),
        ] {
            let mut route = json!({"cluster": "a"});
            harness::bootstrap::merge(&mut route, &action);
            let routes = vec![json!({"match": matcher, "route": route}), to("b", "/", json!({}))];
            table.add(&format!("rewrite {name} {mark}"), routes, &requests);
        }
    }
}

fn redirects(table: &mut Table) {
    let requests = plain(&["/a/b?x=1"]);
    for (path_name, path) in [
        ("same path", json!({})),
        ("path", json!({"path_redirect": "/new"})),
        ("path with query", json!({"path_redirect": "/new?y=2"})),
        ("prefix", json!({"prefix_rewrite": "/new"})),
        (
            "expression",
            json!({"regex_rewrite": {"pattern": {"regex": "b"}, "substitution": "c"}}),
        ),
    ] {
        for (place_name, place) in [
            ("", json!({})),
            (" https", json!({"https_redirect": true})),
            (" host", json!({"host_redirect": "new.test"})),
            (" port", json!({"port_redirect": 8080})),
            (
                " everywhere",
                json!({"scheme_redirect": "https", "host_redirect": "new.test", "port_redirect": 1}),
            ),
        ] {
            for (strip, mark) in [(false, ""), (true, ", no query")] {
                let mut redirect = json!({"strip_query": strip});
                harness::bootstrap::merge(&mut redirect, &path);
                harness::bootstrap::merge(&mut redirect, &place);
                let routes = vec![json!({"match": {"prefix": "/a"}, "redirect": redirect})];
                table.add(
                    &format!("redirect {path_name}{place_name}{mark}"),
                    routes,
                    &requests,
                );
            }
        }
    }
}

fn mutations(table: &mut Table) {
    let requests: Vec<(String, String)> = ["", "x-m: old\n", "x-m: old\nx-m: older\n"]
        .iter()
        .map(|lines| {
            let mut lines = (*lines).to_owned();
            let given = lines.replace("x-m: ", "header=x-m:").replace('\n', ",");
            let _ = writeln!(lines, "x-behave: {given}status=200");
            ("/".to_owned(), lines)
        })
        .collect();
    for action in [
        "APPEND_IF_EXISTS_OR_ADD",
        "ADD_IF_ABSENT",
        "OVERWRITE_IF_EXISTS_OR_ADD",
        "OVERWRITE_IF_EXISTS",
    ] {
        for (mark, value, keep) in [
            ("a value", "new", false),
            ("nothing", "", false),
            ("nothing, kept", "", true),
            ("what is absent", "%REQ(x-none)%", false),
            ("a format", "%PROTOCOL% %REQ(:method)%", false),
        ] {
            let add = json!([{"header": {"key": "x-m", "value": value}, "append_action": action, "keep_empty_value": keep}]);
            let mut route = to("a", "/", json!({}));
            route["request_headers_to_add"] = add.clone();
            route["response_headers_to_add"] = add;
            let what = format!("mutation {} by {mark}", action.to_ascii_lowercase());
            table.add(&what, vec![route], &requests);
        }
    }
}

fn retries(table: &mut Table) {
    let behaviours = [
        "status=500",
        "status=503",
        "status=409",
        "status=404",
        "drop",
        "status=429,header=x-envoy-ratelimited:1",
        "header=grpc-status:14",
        "status=500,first=1",
    ];
    let requests: Vec<(String, String)> = behaviours
        .iter()
        .map(|behave| {
            (
                "/".to_owned(),
                format!("content-type: application/grpc\ncontent-length: 0\nx-behave: {behave}\n"),
            )
        })
        .collect();
    for on in [
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "envoy-ratelimited",
        "unavailable",
        "cancelled,5xx",
    ] {
        let policy = json!({"retry_on": on, "num_retries": 1, "retriable_status_codes": [404],
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}});
        let number = table.hosts.len();
        table.add(
            &format!("retry on {on}"),
            vec![to("a", "/", json!({"retry_policy": policy, "timeout": "2s"}))],
            &requests,
        );
        if let Some(host) = table.hosts.get_mut(number) {
            host["include_request_attempt_count"] = true.into();
        }
    }
}
