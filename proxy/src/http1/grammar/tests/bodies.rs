//! Bodies against RFC 9112 section 7.

use bytes::BytesMut;
use http::HeaderMap;

use crate::exchange::StreamError;
use crate::http1::grammar::body::{Decoded, Decoder};
use crate::http1::grammar::{Framing, Limits};

/// A body read to its end: content, trailers, what was left over.
pub(super) type Body = (Vec<u8>, HeaderMap, Vec<u8>);

/// Reads a body that arrives in the given pieces.
pub(super) fn read_body<'a>(
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
fn tiny_chunks_that_arrive_together_become_few_pieces() {
    let text = "1\r\na\r\n".repeat(10_000) + "0\r\nt: v\r\n\r\n";
    let (mut decoder, mut input) = (Decoder::new(Framing::Chunked), BytesMut::from(text.as_str()));
    let (mut pieces, mut bytes) = (0, 0);
    while let Decoded::Data(data) = decoder.decode(&mut input, &Limits::default()).unwrap() {
        pieces += 1;
        bytes += data.len();
    }
    assert_eq!((pieces, bytes), (2, 10_000));
    assert!(decoder.is_done(), "the trailers came after them");
}
