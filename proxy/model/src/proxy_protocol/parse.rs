//! Reading a PROXY header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use super::{Announced, Tlv, Version};

/// The longest header, in bytes: 16 in front, and 16 bits of length.
pub const LONGEST: usize = 16 + u16::MAX as usize;

/// The longest of version 1 (section 2.1: "107 chars").
const LONGEST_V1: usize = 107;
const V1: &[u8] = b"PROXY ";
pub(super) const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strictness {
    /// Version 1 is not disallowed.
    pub v1: bool,
    /// Version 2 is not disallowed.
    pub v2: bool,
    /// A connection without a header is taken as it is; then a header of a disallowed version counts as none.
    pub optional: bool,
}

/// What the first bytes of a connection say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// They may become a header.
    More,
    /// No header begins here.
    NoHeader,
    /// One of a version that is disallowed.
    Disallowed(Version),
    /// One that breaks the protocol.
    Wrong(Version),
    /// A header of `length` bytes.
    Header {
        /// Its version.
        version: Version,
        /// Its bytes.
        length: usize,
        /// `None`: it stands for itself (`LOCAL`, `UNKNOWN`).
        said: Option<Box<Announced>>,
    },
}

/// Reads the header that `bytes` begin with.
pub fn parse(bytes: &[u8], strictness: Strictness) -> Outcome {
    let Strictness { v1, v2, optional } = strictness;
    if v2 || !optional {
        match begins(bytes, V2) {
            Begins::Whole if !v2 => return Outcome::Disallowed(Version::V2),
            Begins::Whole => return binary(bytes),
            Begins::SoFar => return Outcome::More,
            Begins::No => {}
        }
    }
    if v1 || !optional {
        match begins(bytes, V1) {
            Begins::Whole if !v1 => return Outcome::Disallowed(Version::V1),
            Begins::Whole => return text(bytes),
            Begins::SoFar => return Outcome::More,
            Begins::No => {}
        }
    }
    Outcome::NoHeader
}

enum Begins {
    Whole,
    SoFar,
    No,
}

fn begins(bytes: &[u8], signature: &[u8]) -> Begins {
    if bytes.starts_with(signature) {
        Begins::Whole
    } else if signature.starts_with(bytes) {
        Begins::SoFar
    } else {
        Begins::No
    }
}

/// Version 1: one line.
fn text(bytes: &[u8]) -> Outcome {
    let wrong = Outcome::Wrong(Version::V1);
    let visible = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = visible.windows(2).position(|pair| pair == b"\r\n") else {
        // What must not stand in a line, and a line that has become too long.
        let broken = visible[..visible.len() - 1]
            .iter()
            .any(|byte| b"\r\n\0".contains(byte))
            || visible.last() == Some(&b'\n');
        return if broken || bytes.len() >= LONGEST_V1 {
            wrong
        } else {
            Outcome::More
        };
    };
    let header = |said| Outcome::Header {
        version: Version::V1,
        length: end + 2,
        said,
    };
    let Ok(line) = std::str::from_utf8(&bytes[V1.len()..end.max(V1.len())]) else {
        return wrong;
    };
    let mut words = line.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return header(None);
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, from, to] = words[..] else {
        return wrong;
    };
    let address = |word: &str| match family {
        Some("TCP4") => word.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        Some("TCP6") => word.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    let ends = (address(source), address(destination), port(from), port(to));
    match ends {
        (Some(source), Some(destination), Some(from), Some(to)) => announced(
            SocketAddr::new(source, from),
            SocketAddr::new(destination, to),
            Vec::new(),
        )
        .map_or(wrong, |said| header(Some(said))),
        _ => wrong,
    }
}

/// A decimal number without sign and leading zeros.
fn port(word: &str) -> Option<u16> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (word == "0" || !word.starts_with('0')))
        .then(|| word.parse().ok())
        .flatten()
}

/// Version 2.
fn binary(bytes: &[u8]) -> Outcome {
    let wrong = Outcome::Wrong(Version::V2);
    let Some((&[command, family, high, low], rest)) = bytes[V2.len()..].split_first_chunk::<4>() else {
        // The version is settled by the first of them.
        return match bytes.get(V2.len()) {
            Some(command) if command >> 4 != 2 || command & 0x0f > 1 => wrong,
            _ => Outcome::More,
        };
    };
    if command >> 4 != 2 || command & 0x0f > 1 {
        return wrong;
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let addresses = match (command & 0x0f, family) {
        (0, _) => 0,
        (_, 0x11 | 0x12) => 12,
        (_, 0x21 | 0x22) => 36,
        _ => return wrong,
    };
    if length < addresses {
        return wrong;
    }
    let Some(body) = rest.get(..length) else {
        return Outcome::More;
    };
    let said = if addresses == 0 {
        None
    } else {
        let (ends, tlvs) = body.split_at(addresses);
        match (ends_of(ends), tlvs_of(tlvs)) {
            (Some((source, destination)), Some(tlvs)) => match announced(source, destination, tlvs) {
                Some(said) => Some(said),
                None => return wrong,
            },
            _ => return wrong,
        }
    };
    Outcome::Header {
        version: Version::V2,
        length: V2.len() + 4 + length,
        said,
    }
}

fn ends_of(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let half = (bytes.len() - 4) / 2;
    let ip = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    let port = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let source = SocketAddr::new(ip(bytes.get(..half)?)?, port(2 * half)?);
    let destination = SocketAddr::new(ip(bytes.get(half..2 * half)?)?, port(2 * half + 2)?);
    Some((source, destination))
}

fn tlvs_of(mut bytes: &[u8]) -> Option<Vec<Tlv>> {
    let mut tlvs = Vec::new();
    while !bytes.is_empty() {
        let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        tlvs.push(Tlv {
            kind,
            value: Bytes::copy_from_slice(value),
        });
        bytes = rest;
    }
    Some(tlvs)
}

/// TCP has only ends that are one host each.
fn announced(source: SocketAddr, destination: SocketAddr, tlvs: Vec<Tlv>) -> Option<Box<Announced>> {
    let one_host = |end: &SocketAddr| match end.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    (one_host(&source) && one_host(&destination)).then(|| {
        Box::new(Announced {
            source,
            destination,
            tlvs,
        })
    })
}
