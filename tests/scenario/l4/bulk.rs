//! Bulk passes a tunnel whole and in order, whatever moves it, and an idle tunnel holds nothing.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use harness::bootstrap;
use harness::process::{Port, ProxyProcess};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::stage::{remora, timely};

/// Enough to be bulk many times over.
const MUCH: usize = 24 << 20;

/// Room of the server's end, so that not all fits between the ends.
const WINDOW: usize = 64 << 10;

/// The byte at a place of a stream: no two places of one buffer look alike for long.
fn byte(at: usize) -> u8 {
    (at % 251) as u8 ^ (at >> 13) as u8
}

/// Sends `length` bytes in pieces of changing size, from a few bytes to far more than any buffer.
async fn send(stream: &mut (impl AsyncWriteExt + Unpin), length: usize) -> Result<()> {
    let (mut at, mut piece) = (0, 1);
    while at < length {
        let bytes: Vec<u8> = (at..length.min(at + piece)).map(byte).collect();
        stream.write_all(&bytes).await?;
        at += bytes.len();
        piece = if piece > 1 << 20 { 1 } else { piece * 3 };
    }
    stream.shutdown().await?;
    Ok(())
}

/// Reads to the end and checks every byte.
async fn check(stream: &mut (impl AsyncReadExt + Unpin)) -> Result<usize> {
    let (mut buffer, mut at) = (vec![0; 300_000], 0);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(at);
        }
        for (index, found) in buffer[..read].iter().enumerate() {
            ensure!(*found == byte(at + index), "byte {} is wrong", at + index);
        }
        at += read;
    }
}

/// Both directions at once.
async fn both(stream: TcpStream, length: usize) -> Result<usize> {
    let (mut read, mut write) = stream.into_split();
    let (sent, received) = tokio::join!(send(&mut write, length), check(&mut read));
    sent?;
    received
}

/// Bytes that wait to be read.
fn unread(stream: &TcpStream) -> Result<usize> {
    Ok(usize::try_from(rustix::io::ioctl_fionread(stream)?)?)
}

struct Stage {
    proxy: ProxyProcess,
    port: Port,
    listener: TcpListener,
}

impl Stage {
    async fn start() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(WINDOW as u32)?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(64)?;
        let port = Port::reserve()?;
        let proxy = remora(
            vec![bootstrap::listener(
                "tunnel",
                port.address(),
                bootstrap::tcp_proxy("server"),
            )],
            vec![bootstrap::cluster("server", &[listener.local_addr()?])],
        )
        .await?;
        Ok(Self {
            proxy,
            port,
            listener,
        })
    }

    /// Both ends of a tunnel.
    async fn tunnel(&self) -> Result<(TcpStream, TcpStream)> {
        let to: SocketAddr = self.port.address();
        let (client, server) = tokio::join!(TcpStream::connect(to), self.listener.accept());
        Ok((client?, server?.0))
    }

    /// Pipes that the proxy has open.
    fn pipes(&self) -> Result<usize> {
        let mut count = 0;
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.proxy.pid()))? {
            // A descriptor may be closed while it is looked at.
            let link = std::fs::read_link(entry?.path()).unwrap_or_default();
            count += usize::from(link.to_string_lossy().starts_with("pipe:"));
        }
        Ok(count)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_passes_whole_and_in_order_both_ways_at_once() -> Result<()> {
    let stage = Stage::start().await?;
    let (client, server) = stage.tunnel().await?;
    let (there, back) = timely(async { Ok(tokio::join!(both(client, MUCH), both(server, MUCH))) }).await?;
    ensure!(there? == MUCH && back? == MUCH, "something is missing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_slow_reader_has_not_taken_waits_and_is_not_lost() -> Result<()> {
    let stage = Stage::start().await?;
    let (mut client, mut server) = stage.tunnel().await?;
    let sending = tokio::spawn(async move { send(&mut client, MUCH).await.map(|()| client) });
    // The reader begins when what lies before it is as good as full.
    timely(async {
        while unread(&server)? < WINDOW / 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok(())
    })
    .await?;
    ensure!(
        !sending.is_finished(),
        "everything was taken although nobody read"
    );
    ensure!(timely(check(&mut server)).await? == MUCH, "something is missing");
    sending.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_tunnel_holds_no_pipe() -> Result<()> {
    let stage = Stage::start().await?;
    let none = stage.pipes()?;
    let mut tunnels = Vec::new();
    for _ in 0..40 {
        let (mut client, mut server) = stage.tunnel().await?;
        let bulk: Vec<u8> = (0..2 << 20).map(byte).collect();
        let expected = bulk.len();
        let (sent, received) = tokio::join!(client.write_all(&bulk), async {
            let mut heard = vec![0; expected];
            timely(async { Ok(server.read_exact(&mut heard).await?) })
                .await
                .map(|_| heard)
        });
        sent?;
        ensure!(received? == bulk, "it came changed");
        tunnels.push((client, server));
    }
    let kept = stage.pipes()? - none;
    ensure!(kept > 0, "no bulk was moved by the kernel");
    ensure!(kept <= 32, "forty idle tunnels hold {kept} ends of pipes");
    // A reset in the middle of bulk is a reset at the other end, too.
    let (client, mut server) = tunnels.swap_remove(0);
    client.set_zero_linger()?;
    drop(client);
    let end = timely(async { Ok(server.read_u8().await) }).await?;
    ensure!(end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    Ok(())
}
