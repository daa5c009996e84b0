//! Which server name and which application protocols does a ClientHello carry?
//!
//! Holds: the handshake message is put together from any number of records (RFC 8446 section 5.1) of any size, never
//! more than [`MAX_HELLO`] bytes are kept, and a message with a length that does not add up is no hello.

use super::Progress;

/// Longest ClientHello that is read, without its record headers (Envoy's `max_client_hello_size`).
pub const MAX_HELLO: usize = 16 * 1024;

/// Records a hello may be cut into; a one-byte record costs five bytes of header.
const MAX_RECORDS: u32 = 1024;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const MESSAGE_HEADER: usize = 4;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What is read of a ClientHello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The host name of `server_name` (RFC 6066 section 3), in lower case; `None` where absent or not ASCII.
    pub server_name: Option<Box<str>>,
    /// `application_layer_protocol_negotiation` (RFC 7301), in the client's order; empty where absent.
    pub alpn: Vec<Box<[u8]>>,
}

/// Puts the message together.
#[derive(Debug, Default)]
pub(super) struct HelloReader {
    /// Record header so far.
    header: [u8; 5],
    header_len: usize,
    /// Payload that the current record still owes.
    owed: usize,
    records: u32,
    message: Vec<u8>,
}

impl HelloReader {
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Progress<ClientHello> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.owed == 0 {
                if !self.header_byte(first) {
                    return Progress::No;
                }
                bytes = rest;
                continue;
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.owed));
            self.owed -= payload.len();
            bytes = rest;
            match self.payload(payload) {
                Progress::More => {}
                decided => return decided,
            }
        }
        Progress::More
    }

    /// Takes one byte of a record header; false: this is no handshake record.
    fn header_byte(&mut self, byte: u8) -> bool {
        self.header[self.header_len] = byte;
        self.header_len += 1;
        match self.header_len {
            1 => byte == HANDSHAKE,
            2 => byte == 3,
            3 => byte <= 4,
            4 => usize::from(byte) <= MAX_HELLO >> 8,
            5 => {
                self.header_len = 0;
                self.owed = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.records += 1;
                (1..=MAX_HELLO).contains(&self.owed) && self.records <= MAX_RECORDS
            }
            _ => false,
        }
    }

    /// Takes payload; what follows the message in the same record is not looked at.
    fn payload(&mut self, payload: &[u8]) -> Progress<ClientHello> {
        if self.message.is_empty() && payload.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Progress::No;
        }
        // Before the length is known only as much is taken as shows it, so that the bound always holds.
        let head = MESSAGE_HEADER
            .saturating_sub(self.message.len())
            .min(payload.len());
        self.message.extend_from_slice(&payload[..head]);
        let [_, high, middle, low, ..] = self.message[..] else {
            return Progress::More;
        };
        let length =
            MESSAGE_HEADER + usize::from(high) * 0x1_0000 + usize::from(middle) * 0x100 + usize::from(low);
        if length > MAX_HELLO {
            return Progress::No;
        }
        let body = (length - self.message.len()).min(payload.len() - head);
        self.message.extend_from_slice(&payload[head..head + body]);
        if self.message.len() < length {
            return Progress::More;
        }
        match parse(&self.message[MESSAGE_HEADER..]) {
            Some(hello) => Progress::Found(hello),
            None => Progress::No,
        }
    }
}

/// Reads the body of a ClientHello (RFC 8446 section 4.1.2).
fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    body.take(2 + 32)?;
    body.vector8().filter(|session_id| session_id.len() <= 32)?;
    body.vector16()
        .filter(|suites| !suites.is_empty() && suites.len().is_multiple_of(2))?;
    body.vector8().filter(|compressions| !compressions.is_empty())?;
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.vector16()?);
    if !body.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = Reader(extensions.vector16()?);
        match kind {
            SERVER_NAME => hello.server_name = server_name(data)?,
            ALPN => hello.alpn = protocols(data)?,
            _ => {}
        }
    }
    Some(hello)
}

/// `Some(None)`: well-formed, without a host name that could be matched.
fn server_name(mut data: Reader<'_>) -> Option<Option<Box<str>>> {
    let mut names = Reader(data.vector16()?);
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector16()?;
        if kind == 0 {
            let text = std::str::from_utf8(name)
                .ok()
                .filter(|text| text.is_ascii() && !text.is_empty());
            return Some(text.map(|text| text.to_ascii_lowercase().into()));
        }
    }
    Some(None)
}

fn protocols(mut data: Reader<'_>) -> Option<Vec<Box<[u8]>>> {
    let mut list = Reader(data.vector16()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector8().filter(|protocol| !protocol.is_empty())?.into());
    }
    Some(protocols)
}

/// Bytes with TLS presentation-language reads.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
