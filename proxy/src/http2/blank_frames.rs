//! Which received frames carry nothing? DATA frames without a byte and without the end of their stream.
//!
//! They are legal, and there are applications that send one with every answer. h2 0.4 allows a hundred in the whole life
//! of a connection, and then closes it with all its streams (`too_many_data_frames`); Envoy only counts them in a row
//! (`max_consecutive_inbound_frames_with_empty_payload`). So [`Sieve`] takes them out of the bytes before h2 reads them.
//!
//! Holds: every other byte passes unchanged and in order; what comes [`IN_A_ROW`] times in a row is a flood, and goes on
//! to h2, which knows how to end one. Does not: look into padding, or judge anything else.

use std::ops::Range;

use tokio::io::ReadBuf;

/// The preface of a client (RFC 9113 section 3.4).
pub(super) const PREFACE: usize = 24;

/// A frame's head (RFC 9113 section 4.1).
const HEAD: usize = 9;

/// Empty frames in a row that are taken out.
const IN_A_ROW: u32 = 16;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Follows the frames of one direction of one connection.
#[derive(Debug)]
pub(super) struct Sieve {
    /// Bytes that pass unseen: of the preface, or of a frame.
    passing: usize,
    head: [u8; HEAD],
    split: Split,
    in_a_row: u32,
    /// Between HEADERS and its last CONTINUATION, where no other frame is allowed.
    in_fields: bool,
}

/// A head that came in two reads.
#[derive(Debug)]
enum Split {
    No,
    /// So many bytes of it are there.
    Begun(usize),
    /// These bytes of it are to be handed out.
    Owed(Range<usize>),
}

impl Sieve {
    /// For a stream of frames after `preface` bytes of something else.
    pub(super) fn new(preface: usize) -> Self {
        Self {
            passing: preface,
            head: [0; HEAD],
            split: Split::No,
            in_a_row: 0,
            in_fields: false,
        }
    }

    /// Moves what is to stay of `bytes`, the next that were received, to its front, and returns how much that is.
    pub(super) fn sift(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let left = bytes.len() - at;
            if self.passing == 0 {
                let Some(head) = bytes[at..].first_chunk::<HEAD>() else {
                    self.head[..left].copy_from_slice(&bytes[at..]);
                    self.split = Split::Begun(left);
                    break;
                };
                let head = *head;
                if !self.stays(head) {
                    at += HEAD;
                    continue;
                }
                self.passing += HEAD;
            }
            let length = self.passing.min(left);
            if kept != at {
                bytes.copy_within(at..at + length, kept);
            }
            (at, kept) = (at + length, kept + length);
            self.passing -= length;
        }
        kept
    }

    /// Where the rest of a head belongs of which only a part was received; to be filled before anything else is read.
    pub(super) fn rest_of_head(&mut self) -> Option<&mut [u8]> {
        match self.split {
            Split::Begun(there) => Some(&mut self.head[there..]),
            Split::No | Split::Owed(_) => None,
        }
    }

    /// `read` bytes were put there; 0 at the end of the stream.
    pub(super) fn head_grew(&mut self, read: usize) {
        let Split::Begun(there) = self.split else { return };
        let there = there + read;
        self.split = if read == 0 {
            Split::Owed(0..there)
        } else if there < HEAD {
            Split::Begun(there)
        } else if self.stays(self.head) {
            Split::Owed(0..HEAD)
        } else {
            Split::No
        };
    }

    /// Hands out what fits of a head that came in parts; whether there was any.
    pub(super) fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let Split::Owed(owed) = &mut self.split else {
            return false;
        };
        let length = owed.len().min(buffer.remaining());
        buffer.put_slice(&self.head[owed.start..owed.start + length]);
        owed.start += length;
        if owed.start == owed.end {
            self.split = Split::No;
        }
        true
    }

    /// Whether the frame of this head stays; its payload then passes.
    fn stays(&mut self, head: [u8; HEAD]) -> bool {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let on_a_stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) != 0;
        // Where such a frame is an error, h2 is to see it.
        let empty = kind == DATA && length == 0 && flags & END_STREAM == 0 && on_a_stream && !self.in_fields;
        self.in_a_row = if empty { self.in_a_row.saturating_add(1) } else { 0 };
        if empty && self.in_a_row <= IN_A_ROW {
            return false;
        }
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            self.in_fields = flags & END_HEADERS == 0;
        }
        self.passing = usize::try_from(length).unwrap_or(usize::MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    fn empty() -> Vec<u8> {
        frame(DATA, 0, 1, b"")
    }

    /// What passes when the bytes arrive `size` at a time and the reader has room for `room`.
    fn passed(bytes: &[u8], preface: usize, size: usize, room: usize) -> Vec<u8> {
        let (mut sieve, mut source, mut out) = (Sieve::new(preface), bytes, Vec::new());
        loop {
            let mut storage = vec![0; room];
            let mut buffer = ReadBuf::new(&mut storage);
            if sieve.hand_out(&mut buffer) {
                out.extend_from_slice(buffer.filled());
            } else if let Some(rest) = sieve.rest_of_head() {
                let read = rest.len().min(size).min(source.len());
                rest[..read].copy_from_slice(&source[..read]);
                source = &source[read..];
                sieve.head_grew(read);
            } else if source.is_empty() {
                return out;
            } else {
                let read = room.min(size).min(source.len());
                let mut piece = source[..read].to_vec();
                source = &source[read..];
                let kept = sieve.sift(&mut piece);
                out.extend_from_slice(&piece[..kept]);
            }
        }
    }

    #[test]
    fn empty_frames_are_taken_out_and_all_else_passes_however_it_arrives() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let stays = [
            frame(4, 0, 0, b""),
            frame(HEADERS, END_HEADERS, 1, b"fields"),
            frame(DATA, 0, 1, b"\0\0\0\0\0\0\0\0\x01"),
            frame(DATA, END_STREAM, 1, b""),
        ];
        let all = [preface.clone(), stays.join(&empty()[..]), empty(), empty()].concat();
        let wanted = [preface, stays.concat()].concat();
        for size in 1..all.len() {
            for room in [1, 2, 8, 9, 10, 4096] {
                assert_eq!(
                    passed(&all, PREFACE, size, room),
                    wanted,
                    "{size} bytes, room for {room}"
                );
            }
        }
    }

    #[test]
    fn a_head_that_never_ends_is_handed_out_at_the_end() {
        let cut = &frame(DATA, 0, 1, b"x")[..5];
        assert_eq!(passed(cut, 0, 4096, 4096), cut);
    }

    #[test]
    fn a_flood_goes_on() {
        let flood = empty().repeat(20);
        assert_eq!(passed(&flood, 0, 4096, 4096).len(), 4 * HEAD);
        let broken = [empty().repeat(16), frame(6, 0, 0, b"ping"), empty().repeat(16)].concat();
        assert_eq!(passed(&broken, 0, 4096, 4096), frame(6, 0, 0, b"ping"));
    }

    #[test]
    fn where_an_empty_frame_is_an_error_it_stays() {
        let on_no_stream = frame(DATA, 0, 0, b"");
        let within_fields = [frame(HEADERS, 0, 1, b"fields"), empty()].concat();
        for wrong in [on_no_stream, within_fields] {
            assert_eq!(passed(&wrong, 0, 4096, 4096), wrong);
        }
    }
}
