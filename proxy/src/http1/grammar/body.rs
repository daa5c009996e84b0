//! Reads a message body from the bytes that follow a head (RFC 9112 sections 6 and 7).
//!
//! ```text
//! Size --(0)--> Trailers --> Done        Counted --> Done
//!  ^  \--(n)--> Data --> DataEnd --+     UntilClose --(end of input)--> Done
//!  +-------------------------------+
//! ```
//!
//! Holds: lines of the chunked coding end with CRLF and nothing else; chunk extensions are bounded and dropped;
//! trailers are validated like a head, and those that frame, route or authenticate are dropped.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::{Framing, Limits, details, trailers};
use crate::exchange::StreamError;

/// Bytes of chunk extensions that one message may carry in all.
const MAX_EXTENSION_BYTES: u32 = 16 << 10;

/// Chunks below this size that arrived together become one piece: a flood of tiny chunks must not become a flood of
/// frames on a connection to an upstream that others share.
const MERGE_BELOW: usize = 512;

/// Size from which such a piece is given out.
const MERGED: usize = 8 << 10;

const MALFORMED: StreamError = StreamError::Protocol(details::CODEC_ERROR);

/// One step of reading a body.
#[derive(Debug)]
pub enum Decoded {
    /// More input is needed.
    Wait,
    /// Bytes of the body, never empty.
    Data(Bytes),
    /// The trailers, never empty; the body is done.
    Trailers(HeaderMap),
    /// The body is done; what is left of the input is not part of it.
    Done,
}

/// Reads one body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The protocol changes after this body: what follows it is raw.
    raw_follows: bool,
}

#[derive(Debug)]
enum State {
    Done,
    Counted { left: u64 },
    UntilClose,
    Chunked(Chunked),
}

/// Where in the chunked coding we are.
#[derive(Debug)]
struct Chunked {
    position: Position,
    /// Extension bytes seen in this message.
    extension_bytes: u32,
    /// What of an incomplete trailer section was searched for its end.
    scanned: usize,
}

#[derive(Debug, Clone, Copy)]
enum Position {
    /// In the digits of a chunk size.
    Size { size: u64, digits: u8 },
    /// In the extensions after it.
    Extension { size: u64 },
    /// After the CR of the size line.
    SizeEnd { size: u64 },
    /// In the bytes of a chunk.
    Data { left: u64 },
    /// Before CR LF after the bytes.
    DataEnd,
    /// Before the LF of them.
    DataEndLf,
    /// After the last chunk.
    Trailers,
}

impl Decoder {
    /// Begins a body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Counted { left },
            Framing::UntilClose => State::UntilClose,
            Framing::Chunked => State::Chunked(Chunked {
                position: Position::Size { size: 0, digits: 0 },
                extension_bytes: 0,
                scanned: 0,
            }),
        };
        Self {
            state,
            raw_follows: false,
        }
    }

    /// Everything after this body, until close, is the body too: the protocol was switched.
    pub fn switch(&mut self) {
        self.raw_follows = true;
        if self.is_done() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.state = if std::mem::take(&mut self.raw_follows) {
            State::UntilClose
        } else {
            State::Done
        };
    }

    /// Whether the body was read to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes that are still to come, where the head said so.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Counted { left } => Some(left),
            State::UntilClose | State::Chunked(_) => None,
        }
    }

    /// Takes the next piece of the body from the front of `input`.
    ///
    /// # Errors
    /// The body is malformed; it cannot be read further.
    pub fn decode(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Decoded, StreamError> {
        match &mut self.state {
            State::Done => Ok(Decoded::Done),
            State::UntilClose => Ok(take(input, u64::MAX).map_or(Decoded::Wait, Decoded::Data)),
            State::Counted { left } => {
                let Some(data) = take(input, *left) else {
                    return Ok(Decoded::Wait);
                };
                *left -= data.len() as u64;
                if *left == 0 {
                    self.finish();
                }
                Ok(Decoded::Data(data))
            }
            State::Chunked(chunked) => {
                let decoded = chunked.decode(input, limits)?;
                if matches!(decoded, Decoded::Done | Decoded::Trailers(_)) {
                    self.finish();
                    // Trailers have no place before raw bytes; what they say is lost with the old protocol.
                    return if self.is_done() {
                        Ok(decoded)
                    } else {
                        self.decode(input, limits)
                    };
                }
                Ok(decoded)
            }
        }
    }

    /// Tells that the input ended.
    ///
    /// # Errors
    /// [`StreamError::Truncated`] when the body had not.
    pub fn end_of_input(&mut self) -> Result<(), StreamError> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Counted { .. } | State::Chunked(_) => Err(StreamError::Truncated),
        }
    }
}

/// At most `limit` bytes from the front, without copying.
fn take(input: &mut BytesMut, limit: u64) -> Option<Bytes> {
    if input.is_empty() {
        return None;
    }
    if input.len() as u64 <= limit {
        return Some(std::mem::take(input).freeze());
    }
    usize::try_from(limit)
        .ok()
        .map(|limit| input.split_to(limit).freeze())
}

impl Chunked {
    fn decode(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Decoded, StreamError> {
        let mut merged = BytesMut::new();
        loop {
            match self.position {
                Position::Data { left } => {
                    let Some(data) = take(input, left) else { break };
                    let left = left - data.len() as u64;
                    self.position = if left == 0 {
                        Position::DataEnd
                    } else {
                        Position::Data { left }
                    };
                    if merged.is_empty() && (data.len() >= MERGE_BELOW || input.is_empty()) {
                        return Ok(Decoded::Data(data));
                    }
                    merged.extend_from_slice(&data);
                    if merged.len() >= MERGED {
                        break;
                    }
                }
                Position::Trailers if merged.is_empty() => return self.trailers(input, limits),
                Position::Trailers => break,
                Position::Extension { size } => {
                    if !self.skip_extension(input, size)? {
                        break;
                    }
                }
                position => {
                    let Some(byte) = input.first().copied() else { break };
                    self.position = step(position, byte)?;
                    input.advance(1);
                }
            }
        }
        Ok(if merged.is_empty() {
            Decoded::Wait
        } else {
            Decoded::Data(merged.freeze())
        })
    }

    /// Drops extension bytes up to the CR of their line (RFC 9112 section 7.1.1: an unknown extension is ignored).
    fn skip_extension(&mut self, input: &mut BytesMut, size: u64) -> Result<bool, StreamError> {
        let length = input
            .iter()
            .position(|byte| !is_text(*byte))
            .unwrap_or(input.len());
        self.extension_bytes = self
            .extension_bytes
            .saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        if self.extension_bytes > MAX_EXTENSION_BYTES {
            return Err(MALFORMED);
        }
        input.advance(length);
        match input.first() {
            None => Ok(false),
            Some(b'\r') => {
                input.advance(1);
                self.position = Position::SizeEnd { size };
                Ok(true)
            }
            Some(_) => Err(MALFORMED),
        }
    }

    /// The trailer section: fields, then an empty line (RFC 9112 section 7.1.2).
    fn trailers(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Decoded, StreamError> {
        match trailers::take(input, &mut self.scanned, limits)? {
            None => Ok(Decoded::Wait),
            Some(fields) if fields.is_empty() => Ok(Decoded::Done),
            Some(fields) => Ok(Decoded::Trailers(fields)),
        }
    }
}

/// One byte of a size line or of the line end after a chunk (RFC 9112 section 7.1).
fn step(position: Position, byte: u8) -> Result<Position, StreamError> {
    Ok(match (position, byte) {
        (
            Position::Size {
                size,
                digits: digits @ 0..16,
            },
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F',
        ) => {
            let digit = (byte as char).to_digit(16).unwrap_or_default();
            Position::Size {
                size: size << 4 | u64::from(digit),
                digits: digits + 1,
            }
        }
        // BWS before the semicolon is what only an attacker sends; it is refused.
        (Position::Size { size, digits: 1.. }, b';') => Position::Extension { size },
        (Position::Size { size, digits: 1.. }, b'\r') => Position::SizeEnd { size },
        (Position::SizeEnd { size: 0 }, b'\n') => Position::Trailers,
        (Position::SizeEnd { size }, b'\n') => Position::Data { left: size },
        (Position::DataEnd, b'\r') => Position::DataEndLf,
        (Position::DataEndLf, b'\n') => Position::Size { size: 0, digits: 0 },
        _ => return Err(MALFORMED),
    })
}

/// HTAB, SP, VCHAR or obs-text.
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
