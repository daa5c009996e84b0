//! A policy built over one group: the endpoints of one priority and one health class, with their localities' weights.
//!
//! Holds: locality and endpoint weights are flattened into one weight per endpoint (`locality share * endpoint share`),
//! so one schedule and one sequence give exact shares of both.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::bounded::LoadBound;
use super::client_weighted;
use super::first;
use super::peak_ewma::Quickest;
use super::{
    BalancePolicy, HashedEndpoint, LeastRequest, Maglev, RingHash, RoundRobin, SlowStart, WeightedRandom,
};
use crate::endpoint::{Endpoint, EndpointAddress, LabelValue};

/// Endpoints of one locality that take part.
#[derive(Debug)]
pub struct Group<'a> {
    /// The share of the locality, already reduced by what of it is unhealthy; `None` where localities have no weights.
    pub weight: Option<f64>,
    /// Its endpoints.
    pub endpoints: Vec<&'a Arc<Endpoint>>,
}

/// A policy over one group of endpoints.
#[derive(Debug, Clone)]
pub struct Balancer {
    endpoints: Arc<[Arc<Endpoint>]>,
    scheme: Scheme,
    beyond: Beyond,
}

/// What a choice takes into account beyond its scheme.
#[derive(Debug, Clone)]
enum Beyond {
    Nothing,
    Bound(Box<LoadBound>),
    Warming(Arc<SlowStart>),
}

#[derive(Debug, Clone)]
enum Scheme {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(WeightedRandom),
    RingHash(RingHash),
    Maglev(Maglev),
    First(Option<usize>),
    Quickest(Quickest),
    Provided,
}

impl Balancer {
    /// Builds `policy` over these groups.
    pub fn build(policy: &BalancePolicy, groups: &[Group<'_>]) -> Self {
        let endpoints: Arc<[Arc<Endpoint>]> = groups
            .iter()
            .flat_map(|group| group.endpoints.iter().copied().cloned())
            .collect();
        let mut beyond = policy
            .slow_start()
            .map_or(Beyond::Nothing, |slow| Beyond::Warming(Arc::clone(slow)));
        let bounded = |factor: &Option<u32>, hashed: &[HashedEndpoint<'_>]| match factor {
            Some(factor) => Beyond::Bound(Box::new(LoadBound::new(hashed, *factor))),
            None => Beyond::Nothing,
        };
        let flat = || flat_weights(groups, &weights(policy, groups));
        let scheme = match policy.among() {
            BalancePolicy::RoundRobin | BalancePolicy::ClientWeighted(_) => {
                Scheme::RoundRobin(RoundRobin::new(&flat()))
            }
            BalancePolicy::PeakEwma(settings) => Scheme::Quickest(Quickest::new(&flat(), settings)),
            BalancePolicy::LeastRequest {
                choices,
                bias,
                full_scan,
            } => Scheme::LeastRequest(LeastRequest::new(
                &flat(),
                (!full_scan).then_some(*choices),
                *bias,
            )),
            BalancePolicy::Random => Scheme::Random(WeightedRandom::new(&flat())),
            BalancePolicy::RingHash {
                minimum,
                maximum,
                function,
                use_hostname,
                balance_factor,
            } => {
                let hashed = hashed(groups, *use_hostname);
                beyond = bounded(balance_factor, &hashed);
                Scheme::RingHash(RingHash::new(&hashed, *minimum, *maximum, *function))
            }
            BalancePolicy::Maglev {
                table_size,
                use_hostname,
                balance_factor,
            } => {
                let hashed = hashed(groups, *use_hostname);
                beyond = bounded(balance_factor, &hashed);
                Scheme::Maglev(Maglev::new(&hashed, *table_size))
            }
            BalancePolicy::PickFirst { .. } => Scheme::First(first::position(&endpoints, None, None)),
            BalancePolicy::ClusterProvided
            | BalancePolicy::RandomSubset(_)
            | BalancePolicy::OverrideHost(_)
            | BalancePolicy::Subset(_)
            | BalancePolicy::SlowStart(_)
            | BalancePolicy::ZoneAware(_) => Scheme::Provided,
        };
        Self {
            endpoints,
            scheme,
            beyond,
        }
    }

    /// Takes the first endpoint in the order of `salt`, or as listed; that of `before` as long as it is among them.
    pub(crate) fn first(groups: &[Group<'_>], salt: Option<u64>, before: Option<&Self>) -> Self {
        let endpoints: Arc<[Arc<Endpoint>]> = groups
            .iter()
            .flat_map(|group| group.endpoints.iter().copied().cloned())
            .collect();
        let before = before.and_then(|before| match before.scheme {
            Scheme::First(at) => before.endpoints.get(at?),
            _ => None,
        });
        Self {
            scheme: Scheme::First(first::position(&endpoints, salt, before.map(Arc::as_ref))),
            endpoints,
            beyond: Beyond::Nothing,
        }
    }

    /// Over no endpoints: one for all, since most clusters have no endpoint in some class.
    pub fn over_nothing() -> Arc<Self> {
        static NOTHING: OnceLock<Arc<Balancer>> = OnceLock::new();
        let nothing = || {
            Arc::new(Self {
                endpoints: Arc::default(),
                scheme: Scheme::Provided,
                beyond: Beyond::Nothing,
            })
        };
        Arc::clone(NOTHING.get_or_init(nothing))
    }

    /// The endpoint for this sequence number, hash (drawn from `rng` where the request has none) or chance.
    pub fn pick(&self, sequence: u32, hash: Option<u64>, rng: &mut fastrand::Rng) -> Option<&Arc<Endpoint>> {
        let position = match &self.scheme {
            Scheme::RoundRobin(schedule) => schedule.pick(sequence),
            Scheme::LeastRequest(balancer) => balancer.pick(&self.endpoints, rng),
            Scheme::Random(random) => random.pick(rng),
            Scheme::RingHash(ring) => ring.pick(hash.unwrap_or_else(|| rng.u64(..))),
            Scheme::Maglev(table) => table.pick(hash.unwrap_or_else(|| rng.u64(..))),
            Scheme::First(position) => *position,
            Scheme::Quickest(_) | Scheme::Provided => None,
        };
        self.endpoints.get(position?)
    }

    /// The endpoint for `hash` where loads are bounded, else `None`; `in_flight` counts the cluster's requests, this one
    /// among them.
    pub fn pick_bounded(&self, hash: u64, in_flight: u32) -> Option<&Arc<Endpoint>> {
        let Beyond::Bound(bound) = &self.beyond else {
            return None;
        };
        let first = match &self.scheme {
            Scheme::RingHash(ring) => ring.pick(hash),
            Scheme::Maglev(table) => table.pick(hash),
            _ => None,
        };
        let position = bound.settle(first?, hash, in_flight, &self.endpoints)?;
        self.endpoints.get(position)
    }

    /// The endpoint where new ones get less, else `None`.
    pub fn pick_warming(
        &self,
        sequence: u32,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<&Arc<Endpoint>> {
        let Beyond::Warming(slow) = &self.beyond else {
            return None;
        };
        let factor = |at: usize| {
            let endpoint = self.endpoints.get(at);
            endpoint.map_or(0.0, |endpoint| slow.factor_of(endpoint, now))
        };
        let position = match &self.scheme {
            Scheme::RoundRobin(schedule) => schedule.pick_part(sequence, &factor, rng),
            Scheme::LeastRequest(balancer) => balancer.pick_part(&self.endpoints, &factor, rng),
            _ => None,
        };
        self.endpoints.get(position?)
    }

    /// The endpoint where the quicker one is wanted, else `None`; `running` since the start of the process.
    pub fn pick_quickest(&self, running: Duration, rng: &mut fastrand::Rng) -> Option<&Arc<Endpoint>> {
        let Scheme::Quickest(quickest) = &self.scheme else {
            return None;
        };
        self.endpoints.get(quickest.pick(&self.endpoints, running, rng)?)
    }

    /// Everything that may be chosen.
    pub fn endpoints(&self) -> &Arc<[Arc<Endpoint>]> {
        &self.endpoints
    }

    /// Whether a pick consumes a number of the cluster's sequence.
    pub fn uses_sequence(&self) -> bool {
        matches!(self.scheme, Scheme::RoundRobin(_))
    }
}

/// One weight per endpoint: as said, or as it reports.
fn weights(policy: &BalancePolicy, groups: &[Group<'_>]) -> Vec<u32> {
    let all = groups.iter().flat_map(|group| group.endpoints.iter().copied());
    match policy.among() {
        BalancePolicy::ClientWeighted(_) => client_weighted::weights(all.map(Arc::as_ref)),
        // Random choice asks for no weights of endpoints, in Envoy as well.
        BalancePolicy::Random => all.map(|_| 1).collect(),
        _ => all.map(|endpoint| endpoint.spec.weight).collect(),
    }
}

/// One share per endpoint, sum 1. Without locality weights: by endpoint weights alone.
fn shares(groups: &[Group<'_>], weights: &[u32]) -> Vec<f64> {
    let weighted = groups.iter().any(|g| g.weight.is_some_and(|w| w > 0.0));
    let mut rest = weights;
    let mut parts = Vec::with_capacity(groups.len());
    for group in groups {
        let (own, others) = rest.split_at(group.endpoints.len().min(rest.len()));
        parts.push((group, own));
        rest = others;
    }
    let sum = |weights: &[u32]| weights.iter().map(|weight| f64::from(*weight)).sum::<f64>();
    let whole: f64 = if weighted {
        groups
            .iter()
            .filter(|g| !g.endpoints.is_empty())
            .filter_map(|g| g.weight)
            .sum()
    } else {
        sum(weights)
    };
    let mut shares = Vec::new();
    for (group, own) in parts {
        let locality = if weighted {
            group.weight.unwrap_or(0.0) / whole
        } else {
            1.0
        };
        let divisor = if weighted { sum(own) } else { whole };
        shares.extend(own.iter().map(|weight| locality * f64::from(*weight) / divisor));
    }
    shares
}

/// Integer weights with the same proportions: as said where localities have no weights.
fn flat_weights(groups: &[Group<'_>], weights: &[u32]) -> Vec<u32> {
    /// A share of 1; fine enough that rounding is far below what anybody could measure.
    const WHOLE: f64 = (1u32 << 30) as f64;
    if groups.iter().all(|g| g.weight.is_none_or(|w| w <= 0.0)) {
        return weights.to_vec();
    }
    let shares = shares(groups, weights);
    let first = shares.iter().copied().find(|share| *share > 0.0).unwrap_or(0.0);
    if shares.iter().all(|share| (share - first).abs() < 1e-12) {
        return vec![1; shares.len()];
    }
    shares
        .iter()
        .map(|share| {
            if *share > 0.0 {
                ((share * WHOLE).round() as u32).max(1)
            } else {
                0
            }
        })
        .collect()
}

fn hashed<'a>(groups: &[Group<'a>], use_hostname: bool) -> Vec<HashedEndpoint<'a>> {
    let endpoints = || groups.iter().flat_map(|group| group.endpoints.iter().copied());
    let weights: Vec<u32> = endpoints().map(|endpoint| endpoint.spec.weight).collect();
    endpoints()
        .zip(shares(groups, &weights))
        .map(|(e, share)| HashedEndpoint {
            key: key(e, use_hostname),
            share,
        })
        .collect()
}

/// What stands for an endpoint in a hash: the `hash_key` of its `envoy.lb` metadata, else host name or address.
fn key(endpoint: &Endpoint, use_hostname: bool) -> std::borrow::Cow<'_, str> {
    let spec = &endpoint.spec;
    if let Some(LabelValue::Text(key)) = spec.details().balance_labels.at("hash_key") {
        return key.as_ref().into();
    }
    if use_hostname {
        return spec.details().hostname.as_deref().unwrap_or_default().into();
    }
    address(&spec.address)
}

/// An address as it is printed.
pub(super) fn address(address: &EndpointAddress) -> std::borrow::Cow<'_, str> {
    match address {
        EndpointAddress::Socket(address) => address.to_string().into(),
        EndpointAddress::Pipe(path) => path.as_ref().into(),
        EndpointAddress::Host(name, port) => format!("{name}:{port}").into(),
    }
}
