//! Which filter chain is a connection for? (`FilterChainMatch`)
//!
//! Envoy's order, each level "most specific else unset", without back-tracking: destination port, destination address
//! (longest prefix), server name (exact, then longest `*.suffix`), transport protocol, application protocols (the
//! client's list in its order), directly connected source prefix, source type, source prefix, source port.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::{FilterChain, Listener};

/// One `FilterChainMatch`, normalised: server names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ChainMatch {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges`; empty matches any address.
    pub destination_prefixes: Vec<IpNet>,
    /// `server_names`: `a.b` or `*.b`.
    pub server_names: Vec<Box<str>>,
    /// `transport_protocol`: `tls`, `raw_buffer`, or empty.
    pub transport_protocol: Box<str>,
    /// `application_protocols`.
    pub application_protocols: Vec<Box<str>>,
    /// `direct_source_prefix_ranges`.
    pub direct_source_prefixes: Vec<IpNet>,
    /// `source_type`.
    pub source_type: SourceType,
    /// `source_prefix_ranges`.
    pub source_prefixes: Vec<IpNet>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
}

/// `FilterChainMatch.ConnectionSourceType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SourceType {
    /// Any.
    #[default]
    Any,
    /// Source is loopback or the destination's own address.
    SameIpOrLoopback,
    /// Anything else.
    External,
}

/// What is known of a connection when a chain is chosen.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionFacts<'a> {
    /// Where the client wanted to go (original destination if redirected).
    pub destination: SocketAddr,
    /// The client, as a proxy in front may have said.
    pub source: SocketAddr,
    /// The directly connected peer.
    pub direct_source: SocketAddr,
    /// SNI in lower case.
    pub server_name: Option<&'a str>,
    /// The first bytes are a TLS ClientHello.
    pub tls: bool,
    /// ALPN offers, or what HTTP inspection found (`http/1.0`, `http/1.1`, `h2c`), in the client's order.
    pub application_protocols: &'a [Box<[u8]>],
}

/// Two chains of one listener could be meant by the same connection. Chains are called by name or `#position`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DuplicateMatch {
    /// All criteria are equal.
    #[error("filter chain '{second}' has the same matching rules defined as '{first}'")]
    Equal {
        /// The chain that stands first.
        first: String,
        /// The other.
        second: String,
    },
    /// They have a combination of single values in common.
    #[error("multiple filter chains with overlapping matching rules are defined: '{first}' and '{second}'")]
    Overlap {
        /// The chain that stands first.
        first: String,
        /// The other.
        second: String,
    },
}

/// The chains of a listener, indexed level by level; leaves are positions in the list of chains.
#[derive(Clone, Default)]
pub struct ChainIndex {
    root: ByPort,
}

impl fmt::Debug for ChainIndex {
    /// Nothing but the name: it is made from the chains, and its tables have no order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainIndex")
    }
}

impl ChainIndex {
    /// Indexes chains by their criteria.
    ///
    /// # Errors
    /// Two chains share a combination of single match values, so the choice between them would be arbitrary.
    pub fn new(chains: &[Arc<FilterChain>]) -> Result<Self, DuplicateMatch> {
        let mut root = ByPort::default();
        for (position, chain) in chains.iter().enumerate() {
            root.insert(&chain.criteria, position as u32)
                .map_err(|first| DuplicateMatch::between(chains, first as usize, position))?;
        }
        Ok(Self { root })
    }

    /// Tells every end that this connection may come to while only its addresses are known.
    pub(super) fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) {
        self.root.reach(facts, ends);
    }

    /// The position of the chain for this connection.
    pub fn find(&self, facts: &ConnectionFacts<'_>) -> Option<usize> {
        self.root.find(facts).map(|position| position as usize)
    }
}

impl DuplicateMatch {
    fn between(chains: &[Arc<FilterChain>], first: usize, second: usize) -> Self {
        let criteria = |position: usize| chains.get(position).map(|chain| &chain.criteria);
        let equal = criteria(first) == criteria(second);
        let (first, second) = (called(chains, first), called(chains, second));
        if equal {
            Self::Equal { first, second }
        } else {
            Self::Overlap { first, second }
        }
    }
}

impl Listener {
    /// The chain for this connection: a matching one, else the default one.
    pub fn chain_for(&self, facts: &ConnectionFacts<'_>) -> Option<&Arc<FilterChain>> {
        self.index
            .find(facts)
            .and_then(|position| self.chains.get(position))
            .or(self.default_chain.as_ref())
    }
}

fn called(chains: &[Arc<FilterChain>], position: usize) -> String {
    match chains.get(position) {
        Some(chain) if !chain.name.is_empty() => chain.name.to_string(),
        _ => format!("#{position}"),
    }
}

/// Hears of an end: a chain's position, or `None` where no chain matches. False: it wants to hear no more.
pub(super) type Ends<'e> = dyn FnMut(Option<u32>) -> bool + 'e;

/// One level of the index. Once a level has an entry for what is known of the connection, the choice stays within it.
trait Level: Default {
    /// Files `position` under every combination of the criteria; fails with the position that already stands there.
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32>;
    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32>;
    /// Tells every end that this connection may come to while only its addresses are known. False: `ends` heard enough.
    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool;
}

fn reach_next<L: Level>(next: Option<&L>, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
    match next {
        Some(level) => level.reach(facts, ends),
        None => ends(None),
    }
}

/// The end: one chain.
#[derive(Debug, Clone, Default)]
struct Leaf(Option<u32>);

impl Level for Leaf {
    fn insert(&mut self, _: &ChainMatch, position: u32) -> Result<(), u32> {
        match self.0.replace(position) {
            Some(first) => Err(first),
            None => Ok(()),
        }
    }

    fn find(&self, _: &ConnectionFacts<'_>) -> Option<u32> {
        self.0
    }

    fn reach(&self, _: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        ends(self.0)
    }
}

/// Entries by exact key, and one for chains that do not ask.
#[derive(Debug, Clone)]
struct Keyed<K, L> {
    by_key: HashMap<K, L, rapidhash::fast::RandomState>,
    any: Option<Box<L>>,
}

impl<K, L> Default for Keyed<K, L> {
    fn default() -> Self {
        Self {
            by_key: HashMap::default(),
            any: None,
        }
    }
}

impl<K: Hash + Eq, L: Level> Keyed<K, L> {
    fn insert(
        &mut self,
        keys: impl ExactSizeIterator<Item = K>,
        criteria: &ChainMatch,
        position: u32,
    ) -> Result<(), u32> {
        if keys.len() == 0 {
            return self.any.get_or_insert_default().insert(criteria, position);
        }
        for key in keys {
            self.by_key.entry(key).or_default().insert(criteria, position)?;
        }
        Ok(())
    }
}

impl<K: Hash + Eq, L: Level> Keyed<K, L> {
    /// Every entry, as the key is not known.
    fn reach_all(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        self.by_key.values().all(|level| level.reach(facts, ends))
            && reach_next(self.any.as_deref(), facts, ends)
    }
}

/// Entries by longest prefix.
#[derive(Debug, Clone)]
struct Prefixes<L> {
    entries: Keyed<IpNet, L>,
    /// Prefix lengths in use, longest first: IPv4, IPv6.
    lengths: [Vec<u8>; 2],
}

impl<L> Default for Prefixes<L> {
    fn default() -> Self {
        Self {
            entries: Keyed::default(),
            lengths: [Vec::new(), Vec::new()],
        }
    }
}

impl<L: Level> Prefixes<L> {
    fn insert(&mut self, ranges: &[IpNet], criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        for range in ranges {
            let lengths = &mut self.lengths[usize::from(range.addr().is_ipv6())];
            if let Err(at) = lengths.binary_search_by(|length| range.prefix_len().cmp(length)) {
                lengths.insert(at, range.prefix_len());
            }
        }
        self.entries
            .insert(ranges.iter().map(IpNet::trunc), criteria, position)
    }

    fn at(&self, address: IpAddr) -> Option<&L> {
        let address = address.to_canonical();
        let lengths = &self.lengths[usize::from(address.is_ipv6())];
        let covering = lengths
            .iter()
            .filter_map(|length| Some(IpNet::new(address, *length).ok()?.trunc()));
        covering
            .filter_map(|range| self.entries.by_key.get(&range))
            .next()
            .or(self.entries.any.as_deref())
    }
}

#[derive(Debug, Clone, Default)]
struct ByPort(Keyed<u16, ByDestination>);

impl ByPort {
    fn next(&self, facts: &ConnectionFacts<'_>) -> Option<&ByDestination> {
        let port = facts.destination.port();
        self.0.by_key.get(&port).or(self.0.any.as_deref())
    }
}

impl Level for ByPort {
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        self.0.insert(
            criteria
                .destination_port
                .into_iter()
                .collect::<Vec<_>>()
                .into_iter(),
            criteria,
            position,
        )
    }

    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        self.next(facts)?.find(facts)
    }

    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        reach_next(self.next(facts), facts, ends)
    }
}

#[derive(Debug, Clone, Default)]
struct ByDestination(Prefixes<ByServerName>);

impl Level for ByDestination {
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        self.0.insert(&criteria.destination_prefixes, criteria, position)
    }

    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        self.0.at(facts.destination.ip())?.find(facts)
    }

    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        reach_next(self.0.at(facts.destination.ip()), facts, ends)
    }
}

#[derive(Debug, Clone, Default)]
struct ByServerName {
    /// Keys: `a.b` or, for `*.b`, `.b`.
    names: Keyed<Box<str>, ByTransport>,
}

impl Level for ByServerName {
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        let names = criteria.server_names.iter().map(AsRef::as_ref);
        let keys = names.map(|name: &str| name.strip_prefix('*').unwrap_or(name).into());
        self.names.insert(keys, criteria, position)
    }

    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        let name = facts.server_name.unwrap_or_default();
        let suffixes = name
            .char_indices()
            .filter(|(at, c)| *at > 0 && *c == '.')
            .map(|(at, _)| &name[at..]);
        let known = std::iter::once(name)
            .chain(suffixes)
            .filter_map(|name| self.names.by_key.get(name))
            .next();
        known.or(self.names.any.as_deref())?.find(facts)
    }

    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        self.names.reach_all(facts, ends)
    }
}

#[derive(Debug, Clone, Default)]
struct ByTransport(Keyed<Box<str>, ByApplication>);

impl ByTransport {
    fn speaking(&self, transport: &str) -> Option<&ByApplication> {
        self.0.by_key.get(transport).or(self.0.any.as_deref())
    }
}

impl Level for ByTransport {
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        let asked = Some(&criteria.transport_protocol)
            .filter(|protocol| !protocol.is_empty())
            .cloned();
        self.0.insert(
            asked.into_iter().collect::<Vec<_>>().into_iter(),
            criteria,
            position,
        )
    }

    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        let transport = if facts.tls { "tls" } else { "raw_buffer" };
        self.speaking(transport)?.find(facts)
    }

    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        ["raw_buffer", "tls"]
            .into_iter()
            .all(|transport| reach_next(self.speaking(transport), facts, ends))
    }
}

#[derive(Debug, Clone, Default)]
struct ByApplication(Keyed<Box<[u8]>, ByDirectSource>);

impl Level for ByApplication {
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        let protocols = criteria
            .application_protocols
            .iter()
            .map(|protocol| protocol.as_bytes().into());
        self.0.insert(protocols, criteria, position)
    }

    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        let offered = facts
            .application_protocols
            .iter()
            .filter_map(|offer| self.0.by_key.get(offer))
            .next();
        offered.or(self.0.any.as_deref())?.find(facts)
    }

    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        self.0.reach_all(facts, ends)
    }
}

#[derive(Debug, Clone, Default)]
struct ByDirectSource(Prefixes<BySourceType>);

impl Level for ByDirectSource {
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        self.0
            .insert(&criteria.direct_source_prefixes, criteria, position)
    }

    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        self.0.at(facts.direct_source.ip())?.find(facts)
    }

    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        reach_next(self.0.at(facts.direct_source.ip()), facts, ends)
    }
}

#[derive(Debug, Clone, Default)]
struct BySourceType {
    any: Option<Box<BySource>>,
    local: Option<Box<BySource>>,
    external: Option<Box<BySource>>,
}

impl BySourceType {
    fn next(&self, facts: &ConnectionFacts<'_>) -> Option<&BySource> {
        let source = facts.source.ip().to_canonical();
        // Of 127.0.0.0/8 Envoy takes the one address for loopback.
        let local = source == IpAddr::V4(Ipv4Addr::LOCALHOST)
            || source == IpAddr::V6(Ipv6Addr::LOCALHOST)
            || source == facts.destination.ip().to_canonical();
        let asked = if local { &self.local } else { &self.external };
        asked.as_deref().or(self.any.as_deref())
    }
}

impl Level for BySourceType {
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        let place = match criteria.source_type {
            SourceType::Any => &mut self.any,
            SourceType::SameIpOrLoopback => &mut self.local,
            SourceType::External => &mut self.external,
        };
        place.get_or_insert_default().insert(criteria, position)
    }

    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        self.next(facts)?.find(facts)
    }

    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        reach_next(self.next(facts), facts, ends)
    }
}

#[derive(Debug, Clone, Default)]
struct BySource(Prefixes<BySourcePort>);

impl Level for BySource {
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        self.0.insert(&criteria.source_prefixes, criteria, position)
    }

    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        self.0.at(facts.source.ip())?.find(facts)
    }

    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        reach_next(self.0.at(facts.source.ip()), facts, ends)
    }
}

#[derive(Debug, Clone, Default)]
struct BySourcePort(Keyed<u16, Leaf>);

impl BySourcePort {
    fn next(&self, facts: &ConnectionFacts<'_>) -> Option<&Leaf> {
        let port = facts.source.port();
        self.0.by_key.get(&port).or(self.0.any.as_deref())
    }
}

impl Level for BySourcePort {
    fn insert(&mut self, criteria: &ChainMatch, position: u32) -> Result<(), u32> {
        self.0
            .insert(criteria.source_ports.iter().copied(), criteria, position)
    }

    fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        self.next(facts)?.find(facts)
    }

    fn reach(&self, facts: &ConnectionFacts<'_>, ends: &mut Ends<'_>) -> bool {
        reach_next(self.next(facts), facts, ends)
    }
}
