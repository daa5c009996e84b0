//! What is a connection? TLS, HTTP/1, HTTP/2 or opaque, from its first bytes.
//!
//! Holds: [`Sniffer`] does no IO, looks at every byte once, gives the same verdict however the bytes are cut, and
//! decides with the first byte that settles it; [`sniff`] gives every byte back
//! ([`replay`](crate::io::Socket::replay)). Both are bounded:
//! a ClientHello of 16 KiB ([`MAX_HELLO`]), a request line of 64 KiB ([`MAX_REQUEST_LINE`]).
//! The ClientHello reader is our own: rustls' `Acceptor` wants a copy of the bytes, waits for whole records, answers
//! garbage with an alert and builds a connection that a chain without TLS would throw away.
//! Which chain the connection gets is decided in `remora_model::listener`.

mod client_hello;
mod driver;
mod request_line;
#[cfg(test)]
mod tests;

pub use client_hello::{ClientHello, MAX_HELLO};
pub use driver::{SniffFailure, sniff};
pub use request_line::MAX_REQUEST_LINE;

use std::sync::LazyLock;

use remora_model::listener::Inspection;

use client_hello::HelloReader;
use request_line::RequestLine;

/// Which inspectors look at a connection. Envoy's `tls_inspector` and `http_inspector`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspectors {
    /// `tls_inspector` alone.
    Tls,
    /// `http_inspector` alone.
    Http,
    /// Both; TLS is asked first.
    Both,
}

impl Inspectors {
    /// The inspectors that run for this destination port; `None`: nothing is read before the chain is chosen, so a
    /// protocol where the server speaks first does not wait.
    pub fn of(inspection: &Inspection, destination_port: u16) -> Option<Self> {
        let tls = inspection
            .tls
            .as_ref()
            .is_some_and(|scope| scope.covers(destination_port));
        let http = inspection
            .http
            .as_ref()
            .is_some_and(|scope| scope.covers(destination_port));
        match (tls, http) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Tls),
            (false, true) => Some(Self::Http),
            (false, false) => None,
        }
    }
}

/// What the first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// A whole ClientHello.
    Tls(Box<ClientHello>),
    /// A request line that ends in `HTTP/1.0`.
    Http10,
    /// A request line that ends in `HTTP/1.1`.
    Http11,
    /// The HTTP/2 connection preface (RFC 9113 section 3.4).
    H2c,
    /// None of these, as far as the inspectors that ran can tell.
    Opaque,
}

impl Protocol {
    /// `transport_protocol` is `tls` (else `raw_buffer`).
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The SNI, in lower case.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::Tls(hello) => hello.server_name.as_deref(),
            _ => None,
        }
    }

    /// What `application_protocols` of a filter chain match is compared with, in the client's order.
    pub fn application_protocols(&self) -> &[Box<[u8]>] {
        static NAMES: LazyLock<[Box<[u8]>; 3]> = LazyLock::new(|| {
            [
                b"http/1.0".as_slice().into(),
                b"http/1.1".as_slice().into(),
                b"h2c".as_slice().into(),
            ]
        });
        match self {
            Self::Tls(hello) => &hello.alpn,
            Self::Http10 => &NAMES[0..1],
            Self::Http11 => &NAMES[1..2],
            Self::H2c => &NAMES[2..3],
            Self::Opaque => &[],
        }
    }
}

/// What a [`Sniffer`] says after some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes so far fit more than one answer.
    More,
    /// Settled; feed nothing more.
    Decided(Protocol),
}

/// Looks at the first bytes of one connection.
///
/// ```text
/// Start --0x16--> Tls --whole hello--> Decided(Tls)
///   |              '---not a hello---> Decided(Opaque)
///   '---else----> Http --preface | line | neither--> Decided(H2c | Http10 | Http11 | Opaque)
/// ```
#[derive(Debug)]
pub struct Sniffer {
    inspectors: Inspectors,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Tls(HelloReader),
    Http(RequestLine),
}

/// What one reader says after some bytes.
enum Progress<T> {
    More,
    No,
    Found(T),
}

impl Sniffer {
    /// Nothing seen yet.
    pub fn new(inspectors: Inspectors) -> Self {
        Self {
            inspectors,
            state: State::Start,
        }
    }

    /// Looks at the bytes that follow those of the earlier calls.
    pub fn feed(&mut self, bytes: &[u8]) -> Verdict {
        if matches!(self.state, State::Start) {
            let Some(first) = bytes.first() else {
                return Verdict::More;
            };
            // 0x16 (handshake) begins no method, so the first byte chooses the reader.
            self.state = match (self.inspectors, first) {
                (Inspectors::Tls | Inspectors::Both, 0x16) => State::Tls(HelloReader::default()),
                (Inspectors::Tls, _) => return Verdict::Decided(Protocol::Opaque),
                (Inspectors::Http | Inspectors::Both, _) => State::Http(RequestLine::default()),
            };
        }
        match &mut self.state {
            State::Start => Verdict::More,
            State::Tls(reader) => match reader.feed(bytes) {
                Progress::More => Verdict::More,
                Progress::No => Verdict::Decided(Protocol::Opaque),
                Progress::Found(hello) => Verdict::Decided(Protocol::Tls(Box::new(hello))),
            },
            State::Http(line) => match line.feed(bytes) {
                Progress::More => Verdict::More,
                Progress::No => Verdict::Decided(Protocol::Opaque),
                Progress::Found(protocol) => Verdict::Decided(protocol),
            },
        }
    }
}
