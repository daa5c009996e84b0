//! Both sides over in-memory streams: against each other, against the bare h2 crate, against hyper, against raw frames.

mod client;
mod peers;
mod server;

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use remora_model::listener::Http2Options;
use tokio::io::{DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local};

use super::client::{self as our_client, ClientStream, Sender};
use super::{Options, ServerConnection, ServerStream};
use crate::exchange::{
    BodyLength, Downstream, Frame, Receive, RequestHead, ResponseEvent, ResponseHead, StreamError, Transmit,
    Upstream,
};
use crate::io::{Io, Socket, Transport};

fn memory() -> (Io, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    (io(ours), theirs)
}

fn io(stream: DuplexStream) -> Io {
    Io::Plain(Socket::new(Transport::Memory(stream)))
}

fn windows(stream_window: u32, connection_window: u32) -> Options {
    let http2 = Http2Options {
        stream_window,
        connection_window,
        ..Http2Options::default()
    };
    Options {
        http2,
        ..Options::default()
    }
}

fn request(method: Method, body: BodyLength) -> RequestHead {
    RequestHead {
        method,
        scheme: None,
        authority: Some("host".parse().unwrap()),
        path: "/p?q".parse().unwrap(),
        headers: HeaderMap::new(),
        version: Version::HTTP_11,
        body,
        upgrade: None,
        expects_continue: false,
    }
}

fn answer(status: u16, body: BodyLength) -> ResponseHead {
    let status = StatusCode::from_u16(status).unwrap();
    ResponseHead {
        status,
        headers: HeaderMap::new(),
        body,
        version: Version::HTTP_2,
    }
}

/// Runs a test on one thread with local tasks.
async fn local<F: Future>(test: F) -> F::Output {
    LocalSet::new().run_until(test).await
}

/// Our client, its connection driven by a task.
async fn connect(stream: DuplexStream, options: &Options) -> Sender {
    let (sender, connection) = our_client::handshake(io(stream), options).await.unwrap();
    spawn_local(connection);
    sender
}

/// Serves every request with `handle`, each in a task.
fn serve<F: Future<Output = ()> + 'static>(
    mut server: ServerConnection,
    handle: impl Fn(RequestHead, ServerStream) -> F + 'static,
) -> tokio::task::JoinHandle<Option<StreamError>> {
    spawn_local(async move {
        loop {
            match poll_fn(|cx| server.poll_accept(cx)).await {
                Some(Ok((head, stream))) => drop(spawn_local(handle(head, stream))),
                Some(Err(error)) => return Some(error),
                None => return None,
            }
        }
    })
}

/// Our client against our server.
async fn pair<F: Future<Output = ()> + 'static>(
    options: Options,
    handle: impl Fn(RequestHead, ServerStream) -> F + 'static,
) -> Sender {
    let (ours, theirs) = memory();
    serve(ServerConnection::new(ours, options.clone()), handle);
    connect(theirs, &options).await
}

async fn send(side: &mut impl Transmit, content: &[u8], end: bool) -> Result<(), StreamError> {
    let mut pieces = content.chunks(10_000).peekable();
    while let Some(piece) = pieces.next() {
        poll_fn(|cx| side.poll_ready(cx)).await?;
        side.send_data(Bytes::copy_from_slice(piece), end && pieces.peek().is_none())?;
    }
    if content.is_empty() {
        side.send_data(Bytes::new(), end)?;
    }
    poll_fn(|cx| side.poll_flush(cx)).await
}

/// Reads a body to its end.
async fn body(side: &mut impl Receive) -> Result<(Vec<u8>, Option<HeaderMap>), StreamError> {
    let mut content = Vec::new();
    let mut trailers = None;
    while let Some(frame) = poll_fn(|cx| side.poll_frame(cx)).await {
        match frame? {
            Frame::Data(data) => {
                assert!(!data.is_empty(), "no frame is empty");
                content.extend_from_slice(&data);
            }
            Frame::Trailers(fields) => trailers = Some(fields),
        }
    }
    Ok((content, trailers))
}

async fn response(stream: &mut ClientStream) -> Result<ResponseHead, StreamError> {
    match poll_fn(|cx| stream.poll_response(cx)).await? {
        ResponseEvent::Head(head) => Ok(head),
        ResponseEvent::Informational(head) => panic!("a final head, not {head:?}"),
    }
}

/// Polls once.
async fn now<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll_fn(|cx| Poll::Ready(poll(cx))).await
}

/// Lets every task run until all wait.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Answers with what was said, trailers included.
async fn echo(head: RequestHead, mut stream: ServerStream) {
    let (content, trailers) = body(&mut stream).await.unwrap();
    let mut response = answer(200, BodyLength::Unknown);
    response
        .headers
        .insert("x-path", HeaderValue::from_str(head.path.as_str()).unwrap());
    stream.send_head(response).unwrap();
    send(&mut stream, &content, trailers.is_none()).await.unwrap();
    if let Some(trailers) = trailers {
        stream.send_trailers(trailers).unwrap();
        poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
    }
}

/// A frame header, then its payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[test]
fn a_stream_and_a_connection_are_small() {
    assert!(size_of::<ServerStream>() <= 320, "{}", size_of::<ServerStream>());
    assert!(size_of::<ClientStream>() <= 320, "{}", size_of::<ClientStream>());
    assert!(size_of::<Sender>() <= 96, "{}", size_of::<Sender>());
    assert!(
        size_of::<ServerConnection>() <= 512,
        "{}",
        size_of::<ServerConnection>()
    );
}
