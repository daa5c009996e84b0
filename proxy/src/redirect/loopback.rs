//! The address `::6` on the loopback interface of this network namespace.
//!
//! The proxy binds 127.0.0.6 or `::6` before it hands an inbound connection to the application. All of 127.0.0.0/8 is
//! local from the start, `::6` is not, so it is added with the rules and taken away with them. Spoken in rtnetlink
//! (RFC 3549), so that an image needs no `ip` program. Adding twice and removing twice are not errors.

use std::io;
use std::net::Ipv6Addr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The address that the proxy binds for IPv6.
const HANDOVER: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

// Numbers of linux/rtnetlink.h, linux/netlink.h and linux/if_addr.h.
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET6: u8 = 10;

/// Whether the kernel has IPv6 in this network namespace.
pub fn kernel_has_ipv6() -> bool {
    std::path::Path::new("/proc/self/net/if_inet6").exists()
}

/// Adds `::6/128` where the loopback interface has IPv6 at all; answers whether it is there now.
///
/// # Errors
/// What the kernel said, except that the address exists already.
pub fn add() -> io::Result<bool> {
    if !loopback_has_ipv6()? {
        return Ok(false);
    }
    let answer = ask(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
    unless(answer, rustix::io::Errno::EXIST).map(|()| true)
}

/// Removes `::6/128`.
///
/// # Errors
/// What the kernel said, except that there is no such address.
pub fn remove() -> io::Result<()> {
    if !kernel_has_ipv6() {
        return Ok(());
    }
    unless(
        ask(RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK),
        rustix::io::Errno::ADDRNOTAVAIL,
    )
}

/// `disable_ipv6` takes `::1` away, and adding an address is then refused.
fn loopback_has_ipv6() -> io::Result<bool> {
    let addresses = std::fs::read_to_string("/proc/self/net/if_inet6")?;
    Ok(addresses
        .lines()
        .any(|line| line.starts_with("00000000000000000000000000000001 ")))
}

fn unless(answer: io::Result<()>, fine: rustix::io::Errno) -> io::Result<()> {
    match answer {
        Err(error) if error.raw_os_error() == Some(fine.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// Sends one address request and reads the acknowledgement.
fn ask(kind: u16, flags: u16) -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let loopback = rustix::net::netdevice::name_to_index(&socket, "lo")?;
    rustix::net::send(&socket, &request(kind, flags, loopback), SendFlags::empty())?;
    let mut answer = [0_u8; 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    acknowledgement(&answer[..length])
}

/// A `nlmsghdr`, an `ifaddrmsg` and the address twice, as local and as peer address.
fn request(kind: u16, flags: u16, interface: u32) -> Vec<u8> {
    let mut body = vec![AF_INET6, 128, 0, 0];
    body.extend(interface.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend(20_u16.to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(HANDOVER.octets());
    }
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// Reads a `nlmsghdr` of type error followed by the negative error number, 0 for success.
fn acknowledgement(answer: &[u8]) -> io::Result<()> {
    let unexpected = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel's answer is no acknowledgement",
        )
    };
    let kind = answer
        .get(4..6)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u16::from_ne_bytes);
    let code = answer
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_layout_of_rtnetlink() {
        let message = request(RTM_NEWADDR, NLM_F_REQUEST, 7);
        assert_eq!(message.len(), 64);
        assert_eq!(message[..4], 64_u32.to_ne_bytes());
        assert_eq!(
            message[16..24],
            [[AF_INET6, 128, 0, 0], 7_u32.to_ne_bytes()].concat()
        );
        assert_eq!(message[28..44], HANDOVER.octets());
    }

    #[test]
    fn an_acknowledgement_is_success_or_the_kernels_error() {
        let answer = |code: i32| [&[36, 0, 0, 0, 2, 0, 0, 0][..], &[0; 8], &code.to_ne_bytes()].concat();
        assert!(acknowledgement(&answer(0)).is_ok());
        let refused = acknowledgement(&answer(-1)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(
            acknowledgement(&[]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
