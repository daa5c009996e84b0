//! Writing a PROXY header.

use std::net::{IpAddr, SocketAddr};

use super::parse::V2;
use super::{Announced, Tlv, UpstreamHeader, Version};

/// The header of a connection that stands for `said`, or for itself (`None`; health checks, clients without an address).
/// TLVs that make it longer than it may be are left out.
pub fn write(config: &UpstreamHeader, said: Option<&Announced>) -> Vec<u8> {
    let ends = said.and_then(|said| one_family(said.source, said.destination));
    match config.version {
        Version::V1 => text(ends),
        Version::V2 => binary(config, ends, said.map_or(&[][..], |said| &said.tlvs)),
    }
}

/// Both ends in one family, IPv4 where both are.
fn one_family(source: SocketAddr, destination: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    let [from, to] = [source, destination].map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
    let unknown = from.ip().is_unspecified() || to.ip().is_unspecified();
    (from.is_ipv4() == to.is_ipv4() && !unknown).then_some((from, to))
}

fn text(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let line = match ends {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some((from, to)) => format!(
            "PROXY {} {} {} {} {}\r\n",
            if from.is_ipv4() { "TCP4" } else { "TCP6" },
            from.ip(),
            to.ip(),
            from.port(),
            to.port()
        ),
    };
    line.into_bytes()
}

fn binary(config: &UpstreamHeader, ends: Option<(SocketAddr, SocketAddr)>, theirs: &[Tlv]) -> Vec<u8> {
    let mut body = Vec::new();
    let (command, family) = match ends {
        None => (0x20, 0),
        Some((from, to)) => {
            for end in [from, to] {
                match end.ip() {
                    IpAddr::V4(ip) => body.extend(ip.octets()),
                    IpAddr::V6(ip) => body.extend(ip.octets()),
                }
            }
            body.extend(from.port().to_be_bytes());
            body.extend(to.port().to_be_bytes());
            (0x21, if from.is_ipv4() { 0x11 } else { 0x21 })
        }
    };
    if ends.is_some() {
        let passing = theirs.iter().filter(|tlv| {
            config.pass.passes(tlv.kind) && !config.added.iter().any(|added| added.kind == tlv.kind)
        });
        for tlv in config.added.iter().chain(passing) {
            push(&mut body, tlv);
        }
    }
    let mut header = V2.to_vec();
    header.extend([command, family]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

/// Appends a TLV where the header has room for it.
fn push(body: &mut Vec<u8>, tlv: &Tlv) {
    let Ok(length) = u16::try_from(tlv.value.len()) else {
        return;
    };
    if body.len() + 3 + tlv.value.len() > usize::from(u16::MAX) {
        return;
    }
    body.push(tlv.kind);
    body.extend(length.to_be_bytes());
    body.extend_from_slice(&tlv.value);
}
