//! Rows about redirects that are followed in the client's place.

use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{Row, http2, text};

fn predicate(kind: &str, fields: Value) -> Value {
    let snake = match kind {
        "PreviousRoutesConfig" => "previous_routes",
        "AllowListedRoutesConfig" => "allow_listed_routes",
        _ => "safe_cross_scheme",
    };
    let mut config = json!({"@type": harness::bootstrap::type_url(&format!("extensions.internal_redirect.{snake}.v3.{kind}"))});
    harness::bootstrap::merge(&mut config, &fields);
    json!({"name": snake, "typed_config": config})
}

fn named(name: &str, mut route: Value) -> Value {
    route["name"] = name.into();
    route
}

/// Where redirects lead.
fn landings() -> Vec<Value> {
    vec![
        named("landing", to("b", "/landing", json!({}))),
        json!({"name": "answer", "match": {"prefix": "/answer"}, "direct_response": {"status": 204}}),
        json!({"name": "bounce", "match": {"prefix": "/bounce"}, "redirect": {"path_redirect": "/landing"}}),
        named("nowhere", to("missing", "/nowhere", json!({}))),
        named(
            "rewriting",
            to("b", "/rewriting", json!({"prefix_rewrite": "/rewritten"})),
        ),
    ]
}

/// Routes whose upstream redirects, by path and policy.
fn policies() -> Vec<(&'static str, Value)> {
    let safe = predicate("SafeCrossSchemeConfig", json!({}));
    let previous = predicate("PreviousRoutesConfig", json!({}));
    let names = json!({"allowed_route_names": ["landing"]});
    let listed = predicate("AllowListedRoutesConfig", names);
    vec![
        ("/plain", json!({})),
        (
            "/twice",
            json!({"max_internal_redirects": 2, "redirect_response_codes": [302, 307]}),
        ),
        ("/codes", json!({"redirect_response_codes": [301, 303, 308]})),
        (
            "/copy",
            json!({"response_headers_to_copy": ["x-copied", "x-dropped"]}),
        ),
        ("/schemes", json!({"allow_cross_scheme_redirect": true})),
        (
            "/safe",
            json!({"allow_cross_scheme_redirect": true, "predicates": [safe]}),
        ),
        ("/listed", json!({"predicates": [listed]})),
        (
            "/previous",
            json!({"max_internal_redirects": 3, "predicates": [previous]}),
        ),
        ("/retried", json!({})),
    ]
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let mut routes = landings();
    for (path, policy) in policies() {
        let mut action = json!({"internal_redirect_policy": policy, "timeout": "2s"});
        if path == "/retried" {
            action["retry_policy"] =
                json!({"retry_on": "5xx", "retry_back_off": {"base_interval": "0.001s"}});
        }
        routes.push(named(path, to("a", path, action)));
    }
    routes.push(named("never", to("a", "/never", json!({}))));
    let mut following = host("following", &["follow.test"], routes);
    harness::bootstrap::merge(&mut following, &json!({"include_request_attempt_count": true}));
    let elsewhere = host("elsewhere", &["else.test"], vec![to("b", "/", json!({}))]);
    vec![following, elsewhere]
}

macro_rules! get {
    ($name:literal, $path:literal, $status:literal, $location:literal, $result:literal) => {
        get!($name, $path, $status, $location, "", $result)
    };
    ($name:literal, $path:literal, $status:literal, $location:literal, $more:literal, $result:literal) => {
        text(
            $name,
            concat!(
                "GET ",
                $path,
                " HTTP/1.1\nhost: follow.test\nx-behave: status=",
                $status,
                ",header=location:",
                $location,
                $more,
                "\n\n"
            ),
            $result,
        )
    };
}

macro_rules! post {
    ($name:literal, $path:literal, $status:literal, $body:literal, $result:literal) => {
        text(
            $name,
            concat!(
                "POST ",
                $path,
                " HTTP/1.1\nhost: follow.test\nx-behave: status=",
                $status,
                ",header=location:http://follow.test/landing\n",
                $body
            ),
            $result,
        )
    };
}

pub(crate) const ROWS: &[Row] = &[
    get!(
        "follow a redirect",
        "/plain?old=1",
        "302",
        "http://follow.test/landing?new=1",
        302
    ),
    get!(
        "follow to another host",
        "/plain",
        "302",
        "http://else.test/there",
        302
    ),
    get!(
        "follow to a host without a path",
        "/plain",
        "302",
        "http://else.test",
        302
    ),
    get!(
        "follow to a host with a port",
        "/plain",
        "302",
        "http://else.test:81/x",
        302
    ),
    get!(
        "follow without the fragment",
        "/plain",
        "302",
        "http://else.test/x#part",
        302
    ),
    get!("follow not a relative location", "/plain", "302", "/landing", 302),
    get!(
        "follow not to https",
        "/plain",
        "302",
        "https://follow.test/landing",
        302
    ),
    get!(
        "follow not another code",
        "/plain",
        "301",
        "http://follow.test/landing",
        301
    ),
    get!(
        "follow to an answer",
        "/plain",
        "302",
        "http://follow.test/answer",
        204
    ),
    get!(
        "follow to a redirect of the route",
        "/plain",
        "302",
        "http://follow.test/bounce",
        301
    ),
    get!(
        "follow to no route",
        "/plain",
        "302",
        "http://follow.test/absent",
        302
    ),
    get!(
        "follow to no cluster",
        "/plain",
        "302",
        "http://follow.test/nowhere",
        503
    ),
    get!(
        "follow to a rewrite",
        "/plain",
        "302",
        "http://follow.test/rewriting/x",
        302
    ),
    get!(
        "follow once only",
        "/plain",
        "302",
        "http://follow.test/plain/again",
        302
    ),
    get!(
        "follow twice",
        "/twice",
        "302",
        "http://follow.test/twice/again",
        302
    ),
    get!(
        "follow twice another code",
        "/twice",
        "307",
        "http://follow.test/twice/again",
        307
    ),
    get!("follow 301", "/codes", "301", "http://follow.test/landing", 301),
    get!("follow 303", "/codes", "303", "http://follow.test/landing", 303),
    get!("follow 308", "/codes", "308", "http://follow.test/landing", 308),
    get!(
        "follow not 302 unless it is named",
        "/codes",
        "302",
        "http://follow.test/landing",
        302
    ),
    get!(
        "follow with a field of the response",
        "/copy",
        "302",
        "http://follow.test/landing",
        ",header=x-copied:1",
        302
    ),
    get!(
        "follow to https where that is allowed",
        "/schemes",
        "302",
        "https://follow.test/landing",
        302
    ),
    get!(
        "follow not to https where that is not safe",
        "/safe",
        "302",
        "https://follow.test/landing",
        302
    ),
    get!(
        "follow http where https is not safe",
        "/safe",
        "302",
        "http://follow.test/landing",
        302
    ),
    get!(
        "follow to a route of the list",
        "/listed",
        "302",
        "http://follow.test/landing",
        302
    ),
    get!(
        "follow not to a route beside the list",
        "/listed",
        "302",
        "http://follow.test/rewriting",
        302
    ),
    get!(
        "follow not where it was before",
        "/previous",
        "302",
        "http://follow.test/previous/again",
        302
    ),
    get!(
        "follow after a retry",
        "/retried",
        "503",
        "http://follow.test/landing",
        ",first=1",
        200
    ),
    get!(
        "follow nothing without a policy",
        "/never",
        "302",
        "http://follow.test/landing",
        302
    ),
    text(
        "follow not without a location",
        "GET /plain HTTP/1.1\nhost: follow.test\nx-behave: status=302\n\n",
        302,
    ),
    text(
        "follow and drop a field that the response does not have",
        "GET /copy HTTP/1.1\nhost: follow.test\nx-dropped: 1\nx-behave: status=302,header=location:http://follow.test/landing\n\n",
        302,
    ),
    post!(
        "follow with a body",
        "/plain",
        "302",
        "content-length: 5\n\nhello",
        302
    ),
    post!(
        "follow with chunks",
        "/plain",
        "302",
        "transfer-encoding: chunked\n\n5\nhello\n0\n\n",
        302
    ),
    post!(
        "follow a 303 as GET",
        "/codes",
        "303",
        "content-length: 5\n\nhello",
        303
    ),
    post!(
        "follow a 308 as POST",
        "/codes",
        "308",
        "content-length: 5\n\nhello",
        308
    ),
    http2(
        "h2 follow a redirect",
        "follow.test",
        "/plain",
        &[(
            "x-behave",
            "status=302,header=location:http://follow.test/landing",
        )],
        302,
    ),
];
