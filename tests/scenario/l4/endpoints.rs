//! Servers that tell what they were told, and how their connections ended.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What a server does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// Says what it heard.
    Echo,
    /// Says what it heard when the client has ended.
    AnswersAtTheEnd,
    /// Tells what it heard up to `hello`.
    Shows,
    /// Resets after the first bytes.
    Resets,
    /// Says `bye` after the first bytes and closes.
    Closes,
    /// Answers a request with this status and then echoes.
    Http1 { status: u16 },
    /// The same with 200 over HTTP/2.
    Http2,
}

/// A server.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<VecDeque<String>>>,
    task: AbortHandle,
}

impl Endpoint {
    pub(crate) async fn start(manner: Manner) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let shared = Arc::clone(&said);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let outcome = serve(stream, manner).await;
                    let words = outcome.unwrap_or_else(|error| words_of(&error));
                    if let Ok(mut said) = shared.lock() {
                        said.push_back(words);
                    }
                });
            }
        });
        Ok(Self {
            address,
            said,
            task: task.abort_handle(),
        })
    }

    /// What became of one connection that ended.
    pub(crate) fn take_one(&self) -> Option<String> {
        self.said.lock().ok()?.pop_front()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn words_of(error: &anyhow::Error) -> String {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "reset".to_owned(),
        _ => format!("{error:#}"),
    }
}

async fn serve(mut stream: TcpStream, manner: Manner) -> Result<String> {
    stream.set_nodelay(true)?;
    match manner {
        Manner::Echo => echo(&mut stream).await,
        Manner::AnswersAtTheEnd => {
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await?;
            stream.write_all(&heard).await?;
            stream.write_all(b" and no more").await?;
            Ok(format!("heard {:?} and the end", String::from_utf8_lossy(&heard)))
        }
        Manner::Shows => {
            let mut heard = Vec::new();
            while !heard.ends_with(b"hello") {
                heard.push(stream.read_u8().await?);
            }
            stream.write_all(b"all of it").await?;
            Ok(heard.escape_ascii().to_string())
        }
        Manner::Resets => {
            let _ = stream.read_u8().await?;
            stream.set_zero_linger()?;
            Ok("it reset".to_owned())
        }
        Manner::Closes => {
            let _ = stream.read_u8().await?;
            stream.write_all(b"bye").await?;
            Ok("it closed".to_owned())
        }
        Manner::Http1 { status } => http1(stream, status).await,
        Manner::Http2 => http2(stream).await,
    }
}

async fn echo(stream: &mut TcpStream) -> Result<String> {
    let (mut buffer, mut heard) = (vec![0; 4096], Vec::new());
    loop {
        let read = stream.read(&mut buffer).await?;
        // The last chunk ends a message, not its connection.
        let last = read > 0 && heard.last() == Some(&b'\n') && &buffer[..read] == b"0\r\n\r\n";
        if last {
            stream.write_all(&buffer[..read]).await?;
        }
        if read == 0 || last {
            return Ok(format!("heard {:?} and the end", String::from_utf8_lossy(&heard)));
        }
        heard.extend(&buffer[..read]);
        stream.write_all(&buffer[..read]).await?;
    }
}

/// The head in lower case without what differs between proxies by nature, then the bytes.
async fn http1(mut stream: TcpStream, status: u16) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?.to_ascii_lowercase();
    let chunked = head.contains("transfer-encoding: chunked");
    let answer = match (status, chunked) {
        (200, true) => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
        (200, false) => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        _ => format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n"),
    };
    stream.write_all(answer.as_bytes()).await?;
    let mut lines: Vec<_> = head.lines().skip(1).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    let told = format!("{} {lines:?}", head.lines().next().unwrap_or_default());
    // Chunks are given back as chunks.
    match echo(&mut stream).await {
        Ok(_) if chunked => Ok(format!("{told}: carried")),
        Ok(heard) => Ok(format!("{told}: {heard}")),
        Err(error) => Ok(format!("{told}: {}", words_of(&error))),
    }
}

async fn http2(stream: TcpStream) -> Result<String> {
    let mut connection = h2::server::handshake(stream).await?;
    let (request, mut respond) = connection.accept().await.context("no request")??;
    let (head, mut body) = request.into_parts();
    let mut sender = respond.send_response(http::Response::new(()), false)?;
    let echo = async {
        let mut heard = Vec::new();
        while let Some(bytes) = body.data().await {
            let bytes: Bytes = bytes?;
            let _ = body.flow_control().release_capacity(bytes.len());
            heard.extend_from_slice(&bytes);
            sender.send_data(bytes, false)?;
        }
        sender.send_data(Bytes::new(), true)?;
        anyhow::Ok(format!("heard {:?} and the end", String::from_utf8_lossy(&heard)))
    };
    let path = head.uri.path_and_query().map(|path| path.as_str().to_owned());
    let host = head.uri.authority().map(|host| host.as_str().to_owned());
    let told = format!("{} {host:?} {path:?} {:?}", head.method, head.headers);
    let carried = tokio::select! {
        carried = echo => carried,
        _ = async { while let Some(Ok(_)) = connection.accept().await {} } => Ok("connection ended".to_owned()),
    };
    let carried = carried.unwrap_or_else(|error| format!("{error:#}"));
    // What was said last still has to leave.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(300), async {
        while let Some(Ok(_)) = connection.accept().await {}
    })
    .await;
    Ok(format!("{told}: {carried}"))
}
