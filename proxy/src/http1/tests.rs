//! The drivers over in-memory streams, against raw bytes and against hyper.

mod client;
mod peers;
mod server;

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::server::{HeadFailure, Options};
use super::{ClientConnection, Next, ServerConnection};
use crate::exchange::{
    BodyLength, Downstream, Frame, Receive, RequestHead, ResponseEvent, ResponseHead, StreamError, Transmit,
    Upstream,
};
use crate::io::{Io, Socket, Transport};

fn memory(size: usize) -> (Io, DuplexStream) {
    let (ours, theirs) = duplex(size);
    (Io::Plain(Socket::new(Transport::Memory(ours))), theirs)
}

fn server() -> (ServerConnection, DuplexStream) {
    let (io, peer) = memory(1 << 20);
    (ServerConnection::new(io, Options::default()), peer)
}

fn client() -> (ClientConnection, DuplexStream) {
    let (io, peer) = memory(1 << 20);
    (ClientConnection::new(io, Options::default()), peer)
}

fn get(path: &str) -> RequestHead {
    RequestHead {
        method: Method::GET,
        scheme: None,
        authority: Some("host".parse().unwrap()),
        path: path.parse().unwrap(),
        headers: HeaderMap::new(),
        version: Version::HTTP_11,
        body: BodyLength::None,
        upgrade: None,
        expects_continue: false,
    }
}

fn answer(status: u16, body: BodyLength) -> ResponseHead {
    ResponseHead {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body,
        version: Version::HTTP_11,
    }
}

async fn head(server: &mut ServerConnection) -> Result<Option<RequestHead>, HeadFailure> {
    poll_fn(|cx| server.poll_head(cx)).await
}

async fn finish(server: &mut ServerConnection) -> Result<Next, StreamError> {
    poll_fn(|cx| server.poll_finish(cx)).await
}

async fn response(client: &mut ClientConnection) -> Result<ResponseEvent, StreamError> {
    poll_fn(|cx| client.poll_response(cx)).await
}

async fn flush(side: &mut impl Transmit) -> Result<(), StreamError> {
    poll_fn(|cx| side.poll_flush(cx)).await
}

/// Reads a body to its end.
async fn body(side: &mut impl Receive) -> Result<(Vec<u8>, Option<HeaderMap>), StreamError> {
    let mut content = Vec::new();
    while let Some(frame) = poll_fn(|cx| side.poll_frame(cx)).await {
        match frame? {
            Frame::Data(data) => content.extend_from_slice(&data),
            Frame::Trailers(trailers) => return Ok((content, Some(trailers))),
        }
    }
    Ok((content, None))
}

/// Polls once without caring to be woken.
async fn now<T>(mut poll: impl FnMut(&mut std::task::Context<'_>) -> Poll<T>) -> Poll<T> {
    poll_fn(|cx| Poll::Ready(poll(cx))).await
}

/// What the peer can read at once.
async fn available(peer: &mut DuplexStream) -> String {
    let mut buffer = vec![0; 1 << 20];
    let n = peer.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

async fn rest(mut peer: DuplexStream) -> String {
    let mut text = Vec::new();
    peer.read_to_end(&mut text).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_connection_is_small() {
    assert!(
        size_of::<ServerConnection>() <= 328,
        "{}",
        size_of::<ServerConnection>()
    );
    assert!(
        size_of::<ClientConnection>() <= 328,
        "{}",
        size_of::<ClientConnection>()
    );
}
