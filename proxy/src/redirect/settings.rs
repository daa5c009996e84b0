//! What the flags of `remora redirect` say: which connections are intercepted and which are left alone.
//!
//! Every value is checked while it is read, so a [`Settings`] that exists is well formed; only the one rule that
//! needs two flags at once (the ports differ) is left to [`Settings::check`]. Short flags and aliases are the
//! spellings of `istio-iptables`, so that an init container's arguments keep working.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::IpNet;

/// Which connections go to the proxy. Lists are comma separated; an empty list is written as `''`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_line_help = false)]
pub struct Settings {
    /// Port of the proxy that outbound connections are redirected to
    #[arg(
        short = 'p',
        long,
        alias = "envoy-port",
        value_name = "PORT",
        default_value = "15001"
    )]
    pub outbound_port: NonZeroU16,

    /// Port of the proxy that inbound connections are redirected to
    #[arg(
        short = 'z',
        long,
        alias = "inbound-capture-port",
        value_name = "PORT",
        default_value = "15006"
    )]
    pub inbound_port: NonZeroU16,

    /// Port of tunnelled inbound traffic, which is never redirected
    #[arg(
        short = 'e',
        long,
        alias = "inbound-tunnel-port",
        value_name = "PORT",
        default_value = "15008"
    )]
    pub tunnel_port: NonZeroU16,

    /// User ids the proxy runs as: left alone, except when it calls the pod's own address
    #[arg(short = 'u', long, value_name = "UIDS", default_value = "1337")]
    pub proxy_uid: List<OwnerId>,

    /// Group ids the proxy runs as: left alone, except when it calls the pod's own address
    #[arg(short = 'g', long, value_name = "GIDS", default_value = "1337")]
    pub proxy_gid: List<OwnerId>,

    /// User ids of other processes whose outbound connections are left alone
    #[arg(long, value_name = "UIDS", default_value = "")]
    pub exclude_uid: List<OwnerId>,

    /// Group ids of other processes whose outbound connections are left alone
    #[arg(long, value_name = "GIDS", default_value = "")]
    pub exclude_gid: List<OwnerId>,

    /// Inbound ports to intercept, `*` for all
    #[arg(
        short = 'b',
        long,
        alias = "istio-inbound-ports",
        value_name = "PORTS",
        default_value = "*"
    )]
    pub include_inbound_ports: Selection<PortRange>,

    /// Inbound ports to leave alone (the default: metrics and health of the proxy and its agent)
    #[arg(
        short = 'd',
        long,
        aliases = ["istio-local-exclude-ports", "inbound-ports-to-ignore"],
        value_name = "PORTS",
        default_value = "15090,15021,15020"
    )]
    pub exclude_inbound_ports: List<PortRange>,

    /// Source ranges whose inbound connections are left alone
    #[arg(long, alias = "subnets-to-ignore", value_name = "CIDRS", default_value = "")]
    pub exclude_inbound_cidrs: List<Cidr>,

    /// Outbound destination ranges to intercept, `*` for all
    #[arg(
        short = 'i',
        long,
        alias = "istio-service-cidr",
        value_name = "CIDRS",
        default_value = "*"
    )]
    pub include_outbound_cidrs: Selection<Cidr>,

    /// Outbound destination ranges to leave alone
    #[arg(
        short = 'x',
        long,
        alias = "istio-service-exclude-cidr",
        value_name = "CIDRS",
        default_value = ""
    )]
    pub exclude_outbound_cidrs: List<Cidr>,

    /// Outbound ports to intercept whatever `--include-outbound-cidrs` says
    #[arg(
        short = 'q',
        long,
        alias = "istio-outbound-ports",
        value_name = "PORTS",
        default_value = ""
    )]
    pub include_outbound_ports: List<PortRange>,

    /// Outbound ports to leave alone
    #[arg(
        short = 'o',
        long,
        aliases = ["istio-local-outbound-ports-exclude", "outbound-ports-to-ignore"],
        value_name = "PORTS",
        default_value = ""
    )]
    pub exclude_outbound_ports: List<PortRange>,

    /// Network interfaces whose traffic is left alone in both directions
    #[arg(
        short = 'c',
        long,
        alias = "istio-exclude-interfaces",
        value_name = "NAMES",
        default_value = ""
    )]
    pub exclude_interfaces: List<Interface>,

    /// How inbound connections reach the proxy
    #[arg(
        short = 'm',
        long,
        alias = "istio-inbound-interception-mode",
        value_name = "MODE",
        default_value = "REDIRECT"
    )]
    pub mode: Mode,

    /// Whether to lay IPv6 rules; `auto` lays them where the kernel has IPv6
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub ipv6: Ipv6,
}

impl Settings {
    /// Checks what no single flag can: that the proxy's ports differ from each other.
    ///
    /// # Errors
    /// A sentence that names both flags and the port.
    pub fn check(&self) -> Result<(), String> {
        let ports = [
            ("--outbound-port", self.outbound_port),
            ("--inbound-port", self.inbound_port),
            ("--tunnel-port", self.tunnel_port),
        ];
        for (index, (flag, port)) in ports.iter().enumerate() {
            if let Some((other, _)) = ports[..index].iter().find(|(_, earlier)| earlier == port) {
                return Err(format!(
                    "{other} and {flag} are both {port}; the proxy needs a port for each direction"
                ));
            }
        }
        Ok(())
    }
}

/// A comma-separated list, possibly empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr<Err = String>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::parse).collect::<Result<_, _>>().map(List)
    }
}

/// A numeric user or group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerId(pub u32);

impl FromStr for OwnerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(OwnerId)
            .map_err(|_| format!("expected a numeric user or group id, found {text:?}"))
    }
}

/// Everything, or only what is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection<T> {
    /// `*`
    All,
    /// A list; the empty one selects nothing.
    Only(Vec<T>),
}

impl<T: FromStr<Err = String>> FromStr for Selection<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "*" => Ok(Selection::All),
            list => list.parse::<List<T>>().map(|List(items)| Selection::Only(items)),
        }
    }
}

/// One port or an inclusive range of ports: `8080`, `8000-8010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// First port of the range.
    pub first: u16,
    /// Last port of the range; equal to `first` for one port.
    pub last: u16,
}

impl PortRange {
    /// The range of one port.
    pub const fn one(port: u16) -> Self {
        PortRange {
            first: port,
            last: port,
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a port (1-65535) or a range like 8000-8010, found {text:?}");
        let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
        let port = |text: &str| {
            text.parse::<NonZeroU16>()
                .map(NonZeroU16::get)
                .map_err(|_| wrong())
        };
        let range = PortRange {
            first: port(first)?,
            last: port(last)?,
        };
        if range.first <= range.last {
            Ok(range)
        } else {
            Err(wrong())
        }
    }
}

/// An address range, written without host bits: `10.0.0.1/8` is read as `10.0.0.0/8`, an address as a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(pub IpNet);

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        range
            .map(|range| Cidr(range.trunc()))
            .map_err(|_| format!("expected an address range like 10.0.0.0/8 or fd00::/8, found {text:?}"))
    }
}

/// A network interface's name. Checked because it becomes part of a rule's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface(String);

impl Interface {
    /// The name; a trailing `+` stands for any ending, as in iptables.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=15).contains(&text.len());
        let body = text.strip_suffix('+').unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte);
        if fits && !body.is_empty() && body.bytes().all(plain) {
            Ok(Interface(text.to_owned()))
        } else {
            Err(format!(
                "expected the name of a network interface like eth0, found {text:?}"
            ))
        }
    }
}

/// How inbound connections reach the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The kernel rewrites the destination; the proxy asks for the original one.
    Redirect,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("redirect") {
            Ok(Mode::Redirect)
        } else {
            Err(format!("only REDIRECT is supported, found {text:?}"))
        }
    }
}

/// Whether IPv6 rules are laid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ipv6 {
    /// Where the kernel has IPv6 in this network namespace.
    Auto,
    /// Always; an error where it cannot be done.
    On,
    /// Never. IPv6 connections, if any, then bypass the proxy.
    Off,
}
