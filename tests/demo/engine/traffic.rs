//! What does the client application do? It calls a service by its address, as any program would, and counts.
//!
//! It connects to nothing but the service's own address and port, and speaks no TLS: that its connections go through a
//! sidecar it cannot tell. HTTP/1.1 with keep-alive, unary gRPC calls, one gRPC stream in both directions from the start
//! to the end, and short TCP conversations. Every request carries [`MARKER`] and checks that it came back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::join_all;
use h2::{RecvStream, SendStream};
use harness::client::{Http2Client, RawClient};
use http::HeaderMap;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::application::{CALLER, VERSION};
use super::tally::{Answer, Board, Protocol};

/// Words that must never be seen between the pods.
pub(crate) const MARKER: &str = "the-secret-of-the-two-pods";

/// How long the application waits for an answer before it calls it a failure.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lines in one TCP conversation.
const LINES: u32 = 3;

/// Who sends how often: workers with one connection each, and the time between the requests of one.
const PACE: [(Protocol, u32, Duration); 3] = [
    (Protocol::Http1, 4, Duration::from_millis(20)),
    (Protocol::Grpc, 2, Duration::from_millis(20)),
    (Protocol::Tcp, 2, Duration::from_millis(50)),
];

/// How often the long stream sends.
const STREAM_PACE: Duration = Duration::from_millis(50);

/// The service as the application knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// HTTP/1.1 and gRPC.
    pub(crate) http: SocketAddr,
    /// TCP.
    pub(crate) tcp: SocketAddr,
}

/// Sends until `stop` is true, then lets everything under way come to its end.
pub(crate) async fn run(service: Service, board: Board, stop: watch::Receiver<bool>) {
    let mut workers = Vec::new();
    for (protocol, count, pace) in PACE {
        for _ in 0..count {
            let worker = Worker {
                service,
                protocol,
                connection: None,
                number: 0,
            };
            workers.push(tokio::spawn(worker.run(pace, board.clone(), stop.clone())));
        }
    }
    workers.push(tokio::spawn(long_stream(service.http, board, stop)));
    join_all(workers).await;
}

/// A connection that is kept for the next request.
enum Connection {
    Http1(RawClient),
    Grpc(Http2Client),
}

struct Worker {
    service: Service,
    protocol: Protocol,
    connection: Option<Connection>,
    number: u64,
}

impl Worker {
    async fn run(mut self, pace: Duration, board: Board, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            self.number += 1;
            let (phase, begun) = (board.phase(), Instant::now());
            let outcome = timeout(PATIENCE, self.exchange()).await;
            let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}")));
            board.count(phase, self.protocol, outcome, begun.elapsed());
        }
    }

    async fn exchange(&mut self) -> Result<Answer> {
        let text = format!("{MARKER} {}", self.number);
        match self.protocol {
            Protocol::Http1 => self.http1(&text).await,
            Protocol::Grpc => self.grpc(&text).await,
            Protocol::Tcp => converse(self.service.tcp, &text).await,
        }
    }

    async fn http1(&mut self, text: &str) -> Result<Answer> {
        let mut client = match self.connection.take() {
            Some(Connection::Http1(client)) => client,
            _ => RawClient::connect(self.service.http).await?,
        };
        let length = text.len();
        let request =
            format!("POST /hello HTTP/1.1\r\nhost: greeter\r\ncontent-length: {length}\r\n\r\n{text}");
        let response = client.exchange(request.as_bytes()).await?;
        ensure!(
            response.status() == 200,
            "{}: {}",
            response.head.start_line,
            response.text().trim()
        );
        ensure!(
            response.text().trim_end().ends_with(text),
            "another answer came: {}",
            response.text()
        );
        let header = |name| response.head.header(name).unwrap_or("nobody").to_owned();
        let answer = Answer {
            version: header(VERSION),
            caller: Some(header(CALLER)),
        };
        // The sidecar may say that it closes the connection; the next request then opens another.
        let closes = header("connection").eq_ignore_ascii_case("close");
        self.connection = (!closes).then_some(Connection::Http1(client));
        Ok(answer)
    }

    async fn grpc(&mut self, text: &str) -> Result<Answer> {
        let client = match self.connection.take() {
            // A connection whose end was announced (GOAWAY) takes no further call.
            Some(Connection::Grpc(client)) if client.handle().ready().await.is_ok() => client,
            _ => Http2Client::connect(self.service.http).await?,
        };
        let message = message(text);
        let response = client
            .exchange(call("/demo.Greeter/Greet")?, message.clone(), None)
            .await?;
        let status = response
            .trailers
            .as_ref()
            .and_then(|trailers| trailers.get("grpc-status"));
        ensure!(
            status.is_some_and(|status| status == "0"),
            "HTTP status {}, trailers {:?}, reset {:?}",
            response.head.status(),
            response.trailers,
            response.reset
        );
        ensure!(response.body == message, "another message came");
        self.connection = Some(Connection::Grpc(client));
        Ok(Answer {
            version: text_of(response.head.headers(), VERSION),
            caller: Some(text_of(response.head.headers(), CALLER)),
        })
    }
}

/// One TCP connection from its start to its end.
async fn converse(to: SocketAddr, text: &str) -> Result<Answer> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut version = String::new();
    for number in 0..LINES {
        let asked = format!("{text} line {number}\n");
        stream.write_all(asked.as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let (who, heard) = line.split_once(" heard: ").context("the connection was closed")?;
        ensure!(heard == asked, "another line came: {line}");
        ensure!(
            number == 0 || who == version,
            "{version} became {who} within one connection"
        );
        who.clone_into(&mut version);
    }
    stream.shutdown().await?;
    let rest = stream.read_line(&mut String::new()).await?;
    ensure!(rest == 0, "something came after the end");
    Ok(Answer {
        version,
        caller: None,
    })
}

/// Keeps one stream open; a broken one is counted and opened again.
async fn long_stream(to: SocketAddr, board: Board, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if let Err(error) = one_stream(to, &board, stop.clone()).await {
            board.stream_broke(&error);
            tokio::time::sleep(STREAM_PACE).await;
        }
    }
}

async fn one_stream(to: SocketAddr, board: &Board, mut stop: watch::Receiver<bool>) -> Result<()> {
    let mut client = timeout(PATIENCE, Http2Client::connect(to)).await??.handle();
    let (response, mut send) = client.send_request(call("/demo.Greeter/Chat")?, false)?;
    let (head, mut receive) = timeout(PATIENCE, response).await??.into_parts();
    board.stream(|stream| stream.version = text_of(&head.headers, VERSION));
    let mut ticks = interval(STREAM_PACE);
    for number in 0_u64.. {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => {}
        }
        timeout(PATIENCE, there_and_back(&mut send, &mut receive, number))
            .await
            .with_context(|| format!("message {number} did not come back within {PATIENCE:?}"))??;
        board.stream(|stream| stream.messages += 1);
    }
    send.send_data(Bytes::new(), true)?;
    ensure!(
        timeout(PATIENCE, receive.data()).await?.is_none(),
        "a message nobody sent"
    );
    let trailers = timeout(PATIENCE, receive.trailers()).await??.unwrap_or_default();
    ensure!(
        text_of(&trailers, "grpc-status") == "0",
        "it ended with {trailers:?}"
    );
    Ok(())
}

async fn there_and_back(send: &mut SendStream<Bytes>, receive: &mut RecvStream, number: u64) -> Result<()> {
    let sent = message(&format!("{MARKER} {number}"));
    send.send_data(sent.clone(), false)?;
    let mut received = BytesMut::new();
    while received.len() < sent.len() {
        let data = receive.data().await.context("the stream ended")??;
        receive.flow_control().release_capacity(data.len())?;
        received.extend_from_slice(&data);
    }
    ensure!(received == sent, "another message came back");
    Ok(())
}

fn call(path: &str) -> Result<http::Request<()>> {
    Ok(http::Request::post(format!("http://greeter{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?)
}

/// A gRPC message (length-prefixed) with one protobuf field, the string of number 1.
fn message(text: &str) -> Bytes {
    #[derive(prost::Message)]
    struct Greeting {
        #[prost(string, tag = "1")]
        text: String,
    }
    let encoded = prost::Message::encode_to_vec(&Greeting {
        text: text.to_owned(),
    });
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(encoded.len()).unwrap_or(u32::MAX));
    message.extend_from_slice(&encoded);
    message.freeze()
}

fn text_of(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or("nobody").to_owned()
}
