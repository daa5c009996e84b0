//! The rules as plain data: chains of matches and verdicts, and the pure function from settings to rules.
//!
//! One address family has one [`RuleSet`]. Two writers ([`super::iptables`], [`super::nftables`]) turn it into text;
//! they add nothing and leave nothing out. A rule set is about TCP only; a packet that no rule decides goes on
//! unchanged, and only the first packet of a connection ever gets here (the kernel remembers the verdict).
//! The order of the rules, and why each one is there, is explained in [`super`].

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::settings::{Cidr, List, OwnerId, PortRange, Selection, Settings};

/// The rules of one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// Which packets these rules see.
    pub family: Family,
    /// Our chains; each starts empty and is only reached by a hook or by a jump from an earlier chain.
    pub chains: Vec<Chain>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// One chain of rules, tried in order; its end returns to where it was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: ChainName,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Our chains. Everything we lay carries the prefix `REMORA_`, which is how removal finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainName {
    /// Entered by every packet that arrives from outside.
    Inbound,
    /// Ends in the proxy's inbound port.
    InboundRedirect,
    /// Entered by every packet that a local process sends.
    Output,
    /// Ends in the proxy's outbound port.
    OutboundRedirect,
}

impl ChainName {
    /// The prefix of all our names.
    pub const PREFIX: &'static str = "REMORA_";

    /// All chains, each before those that jump to it.
    pub const ALL: [ChainName; 4] = [
        ChainName::InboundRedirect,
        ChainName::OutboundRedirect,
        ChainName::Inbound,
        ChainName::Output,
    ];

    /// The name in the kernel.
    pub const fn text(self) -> &'static str {
        match self {
            ChainName::Inbound => "REMORA_INBOUND",
            ChainName::InboundRedirect => "REMORA_IN_REDIRECT",
            ChainName::Output => "REMORA_OUTPUT",
            ChainName::OutboundRedirect => "REMORA_REDIRECT",
        }
    }
}

/// One rule: if all matches hold, the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold; none means always.
    pub matches: Vec<Match>,
    /// What happens then.
    pub verdict: Verdict,
    /// Why the rule is there, one line, printed above it.
    pub why: &'static str,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The packet came in by this interface.
    InInterface(String),
    /// The packet leaves by this interface.
    OutInterface(String),
    /// The source address lies in this range.
    Source(IpNet),
    /// The destination address lies in this range.
    Destination(IpNet),
    /// The destination address does not lie in this range.
    DestinationNot(IpNet),
    /// The destination port lies in this range.
    DestinationPort(PortRange),
    /// The sending socket belongs to this user.
    Uid(u32),
    /// The sending socket belongs to this group.
    Gid(u32),
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Back to where this chain was entered; from a chain entered by a hook: unchanged.
    Return,
    /// Go through another chain, and come back here if it does not decide.
    Jump(ChainName),
    /// To this local port: decided.
    Redirect(u16),
}

impl RuleSet {
    /// The rules that carry out `settings` for one family.
    pub fn new(settings: &Settings, family: Family) -> Self {
        let redirect = |name, port, why| Chain {
            name,
            rules: vec![Rule::new([], Verdict::Redirect(port), why)],
        };
        let chains = vec![
            redirect(
                ChainName::InboundRedirect,
                settings.inbound_port.get(),
                "inbound goes to the proxy",
            ),
            redirect(
                ChainName::OutboundRedirect,
                settings.outbound_port.get(),
                "outbound goes to the proxy",
            ),
            Chain {
                name: ChainName::Inbound,
                rules: inbound(settings, family),
            },
            Chain {
                name: ChainName::Output,
                rules: output(settings, family),
            },
        ];
        RuleSet { family, chains }
    }
}

impl Family {
    /// The one loopback address that programs are used to call.
    fn loopback(self) -> IpNet {
        match self {
            Family::V4 => Ipv4Net::new_assert([127, 0, 0, 1].into(), 32).into(),
            Family::V6 => Ipv6Net::new_assert([0, 0, 0, 0, 0, 0, 0, 1].into(), 128).into(),
        }
    }

    /// The address that the proxy binds before it hands an inbound connection to the application.
    fn handover(self) -> IpNet {
        match self {
            Family::V4 => Ipv4Net::new_assert([127, 0, 0, 6].into(), 32).into(),
            Family::V6 => Ipv6Net::new_assert([0, 0, 0, 0, 0, 0, 0, 6].into(), 128).into(),
        }
    }

    fn ranges(self, ranges: &[Cidr]) -> impl Iterator<Item = IpNet> {
        let ours = move |range: &IpNet| matches!(range, IpNet::V4(_)) == (self == Family::V4);
        ranges.iter().map(|Cidr(range)| *range).filter(ours)
    }
}

impl Rule {
    fn new(matches: impl Into<Vec<Match>>, verdict: Verdict, why: &'static str) -> Self {
        Rule {
            matches: matches.into(),
            verdict,
            why,
        }
    }
}

fn inbound(settings: &Settings, family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    for interface in &settings.exclude_interfaces.0 {
        let from = Match::InInterface(interface.name().to_owned());
        rules.push(Rule::new([from], Verdict::Return, "interface left alone"));
    }
    let tunnel = Match::DestinationPort(PortRange::one(settings.tunnel_port.get()));
    rules.push(Rule::new(
        [tunnel],
        Verdict::Return,
        "the tunnel port is the proxy's own",
    ));
    for ports in &settings.exclude_inbound_ports.0 {
        rules.push(Rule::new(
            [Match::DestinationPort(*ports)],
            Verdict::Return,
            "inbound port left alone",
        ));
    }
    for range in family.ranges(&settings.exclude_inbound_cidrs.0) {
        rules.push(Rule::new(
            [Match::Source(range)],
            Verdict::Return,
            "inbound source left alone",
        ));
    }
    let to_proxy = Verdict::Jump(ChainName::InboundRedirect);
    match &settings.include_inbound_ports {
        Selection::All => rules.push(Rule::new([], to_proxy, "all other inbound")),
        Selection::Only(ports) => {
            for ports in ports {
                rules.push(Rule::new(
                    [Match::DestinationPort(*ports)],
                    to_proxy,
                    "inbound port intercepted",
                ));
            }
        }
    }
    rules
}

fn output(settings: &Settings, family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    for interface in &settings.exclude_interfaces.0 {
        let by = Match::OutInterface(interface.name().to_owned());
        rules.push(Rule::new([by], Verdict::Return, "interface left alone"));
    }
    for ports in &settings.exclude_outbound_ports.0 {
        rules.push(Rule::new(
            [Match::DestinationPort(*ports)],
            Verdict::Return,
            "outbound port left alone",
        ));
    }
    within_pod(settings, family, &mut rules);
    for owner in owners(&settings.proxy_uid, &settings.proxy_gid) {
        rules.push(Rule::new(
            [owner],
            Verdict::Return,
            "what the proxy sends, leaves",
        ));
    }
    for owner in owners(&settings.exclude_uid, &settings.exclude_gid) {
        rules.push(Rule::new([owner], Verdict::Return, "owner left alone"));
    }
    for range in family.ranges(&settings.exclude_outbound_cidrs.0) {
        rules.push(Rule::new(
            [Match::Destination(range)],
            Verdict::Return,
            "outbound range left alone",
        ));
    }
    let to_proxy = Verdict::Jump(ChainName::OutboundRedirect);
    for ports in &settings.include_outbound_ports.0 {
        rules.push(Rule::new(
            [Match::DestinationPort(*ports)],
            to_proxy,
            "outbound port intercepted",
        ));
    }
    match &settings.include_outbound_cidrs {
        Selection::All => rules.push(Rule::new([], to_proxy, "all other outbound")),
        Selection::Only(ranges) => {
            for range in family.ranges(ranges) {
                let to = Match::Destination(range);
                rules.push(Rule::new([to], to_proxy, "outbound range intercepted"));
            }
        }
    }
    rules
}

/// The rules about packets that never leave the pod: those that go out by the loopback interface.
fn within_pod(settings: &Settings, family: Family, rules: &mut Vec<Rule>) {
    let on_loopback = || Match::OutInterface("lo".to_owned());
    let handed_over = [on_loopback(), Match::Source(family.handover())];
    rules.push(Rule::new(
        handed_over,
        Verdict::Return,
        "the proxy hands an inbound connection to the application",
    ));

    for owner in owners(&settings.proxy_uid, &settings.proxy_gid) {
        let calls_own_pod = [on_loopback(), Match::DestinationNot(family.loopback()), owner];
        let why = "the proxy calls its own pod: as if it came from outside";
        rules.push(Rule::new(calls_own_pod, Verdict::Jump(ChainName::Inbound), why));
    }
    if !intercepts_loopback(settings, family) {
        rules.push(Rule::new(
            [on_loopback()],
            Verdict::Return,
            "the application calls its own pod: direct",
        ));
    }
}

fn owners(uids: &List<OwnerId>, gids: &List<OwnerId>) -> impl Iterator<Item = Match> {
    let uids = uids.0.iter().map(|uid| Match::Uid(uid.0));
    uids.chain(gids.0.iter().map(|gid| Match::Gid(gid.0)))
}

/// Whether a loopback range is asked for by name; `*` is not.
fn intercepts_loopback(settings: &Settings, family: Family) -> bool {
    let loopback = |range: IpNet| {
        matches!(range.addr(), IpAddr::V4(v4) if v4.is_loopback()) || range == family.loopback()
    };
    match &settings.include_outbound_cidrs {
        Selection::All => false,
        Selection::Only(ranges) => family.ranges(ranges).any(loopback),
    }
}
