//! Rows about the look of replies that the proxy makes itself.

use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{Listener, Row, http2_on, on};

fn header(name: &str, value: &str, action: &str) -> Value {
    json!({"header": {"key": name, "value": value}, "append_action": action})
}

fn format(text: &str, kind: &str) -> Value {
    json!({"text_format_source": {"inline_string": text}, "content_type": kind})
}

fn answers(path: &str, status: u16, fields: Value) -> Value {
    let mut answer = json!({"status": status, "body": {"inline_string": path}});
    harness::bootstrap::merge(&mut answer, &fields);
    json!({"match": {"prefix": path}, "direct_response": answer})
}

/// Whether a reply has this status.
fn status(code: u16, fields: Value) -> Value {
    let comparison = json!({"op": "EQ", "value": {"default_value": code, "runtime_key": "unused"}});
    let mut mapper = json!({"filter": {"status_code_filter": {"comparison": comparison}}});
    harness::bootstrap::merge(&mut mapper, &fields);
    mapper
}

fn mappers() -> Vec<Value> {
    let (append, overwrite) = ("APPEND_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS_OR_ADD");
    let present = json!({"header_filter": {"header": {"name": "x-map", "present_match": true}}});
    let no_cluster = json!({"response_flag_filter": {"flags": ["NC"]}});
    let fields =
        "%LOCAL_REPLY_BODY% %RESPONSE_CODE% %REQ(:path)% %REQ(x-none)% %RESPONSE_CODE_DETAILS% %RESP(x-one)%";
    vec![
        status(
            404,
            json!({"status_code": 501, "body": {"inline_string": "mapped"}}),
        ),
        status(
            409,
            json!({"body_format_override": format(fields, "text/x-own"), "headers_to_add": [
                header("x-one", "1", append), header("x-path", "%REQ(:path)%", append)]}),
        ),
        json!({"filter": no_cluster, "status_code": 502, "body_format_override": {"json_format": {
            "status": "%RESPONSE_CODE%", "body": "%LOCAL_REPLY_BODY%", "nothing": "%REQ(x-none)%",
            "nested": {"flags": "x%RESPONSE_FLAGS%y"}}}}),
        json!({"filter": present, "status_code": 444, "body": {"inline_string": "by header"}}),
        status(444, json!({"body": {"inline_string": "never"}})),
        status(
            420,
            json!({"headers_to_add": [header("content-type", "text/x-mapper", overwrite)]}),
        ),
        status(
            421,
            json!({"body": {"inline_string": "changed"}, "body_format_override": format("%LOCAL_REPLY_BODY%", "a/b"),
                "headers_to_add": [header("content-type", "text/x-mapper", append)]}),
        ),
        status(
            422,
            json!({"body_format_override": format("%RESP(x-1)%,%RESP(x-2)%,%RESP(:status)%", "a/b"), "headers_to_add": [
                header("x-1", "mapper", append), header("x-2", "mapper", "OVERWRITE_IF_EXISTS_OR_ADD"),
                header("x-3", "mapper", "ADD_IF_ABSENT")]}),
        ),
        status(
            423,
            json!({"body_format_override": format("%LOCAL_REPLY_BODY%", "a/b")}),
        ),
    ]
}

/// A manager with a say in how replies look.
pub(crate) fn manager() -> Value {
    let append = "APPEND_IF_EXISTS_OR_ADD";
    let mut typed = answers("/typed", 420, json!({}));
    typed["response_headers_to_add"] = json!([header("content-type", "text/x-route", append)]);
    let mut several = answers("/several", 422, json!({}));
    several["response_headers_to_add"] = json!([
        header("x-1", "route", append),
        header("x-2", "route", append),
        header("x-3", "route", append)
    ]);
    let mut same = answers("/same", 423, json!({}));
    same["response_headers_to_add"] = json!([header("content-type", "text/x-route", append)]);
    let routes = vec![
        answers("/missing", 404, json!({})),
        answers("/tea", 409, json!({})),
        answers("/own-type", 421, json!({})),
        answers("/untyped", 420, json!({})),
        typed,
        several,
        same,
        answers(
            "/formatted",
            200,
            json!({"body_format": format("<%LOCAL_REPLY_BODY%>", "text/html")}),
        ),
        answers("/ok", 200, json!({})),
        json!({"match": {"prefix": "/redirect"}, "redirect": {"path_redirect": "/x"}}),
        to("missing", "/no-cluster", json!({})),
        to("a", "/upstream", json!({})),
    ];
    let code = header("x-code", "%RESPONSE_CODE%", append);
    json!({
        "route_config": {
            "name": "replies", "virtual_hosts": [host("replies", &["reply.test"], routes)], "validate_clusters": false,
            "response_headers_to_add": [code],
        },
        "local_reply_config": {"mappers": mappers(), "body_format": {
            "text_format_source": {"inline_string": "[%LOCAL_REPLY_BODY%:%RESPONSE_CODE%]"}}},
    })
}

/// Direct responses with a format of their own, and those that say where they are.
pub(crate) fn hosts() -> Vec<Value> {
    let json_format =
        json!({"json_format": {"code": "%RESPONSE_CODE%", "more": {"body": "%LOCAL_REPLY_BODY%"}}});
    let routes = vec![
        answers(
            "/text",
            200,
            json!({"body_format": format("<%LOCAL_REPLY_BODY%|%REQ(:path)%|%REQ(no)%>", "text/html")}),
        ),
        answers(
            "/omit",
            200,
            json!({"body_format": {
            "text_format_source": {"inline_string": "<%REQ(no)%>"}, "omit_empty_values": true}}),
        ),
        answers("/json", 200, json!({"body_format": json_format})),
        json!({"match": {"prefix": "/only"}, "direct_response": {"status": 200, "body_format": format("alone", "text/plain")}}),
        answers("/created", 201, json!({})),
        answers("/found", 302, json!({})),
        answers("/multiple", 300, json!({})),
    ];
    vec![host("formatted", &["formatted.test"], routes)]
}

macro_rules! get {
    ($name:literal, $path:literal, $headers:literal, $result:literal) => {
        on(
            Listener::Replies,
            $name,
            concat!("GET ", $path, " HTTP/1.1\nhost: reply.test\n", $headers, "\n"),
            $result,
        )
    };
}

macro_rules! direct {
    ($name:literal, $path:literal, $headers:literal, $result:literal) => {
        on(
            Listener::Main,
            $name,
            concat!("GET ", $path, " HTTP/1.1\nhost: formatted.test\n", $headers, "\n"),
            $result,
        )
    };
}

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc")];

pub(crate) const ROWS: &[Row] = &[
    get!("reply mapped by status", "/missing", "", 501),
    get!("reply without a route", "/nowhere", "", 501),
    get!("reply with a format and fields", "/tea", "", 409),
    get!("reply without a cluster", "/no-cluster", "", 502),
    get!("reply mapped by a field", "/ok", "x-map: 1\n", 444),
    get!("reply mapped by the first", "/tea", "x-map: 1\n", 409),
    get!("reply that is not mapped", "/ok", "", 200),
    get!("reply with a type of the mapper", "/untyped", "", 420),
    get!("reply with types of the route and the mapper", "/typed", "", 420),
    get!(
        "reply with a new body and a type of the mapper",
        "/own-type",
        "",
        421
    ),
    get!(
        "reply with fields of the route and the mapper",
        "/several",
        "",
        422
    ),
    get!("reply whose body stays the same", "/same", "", 423),
    get!("reply with two formats", "/formatted", "", 200),
    get!("reply of a redirect", "/redirect", "", 301),
    get!("reply of an upstream", "/upstream", "x-behave: status=404\n", 404),
    get!("reply to an unreadable request", "/ok", "bad field\n", 400),
    get!(
        "reply to two framings",
        "/ok",
        "transfer-encoding: chunked\ncontent-length: 3\n",
        400
    ),
    get!("reply for gRPC", "/tea", "content-type: application/grpc\n", 200),
    get!(
        "reply for gRPC that is mapped",
        "/missing",
        "content-type: application/grpc\n",
        200
    ),
    get!(
        "reply for gRPC without a cluster",
        "/no-cluster",
        "content-type: application/grpc\n",
        200
    ),
    on(
        Listener::Replies,
        "reply to HEAD",
        "HEAD /tea HTTP/1.1\nhost: reply.test\n\n",
        409,
    ),
    http2_on(
        Listener::Replies,
        "h2 reply mapped by status",
        "reply.test",
        "/missing",
        &[],
        501,
    ),
    http2_on(
        Listener::Replies,
        "h2 reply with a format and fields",
        "reply.test",
        "/tea",
        &[],
        409,
    ),
    http2_on(
        Listener::Replies,
        "h2 reply for gRPC",
        "reply.test",
        "/tea",
        GRPC,
        200,
    ),
    direct!("direct with a format", "/text?q", "", 200),
    direct!("direct with a format that omits", "/omit", "", 200),
    direct!("direct with a JSON format", "/json", "", 200),
    direct!("direct with a format alone", "/only", "", 200),
    direct!(
        "direct with a format for gRPC",
        "/text",
        "content-type: application/grpc\n",
        200
    ),
    direct!("direct that created", "/created?q=1", "", 201),
    direct!("direct that found", "/found?q=1", "", 302),
    direct!("direct of several", "/multiple", "", 300),
];
