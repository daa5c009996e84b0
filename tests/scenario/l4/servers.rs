//! Servers that greet, with the bytes that the real ones send.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::stage::timely;

/// How a protocol begins: the server's greeting, what a client says then, and what the server answers.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) name: &'static str,
    pub(crate) greeting: Vec<u8>,
    pub(crate) word: &'static [u8],
    pub(crate) answer: &'static [u8],
}

/// Three protocols in which the server speaks first.
pub(crate) fn openings() -> [Opening; 3] {
    let mysql = Opening {
        name: "MySQL",
        greeting: mysql_handshake(),
        word: b"\x20\x00\x00\x01\x85\xae\xff\x19\x00\x00\x00\x01\xff",
        answer: b"\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00",
    };
    let smtp = Opening {
        name: "SMTP",
        greeting: b"220 mail.example.com ESMTP Postfix (Debian/GNU)\r\n".to_vec(),
        word: b"EHLO client.example.com\r\n",
        answer: b"250-mail.example.com\r\n250 PIPELINING\r\n",
    };
    let nats = Opening {
        name: "NATS",
        greeting:
            b"INFO {\"server_id\":\"NDHDG\",\"version\":\"2.10.12\",\"proto\":1,\"max_payload\":1048576} \r\n"
                .to_vec(),
        word: b"CONNECT {\"verbose\":false}\r\nPING\r\n",
        answer: b"PONG\r\n",
    };
    [mysql, smtp, nats]
}

/// The packet `Protocol::HandshakeV10` of MySQL 8.
fn mysql_handshake() -> Vec<u8> {
    let mut payload = b"\x0a8.0.36\0".to_vec();
    payload.extend(7u32.to_le_bytes());
    payload.extend(b"\x2c\x5d\x3f\x11\x60\x07\x19\x43\0");
    payload.extend(b"\xff\xff\xff\x02\x00\xff\xdf\x15");
    payload.extend([0; 10]);
    payload.extend(b"\x52\x1c\x3b\x60\x25\x6e\x06\x7e\x3d\x11\x54\x29\0caching_sha2_password\0");
    let mut packet = payload.len().to_le_bytes()[..3].to_vec();
    packet.push(0);
    packet.extend(payload);
    packet
}

/// A server of one protocol.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) opening: Opening,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Server {
    pub(crate) async fn start(opening: Opening) -> Result<Self> {
        Self::at(opening, Ipv4Addr::LOCALHOST.into(), 0).await
    }

    pub(crate) async fn at(opening: Opening, ip: IpAddr, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((ip, port)).await?;
        let address = listener.local_addr()?;
        let accepted = Arc::new(AtomicUsize::new(0));
        let (served, counted) = (opening.clone(), Arc::clone(&accepted));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        Ok(Self {
            address,
            opening,
            accepted,
            task: task.abort_handle(),
        })
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, opening: Opening) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&opening.greeting).await?;
    let mut word = vec![0; opening.word.len()];
    stream.read_exact(&mut word).await?;
    if word == opening.word {
        stream.write_all(opening.answer).await?;
    }
    // Until the client is done.
    let _ = stream.read_to_end(&mut word).await;
    Ok(())
}

/// A client that waits for the greeting, speaks, and is answered.
pub(crate) async fn converse(to: SocketAddr, opening: &Opening) -> Result<()> {
    let talk = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut heard = vec![0; opening.greeting.len()];
        stream.read_exact(&mut heard).await.context("no greeting")?;
        ensure!(heard == opening.greeting, "the greeting was {heard:?}");
        stream.write_all(opening.word).await?;
        let mut answer = vec![0; opening.answer.len()];
        stream.read_exact(&mut answer).await.context("no answer")?;
        ensure!(answer == opening.answer, "the answer was {answer:?}");
        Ok(())
    };
    timely(talk).await.with_context(|| opening.name.to_owned())
}
