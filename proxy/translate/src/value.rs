//! Small values inside resources: durations, ports, addresses, ranges, percentages, header names.
//!
//! Holds: what does not fit its type is a problem with what was expected and what was found.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::context::Work;
use crate::pb::envoy::config::core::v3::{self as core, address, socket_address};
use crate::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use crate::pb::google::protobuf::{BoolValue, Duration as Said, UInt32Value};

/// The longest duration that Envoy takes, in seconds (`google.protobuf.Duration`).
const LONGEST: i64 = 315_576_000_000;

/// A duration of at least zero; `None` where nothing was said or a problem was noted.
pub(crate) fn duration(work: &mut Work<'_, '_>, field: &str, said: Option<&Said>) -> Option<Duration> {
    let said = said?;
    let parts = (u64::try_from(said.seconds), u32::try_from(said.nanos));
    match parts {
        (Ok(seconds), Ok(nanos)) if said.seconds <= LONGEST && nanos < 1_000_000_000 => {
            Some(Duration::new(seconds, nanos))
        }
        _ => {
            let found = format!("{}s and {}ns", said.seconds, said.nanos);
            work.wrong_at(field, format!("expected a duration of at least 0, found {found}"));
            None
        }
    }
}

/// A time limit where nothing said and `0s` both mean none.
pub(crate) fn limit(work: &mut Work<'_, '_>, field: &str, said: Option<&Said>) -> Option<Duration> {
    duration(work, field, said).filter(|duration| !duration.is_zero())
}

/// A time limit with a default, where `0s` means none.
pub(crate) fn limit_or(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&Said>,
    default: Duration,
) -> Option<Duration> {
    if said.is_none() {
        Some(default)
    } else {
        limit(work, field, said)
    }
}

/// A duration that must be above zero.
pub(crate) fn positive(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&Said>,
    default: Duration,
) -> Duration {
    match duration(work, field, said) {
        Some(duration) if duration.is_zero() => {
            work.wrong_at(field, "expected a duration above 0, found 0s");
            default
        }
        Some(duration) => duration,
        None => default,
    }
}

/// A wrapped boolean or its default.
pub(crate) fn bool_or(said: Option<&BoolValue>, default: bool) -> bool {
    said.map_or(default, |said| said.value)
}

/// A wrapped number or its default, which must lie in the range.
pub(crate) fn number_or(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&UInt32Value>,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> u32 {
    let value = said.map_or(default, |said| said.value);
    if said.is_some() && !range.contains(&value) {
        work.wrong_at(
            field,
            format!("expected {} to {}, found {value}", range.start(), range.end()),
        );
    }
    value
}

/// A TCP port.
pub(crate) fn port(work: &mut Work<'_, '_>, field: &str, said: u32) -> Option<u16> {
    let port = u16::try_from(said).ok();
    if port.is_none() {
        work.wrong_at(field, format!("expected a port of at most 65535, found {said}"));
    }
    port
}

/// An enum value that the generated code knows.
pub(crate) fn known<E: TryFrom<i32>>(work: &mut Work<'_, '_>, field: &str, said: i32) -> Option<E> {
    let value = E::try_from(said).ok();
    if value.is_none() {
        work.wrong_at(field, format!("expected a defined value, found {said}"));
    }
    value
}

/// A text that must not be empty.
pub(crate) fn required<'t>(work: &mut Work<'_, '_>, field: &str, said: &'t str) -> Option<&'t str> {
    if said.is_empty() {
        work.wrong_at(field, "expected a value, found an empty string");
        return None;
    }
    Some(said)
}

/// A text, or what stands for an empty one.
pub(crate) fn or<'t>(said: &'t str, default: &'t str) -> &'t str {
    if said.is_empty() { default } else { said }
}

/// Where an address points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Socket(SocketAddr),
    Host(String, u16),
    Pipe(String),
}

/// A `core.v3.Address` over TCP or a Unix-domain socket.
pub(crate) fn address(work: &mut Work<'_, '_>, said: Option<&core::Address>) -> Option<Place> {
    match said.and_then(|said| said.address.as_ref()) {
        Some(address::Address::SocketAddress(socket)) => {
            work.at("socket_address", |work| socket_address(work, socket))
        }
        Some(address::Address::Pipe(pipe)) => work.at("pipe", |work| {
            required(work, "path", &pipe.path).map(|path| Place::Pipe(path.to_owned()))
        }),
        Some(address::Address::EnvoyInternalAddress(_)) => {
            work.wrong_at("envoy_internal_address", "is not supported: internal listeners");
            None
        }
        None => {
            work.wrong("expected socket_address or pipe, found none");
            None
        }
    }
}

/// A `core.v3.SocketAddress`.
pub(crate) fn socket_address(work: &mut Work<'_, '_>, said: &core::SocketAddress) -> Option<Place> {
    work.review(said);
    if said.protocol != socket_address::Protocol::Tcp as i32 {
        work.wrong_at("protocol", "is not supported: only TCP is");
        return None;
    }
    let port = match &said.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(value)) => port(work, "port_value", *value)?,
        Some(socket_address::PortSpecifier::NamedPort(_)) => {
            work.wrong_at("named_port", "is not supported; use port_value");
            return None;
        }
        None => {
            work.wrong("expected port_value or named_port, found none");
            return None;
        }
    };
    let host = required(work, "address", &said.address)?;
    Some(match host.parse::<IpAddr>() {
        Ok(ip) => Place::Socket(SocketAddr::new(ip, port)),
        Err(_) => Place::Host(host.to_owned(), port),
    })
}

/// A `core.v3.SocketAddress` that must be an IP address.
pub(crate) fn ip_socket(work: &mut Work<'_, '_>, said: &core::SocketAddress) -> Option<SocketAddr> {
    match socket_address(work, said)? {
        Place::Socket(address) => Some(address),
        Place::Host(host, _) => {
            work.wrong_at("address", format!("expected an IP address, found '{host}'"));
            None
        }
        Place::Pipe(_) => None,
    }
}

/// A `core.v3.CidrRange`; a length beyond the family's is cut, bits behind the prefix are cleared (as Envoy does).
pub(crate) fn cidr(work: &mut Work<'_, '_>, said: &core::CidrRange) -> Option<IpNet> {
    let length = number_or(work, "prefix_len", said.prefix_len.as_ref(), 0, 0..=128);
    let Ok(ip) = said.address_prefix.parse::<IpAddr>() else {
        let found = format!("{}/{length}", said.address_prefix);
        work.wrong(format!(
            "invalid ip/mask combo '{found}' (format is <ip>/<# mask bits>)"
        ));
        return None;
    };
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let length = u8::try_from(length.min(longest)).ok()?;
    IpNet::new(ip, length).ok().map(|net| net.trunc())
}

/// A name of a header field, in lower case.
pub(crate) fn header_name(work: &mut Work<'_, '_>, field: &str, said: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(said.as_bytes()).ok();
    if name.is_none() {
        work.wrong_at(
            field,
            format!("expected a header name, found '{}'", said.escape_default()),
        );
    }
    name
}

/// A value of a header field.
pub(crate) fn header_value(work: &mut Work<'_, '_>, field: &str, said: &[u8]) -> Option<HeaderValue> {
    let value = HeaderValue::from_bytes(said).ok();
    if value.is_none() {
        work.wrong_at(field, "expected a header value without control characters");
    }
    value
}

/// A fraction in millionths, at most 1 000 000.
pub(crate) fn per_million(work: &mut Work<'_, '_>, field: &str, said: &FractionalPercent) -> Option<u32> {
    let scale = match known(work, field, said.denominator)? {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Some(
        u32::try_from(u64::from(said.numerator) * scale)
            .unwrap_or(u32::MAX)
            .min(1_000_000),
    )
}

/// Socket options: those that only tune are ignored, any other is refused because it may change where bytes go.
pub(crate) fn socket_options(work: &mut Work<'_, '_>, field: &str, options: &[core::SocketOption]) {
    const SOL_SOCKET: i64 = 1;
    const IPPROTO_TCP: i64 = 6;
    /// SO_REUSEADDR, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_PRIORITY, SO_LINGER, SO_REUSEPORT.
    const TUNING: [i64; 7] = [2, 7, 8, 9, 12, 13, 15];
    for (index, option) in options.iter().enumerate() {
        if option.level == IPPROTO_TCP || (option.level == SOL_SOCKET && TUNING.contains(&option.name)) {
            work.ignored("SocketOption");
        } else {
            let found = format!("level {} name {}", option.level, option.name);
            work.wrong_at(
                &format!("{field}[{index}]"),
                format!("is not supported: socket option {found}"),
            );
        }
    }
}
