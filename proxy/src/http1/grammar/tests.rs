//! The grammar against RFC 9112, sentence by sentence. Each case names its section.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version};
use proptest::prelude::*;

use super::body::{Decoded, Decoder};
use super::request::{self, Request};
use super::response::{self, Asked, Response};
use super::{Framing, Limits, encode, head};
use crate::exchange::{BodyLength, HeadError, RequestHead, StreamError};

fn read_request(bytes: &[u8]) -> Result<Option<Request>, HeadError> {
    let limits = Limits::default();
    let start = head::leading_empty_lines(bytes);
    match head::find_end(&bytes[start..], &mut 0, &limits)? {
        Some(end) => request::parse(Bytes::copy_from_slice(&bytes[start..start + end]), &limits).map(Some),
        None => head::check_start(bytes).map(|()| None),
    }
}

fn accepted(text: &str) -> Request {
    match read_request(text.as_bytes()) {
        Ok(Some(request)) => request,
        other => panic!("{text:?} must be accepted, was {other:?}"),
    }
}

fn read_response(text: &str, asked: Asked) -> Result<Response, StreamError> {
    let limits = Limits::default();
    let end = head::find_end(text.as_bytes(), &mut 0, &limits)
        .map_err(|error| StreamError::Protocol(error.details))?
        .expect("the test gives a whole head");
    response::parse(Bytes::copy_from_slice(&text.as_bytes()[..end]), asked, &limits)
}

/// (section, request, status, details)
const REFUSED: &[(&str, &str, u16, &str)] = &[
    (
        "9112 2.2 bare LF",
        "GET / HTTP/1.1\nHost: a\n\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 2.2 bare LF after a field",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 2.2 bare CR in a value",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \rb\r\n\r\n",
        400,
        "http1.invalid_characters",
    ),
    (
        "9112 2.2 space before the first field",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 2.3 version digits",
        "GET / HTTP/11\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 2.3 version case",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 15.6.6 major version 2",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        505,
        "low_version",
    ),
    (
        "9110 15.6.6 minor version 2",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        505,
        "low_version",
    ),
    (
        "9113 3.4 an HTTP/2 preface",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        505,
        "low_version",
    ),
    ("1945 4.1 HTTP/0.9", "GET /\r\n\r\n", 400, "http1.codec_error"),
    (
        "9112 3 two spaces",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 3 space in the target",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 3 space at the end",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 3 space at the start",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 3.1 method is a token",
        "FO@ / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 3.2 no form",
        "GET foo HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 3.2 query alone",
        "GET ?x HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 3.2 fragment",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "path_normalization_failed",
    ),
    (
        "9112 3.2 UTF-8",
        "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 3.2 control character",
        "GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 3.2 no Host",
        "GET / HTTP/1.1\r\n\r\n",
        400,
        "missing_host_header",
    ),
    (
        "9112 3.2 two Hosts",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "9112 3.2 the same Host twice",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "9112 3.2 invalid Host",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "9112 3.2 invalid Host beside absolute-form",
        "GET http://a/ HTTP/1.1\r\nHost: a/b\r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "9112 3.2 no Host beside absolute-form",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        400,
        "missing_host_header",
    ),
    (
        "9110 4.2.1 empty host",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "9110 4.2.4 userinfo",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "9110 4.2.4 userinfo in the target",
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.invalid_url",
    ),
    (
        "3986 3.2.3 port",
        "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "3986 3.2.3 port out of range",
        "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "3986 3.2.2 open bracket",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "3986 3.2.2 no IPv6",
        "GET / HTTP/1.1\r\nHost: [a]\r\n\r\n",
        400,
        "http.invalid_authority",
    ),
    (
        "9112 3.2.2 scheme",
        "GET ftp://x/ HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.invalid_scheme",
    ),
    (
        "9112 3.2.2 empty authority",
        "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.invalid_url",
    ),
    (
        "9112 3.2.3 CONNECT to a path",
        "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.invalid_url",
    ),
    (
        "9110 9.3.6 CONNECT without port",
        "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.invalid_url",
    ),
    (
        "9110 9.3.6 CONNECT to port 0",
        "CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.invalid_url",
    ),
    (
        "9112 3.2.4 asterisk for GET",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "http1.invalid_url",
    ),
    (
        "9112 5.1 space before the colon",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 5.1 no colon",
        "GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 5.1 empty name",
        "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 5.1 name is a token",
        "GET / HTTP/1.1\r\nHost: a\r\nX@: b\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 5.1 8-bit name",
        "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: b\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 5.5 NUL",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        400,
        "http1.invalid_characters",
    ),
    (
        "9112 5.2 obs-fold",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 6.1 both lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "http1.content_length_and_chunked_not_allowed",
    ),
    (
        "9112 6.1 unknown coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        501,
        "http1.invalid_transfer_encoding",
    ),
    (
        "9112 6.1 unknown coding first",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        501,
        "http1.invalid_transfer_encoding",
    ),
    (
        "9112 6.1 xchunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        501,
        "http1.invalid_transfer_encoding",
    ),
    (
        "9112 6.1 identity",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        501,
        "http1.invalid_transfer_encoding",
    ),
    (
        "9112 6.1 quoted",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
        501,
        "http1.invalid_transfer_encoding",
    ),
    (
        "9112 6.1 vertical tab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
        400,
        "http1.invalid_characters",
    ),
    (
        "9112 7 chunked twice",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        400,
        "http1.invalid_transfer_encoding",
    ),
    (
        "9112 7 chunked in two lines",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "http1.invalid_transfer_encoding",
    ),
    (
        "9112 7 empty element",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n",
        400,
        "http1.invalid_transfer_encoding",
    ),
    (
        "9112 6.1 coding in 1.0",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "http1.transfer_encoding_not_allowed",
    ),
    (
        "9110 8.6 sign",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 8.6 hexadecimal",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 8.6 empty",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 8.6 overflow",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 8.6 spaces inside",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4 4\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 6.3 different lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 6.3 different list",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 5\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9112 6.3 same value, other digits",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 04\r\n\r\n",
        400,
        "http1.codec_error",
    ),
    (
        "9110 7.6.1 Connection: host",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Host\r\n\r\n",
        400,
        "http1.connection_header_rejected",
    ),
    (
        "9110 7.6.1 Connection: content-length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: content-length\r\n\r\n",
        400,
        "http1.connection_header_rejected",
    ),
    (
        "no HTTP: a TLS hello",
        "\x16\x03\x01\x02\0\x01\0",
        400,
        "http1.codec_error",
    ),
];

#[test]
fn what_the_rfc_forbids_is_refused_with_envoys_word() {
    for (section, text, status, details) in REFUSED {
        let error = read_request(text.as_bytes()).map(|request| format!("{request:?}"));
        let expected = HeadError {
            status: StatusCode::from_u16(*status).unwrap(),
            details,
        };
        assert_eq!(error, Err(expected), "{section}: {text:?}");
    }
}

/// (section, request, authority, path, body, keep-alive)
type Accepted = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
    BodyLength,
    bool,
);

const ACCEPTED: &[Accepted] = &[
    (
        "9112 3.2.1",
        "GET /a?b=c HTTP/1.1\r\nHost: a:80\r\n\r\n",
        Some("a:80"),
        "/a?b=c",
        BodyLength::None,
        true,
    ),
    (
        "9112 2.2 an empty line before",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("a"),
        "/",
        BodyLength::None,
        true,
    ),
    (
        "9112 3.1 any token",
        "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("a"),
        "/",
        BodyLength::None,
        true,
    ),
    (
        "9112 3.2.2 overrides Host",
        "GET http://b:8/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("b:8"),
        "/c?d",
        BodyLength::None,
        true,
    ),
    (
        "9112 3.2.2 scheme case",
        "GET HTTPS://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("b"),
        "/",
        BodyLength::None,
        true,
    ),
    (
        "9112 3.2.1 empty path is /",
        "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("b"),
        "/",
        BodyLength::None,
        true,
    ),
    (
        "9112 3.2.1 empty path, query",
        "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("b"),
        "/?q",
        BodyLength::None,
        true,
    ),
    (
        "9112 3.2.3",
        "CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("b:443"),
        "/",
        BodyLength::None,
        true,
    ),
    (
        "9112 3.2.4",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("a"),
        "*",
        BodyLength::None,
        true,
    ),
    (
        "9112 3.2.4 absolute",
        "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("b"),
        "*",
        BodyLength::None,
        true,
    ),
    (
        "9112 3.2 two slashes",
        "GET //x/y HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("a"),
        "//x/y",
        BodyLength::None,
        true,
    ),
    (
        "3986 3.2.2 IPv6",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        Some("[::1]:80"),
        "/",
        BodyLength::None,
        true,
    ),
    (
        "1.0 without Host",
        "GET / HTTP/1.0\r\n\r\n",
        None,
        "/",
        BodyLength::None,
        false,
    ),
    (
        "9112 9.3 1.0 keep-alive",
        "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        None,
        "/",
        BodyLength::None,
        true,
    ),
    (
        "9112 9.3 close",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n",
        Some("a"),
        "/",
        BodyLength::None,
        false,
    ),
    (
        "9112 6.2",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 004\r\n\r\n",
        Some("a"),
        "/",
        BodyLength::Exact(4),
        true,
    ),
    (
        "9112 6.2 zero",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        Some("a"),
        "/",
        BodyLength::None,
        true,
    ),
    (
        "9112 6.3 same list",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\n",
        Some("a"),
        "/",
        BodyLength::Exact(4),
        true,
    ),
    (
        "9112 6.3 same lines",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n",
        Some("a"),
        "/",
        BodyLength::Exact(4),
        true,
    ),
    (
        "9112 7.1 case",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
        Some("a"),
        "/",
        BodyLength::Unknown,
        true,
    ),
];

#[test]
fn what_the_rfc_allows_has_its_meaning() {
    for (section, text, authority, path, body, keep_alive) in ACCEPTED {
        let Request {
            head,
            keep_alive: keeps,
            ..
        } = accepted(text);
        let found = (
            head.authority.as_ref().map(|a| a.as_str()),
            head.path.as_str(),
            head.body,
            keeps,
        );
        assert_eq!(
            found,
            (*authority, *path, *body, *keep_alive),
            "{section}: {text:?}"
        );
        assert!(
            !head.headers.contains_key("host"),
            "{section}: Host is the authority"
        );
    }
}

#[test]
fn repeated_lengths_become_one_value() {
    let Request { head, .. } =
        accepted("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\nContent-Length: 4\r\n\r\n");
    let values: Vec<_> = head.headers.get_all("content-length").iter().collect();
    assert_eq!(values, ["4"]);
}

#[test]
fn upgrade_counts_only_when_connection_names_it() {
    let upgrade = |rest: &str| {
        accepted(&format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}\r\n"))
            .head
            .upgrade
    };
    assert_eq!(
        upgrade("Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n").as_deref(),
        Some("websocket")
    );
    assert_eq!(upgrade("Upgrade: websocket\r\n"), None, "RFC 9110 section 7.8");
    assert_eq!(
        upgrade("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"),
        None,
        "RFC 9113 section 3.1"
    );
    let old = accepted("GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(
        old.head.upgrade, None,
        "RFC 9110 section 7.8: ignored in HTTP/1.0"
    );
}

#[test]
fn expectation_counts_only_with_a_body_in_http_1_1() {
    let expects = |start: &str, length: u32| {
        accepted(&format!(
            "POST / {start}\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n"
        ))
        .head
        .expects_continue
    };
    assert!(expects("HTTP/1.1", 1));
    assert!(!expects("HTTP/1.1", 0));
    assert!(!expects("HTTP/1.0", 1), "RFC 9110 section 10.1.1");
}

#[test]
fn limits_are_answered_with_431_and_414() {
    let status = |text: String| {
        read_request(text.as_bytes())
            .map(|_| ())
            .map_err(|error| error.status.as_u16())
    };
    let fields = |count| "x: 1\r\n".repeat(count);
    assert_eq!(
        status(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(99))),
        Ok(())
    );
    assert_eq!(
        status(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(100))),
        Err(431)
    );
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let room = Limits::default().max_head_bytes - start.len() - 4;
    assert_eq!(status(format!("{start}{}\r\n\r\n", "a".repeat(room))), Ok(()));
    assert_eq!(
        status(format!("{start}{}\r\n\r\n", "a".repeat(room + 1))),
        Err(431)
    );
    assert_eq!(
        status(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(61_440))),
        Err(414)
    );
    assert_eq!(status("a".repeat(100)), Err(400), "no method is that long");
}

#[test]
fn a_value_shares_the_bytes_of_its_head() {
    let bytes = Bytes::from_static(b"GET /path HTTP/1.1\r\nHost: a\r\nX-Some: value\r\n\r\n");
    let parsed = request::parse(bytes.clone(), &Limits::default()).unwrap();
    assert!(
        bytes
            .as_ptr_range()
            .contains(&parsed.head.headers["x-some"].as_bytes().as_ptr())
    );
    assert!(bytes.as_ptr_range().contains(&parsed.head.path.as_str().as_ptr()));
}

#[test]
fn response_framing_follows_rfc_9112_section_6_3() {
    use Asked::{Connect, Head, Other, Upgrade};
    use Framing::{Chunked, Length, None, UntilClose};
    let ok = "HTTP/1.1 200 OK\r\n";
    let table = [
        (
            "item 1",
            "HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n",
            Other,
            None,
            true,
        ),
        (
            "item 1",
            "HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n",
            Other,
            None,
            true,
        ),
        ("item 1", "HTTP/1.1 103 x\r\n\r\n", Other, None, true),
        (
            "item 1",
            &format!("{ok}Content-Length: 5\r\n\r\n"),
            Head,
            None,
            true,
        ),
        (
            "item 2",
            &format!("{ok}Content-Length: 5\r\n\r\n"),
            Connect,
            UntilClose,
            false,
        ),
        (
            "item 2",
            "HTTP/1.1 404 x\r\nContent-Length: 5\r\n\r\n",
            Connect,
            Length(5),
            true,
        ),
        (
            "item 4",
            &format!("{ok}Transfer-Encoding: Chunked\r\n\r\n"),
            Other,
            Chunked,
            true,
        ),
        (
            "item 6",
            &format!("{ok}Content-Length: 5\r\n\r\n"),
            Other,
            Length(5),
            true,
        ),
        ("item 8", &format!("{ok}\r\n"), Other, UntilClose, false),
        (
            "9.3",
            &format!("{ok}Content-Length: 5\r\nConnection: close\r\n\r\n"),
            Other,
            Length(5),
            false,
        ),
        (
            "9.3",
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
            Other,
            Length(5),
            false,
        ),
        (
            "9.3",
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
            Other,
            Length(5),
            true,
        ),
        (
            "9110 7.8",
            "HTTP/1.1 101 x\r\nUpgrade: w\r\n\r\n",
            Upgrade,
            UntilClose,
            false,
        ),
        (
            "4: no reason",
            "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n",
            Other,
            Length(5),
            true,
        ),
    ];
    for (section, text, asked, framing, keep_alive) in table {
        let response =
            read_response(text, asked).unwrap_or_else(|error| panic!("{section} {text:?}: {error:?}"));
        assert_eq!(
            (response.framing, response.keep_alive),
            (framing, keep_alive),
            "{section}: {text:?}"
        );
    }
}

#[test]
fn ambiguous_responses_are_refused() {
    for (section, text) in [
        (
            "9112 6.3 item 3",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "9112 6.1",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("9112 6.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        (
            "9112 6.3 item 5",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ),
        ("9112 4 four digits", "HTTP/1.1 2000 OK\r\n\r\n"),
        ("9112 4 two digits", "HTTP/1.1 20 OK\r\n\r\n"),
        ("9110 15 class 6", "HTTP/1.1 600 x\r\n\r\n"),
        ("9110 15 class 0", "HTTP/1.1 000 x\r\n\r\n"),
        ("9112 2.3", "HTTP/3.0 200 OK\r\n\r\n"),
        ("9112 2.2", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
        ("9112 5.1", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
        ("9112 5.2", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n"),
        ("9110 7.8 unasked", "HTTP/1.1 101 x\r\n\r\n"),
    ] {
        assert!(
            matches!(read_response(text, Asked::Other), Err(StreamError::Protocol(_))),
            "{section}: {text:?}"
        );
    }
    for start in ["x", "<html>", "HTTP/2", "\r\n"] {
        assert!(
            response::check_start(start.as_bytes()).is_err(),
            "{start:?} is no status line"
        );
    }
    assert_eq!(response::check_start(b"HTTP"), Ok(()));
}

/// A body read to its end: content, trailers, what was left over.
type Body = (Vec<u8>, HeaderMap, Vec<u8>);

/// Reads a body that arrives in the given pieces.
fn read_body<'a>(
    framing: Framing,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<Body>, StreamError> {
    let limits = Limits::default();
    let (mut decoder, mut input, mut content) = (Decoder::new(framing), BytesMut::new(), Vec::new());
    let mut trailers = HeaderMap::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        while !decoder.is_done() {
            match decoder.decode(&mut input, &limits)? {
                Decoded::Wait => break,
                Decoded::Data(data) => {
                    assert!(!data.is_empty(), "no frame is empty");
                    content.extend_from_slice(&data);
                }
                Decoded::Trailers(fields) => trailers = fields,
                Decoded::Done => assert!(decoder.is_done()),
            }
        }
    }
    Ok(decoder.is_done().then(|| (content, trailers, input.to_vec())))
}

#[test]
fn chunked_bodies_are_read_as_rfc_9112_section_7_1_says() {
    let long_size = "0".repeat(15) + "3\r\nabc\r\n0\r\n\r\n";
    for (text, content, left) in [
        ("0\r\n\r\n", "", ""),
        ("3\r\nabc\r\n0\r\n\r\nGET", "abc", "GET"),
        ("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", ""),
        ("3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\n\r\n", "abc", ""),
        ("3;\r\nabc\r\n0\r\nX-T: v\r\n\r\n.", "abc", "."),
        ("000\r\n\r\n", "", ""),
        (&long_size, "abc", ""),
    ] {
        let (found, _, rest) = read_body(Framing::Chunked, [text.as_bytes()])
            .unwrap()
            .expect(text);
        assert_eq!(
            (found.as_slice(), rest.as_slice()),
            (content.as_bytes(), left.as_bytes()),
            "{text:?}"
        );
    }
}

#[test]
fn malformed_chunked_bodies_are_refused() {
    let too_long_size = "0".repeat(16) + "3\r\nabc\r\n";
    let too_long_extension = format!("3;{}\r\nabc\r\n", "a".repeat(17 << 10));
    let many_extensions = format!("1;{}\r\na\r\n", "a".repeat(1 << 10)).repeat(17);
    let many_trailers = format!("0\r\n{}\r\n", "x: y\r\n".repeat(101));
    let long_trailers = format!("0\r\nx: {}\r\n\r\n", "y".repeat(62 << 10));
    for text in [
        "zz\r\n",
        "\r\n",
        ";\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1 ;a\r\n",
        "1\na\r\n",
        "1\r\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\nab\r\n",
        "1\r\na\r0\r\n",
        "1;a\nb\r\na",
        "1;a\rb\r\na",
        "1;a\0\r\na",
        "0\r\n\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
        "0\r\nnocolon\r\n\r\n",
        &too_long_size,
        &too_long_extension,
        &many_extensions,
        &many_trailers,
        &long_trailers,
    ] {
        let found = read_body(Framing::Chunked, [text.as_bytes()]);
        assert!(
            matches!(found, Err(StreamError::Protocol(_))),
            "{text:?} gave {found:?}"
        );
    }
}

#[test]
fn trailers_that_frame_or_authenticate_are_dropped() {
    let text = "0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\nHost: b\r\nAuthorization: c\r\nTransfer-Encoding: x\r\n\r\n";
    let (_, trailers, _) = read_body(Framing::Chunked, [text.as_bytes()]).unwrap().unwrap();
    assert_eq!(
        trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["grpc-status"]
    );
}

#[test]
fn a_body_that_ends_early_is_truncated() {
    for framing in [Framing::Length(1), Framing::Chunked] {
        assert_eq!(
            Decoder::new(framing).end_of_input(),
            Err(StreamError::Truncated),
            "{framing:?}"
        );
    }
    assert_eq!(Decoder::new(Framing::UntilClose).end_of_input(), Ok(()));
}

#[test]
fn after_a_switch_everything_is_body() {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut input = BytesMut::from("1\r\na\r\n0\r\nx: y\r\n\r\nraw");
    let limits = Limits::default();
    decoder.switch();
    assert!(matches!(decoder.decode(&mut input, &limits), Ok(Decoded::Data(data)) if data == "a"));
    assert!(matches!(decoder.decode(&mut input, &limits), Ok(Decoded::Data(data)) if data == "raw"));
    assert!(!decoder.is_done());
}

#[test]
fn a_written_request_is_read_as_the_same_request() {
    let text = "POST /a?b HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\nX-A: 2\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let mut out = BytesMut::new();
    let framing = encode::request(&accepted(text).head, &mut out);
    assert_eq!(framing, Framing::Chunked);
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "POST /a?b HTTP/1.1\r\nhost: h:1\r\nx-a: 1\r\nx-a: 2\r\ntransfer-encoding: chunked\r\n\r\n"
    );
}

#[test]
fn a_request_without_a_body_says_so_where_its_method_gives_one_a_meaning() {
    let written = |text: &str| {
        let mut out = BytesMut::new();
        encode::request(&accepted(text).head, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(
        written("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    );
    let put = written("PUT / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(put, "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    let connect = written("CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connect, "CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\n");
    let upgrade = written("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: w\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(
        upgrade,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: w\r\n\r\n"
    );
}

#[test]
fn numbers_are_written_as_they_are_read() {
    for length in [0usize, 1, 9, 15, 16, 255, 4096, usize::MAX] {
        let mut out = BytesMut::new();
        encode::chunk_start(length, &mut out);
        assert_eq!(out, format!("{length:x}\r\n"));
    }
    let mut head =
        accepted("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n").head;
    head.headers.clear();
    let mut out = BytesMut::new();
    encode::request(&head, &mut out);
    assert!(out.ends_with(b"content-length: 18446744073709551615\r\n\r\n"));
}

/// Cuts `text` at the given places.
fn split(text: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| text[pair[0]..pair[1]].to_vec())
        .collect()
}

fn pieces_of_http() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "GET ",
        "POST ",
        "/",
        "/a?b",
        "http://a",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "HTTP/1.1 200 OK\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "X: y\r\n",
        "\r\n",
        "\n",
        "\r",
        "3\r\nabc\r\n",
        "0\r\n",
        "0\r\n\r\n",
        ";x",
        " ",
        "\0",
        "abc",
        "fffffffffffffffff",
    ]);
    prop::collection::vec(prop_oneof![8 => words.prop_map(|w| w.as_bytes().to_vec()), 1 => any::<[u8; 2]>().prop_map(Vec::from)], 0..24)
        .prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_input_panics(bytes in prop_oneof![pieces_of_http(), prop::collection::vec(any::<u8>(), 0..200)]) {
        let _ = read_request(&bytes);
        let limits = Limits { max_head_bytes: 100, max_headers: 3 };
        if let Ok(Some(end)) = head::find_end(&bytes, &mut 0, &limits) {
            let _ = response::parse(Bytes::copy_from_slice(&bytes[..end]), Asked::Other, &limits);
        }
        for framing in [Framing::Chunked, Framing::Length(3), Framing::UntilClose] {
            let _ = read_body(framing, [&bytes[..]]);
        }
    }

    #[test]
    fn a_body_is_the_same_however_it_arrives(bytes in pieces_of_http(), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let pieces = split(&bytes, &cuts);
        for framing in [Framing::Chunked, Framing::Length(3)] {
            let whole = read_body(framing, [&bytes[..]]);
            let parts = read_body(framing, pieces.iter().map(Vec::as_slice));
            prop_assert_eq!(whole, parts);
        }
    }

    #[test]
    fn the_end_of_a_head_is_the_same_however_it_arrives(bytes in pieces_of_http(), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let limits = Limits { max_head_bytes: 120, max_headers: 10 };
        let whole = head::find_end(&bytes, &mut 0, &limits);
        let (mut scanned, mut arrived) = (0, Vec::new());
        let mut parts = Ok(None);
        for piece in split(&bytes, &cuts) {
            arrived.extend(piece);
            parts = head::find_end(&arrived, &mut scanned, &limits);
            if parts != Ok(None) { break; }
        }
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn what_we_write_another_parser_reads(path in "/[a-z0-9/]{0,20}", value in "[ -~]{0,30}") {
        let head = RequestHead {
            method: Method::GET,
            scheme: None,
            authority: Some("a:80".parse().unwrap()),
            path: path.parse().unwrap(),
            headers: HeaderMap::from_iter([(http::header::COOKIE, value.parse().unwrap())]),
            version: Version::HTTP_11,
            body: BodyLength::None,
            upgrade: None,
            expects_continue: false,
        };
        let mut out = BytesMut::new();
        encode::request(&head, &mut out);
        let read = read_request(&out).unwrap().unwrap();
        prop_assert_eq!(read.head.path.as_str(), path);
        prop_assert_eq!(read.head.headers["cookie"].to_str().unwrap(), value.trim());
    }
}
