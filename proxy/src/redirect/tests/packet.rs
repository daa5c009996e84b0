//! A packet, its way through a rule set, and, independently of any rule, where it should end.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::rules::{ChainName, Family, Match, RuleSet, Verdict};
use super::super::settings::{Cidr, List, OwnerId, PortRange, Selection, Settings};

/// The first packet of a TCP connection.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    /// The sending process's user and group; `None` for a packet from outside.
    sender: Option<(u32, u32)>,
    interface: &'static str,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
}

/// Where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Unchanged,
    Port(u16),
}

impl Packet {
    pub(super) fn family(&self) -> Family {
        if self.destination.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sender.is_some()
    }

    pub(super) fn is_handed_over(&self) -> bool {
        self.is_sent()
            && self.interface == "lo"
            && ["127.0.0.6", "::6"].contains(&self.source.to_string().as_str())
    }

    /// Meets the rules one by one, as the kernel does.
    pub(super) fn walk(&self, rules: &RuleSet) -> Fate {
        let start = if self.is_sent() {
            ChainName::Output
        } else {
            ChainName::Inbound
        };
        self.walk_chain(rules, start).unwrap_or(Fate::Unchanged)
    }

    fn walk_chain(&self, rules: &RuleSet, name: ChainName) -> Option<Fate> {
        let chain = rules.chains.iter().find(|chain| chain.name == name).unwrap();
        for rule in chain
            .rules
            .iter()
            .filter(|rule| rule.matches.iter().all(|condition| self.fits(condition)))
        {
            match rule.verdict {
                Verdict::Return => return None,
                Verdict::Redirect(port) => return Some(Fate::Port(port)),
                Verdict::Jump(to) => {
                    if let Some(fate) = self.walk_chain(rules, to) {
                        return Some(fate);
                    }
                }
            }
        }
        None
    }

    fn fits(&self, condition: &Match) -> bool {
        match condition {
            Match::InInterface(name) => !self.is_sent() && named(name, self.interface),
            Match::OutInterface(name) => self.is_sent() && named(name, self.interface),
            Match::Source(range) => range.contains(&self.source),
            Match::Destination(range) => range.contains(&self.destination),
            Match::DestinationNot(range) => !range.contains(&self.destination),
            Match::DestinationPort(ports) => (ports.first..=ports.last).contains(&self.port),
            Match::Uid(uid) => self.sender.is_some_and(|(sender, _)| sender == *uid),
            Match::Gid(gid) => self.sender.is_some_and(|(_, sender)| sender == *gid),
        }
    }
}

fn named(pattern: &str, interface: &str) -> bool {
    pattern
        .strip_suffix('+')
        .map_or(pattern == interface, |start| interface.starts_with(start))
}

/// Whether the sender has one of these users or groups.
pub(super) fn owned_by(packet: &Packet, uids: &List<OwnerId>, gids: &List<OwnerId>) -> bool {
    let has = |ids: &List<OwnerId>, id| ids.0.contains(&OwnerId(id));
    packet
        .sender
        .is_some_and(|(uid, gid)| has(uids, uid) || has(gids, gid))
}

/// The promise: what the flags say about this packet, in the words of the help text.
pub(super) fn expected(settings: &Settings, packet: &Packet) -> Fate {
    let interface_alone = settings
        .exclude_interfaces
        .0
        .iter()
        .any(|name| named(name.name(), packet.interface));
    if interface_alone {
        return Fate::Unchanged;
    }
    if !packet.is_sent() {
        return expected_inbound(settings, packet);
    }
    if listed(&settings.exclude_outbound_ports.0, packet.port) || packet.is_handed_over() {
        return Fate::Unchanged;
    }
    let by_proxy = owned_by(packet, &settings.proxy_uid, &settings.proxy_gid);
    let within_pod = packet.interface == "lo";
    let to_loopback = ["127.0.0.1", "::1"].contains(&packet.destination.to_string().as_str());
    if by_proxy {
        let calls_own_pod = within_pod && !to_loopback;
        return if calls_own_pod {
            expected_inbound(settings, packet)
        } else {
            Fate::Unchanged
        };
    }
    let loopback_by_name = match &settings.include_outbound_cidrs {
        Selection::All => false,
        Selection::Only(ranges) => covers(ranges, loopback(packet.family())),
    };
    let alone = (within_pod && !loopback_by_name)
        || owned_by(packet, &settings.exclude_uid, &settings.exclude_gid)
        || covers(&settings.exclude_outbound_cidrs.0, packet.destination);
    let wanted = listed(&settings.include_outbound_ports.0, packet.port)
        || match &settings.include_outbound_cidrs {
            Selection::All => true,
            Selection::Only(ranges) => covers(ranges, packet.destination),
        };
    if wanted && !alone {
        Fate::Port(settings.outbound_port.get())
    } else {
        Fate::Unchanged
    }
}

fn expected_inbound(settings: &Settings, packet: &Packet) -> Fate {
    let alone = packet.port == settings.tunnel_port.get()
        || listed(&settings.exclude_inbound_ports.0, packet.port)
        || covers(&settings.exclude_inbound_cidrs.0, packet.source);
    let wanted = match &settings.include_inbound_ports {
        Selection::All => true,
        Selection::Only(ports) => listed(ports, packet.port),
    };
    if wanted && !alone {
        Fate::Port(settings.inbound_port.get())
    } else {
        Fate::Unchanged
    }
}

fn listed(ports: &[PortRange], port: u16) -> bool {
    ports
        .iter()
        .any(|range| range.first <= port && port <= range.last)
}

fn covers(ranges: &[Cidr], address: IpAddr) -> bool {
    ranges.iter().any(|Cidr(range)| range.contains(&address))
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => [127, 0, 0, 1].into(),
        Family::V6 => [0, 0, 0, 0, 0, 0, 0, 1].into(),
    }
}

const PORTS: [&str; 5] = ["80", "8080", "8000-8100", "15008", "443"];
const CIDRS: [&str; 6] = [
    "10.0.0.0/8",
    "10.9.9.9",
    "192.168.0.0/16",
    "fd00::/8",
    "fd00::9",
    "127.0.0.0/8",
];
const IDS: [&str; 4] = ["1337", "0", "1000", "2000"];
const INTERFACES: [&str; 3] = ["eth0", "eth1", "cali+"];

/// Any combination of flags over a small world, so that packets meet their rules often.
pub(super) fn flags() -> impl Strategy<Value = Vec<String>> {
    let some = |words: &'static [&'static str]| {
        subsequence(words, 0..=words.len()).prop_map(|words| words.join(","))
    };
    let or_all = |words| prop_oneof![Just("*".to_owned()), some(words)];
    let ids = || subsequence(&IDS[..], 0..=2).prop_map(|words| words.join(","));
    let owners = (ids(), ids(), ids(), ids());
    let inbound = (or_all(&PORTS), some(&PORTS), some(&CIDRS));
    let outbound = (or_all(&CIDRS), some(&CIDRS), some(&PORTS[..2]), some(&PORTS[..2]));
    let interfaces = subsequence(&INTERFACES[..], 0..=1).prop_map(|words| words.join(","));
    (owners, inbound, outbound, interfaces).prop_map(|(owners, inbound, outbound, interfaces)| {
        let pairs = [
            ("--proxy-uid", owners.0),
            ("--proxy-gid", owners.1),
            ("--exclude-uid", owners.2),
            ("--exclude-gid", owners.3),
            ("--include-inbound-ports", inbound.0),
            ("--exclude-inbound-ports", inbound.1),
            ("--exclude-inbound-cidrs", inbound.2),
            ("--include-outbound-cidrs", outbound.0),
            ("--exclude-outbound-cidrs", outbound.1),
            ("--include-outbound-ports", outbound.2),
            ("--exclude-outbound-ports", outbound.3),
            ("--exclude-interfaces", interfaces),
        ];
        pairs
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    })
}

/// Packets of the same small world, sent and received, that can exist: loopback addresses stay on `lo`.
pub(super) fn packets() -> impl Strategy<Value = Packet> {
    let sender = proptest::option::weighted(
        0.8,
        (
            select(vec![0, 1000, 1337, 2000]),
            select(vec![0, 1000, 1337, 2000]),
        ),
    );
    let ports = select(vec![80_u16, 443, 8080, 8050, 15008, 15090, 7]);
    let local4 = ["127.0.0.1", "127.0.0.6", "10.0.0.2"];
    let local6 = ["::1", "::6", "fd00::2"];
    let far4 = ["10.9.9.9", "192.168.1.1", "1.1.1.1"];
    let far6 = ["fd00::9", "fd01::1", "2001:db8::1"];
    (
        sender,
        any::<bool>(),
        any::<bool>(),
        0_usize..3,
        0_usize..3,
        select(vec!["eth0", "eth1", "cali7"]),
        ports,
    )
        .prop_map(move |(sender, v6, within, near, far, interface, port)| {
            let (local, far) = if v6 {
                (local6, far6[far])
            } else {
                (local4, far4[far])
            };
            let within = within && sender.is_some();
            let (source, destination) = match (&sender, within) {
                (Some(_), true) => (local[near], local[(near + port as usize) % 3]),
                (Some(_), false) => (local[2], far),
                (None, _) => (far, local[2]),
            };
            let interface = if within { "lo" } else { interface };
            let [source, destination] = [source, destination].map(|address| address.parse().unwrap());
            Packet {
                sender,
                interface,
                source,
                destination,
                port,
            }
        })
}
