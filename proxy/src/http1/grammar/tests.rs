//! The grammar against RFC 9112, sentence by sentence. Each case names its section.

mod bodies;
mod cases;
mod properties;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::request::{self, Request};
use super::response::{self, Asked, Response};
use super::{Framing, Limits, encode, head};
use crate::exchange::{HeadError, StreamError};
use cases::{ACCEPTED, REFUSED};

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

#[rustfmt::skip]
#[test]
fn response_framing_follows_rfc_9112_section_6_3() {
    use Asked::{Connect, Head, Other, Upgrade};
    use Framing::{Chunked, Length, None, UntilClose};
    let ok = "HTTP/1.1 200 OK\r\n";
    let table = [
        ("item 1", "HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", Other, None, true),
        ("item 1", "HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n", Other, None, true),
        ("item 1", "HTTP/1.1 103 x\r\n\r\n", Other, None, true),
        ("item 1", &format!("{ok}Content-Length: 5\r\n\r\n"), Head, None, true),
        ("item 2", &format!("{ok}Content-Length: 5\r\n\r\n"), Connect, UntilClose, false),
        ("item 2", "HTTP/1.1 404 x\r\nContent-Length: 5\r\n\r\n", Connect, Length(5), true),
        ("item 4", &format!("{ok}Transfer-Encoding: Chunked\r\n\r\n"), Other, Chunked, true),
        ("item 6", &format!("{ok}Content-Length: 5\r\n\r\n"), Other, Length(5), true),
        ("item 8", &format!("{ok}\r\n"), Other, UntilClose, false),
        ("9.3", &format!("{ok}Content-Length: 5\r\nConnection: close\r\n\r\n"), Other, Length(5), false),
        ("9.3", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Other, Length(5), false),
        ("9.3", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", Other, Length(5), true),
        ("9110 7.8", "HTTP/1.1 101 x\r\nUpgrade: w\r\n\r\n", Upgrade, UntilClose, false),
        ("4: no reason", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", Other, Length(5), true),
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
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: w\r\n\r\n"
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
