//! The application behind the proxies: as little work as possible for an answer of 1 KiB.
//!
//! It runs as a process of its own, so that it can be kept off the proxy's core, and prints its port first.

use std::io::Write;
use std::net::Ipv4Addr;

use anyhow::Result;
use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Backend;

const LENGTH: usize = 1024;

/// Serves until it is killed.
pub(crate) async fn serve(kind: Backend) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A connection's end is its client's matter.
            let _ = match kind {
                Backend::Http1 => http1(stream).await,
                Backend::Http2 => http2(stream).await,
            };
        });
    }
}

/// Answers every head (the load sends no bodies) that it finds.
async fn http1(mut stream: TcpStream) -> Result<()> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {LENGTH}\r\n\r\n");
    answer.push_str(&"x".repeat(LENGTH));
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut used = 0;
        let mut answers = 0;
        while let Some(end) = buffer[used..].windows(4).position(|window| window == b"\r\n\r\n") {
            used += end + 4;
            answers += 1;
        }
        buffer.drain(..used);
        if answers > 0 {
            stream.write_all(answer.repeat(answers).as_bytes()).await?;
        }
    }
}

async fn http2(stream: TcpStream) -> Result<()> {
    let body = Bytes::from_static(&[b'x'; LENGTH]);
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(1000)
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (_, mut respond) = accepted?;
        let head = Response::builder()
            .header("content-type", "text/plain")
            .header("content-length", LENGTH);
        let mut send = respond.send_response(head.body(())?, false)?;
        send.send_data(body.clone(), true)?;
    }
    Ok(())
}
