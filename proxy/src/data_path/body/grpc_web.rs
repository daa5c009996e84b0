//! The bodies of gRPC-Web: base64 on the way up where the browser sends it, and on the way down base64 where it asks for
//! it and trailers as a last frame (PROTOCOL-WEB).

use std::collections::VecDeque;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use remora_model::filter::{GrpcMessages, trailers_frame};

use super::{Given, Stage};
use crate::exchange::Frame;
use crate::failure::NOT_BASE64;

/// Base64 to bytes. A client may send several texts one after the other, each padded.
#[derive(Debug, Default)]
pub struct FromText {
    /// Characters of a group of four that is not complete.
    rest: Vec<u8>,
    out: Option<Frame>,
    bad: bool,
}

impl FromText {
    fn decode(&mut self, text: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
        self.rest.extend_from_slice(text);
        let whole = self.rest.len() / 4 * 4;
        let mut from = 0;
        while from < whole {
            // Up to the first group that ends a text.
            let padded = self.rest[from..whole].iter().position(|byte| *byte == b'=');
            let to = padded.map_or(whole, |at| from + at / 4 * 4 + 4);
            self.bad |= STANDARD.decode_vec(&self.rest[from..to], &mut out).is_err();
            from = to;
        }
        self.rest.drain(..whole);
        Bytes::from(out)
    }
}

impl Stage for FromText {
    fn take(&mut self, frame: Option<Frame>) {
        self.out = match frame {
            Some(Frame::Data(text)) => {
                let data = self.decode(&text);
                (!data.is_empty()).then_some(Frame::Data(data))
            }
            end => {
                self.bad |= !self.rest.is_empty();
                end
            }
        };
    }

    fn poll_give(&mut self, _: &mut Context<'_>) -> Poll<Result<Given, &'static str>> {
        if self.bad {
            return Poll::Ready(Err(NOT_BASE64));
        }
        Poll::Ready(Ok(self.out.take().map_or(Given::Nothing, Given::Frame)))
    }
}

/// What a browser reads: trailers as a frame, everything in base64 if it asked for text. Each message is a text of its
/// own, as Envoy sends them.
#[derive(Debug)]
pub struct ToWeb {
    text: bool,
    messages: GrpcMessages,
    /// Bytes of a message that do not fill a group of three.
    rest: Vec<u8>,
    out: VecDeque<Bytes>,
}

impl ToWeb {
    /// In base64 if `text`.
    pub fn new(text: bool) -> Self {
        Self {
            text,
            messages: GrpcMessages::default(),
            rest: Vec::new(),
            out: VecDeque::new(),
        }
    }

    fn encode(&mut self, mut data: &[u8]) -> Bytes {
        let mut text = String::new();
        while !data.is_empty() {
            let (part, ends) = self.messages.part(data);
            self.rest.extend_from_slice(&data[..part]);
            data = &data[part..];
            let whole = if ends {
                self.rest.len()
            } else {
                self.rest.len() / 3 * 3
            };
            STANDARD.encode_string(&self.rest[..whole], &mut text);
            self.rest.drain(..whole);
        }
        Bytes::from(text)
    }
}

impl Stage for ToWeb {
    fn take(&mut self, frame: Option<Frame>) {
        match frame {
            Some(Frame::Data(data)) if self.text => {
                let text = self.encode(&data);
                self.out.extend((!text.is_empty()).then_some(text));
            }
            Some(Frame::Data(data)) => self.out.push_back(data),
            Some(Frame::Trailers(fields)) => {
                let frame = trailers_frame(&fields);
                self.out.push_back(if self.text {
                    Bytes::from(STANDARD.encode(frame))
                } else {
                    frame
                });
            }
            None => {}
        }
    }

    fn poll_give(&mut self, _: &mut Context<'_>) -> Poll<Result<Given, &'static str>> {
        let next = self.out.pop_front().map(Frame::Data);
        Poll::Ready(Ok(next.map_or(Given::Nothing, Given::Frame)))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn through(stage: &mut dyn Stage, frames: Vec<Frame>) -> Result<Vec<u8>, &'static str> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        for frame in frames.into_iter().map(Some).chain([None]) {
            stage.take(frame);
            loop {
                match stage.poll_give(&mut cx) {
                    Poll::Ready(Ok(Given::Frame(Frame::Data(data)))) => out.extend_from_slice(&data),
                    Poll::Ready(Ok(Given::Nothing)) => break,
                    Poll::Ready(Err(details)) => return Err(details),
                    other => panic!("{other:?}"),
                }
            }
        }
        Ok(out)
    }

    fn pieces(text: &[u8], size: usize) -> Vec<Frame> {
        let pieces = text.chunks(size);
        pieces
            .map(|piece| Frame::Data(Bytes::copy_from_slice(piece)))
            .collect()
    }

    #[test]
    fn texts_are_decoded_however_they_are_cut() {
        let text = [
            STANDARD.encode("abcd"),
            STANDARD.encode("efghi"),
            STANDARD.encode("jkl"),
        ]
        .concat();
        for size in 1..text.len() {
            let out = through(&mut FromText::default(), pieces(text.as_bytes(), size));
            assert_eq!(out.as_deref(), Ok(&b"abcdefghijkl"[..]), "in pieces of {size}");
        }
        let cut = through(&mut FromText::default(), pieces(b"YWJj YQ", 3));
        assert_eq!(cut, Err(NOT_BASE64));
        assert_eq!(
            through(&mut FromText::default(), pieces(b"YWJjY", 3)),
            Err(NOT_BASE64)
        );
    }

    #[test]
    fn each_message_and_the_trailers_are_texts_of_their_own() {
        let message = |text: &str| {
            let mut message = vec![0, 0, 0, 0, text.len() as u8];
            message.extend_from_slice(text.as_bytes());
            message
        };
        let (one, two) = (message("a"), message("second"));
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let expected = [
            STANDARD.encode(&one),
            STANDARD.encode(&two),
            STANDARD.encode(trailers_frame(&trailers)),
        ];
        let body = [one, two].concat();
        for size in 1..body.len() {
            let mut frames = pieces(&body, size);
            frames.push(Frame::Trailers(trailers.clone()));
            let out = through(&mut ToWeb::new(true), frames).unwrap();
            assert_eq!(
                String::from_utf8(out).unwrap(),
                expected.concat(),
                "in pieces of {size}"
            );
        }
    }
}
