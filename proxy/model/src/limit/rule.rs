//! `envoy.config.route.v3.RateLimit`: which descriptor does a request get?
//!
//! Holds: a rule gives one descriptor or none. An action that finds nothing ends its rule without a descriptor, unless it
//! says `skip_if_absent`: then only its entry is left out. Query parameters are decoded here, as in Envoy, unlike those
//! that routes are matched by.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Descriptor, Entry, LimitOverride, TellClients};
use crate::Name;
use crate::endpoint::LabelValue;
use crate::log::Format;
use crate::route::{HeaderMatch, HeaderPredicateName, QueryMatch, Render, RequestFacts, decoded_query_value};

/// The most hits that a format may give, as in Envoy.
const MOST_HITS: f64 = 1e9;

/// What a route or a virtual host says of rate limits.
#[derive(Debug, Clone, Default)]
pub struct RateLimits {
    /// `rate_limits`, in order.
    pub rules: Vec<Rule>,
    /// `include_vh_rate_limits` of a route.
    pub include_virtual_host: bool,
    /// Of a route's metadata, what its rules and those of its virtual host read: texts that are not empty.
    pub metadata: Vec<(MetadataKey, Name)>,
}

/// Whether the rules of the virtual host count beside those of the route (`VhRateLimitsOptions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VirtualHostLimits {
    /// Only where the route has none.
    #[default]
    Override,
    /// Always.
    Include,
    /// Never.
    Ignore,
}

/// One `RateLimit`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `stage`, 0 to 10.
    pub stage: u8,
    /// `disable_key` is said: the local filter leaves such a rule out; there is no runtime for the key itself.
    pub has_disable_key: bool,
    /// `actions`, at least one.
    pub actions: Vec<Action>,
    /// `limit.rate_limit`.
    pub limit: Option<LimitOverride>,
    /// `hits_addend`.
    pub hits: DescriptorHits,
    /// `hits_addend.is_negative_hits`.
    pub gives_back: bool,
    /// `x_ratelimit_option`.
    pub tell: TellClients,
}

/// `RateLimit.HitsAddend`.
#[derive(Debug, Clone, Default)]
pub enum DescriptorHits {
    /// Not said.
    #[default]
    Unsaid,
    /// `number`.
    Number(u64),
    /// `format`: a single operator that prints a number.
    Format(Arc<Format>),
}

/// `RateLimit.Action`.
#[derive(Debug, Clone)]
pub enum Action {
    /// `source_cluster`: the cluster of this node.
    SourceCluster,
    /// `destination_cluster`: the one that the route goes to.
    DestinationCluster,
    /// `request_headers`: the first value.
    RequestHeader {
        /// Which header.
        name: HeaderPredicateName,
        /// Key of the entry.
        key: Name,
        /// Without the header the entry alone is left out.
        skip_if_absent: bool,
    },
    /// `query_parameters`: the first value.
    QueryParameter {
        /// Which parameter.
        name: Box<str>,
        /// Key of the entry.
        key: Name,
        /// Without the parameter the entry alone is left out.
        skip_if_absent: bool,
    },
    /// `remote_address`.
    RemoteAddress,
    /// `masked_remote_address`.
    MaskedRemoteAddress {
        /// `v4_prefix_mask_len`.
        v4: u8,
        /// `v6_prefix_mask_len`.
        v6: u8,
    },
    /// `generic_key`.
    GenericKey(Entry),
    /// `header_value_match`.
    HeaderValueMatch {
        /// What a match gives.
        entry: Entry,
        /// `expect_match`.
        expected: bool,
        /// All must match.
        headers: Vec<HeaderMatch>,
    },
    /// `query_parameter_value_match`.
    QueryParameterValueMatch {
        /// What a match gives.
        entry: Entry,
        /// `expect_match`.
        expected: bool,
        /// All must match.
        parameters: Vec<QueryMatch>,
    },
    /// `remote_address_match`.
    RemoteAddressMatch {
        /// What a match gives.
        entry: Entry,
        /// `address_matcher.ranges`.
        ranges: Vec<IpNet>,
        /// `address_matcher.invert_match`.
        invert: bool,
    },
    /// `metadata` and `dynamic_metadata`.
    Metadata {
        /// Whose.
        source: MetadataSource,
        /// Where in it.
        at: MetadataKey,
        /// Key of the entry.
        key: Name,
        /// `default_value`.
        default: Option<Name>,
        /// Without a value the entry alone is left out.
        skip_if_absent: bool,
    },
}

/// `MetaData.Source`, as far as there is such metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataSource {
    /// What filters noted of the request.
    Dynamic,
    /// The route's.
    Route,
}

/// `envoy.type.metadata.v3.MetadataKey`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MetadataKey {
    /// `key`: the name space.
    pub namespace: Name,
    /// `path`.
    pub path: Vec<Name>,
}

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub struct LimitFacts<'a> {
    /// The request.
    pub request: RequestFacts<'a>,
    /// Its client, unless it came over a Unix socket.
    pub client: Option<IpAddr>,
    /// `node.cluster`.
    pub source_cluster: &'a str,
    /// The cluster that the route goes to, where it goes to one.
    pub destination_cluster: Option<&'a str>,
    /// [`RateLimits::metadata`] of the route.
    pub route_metadata: &'a [(MetadataKey, Name)],
}

/// What an action gives.
enum Part {
    Entry(Entry),
    LeftOut,
    Nothing,
}

impl RateLimits {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.include_virtual_host && self.metadata.is_empty()
    }

    /// The descriptors of the rules that count for a filter with this `sharing`: those of the route, then those of its
    /// virtual host.
    pub fn applicable<'a>(
        route: Option<&'a RateLimits>,
        virtual_host: Option<&'a RateLimits>,
        sharing: VirtualHostLimits,
    ) -> impl Iterator<Item = &'a Rule> {
        let own = route.map_or(&[][..], |limits| &limits.rules);
        let included = match sharing {
            VirtualHostLimits::Include => true,
            VirtualHostLimits::Ignore => false,
            VirtualHostLimits::Override => {
                own.is_empty() || route.is_some_and(|limits| limits.include_virtual_host)
            }
        };
        let hosts = virtual_host
            .filter(|_| included)
            .map_or(&[][..], |limits| &limits.rules);
        own.iter().chain(hosts)
    }
}

impl Rule {
    /// The descriptor of a request; `None` where an action finds nothing.
    pub fn descriptor(&self, facts: &LimitFacts<'_>, render: &impl Render) -> Option<Descriptor> {
        let mut entries = Vec::with_capacity(self.actions.len());
        for action in &self.actions {
            match action.part(facts) {
                Part::Entry(entry) => entries.push(entry),
                Part::LeftOut => {}
                Part::Nothing => return None,
            }
        }
        let hits = match &self.hits {
            DescriptorHits::Unsaid => None,
            DescriptorHits::Number(number) => Some(*number),
            DescriptorHits::Format(format) => Some(printed_hits(&render.render(format)?)?),
        };
        (!entries.is_empty()).then_some(Descriptor {
            entries,
            hits,
            gives_back: self.gives_back,
            limit: self.limit,
            tell: self.tell,
        })
    }
}

/// A number as Envoy takes it from a format: at least 0, at most [`MOST_HITS`], cut to a whole one.
fn printed_hits(text: &http::HeaderValue) -> Option<u64> {
    let number: f64 = text.to_str().ok()?.trim().parse().ok()?;
    (0.0..=MOST_HITS).contains(&number).then_some(number as u64)
}

impl Action {
    fn part(&self, facts: &LimitFacts<'_>) -> Part {
        if let Some((key, value, skip_if_absent)) = self.read(facts) {
            return match value {
                Some(value) => Part::Entry(Entry {
                    key: Arc::clone(key),
                    value,
                }),
                None if skip_if_absent => Part::LeftOut,
                None => Part::Nothing,
            };
        }
        self.judged(facts).map_or(Part::Nothing, Part::Entry)
    }

    /// Of an action that reads a value: its key, what it found, and whether it may find nothing.
    fn read(&self, facts: &LimitFacts<'_>) -> Option<(&Name, Option<Name>, bool)> {
        match self {
            Self::RequestHeader {
                name,
                key,
                skip_if_absent,
            } => Some((key, header(name, &facts.request), *skip_if_absent)),
            Self::QueryParameter {
                name,
                key,
                skip_if_absent,
            } => {
                let value = decoded_query_value(facts.request.query(), name);
                Some((key, value.map(|value| value.as_ref().into()), *skip_if_absent))
            }
            Self::Metadata {
                source,
                at,
                key,
                default,
                skip_if_absent,
            } => {
                let known = match source {
                    MetadataSource::Dynamic => noted(facts, at),
                    MetadataSource::Route => {
                        let mut known = facts.route_metadata.iter();
                        known.find(|(known, _)| known == at).map(|(_, value)| value)
                    }
                };
                let value = known.or(default.as_ref());
                Some((key, value.cloned(), *skip_if_absent))
            }
            _ => None,
        }
    }

    /// Of every other action: its entry, if it applies.
    fn judged(&self, facts: &LimitFacts<'_>) -> Option<Entry> {
        match self {
            Self::SourceCluster => Some(Entry::new("source_cluster", facts.source_cluster)),
            Self::DestinationCluster => Some(Entry::new("destination_cluster", facts.destination_cluster?)),
            Self::RemoteAddress => {
                let client = facts.client?.to_canonical();
                Some(Entry::new("remote_address", &client.to_string()))
            }
            Self::MaskedRemoteAddress { v4, v6 } => {
                let network = masked(facts.client?, *v4, *v6)?;
                Some(Entry::new("masked_remote_address", &network.to_string()))
            }
            Self::GenericKey(entry) => Some(entry.clone()),
            Self::HeaderValueMatch {
                entry,
                expected,
                headers,
            } => {
                let all = headers.iter().all(|header| header.matches(&facts.request));
                (all == *expected).then(|| entry.clone())
            }
            Self::QueryParameterValueMatch {
                entry,
                expected,
                parameters,
            } => {
                let query = facts.request.query();
                let all = parameters.iter().all(|one| one.matches_decoded(query));
                (all == *expected).then(|| entry.clone())
            }
            Self::RemoteAddressMatch {
                entry,
                ranges,
                invert,
            } => {
                let client = facts.client?.to_canonical();
                let inside = ranges.iter().any(|range| range.contains(&client));
                (inside != *invert).then(|| entry.clone())
            }
            Self::RequestHeader { .. } | Self::QueryParameter { .. } | Self::Metadata { .. } => None,
        }
    }
}

/// A text that a filter noted, unless it is empty.
fn noted<'a>(facts: &LimitFacts<'a>, at: &MetadataKey) -> Option<&'a Name> {
    match facts.request.metadata?.at(&at.namespace, &at.path)? {
        LabelValue::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn header(name: &HeaderPredicateName, request: &RequestFacts<'_>) -> Option<Name> {
    let pseudo = |value: &str| (!value.is_empty()).then(|| value.into());
    match name {
        HeaderPredicateName::Method => pseudo(request.method.as_str()),
        HeaderPredicateName::Path => pseudo(request.path_and_query),
        HeaderPredicateName::Authority => pseudo(request.authority),
        HeaderPredicateName::Scheme => pseudo(request.scheme),
        HeaderPredicateName::Status => None,
        HeaderPredicateName::Header(name) => {
            let value = request.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).as_ref().into())
        }
    }
}

fn masked(client: IpAddr, v4: u8, v6: u8) -> Option<IpNet> {
    let client = client.to_canonical();
    let length = if client.is_ipv4() { v4 } else { v6 };
    IpNet::new(client, length).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests;
