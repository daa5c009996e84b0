//! Do the first bytes begin an HTTP/1 request, or are they the HTTP/2 preface?
//!
//! Holds: a byte that no request line and no preface can have at its place ends both. Any token is a method, so that
//! traffic with a method we never heard of still meets the HTTP rules of its port.

use super::{Progress, Protocol};

/// Longest request line that is waited for (as Envoy's `http_inspector`).
pub const MAX_REQUEST_LINE: usize = 64 * 1024;

/// RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const VERSION: &[u8; 7] = b"HTTP/1.";

/// Both possibilities, each followed until it is ruled out.
#[derive(Debug)]
pub(super) struct RequestLine {
    seen: usize,
    /// Bytes of the preface that matched; `None`: it is not the preface.
    preface: Option<usize>,
    /// The place in the line; `None`: it is no request line.
    place: Option<Place>,
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the method: a server ignores empty lines there (RFC 9112 section 2.2).
    Before,
    Method,
    TargetStart,
    Target,
    /// Bytes of [`VERSION`] that matched.
    Version(usize),
    Minor,
    End(Minor),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Minor {
    Zero,
    One,
}

impl Default for RequestLine {
    fn default() -> Self {
        Self {
            seen: 0,
            preface: Some(0),
            place: Some(Place::Before),
        }
    }
}

impl RequestLine {
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Progress<Protocol> {
        for &byte in bytes {
            self.seen += 1;
            self.preface = self
                .preface
                .filter(|&matched| PREFACE[matched] == byte)
                .map(|matched| matched + 1);
            if self.preface == Some(PREFACE.len()) {
                return Progress::Found(Protocol::H2c);
            }
            if let (Some(Place::End(minor)), b'\r' | b'\n') = (self.place, byte) {
                return Progress::Found(match minor {
                    Minor::Zero => Protocol::Http10,
                    Minor::One => Protocol::Http11,
                });
            }
            self.place = self.place.and_then(|place| place.after(byte));
            if self.place.is_none() && self.preface.is_none() || self.seen >= MAX_REQUEST_LINE {
                return Progress::No;
            }
        }
        Progress::More
    }
}

impl Place {
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Before, b'\r' | b'\n') => Some(Self::Before),
            (Self::Before | Self::Method, byte) if is_token(byte) => Some(Self::Method),
            (Self::Method, b' ') => Some(Self::TargetStart),
            (Self::TargetStart | Self::Target, 0x21..=0x7e | 0x80..) => Some(Self::Target),
            (Self::Target, b' ') => Some(Self::Version(0)),
            (Self::Version(matched), byte) if VERSION[matched] == byte => {
                Some(if matched + 1 == VERSION.len() {
                    Self::Minor
                } else {
                    Self::Version(matched + 1)
                })
            }
            (Self::Minor, b'0') => Some(Self::End(Minor::Zero)),
            (Self::Minor, b'1') => Some(Self::End(Minor::One)),
            _ => None,
        }
    }
}

/// `tchar` (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
