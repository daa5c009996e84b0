//! What holds for any input.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Version};
use proptest::prelude::*;

use super::bodies::read_body;
use super::read_request;
use crate::exchange::{BodyLength, RequestHead};
use crate::http1::grammar::response::{self, Asked};
use crate::http1::grammar::{Framing, Limits, encode, head};

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
