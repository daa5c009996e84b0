//! Where did a redirected connection want to go?
//!
//! The kernel's connection tracking remembers the destination that a `REDIRECT` rule replaced. Two answers mean that
//! nothing was redirected: the destination that the socket has anyway, when the connection is tracked, and "no such
//! entry", when it is not. A dual-stack socket carries IPv4 connections under v4-mapped addresses, and the kernel
//! files these under IPv4, so the family to ask for is that of the address and not that of the socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::io::Errno;
use socket2::{SockAddr, SockRef};

/// The destination of a connection before it was redirected to us. IPv4 addresses are plain, never v4-mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OriginalDestination(pub SocketAddr);

/// Reads the destination that `socket`, an accepted TCP connection, had before it was redirected; `None` if it was
/// not: then the socket's own address is where it wanted to go.
///
/// # Errors
/// The socket is closed or no TCP socket.
pub fn original_destination(socket: &impl AsFd) -> io::Result<Option<OriginalDestination>> {
    let socket = SockRef::from(socket);
    let Some(local) = socket.local_addr()?.as_socket() else {
        return Ok(None);
    };
    let local = plain(local);
    let answer = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    match answer.map(|address: SockAddr| address.as_socket().map(plain)) {
        Ok(Some(original)) if !same(original, local) => Ok(Some(OriginalDestination(original))),
        Ok(_) => Ok(None),
        Err(error) if is_untracked(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// No entry in the connection tracking table, or a kernel that tracks no connections and so redirects none.
fn is_untracked(error: &io::Error) -> bool {
    let untracked = [Errno::NOENT, Errno::NOPROTOOPT, Errno::OPNOTSUPP];
    untracked
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), v6.port())
        }
        other => other,
    }
}

/// Flow label and scope do not make a destination another one.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip() == other.ip() && one.port() == other.port()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_direct_connection_has_no_original_destination() {
        for (listen, call) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let Ok(listener) = TcpListener::bind(listen) else {
                let said = format!(
                    "SKIPPED: no original destination on {listen}: this machine has no such address\n"
                );
                std::io::stderr().write_all(said.as_bytes()).unwrap();
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let _client = TcpStream::connect((call, port)).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(original_destination(&accepted).unwrap(), None, "{listen}");
        }
    }

    #[test]
    fn a_mapped_address_is_made_plain() {
        assert_eq!(
            plain("[::ffff:10.0.0.1]:80".parse().unwrap()),
            "10.0.0.1:80".parse().unwrap()
        );
        assert_eq!(
            plain("[fd00::1]:80".parse().unwrap()),
            "[fd00::1]:80".parse().unwrap()
        );
    }

    #[test]
    fn a_socket_of_another_kind_is_an_error_or_nothing() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(original_destination(&one).unwrap(), None);
    }
}
