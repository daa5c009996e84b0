//! Checks by TCP: connected, or what is sent is answered as expected.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use remora_model::endpoint::EndpointAddress;
use remora_model::health::check::TcpCheck;
use remora_model::proxy_protocol::{self, Announced, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::{Checking, Found, Session, Unanswered};
use crate::io::Io;

/// The most that is kept of an answer, bytes; what comes after is read and not looked at.
const MOST: usize = 64 << 10;
const PIECE: usize = 4 << 10;

impl From<io::Error> for Unanswered {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Checking {
    pub(super) async fn tcp(&mut self, check: &TcpCheck) -> Result<Found, Unanswered> {
        let kept = match std::mem::take(&mut self.session) {
            Session::Tcp(io) => alive(io).await,
            _ => None,
        };
        let (mut io, local) = match kept {
            Some(io) => (io, None),
            None => {
                let connected = self.connect().await?;
                (connected.io, connected.local)
            }
        };
        if check.expected.is_empty() {
            return Ok(self.passed());
        }
        let mut said = Vec::new();
        if let Some(header) = &check.header {
            let announced = match (local, &self.ask.target.spec.address) {
                (Some(source), EndpointAddress::Socket(destination)) => Some(Announced {
                    source,
                    destination: *destination,
                    tlvs: Vec::new(),
                }),
                _ => None,
            };
            // Version 2 says that the connection is our own.
            let announced = announced.filter(|_| header.version == Version::V1);
            said.extend_from_slice(&proxy_protocol::write(header, announced.as_ref()));
        }
        said.extend_from_slice(&check.send);
        io.write_all(&said).await?;
        io.flush().await?;
        let (mut heard, mut piece) = (Vec::new(), [0; PIECE]);
        while !check.expected.found_in(&heard) {
            let length = io.read(&mut piece).await?;
            if length == 0 {
                return Err(Unanswered("closed before the answer".into()));
            }
            let room = MOST.saturating_sub(heard.len());
            heard.extend_from_slice(&piece[..length.min(room)]);
        }
        self.session = Session::Tcp(io);
        Ok(self.passed())
    }
}

/// The connection, unless it was closed meanwhile; what it said unasked is dropped.
async fn alive(mut io: Io) -> Option<Io> {
    let mut piece = [0; PIECE];
    let alive = poll_fn(|cx| {
        // A server that never stops talking is no reason to listen for ever.
        for _ in 0..MOST / PIECE {
            let mut buffer = ReadBuf::new(&mut piece);
            match Pin::new(&mut io).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Ready(true),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(false),
            }
        }
        Poll::Ready(false)
    });
    alive.await.then_some(io)
}
