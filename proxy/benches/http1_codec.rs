//! What does the HTTP/1 codec cost per request and response? Prints nanoseconds.
//!
//! `cargo bench -p remora --bench http1_codec`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise, and prints"
)]

use std::future::poll_fn;
use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use http::{Method, Version};
use remora::exchange::{BodyLength, Downstream, Receive, ResponseEvent, ResponseHead, Transmit, Upstream};
use remora::http1::grammar::encode::{self, Persistence};
use remora::http1::grammar::response::{self, Asked};
use remora::http1::grammar::{Limits, head, request};
use remora::http1::server::Options;
use remora::http1::{ClientConnection, ServerConnection};
use remora::io::{Io, Socket, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

const REQUEST: &[u8] = b"GET /api/v1/items?page=2 HTTP/1.1\r\nHost: items.default.svc.cluster.local:8080\r\n\
    User-Agent: load/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-Request-Id: 6f1c1f2a-4dd0-4b5c-9f3a-0a1b2c3d4e5f\r\n\
    X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\
    Date: Fri, 20 Nov 2026 10:00:00 GMT\r\nServer: backend\r\nCache-Control: no-store\r\nX-Envoy-Upstream-Service-Time: 3\r\n\r\n";

/// Nanoseconds that this thread was on a processor: other load on the machine does not count.
fn processor_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn measure(name: &str, mut work: impl FnMut()) {
    const ROUNDS: u32 = 200_000;
    for _ in 0..ROUNDS / 10 {
        work();
    }
    let best = (0..5)
        .map(|_| {
            let start = processor_time();
            (0..ROUNDS).for_each(|_| work());
            (processor_time() - start) / u64::from(ROUNDS)
        })
        .min();
    println!("{name:<48} {:>6} ns", best.unwrap_or_default());
}

fn read_request(limits: &Limits) -> request::Request {
    let bytes = BytesMut::from(REQUEST).freeze();
    let end = head::find_end(&bytes, &mut 0, limits).unwrap().unwrap();
    request::parse(bytes.slice(..end), limits).unwrap()
}

fn read_response(limits: &Limits) -> response::Response {
    let bytes = BytesMut::from(RESPONSE).freeze();
    let end = head::find_end(&bytes, &mut 0, limits).unwrap().unwrap();
    response::parse(bytes.slice(..end), Asked::Other, limits).unwrap()
}

fn grammar() {
    let limits = Limits::default();
    measure("read a request head", || drop(black_box(read_request(&limits))));
    measure("read a response head", || drop(black_box(read_response(&limits))));
    let (request, response) = (read_request(&limits).head, read_response(&limits).head);
    measure("write a request head", || {
        let mut out = BytesMut::new();
        black_box(encode::request(&request, &mut out));
    });
    measure("write a response head", || {
        let mut out = BytesMut::new();
        let framing = encode::response_framing(&response, &Method::GET, Version::HTTP_11);
        encode::response(
            &response,
            framing,
            Persistence::Default,
            Version::HTTP_11,
            &mut out,
        );
        black_box(out);
    });
}

/// One request through both drivers over in-memory streams, and what the streams alone cost.
async fn drivers() {
    const ROUNDS: u32 = 100_000;
    let ours = |stream| Io::Plain(Socket::new(Transport::Memory(stream)));
    let (mut near, far) = duplex(1 << 16);
    let (near_up, mut far_up) = duplex(1 << 16);
    let mut server = ServerConnection::new(ours(far), Options::default());
    let mut client = ClientConnection::new(ours(near_up), Options::default());
    let reply = [RESPONSE, &[b'x'; 1024]].concat();
    let mut buffer = vec![0; 1 << 16];
    let mut best = u64::MAX;
    for _ in 0..5 {
        let start = processor_time();
        for _ in 0..ROUNDS {
            near.write_all(REQUEST).await.unwrap();
            let head = poll_fn(|cx| server.poll_head(cx)).await.unwrap().unwrap();
            client.send_request(&head).unwrap();
            poll_fn(|cx| client.poll_flush(cx)).await.unwrap();
            black_box(far_up.read(&mut buffer).await.unwrap());
            far_up.write_all(&reply).await.unwrap();
            let ResponseEvent::Head(head) = poll_fn(|cx| client.poll_response(cx)).await.unwrap() else {
                continue;
            };
            let head = ResponseHead {
                body: BodyLength::Exact(1024),
                ..head
            };
            server.send_head(head).unwrap();
            while let Some(frame) = poll_fn(|cx| client.poll_frame(cx)).await {
                if let remora::exchange::Frame::Data(data) = frame.unwrap() {
                    server.send_data(data, false).unwrap();
                }
            }
            server.send_data(Bytes::new(), true).unwrap();
            poll_fn(|cx| server.poll_finish(cx)).await.unwrap();
            black_box(near.read(&mut buffer).await.unwrap());
        }
        best = best.min((processor_time() - start) / u64::from(ROUNDS));
    }
    println!("{:<48} {best:>6} ns", "both drivers, in-memory streams included");
    let (mut a, mut b) = duplex(1 << 16);
    let start = processor_time();
    for _ in 0..ROUNDS {
        for message in [REQUEST, REQUEST, &reply, &reply] {
            a.write_all(message).await.unwrap();
            black_box(b.read(&mut buffer).await.unwrap());
        }
    }
    println!(
        "{:<48} {:>6} ns",
        "the in-memory streams alone",
        (processor_time() - start) / u64::from(ROUNDS)
    );
}

fn main() {
    grammar();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(drivers());
}
