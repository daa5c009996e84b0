//! The HTTP/1 side of an upstream: one request after the other on one connection.

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::{Behaviour, Received, Shared};
use crate::http1::{self, Framing, Head};

/// Serves until the client or a behaviour ends the connection.
pub(super) async fn serve<S>(mut stream: BufReader<S>, shared: &Shared, number: u64) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut answered = 0;
    while let Some(head) = http1::read_head(&mut stream).await? {
        let behaviour = shared
            .behaviour
            .with(head.header("x-behave"), head.header("x-envoy-attempt-count"));
        let expects = head
            .header("expect")
            .is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
        if expects && !behaviour.no_continue {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            stream.flush().await?;
        }
        let received = receive(&mut stream, shared, number, &head).await;
        shared.record(received.clone());
        if head
            .header("upgrade")
            .is_some_and(|v| v.eq_ignore_ascii_case("websocket"))
        {
            return tunnel(stream).await;
        }
        let ends = answer(&mut stream, &behaviour, &received).await?;
        answered += 1;
        if ends
            || head.word(2) == "HTTP/1.0"
            || shared.behaviour.close_after.is_some_and(|most| answered >= most)
        {
            break;
        }
    }
    Ok(stream.shutdown().await?)
}

async fn receive<S>(stream: &mut BufReader<S>, shared: &Shared, number: u64, head: &Head) -> Received
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let framing = head.request_framing();
    let body = http1::read_body(stream, framing).await;
    Received {
        upstream: shared.name.clone(),
        connection: number,
        version: head.word(2).to_owned(),
        method: head.word(0).to_owned(),
        target: head.word(1).to_owned(),
        authority: head.header("host").unwrap_or("").to_owned(),
        headers: head.headers.clone(),
        framing: match framing {
            Framing::None | Framing::UntilClose => "none",
            Framing::Length(_) => "length",
            Framing::Chunked => "chunked",
        },
        body: body.bytes,
        trailers: body.trailers,
        complete: body.complete,
    }
}

/// Writes the answer; true when the connection is to end after it.
async fn answer<S>(stream: &mut BufReader<S>, behaviour: &Behaviour, received: &Received) -> Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(delay) = behaviour.delay {
        tokio::time::sleep(delay).await;
    }
    if behaviour.drop {
        return Ok(true);
    }
    if behaviour.hints {
        stream
            .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n")
            .await?;
        stream.flush().await?;
    }
    let body = body(behaviour, received);
    let chunked = behaviour.chunked || behaviour.trailer || behaviour.grpc;
    stream
        .write_all(head(behaviour, received, body.len(), chunked).as_bytes())
        .await?;
    let status = behaviour.status.unwrap_or(200);
    if received.method != "HEAD" && status != 204 && status != 304 {
        write_body(stream, behaviour, &body, chunked).await?;
    }
    stream.flush().await?;
    Ok(behaviour.close || behaviour.until_close || behaviour.cut)
}

async fn write_body<S>(
    stream: &mut BufReader<S>,
    behaviour: &Behaviour,
    body: &[u8],
    chunked: bool,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (first, second) = body.split_at(body.len() / 2);
    for (index, part) in [first, second].into_iter().enumerate() {
        if index == 1 {
            if behaviour.cut {
                return Ok(());
            }
            if let Some(stall) = behaviour.stall {
                stream.flush().await?;
                tokio::time::sleep(stall).await;
            }
        }
        if chunked && !part.is_empty() {
            stream.write_all(&http1::chunk(part)).await?;
        } else if !chunked {
            stream.write_all(part).await?;
        }
    }
    if chunked {
        let mut end = "0\r\n".to_owned();
        for (name, value) in trailers(behaviour) {
            end.push_str(&format!("{name}: {value}\r\n"));
        }
        end.push_str("\r\n");
        stream.write_all(end.as_bytes()).await?;
    }
    Ok(())
}

fn head(behaviour: &Behaviour, received: &Received, length: usize, chunked: bool) -> String {
    let status = behaviour.status.unwrap_or(200);
    let mut head = format!(
        "HTTP/1.1 {status} Answer\r\nX-Upstream: {}\r\n",
        received.upstream
    );
    head.push_str(&format!("content-type: {}\r\n", content_type(behaviour)));
    if chunked {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if !behaviour.until_close && status != 204 {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    if behaviour.hop {
        head.push_str("connection: x-hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n");
        head.push_str("proxy-connection: keep-alive\r\n");
    }
    if behaviour.close {
        head.push_str("connection: close\r\n");
    }
    for (name, value) in &behaviour.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head
}

/// The media type of the answer.
pub(super) fn content_type(behaviour: &Behaviour) -> &'static str {
    if behaviour.grpc {
        "application/grpc"
    } else {
        "application/json"
    }
}

/// The octets of the answer.
pub(super) fn body(behaviour: &Behaviour, received: &Received) -> Vec<u8> {
    match behaviour.body {
        Some(length) => vec![b'x'; length],
        None if behaviour.echo => received.body.clone(),
        None => received.report().to_string().into_bytes(),
    }
}

/// The trailers of the answer.
pub(super) fn trailers(behaviour: &Behaviour) -> Vec<(&'static str, &'static str)> {
    let mut trailers = Vec::new();
    if behaviour.trailer {
        trailers.push(("x-trailer", "yes"));
        trailers.extend(
            behaviour
                .load_in_trailer
                .map(|report| ("endpoint-load-metrics", report)),
        );
    }
    if behaviour.grpc {
        trailers.push(("grpc-status", "0"));
    }
    trailers
}

async fn tunnel<S>(stream: BufReader<S>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = stream;
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
        .await?;
    stream.flush().await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    Ok(writer.shutdown().await?)
}
