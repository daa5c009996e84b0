//! The byte streams under everything: a socket, plain or inside TLS, with bytes that were already read given back first.
//!
//! Holds: a closed set, so no call goes through a vtable. [`Io::poll_readable`] lets an idle connection wait without a
//! buffer.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A transport endpoint.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Tcp(TcpStream),
    /// Unix-domain stream.
    Unix(UnixStream),
    /// In memory: tests and simulation.
    Memory(DuplexStream),
}

/// A transport whose first bytes may have been read already.
#[derive(Debug)]
pub struct Socket {
    transport: Transport,
    replay: Bytes,
}

impl Socket {
    /// A fresh socket.
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
            replay: Bytes::new(),
        }
    }

    /// Gives bytes back: they are read again before anything else.
    pub fn replay(&mut self, bytes: Bytes) {
        self.replay = if self.replay.is_empty() {
            bytes
        } else {
            [bytes, std::mem::take(&mut self.replay)].concat().into()
        };
    }

    /// The transport underneath.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Takes the transport and what is still to be replayed.
    pub fn into_parts(self) -> (Transport, Bytes) {
        (self.transport, self.replay)
    }

    /// Ready when a write would not wait.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.transport {
            Transport::Tcp(tcp) => tcp.poll_write_ready(cx),
            Transport::Unix(unix) => unix.poll_write_ready(cx),
            Transport::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads by an operation on the descriptor; where it would wait, the socket counts as not readable from then on.
    ///
    /// # Errors
    /// The operation's; `Unsupported` in memory.
    pub fn try_read_by<R>(&self, read: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        self.try_by(Interest::READABLE, read)
    }

    /// The same for writing.
    ///
    /// # Errors
    /// As [`Self::try_read_by`].
    pub fn try_write_by<R>(&self, write: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        self.try_by(Interest::WRITABLE, write)
    }

    fn try_by<R>(
        &self,
        interest: Interest,
        act: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        match &self.transport {
            Transport::Tcp(tcp) => tcp.try_io(interest, || act(tcp.as_fd())),
            Transport::Unix(unix) => unix.try_io(interest, || act(unix.as_fd())),
            Transport::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Ready when a read would not wait; reads nothing. In-memory transports are always ready.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.replay.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match &self.transport {
            Transport::Tcp(tcp) => tcp.poll_read_ready(cx),
            Transport::Unix(unix) => unix.poll_read_ready(cx),
            Transport::Memory(_) => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.replay.is_empty() {
            let n = this.replay.len().min(buf.remaining());
            buf.put_slice(&this.replay[..n]);
            this.replay.advance(n);
            return Poll::Ready(Ok(()));
        }
        match &mut this.transport {
            Transport::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Transport::Unix(io) => Pin::new(io).poll_read(cx, buf),
            Transport::Memory(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

/// Reads the next bytes, at most `room`; empty: the end. No buffer is held while there are none, also where `readable`
/// is optimistic, as it is of a new socket. Nothing is lost if this is dropped before it is ready.
pub async fn next_bytes<T: AsyncRead + Unpin>(
    io: &mut T,
    readable: impl Fn(&T, &mut Context<'_>) -> Poll<io::Result<()>>,
    room: usize,
) -> io::Result<Bytes> {
    poll_fn(|cx| {
        ready!(readable(io, cx))?;
        let mut bytes = vec![0; room];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        bytes.truncate(read);
        Poll::Ready(Ok(bytes.into()))
    })
    .await
}

/// Forwards the four write calls of a closed set of streams.
macro_rules! forward_write {
    ($type:ty, |$this:ident| $scrutinee:expr, $($pattern:pat => $io:expr),+) => {
        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                let $this = self.get_mut();
                match $scrutinee { $($pattern => Pin::new($io).poll_write(cx, buf)),+ }
            }
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let $this = self.get_mut();
                match $scrutinee { $($pattern => Pin::new($io).poll_write_vectored(cx, bufs)),+ }
            }
            fn is_write_vectored(&self) -> bool {
                true
            }
            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = self.get_mut();
                match $scrutinee { $($pattern => Pin::new($io).poll_flush(cx)),+ }
            }
            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = self.get_mut();
                match $scrutinee { $($pattern => Pin::new($io).poll_shutdown(cx)),+ }
            }
        }
    };
}

forward_write!(Socket, |this| &mut this.transport,
    Transport::Tcp(io) => io, Transport::Unix(io) => io, Transport::Memory(io) => io);

/// A byte stream of the data path.
#[derive(Debug)]
pub enum Io {
    /// Plaintext.
    Plain(Socket),
    /// TLS, we are the server.
    ServerTls(Box<tokio_rustls::server::TlsStream<Socket>>),
    /// TLS, we are the client.
    ClientTls(Box<tokio_rustls::client::TlsStream<Socket>>),
    /// Any of these, with bytes that were read from it given back.
    Replayed(Box<Replayed>),
}

/// A stream and what was read of it already.
#[derive(Debug)]
pub struct Replayed {
    io: Io,
    bytes: Bytes,
}

impl Io {
    /// Gives bytes back: they are read again before anything else.
    pub fn replay(mut self, bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return self;
        }
        if let Self::Plain(socket) = &mut self {
            socket.replay(bytes);
            return self;
        }
        Self::Replayed(Box::new(Replayed { io: self, bytes }))
    }

    /// The socket at the bottom.
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::ServerTls(tls) => tls.get_ref().0,
            Self::ClientTls(tls) => tls.get_ref().0,
            Self::Replayed(replayed) => replayed.io.socket(),
        }
    }

    /// The socket, where nothing stands between it and whoever reads and writes here.
    pub fn bare(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) if socket.replay.is_empty() => {
                (!matches!(socket.transport, Transport::Memory(_))).then_some(socket)
            }
            _ => None,
        }
    }

    /// Has the peer get a reset instead of an orderly end when this is dropped.
    pub fn reset_on_close(&self) {
        if let Transport::Tcp(tcp) = self.socket().transport() {
            // A socket that cannot is closed in order.
            let _ = tcp.set_zero_linger();
        }
    }

    /// Ready when a read is worth a buffer: bytes, an end or an error may be there. Reads nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waits_for_socket = match self {
            Self::Plain(_) => true,
            Self::ServerTls(tls) => tls.get_ref().1.wants_read(),
            Self::ClientTls(tls) => tls.get_ref().1.wants_read(),
            Self::Replayed(replayed) if replayed.bytes.is_empty() => return replayed.io.poll_readable(cx),
            Self::Replayed(_) => false,
        };
        if !waits_for_socket {
            return Poll::Ready(Ok(()));
        }
        ready!(self.socket().poll_readable(cx))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::ServerTls(io) => Pin::new(io).poll_read(cx, buf),
            Self::ClientTls(io) => Pin::new(io).poll_read(cx, buf),
            Self::Replayed(replayed) => {
                if replayed.bytes.is_empty() {
                    return Pin::new(&mut replayed.io).poll_read(cx, buf);
                }
                let n = replayed.bytes.len().min(buf.remaining());
                buf.put_slice(&replayed.bytes[..n]);
                replayed.bytes.advance(n);
                Poll::Ready(Ok(()))
            }
        }
    }
}

forward_write!(Io, |this| this,
    Io::Plain(io) => io, Io::ServerTls(io) => io, Io::ClientTls(io) => io, Io::Replayed(replayed) => &mut replayed.io);
