//! `lb_policy`, its configuration, and `load_balancing_policy`: how one endpoint is chosen.
//!
//! Holds: of a list the first policy that we have wins, and a list of which we have none is refused; parameters that
//! only tune (slow start) are counted and left out.

mod by_load;
mod further;
mod localities;
mod slow_start;

use std::sync::Arc;

use remora_model::balance::{BalancePolicy, RingHashFunction};
use remora_model::route::HashPolicy;

use self::slow_start::{Beginning, slow_start};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::cluster::v3::{
    self as api,
    cluster::{LbConfig, LbPolicy, ring_hash_lb_config::HashFunction},
};
use crate::pb::envoy::extensions::load_balancing_policies::{
    self as typed, least_request::v3::least_request::SelectionMethod,
};
use crate::route_action::hash_policy;
use crate::{subsets, value};

const FAMILY: &str = "envoy.extensions.load_balancing_policies.";
const RING_MINIMUM: u64 = 1024;
const RING_MAXIMUM: u64 = 8 << 20;
const TABLE: u64 = 65_537;
const LARGEST_TABLE: u64 = 5_000_011;
/// Policies inside policies are followed this deep.
const DEPTH: u8 = 4;

/// A policy, and whether localities count.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) balance: BalancePolicy,
    pub(crate) locality_weighted: bool,
    /// How requests are hashed, whatever routes say.
    pub(crate) hash_policies: Vec<HashPolicy>,
}

impl Policy {
    /// A policy that says nothing else.
    fn plain(balance: BalancePolicy) -> Self {
        Self {
            balance,
            locality_weighted: false,
            hash_policies: Vec::new(),
        }
    }

    /// The same inside of another.
    fn inside(self, around: impl FnOnce(BalancePolicy) -> BalancePolicy) -> Self {
        Self {
            balance: around(self.balance),
            ..self
        }
    }
}

/// `ConsistentHashingLbConfig`, of a cluster or of a typed policy.
#[derive(Debug, Clone, Copy, Default)]
struct Hashing {
    use_hostname: bool,
    balance_factor: Option<u32>,
}

fn balance_factor(
    work: &mut Work<'_, '_>,
    said: Option<&crate::pb::google::protobuf::UInt32Value>,
) -> Option<u32> {
    said.map(|_| value::number_or(work, "hash_balance_factor", said, 100, 100..=u32::MAX))
}

/// The policy of a cluster.
pub(crate) fn policy(work: &mut Work<'_, '_>, said: &api::Cluster) -> Option<Policy> {
    let subsets = subsets::typed(said.lb_subset_config.as_ref());
    if let Some(list) = &said.load_balancing_policy {
        if subsets.is_some() {
            work.wrong("cluster: load_balancing_policy cannot be combined with lb_subset_config");
        }
        return first_known(work, &said.name, list);
    }
    let whole = by_enum(work, said)?;
    let Some(subsets) = subsets else {
        return Some(whole);
    };
    if whole.balance == BalancePolicy::ClusterProvided {
        work.wrong("cluster: LB policy CLUSTER_PROVIDED cannot be combined with lb_subset_config");
        return None;
    }
    work.at("lb_subset_config", |work| in_subsets(work, &subsets, whole))
}

/// `inner` among the endpoints of subsets.
fn in_subsets(work: &mut Work<'_, '_>, said: &typed::subset::v3::Subset, inner: Policy) -> Option<Policy> {
    if matches!(inner.balance, BalancePolicy::OverrideHost(_)) {
        work.wrong_at(
            "subset_lb_policy",
            "is not supported: hosts that requests name inside of subsets",
        );
        return None;
    }
    let policy = subsets::policy(work, said, inner.balance)?;
    Some(Policy {
        balance: BalancePolicy::Subset(Arc::new(policy)),
        locality_weighted: inner.locality_weighted,
        hash_policies: inner.hash_policies,
    })
}

/// By `lb_policy`.
fn by_enum(work: &mut Work<'_, '_>, said: &api::Cluster) -> Option<Policy> {
    let common = said.common_lb_config.as_ref();
    let localities = localities::of_cluster(work, common)?;
    let hashing = common
        .and_then(|common| common.consistent_hashing_lb_config.as_ref())
        .map(|said| Hashing {
            use_hostname: said.use_hostname_for_hashing,
            balance_factor: work.at("common_lb_config.consistent_hashing_lb_config", |work| {
                balance_factor(work, said.hash_balance_factor.as_ref())
            }),
        })
        .unwrap_or_default();
    let balance = match value::known(work, "lb_policy", said.lb_policy)? {
        LbPolicy::RoundRobin => {
            let slow = match &said.lb_config {
                Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.as_ref(),
                _ => None,
            };
            work.at("round_robin_lb_config", |work| {
                slow_start(work, slow.map(Beginning::from), BalancePolicy::RoundRobin)
            })?
        }
        LbPolicy::LeastRequest => least_request(work, said)?,
        LbPolicy::Random => BalancePolicy::Random,
        LbPolicy::RingHash => ring_hash(work, said, hashing)?,
        LbPolicy::Maglev => {
            let size = match &said.lb_config {
                Some(LbConfig::MaglevLbConfig(config)) => config.table_size.as_ref().map(|size| size.value),
                _ => None,
            };
            work.at("maglev_lb_config", |work| maglev(work, size, hashing))?
        }
        LbPolicy::ClusterProvided => BalancePolicy::ClusterProvided,
        LbPolicy::LoadBalancingPolicyConfig => {
            work.wrong_at(
                "load_balancing_policy",
                "cluster: field load_balancing_policy need to be set",
            );
            return None;
        }
    };
    Some(localities.around(balance))
}

fn least_request(work: &mut Work<'_, '_>, said: &api::Cluster) -> Option<BalancePolicy> {
    let config = match &said.lb_config {
        Some(LbConfig::LeastRequestLbConfig(config)) => config,
        _ => {
            return Some(BalancePolicy::LeastRequest {
                choices: 2,
                bias: 1.0,
                full_scan: false,
            });
        }
    };
    let bias = config
        .active_request_bias
        .as_ref()
        .map_or(1.0, |bias| bias.default_value);
    let slow = config.slow_start_config.as_ref().map(Beginning::from);
    work.at("least_request_lb_config", |work| {
        let balance = choices(work, config.choice_count.as_ref(), bias, false)?;
        slow_start(work, slow, balance)
    })
}

fn choices(
    work: &mut Work<'_, '_>,
    said: Option<&crate::pb::google::protobuf::UInt32Value>,
    bias: f64,
    full_scan: bool,
) -> Option<BalancePolicy> {
    let choices = value::number_or(work, "choice_count", said, 2, 2..=u32::MAX);
    if !(bias >= 0.0 && bias.is_finite()) {
        work.wrong_at(
            "active_request_bias",
            format!("expected at least 0, found {bias}"),
        );
        return None;
    }
    Some(BalancePolicy::LeastRequest {
        choices,
        bias,
        full_scan,
    })
}

fn ring_hash(work: &mut Work<'_, '_>, said: &api::Cluster, hashing: Hashing) -> Option<BalancePolicy> {
    let (minimum, maximum, function) = match &said.lb_config {
        Some(LbConfig::RingHashLbConfig(config)) => (
            config.minimum_ring_size.as_ref().map(|size| size.value),
            config.maximum_ring_size.as_ref().map(|size| size.value),
            match value::known(work, "ring_hash_lb_config.hash_function", config.hash_function)? {
                HashFunction::XxHash => RingHashFunction::XxHash,
                HashFunction::MurmurHash2 => RingHashFunction::MurmurHash2,
            },
        ),
        _ => (None, None, RingHashFunction::XxHash),
    };
    work.at("ring_hash_lb_config", |work| {
        ring(work, minimum, maximum, function, hashing)
    })
}

fn ring(
    work: &mut Work<'_, '_>,
    minimum: Option<u64>,
    maximum: Option<u64>,
    function: RingHashFunction,
    hashing: Hashing,
) -> Option<BalancePolicy> {
    let (minimum, maximum) = (minimum.unwrap_or(RING_MINIMUM), maximum.unwrap_or(RING_MAXIMUM));
    for (field, size) in [("minimum_ring_size", minimum), ("maximum_ring_size", maximum)] {
        if !(1..=RING_MAXIMUM).contains(&size) {
            work.wrong_at(field, format!("expected 1 to {RING_MAXIMUM}, found {size}"));
        }
    }
    if minimum > maximum {
        work.wrong(format!(
            "ring hash: minimum_ring_size ({minimum}) > maximum_ring_size ({maximum})"
        ));
        return None;
    }
    Some(BalancePolicy::RingHash {
        minimum,
        maximum,
        function,
        use_hostname: hashing.use_hostname,
        balance_factor: hashing.balance_factor,
    })
}

fn maglev(work: &mut Work<'_, '_>, size: Option<u64>, hashing: Hashing) -> Option<BalancePolicy> {
    let table_size = size.unwrap_or(TABLE);
    if table_size > LARGEST_TABLE || !prime(table_size) {
        let rule = format!("The table size of maglev must be prime number of at most {LARGEST_TABLE}");
        work.wrong_at("table_size", format!("{rule}, found {table_size}"));
        return None;
    }
    Some(BalancePolicy::Maglev {
        table_size,
        use_hostname: hashing.use_hostname,
        balance_factor: hashing.balance_factor,
    })
}

fn prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|factor| factor * factor <= number)
            .all(|factor| !number.is_multiple_of(factor))
}

/// The first policy of a list that we have.
fn first_known(work: &mut Work<'_, '_>, cluster: &str, said: &api::LoadBalancingPolicy) -> Option<Policy> {
    let mut names = Vec::new();
    let found = work.at("load_balancing_policy", |work| {
        among(work, said, DEPTH, &mut names)
    });
    if let Found::None = found {
        let ours = said.policies.iter().filter_map(|policy| {
            let config = policy.typed_extension_config.as_ref()?;
            Some(Extension::open(config.typed_config.as_ref()?).kind).filter(|kind| kind.starts_with(FAMILY))
        });
        let kinds: Vec<_> = ours.collect();
        if !kinds.is_empty() {
            let sentence = format!("is not supported: load balancing of type {}", kinds.join(", "));
            work.wrong_at("load_balancing_policy", sentence);
            return None;
        }
        let names = names.join(", ");
        let sentence = "didn't find a registered load balancer factory implementation for cluster";
        work.wrong_at(
            "load_balancing_policy",
            format!("{sentence}: '{cluster}' with names from [{names}]"),
        );
    }
    match found {
        Found::Policy(policy) => Some(policy),
        Found::None | Found::Wrong => None,
    }
}

enum Found {
    Policy(Policy),
    None,
    Wrong,
}

impl From<Option<Policy>> for Found {
    fn from(policy: Option<Policy>) -> Self {
        policy.map_or(Self::Wrong, Self::Policy)
    }
}

fn among(
    work: &mut Work<'_, '_>,
    said: &api::LoadBalancingPolicy,
    depth: u8,
    names: &mut Vec<String>,
) -> Found {
    for (index, policy) in said.policies.iter().enumerate() {
        let Some(config) = &policy.typed_extension_config else {
            work.wrong_at(
                &format!("policies[{index}]"),
                "expected typed_extension_config, found none",
            );
            return Found::Wrong;
        };
        names.push(config.name.clone());
        let Some(any) = &config.typed_config else { continue };
        let extension = Extension::open(any);
        let found = work.at(
            &format!("policies[{index}].typed_extension_config.typed_config"),
            |work| one(work, &extension, depth, names),
        );
        match found {
            Found::None => {}
            found => return found,
        }
    }
    Found::None
}

fn one(work: &mut Work<'_, '_>, extension: &Extension<'_>, depth: u8, names: &mut Vec<String>) -> Found {
    match extension.kind.strip_prefix(FAMILY) {
        Some("round_robin.v3.RoundRobin") => typed_round_robin(work, extension).into(),
        Some("random.v3.Random") => typed_random(work, extension).into(),
        Some("least_request.v3.LeastRequest") => typed_least_request(work, extension).into(),
        Some("ring_hash.v3.RingHash") => typed_ring_hash(work, extension).into(),
        Some("maglev.v3.Maglev") => typed_maglev(work, extension).into(),
        Some("cluster_provided.v3.ClusterProvided") => {
            Found::Policy(Policy::plain(BalancePolicy::ClusterProvided))
        }
        Some("client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin") => {
            by_load::client_weighted(work, extension).into()
        }
        Some("peak_ewma.v3alpha.PeakEwma") => by_load::peak_ewma(work, extension).into(),
        Some("pick_first.v3.PickFirst") => further::pick_first(work, extension).into(),
        Some("random_subsetting.v3.RandomSubsetting") if depth > 0 => {
            further::random_subsetting(work, extension, depth).into()
        }
        Some("override_host.v3.OverrideHost") if depth > 0 => {
            further::override_host(work, extension, depth).into()
        }
        Some("wrr_locality.v3.WrrLocality") if depth > 0 => typed_wrr_locality(work, extension, depth, names),
        Some("subset.v3.Subset") if depth > 0 => typed_subset(work, extension, depth).into(),
        _ => Found::None,
    }
}

fn typed_wrr_locality(
    work: &mut Work<'_, '_>,
    extension: &Extension<'_>,
    depth: u8,
    names: &mut Vec<String>,
) -> Found {
    let Some(said) = extension.decode::<typed::wrr_locality::v3::WrrLocality>(work) else {
        return Found::Wrong;
    };
    let Some(inner) = &said.endpoint_picking_policy else {
        work.wrong_at("endpoint_picking_policy", "expected a policy, found none");
        return Found::Wrong;
    };
    match work.at("endpoint_picking_policy", |work| {
        among(work, inner, depth - 1, names)
    }) {
        Found::Policy(policy) => Found::Policy(Policy {
            locality_weighted: true,
            ..policy
        }),
        found => found,
    }
}

fn typed_subset(work: &mut Work<'_, '_>, extension: &Extension<'_>, depth: u8) -> Option<Policy> {
    let said: typed::subset::v3::Subset = extension.decode(work)?;
    let none = api::LoadBalancingPolicy::default();
    let list = said.subset_lb_policy.as_ref().unwrap_or(&none);
    let mut names = Vec::new();
    match work.at("subset_lb_policy", |work| {
        among(work, list, depth - 1, &mut names)
    }) {
        Found::Policy(inner) => in_subsets(work, &said, inner),
        Found::None => {
            let sentence =
                "cluster: didn't find a registered load balancer factory implementation for subset lb";
            let names = names.join(", ");
            work.wrong_at(
                "subset_lb_policy",
                format!("{sentence} with names from [{names}]"),
            );
            None
        }
        Found::Wrong => None,
    }
}

fn typed_round_robin(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Policy> {
    let said: typed::round_robin::v3::RoundRobin = extension.decode(work)?;
    let slow = said.slow_start_config.as_ref().map(Beginning::from);
    let balance = slow_start(work, slow, BalancePolicy::RoundRobin)?;
    Some(localities::of_policy(work, said.locality_lb_config)?.around(balance))
}

fn typed_random(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Policy> {
    let said: typed::random::v3::Random = extension.decode(work)?;
    let balance = BalancePolicy::Random;
    Some(localities::of_policy(work, said.locality_lb_config)?.around(balance))
}

fn typed_least_request(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Policy> {
    let said: typed::least_request::v3::LeastRequest = extension.decode(work)?;
    let method: SelectionMethod = value::known(work, "selection_method", said.selection_method)?;
    let full_scan =
        method == SelectionMethod::FullScan || value::bool_or(said.enable_full_scan.as_ref(), false);
    let bias = said
        .active_request_bias
        .as_ref()
        .map_or(1.0, |bias| bias.default_value);
    let balance = choices(work, said.choice_count.as_ref(), bias, full_scan)?;
    let slow = said.slow_start_config.as_ref().map(Beginning::from);
    let balance = slow_start(work, slow, balance)?;
    Some(localities::of_policy(work, said.locality_lb_config)?.around(balance))
}

fn typed_hashing(
    work: &mut Work<'_, '_>,
    said: Option<&typed::common::v3::ConsistentHashingLbConfig>,
) -> (Hashing, Vec<HashPolicy>) {
    let Some(said) = said else {
        return Default::default();
    };
    work.at("consistent_hashing_lb_config", |work| {
        let policies = work.each("hash_policy", &said.hash_policy, hash_policy);
        let hashing = Hashing {
            use_hostname: said.use_hostname_for_hashing,
            balance_factor: balance_factor(work, said.hash_balance_factor.as_ref()),
        };
        (hashing, policies)
    })
}

fn typed_ring_hash(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Policy> {
    use typed::ring_hash::v3::{RingHash, ring_hash::HashFunction as Function};
    let said: RingHash = extension.decode(work)?;
    let function = match value::known(work, "hash_function", said.hash_function)? {
        Function::DefaultHash | Function::XxHash => RingHashFunction::XxHash,
        Function::MurmurHash2 => RingHashFunction::MurmurHash2,
    };
    let (hashing, hash_policies) = match &said.consistent_hashing_lb_config {
        Some(common) => typed_hashing(work, Some(common)),
        None => {
            let hashing = Hashing {
                use_hostname: said.use_hostname_for_hashing,
                balance_factor: balance_factor(work, said.hash_balance_factor.as_ref()),
            };
            (hashing, Vec::new())
        }
    };
    let size = |said: Option<crate::pb::google::protobuf::UInt64Value>| said.map(|size| size.value);
    let balance = ring(
        work,
        size(said.minimum_ring_size),
        size(said.maximum_ring_size),
        function,
        hashing,
    )?;
    Some(Policy {
        balance,
        locality_weighted: said.locality_weighted_lb_config.is_some(),
        hash_policies,
    })
}

fn typed_maglev(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Policy> {
    let said: typed::maglev::v3::Maglev = extension.decode(work)?;
    let (hashing, hash_policies) = typed_hashing(work, said.consistent_hashing_lb_config.as_ref());
    let balance = maglev(work, said.table_size.map(|size| size.value), hashing)?;
    Some(Policy {
        balance,
        locality_weighted: said.locality_weighted_lb_config.is_some(),
        hash_policies,
    })
}
