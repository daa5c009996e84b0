//! From an [`Assignment`] to an [`EndpointSet`]: one endpoint per address, priorities with their shares of the load, and
//! the balancers over their healthy, degraded and whole groups.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use super::{
    Assignment, Endpoint, EndpointAddress, EndpointSet, EndpointSpec, Health, Locality, Priority, Subsets,
    Zones,
};
use crate::Name;
use crate::balance::{BalancePolicy, Balancer, Group, RandomSubset, ZoneCounts};

type Hashing = rapidhash::fast::RandomState;

/// The lowest priority of the API; lower ones, which [`Assignment::check`] refuses, count as this one.
const LOWEST: u32 = 128;

/// What of a cluster's configuration shapes its endpoint set.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildOptions {
    /// How one endpoint is chosen.
    pub policy: BalancePolicy,
    /// Locality weights are honoured.
    pub locality_weighted: bool,
    /// Percent; 0 never.
    pub panic_threshold: u8,
}

/// What stands around an endpoint set while it is built.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'a> {
    /// The set that the cluster had, whose counts go on.
    pub earlier: Option<&'a EndpointSet>,
    /// Where choices by zone are counted; `None`: we are in no cluster, and there are none.
    pub zones: Option<&'a Arc<ZoneCounts>>,
    /// What makes the choices of this process other than those of the next.
    pub salt: u64,
}

/// What shapes the balancers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape<'a> {
    pub(super) options: &'a BuildOptions,
    pub(super) overprovisioning: u32,
    pub(super) zones: Option<&'a Arc<ZoneCounts>>,
    pub(super) salt: u64,
    /// The priorities before.
    pub(super) earlier: Option<&'a [Priority]>,
}

/// Why an assignment is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Endpoint weights of one locality.
    #[error("the sum of weights of all endpoints in the locality exceeds 4294967295")]
    EndpointWeights,
    /// Locality weights of one priority.
    #[error("the sum of weights of all localities at priority {0} exceeds 4294967295")]
    LocalityWeights(u32),
    /// `priority` above what the API allows.
    #[error("priority {0} is above 128")]
    Priority(u32),
}

/// A locality and those of its endpoints that count.
pub(super) type Built<'a> = (Place<'a>, Vec<Arc<Endpoint>>);

/// What of a locality shapes the balancers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Where.
    pub locality: &'a Locality,
    /// `load_balancing_weight`.
    pub weight: Option<u32>,
}

/// Percent of the load that each priority gets, by health class; together exactly 100.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriorityLoads {
    /// For healthy endpoints.
    pub healthy: Vec<u32>,
    /// For degraded endpoints.
    pub degraded: Vec<u32>,
    /// Priorities whose every endpoint is used, because too few are healthy.
    pub panic: Vec<bool>,
}

/// How the endpoints of one priority are, as far as it decides on its share of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    healthy: u32,
    degraded: u32,
    total: u32,
    /// Those of them that do not count where shares are compared.
    excluded: u32,
    /// Percent.
    overprovisioning: u32,
}

impl Assignment {
    /// An assignment without endpoints.
    pub fn empty(name: Name) -> Self {
        Self {
            name,
            localities: Vec::new(),
            overprovisioning: 140,
        }
    }

    /// Takes over the memory of everything that `before` says in the same words.
    pub fn share(&mut self, before: &Self) {
        let earlier = || before.localities.iter().flat_map(|locality| &locality.endpoints);
        let by_address: OnceCell<HashMap<&EndpointAddress, &Arc<EndpointSpec>, Hashing>> = OnceCell::new();
        let mut in_order = earlier();
        for spec in self
            .localities
            .iter_mut()
            .flat_map(|locality| &mut locality.endpoints)
        {
            // Most of them stand where they stood.
            let at_place = in_order.next().filter(|other| other.address == spec.address);
            let known = at_place.or_else(|| {
                let by_address = by_address.get_or_init(|| earlier().map(|e| (&e.address, e)).collect());
                by_address.get(&spec.address).copied()
            });
            if let Some(same) = known.filter(|same| **same == *spec) {
                *spec = Arc::clone(same);
            }
        }
    }

    /// Whether its sums and priorities are those of the API. Envoy refuses such sums for ring hash and Maglev alone; an
    /// [`EndpointSet`] may be built all the same, weights are scaled then. Gaps between priorities are fine.
    ///
    /// # Errors
    /// Weights whose sum does not fit 32 bits, a priority above 128.
    pub fn check(&self) -> Result<(), BuildError> {
        let mut sums: HashMap<u32, u64> = HashMap::new();
        for locality in &self.localities {
            if locality.priority > LOWEST {
                return Err(BuildError::Priority(locality.priority));
            }
            let sum: u64 = locality.endpoints.iter().map(|e| u64::from(e.weight)).sum();
            if sum > u64::from(u32::MAX) {
                return Err(BuildError::EndpointWeights);
            }
            let sum = sums.entry(locality.priority).or_default();
            *sum += u64::from(locality.weight.unwrap_or(0));
            if *sum > u64::from(u32::MAX) {
                return Err(BuildError::LocalityWeights(locality.priority));
            }
        }
        Ok(())
    }
}

impl EndpointSet {
    /// The set that `assignment` describes; `before` gives the endpoint that stood at an address. Where an address
    /// repeats, only its first appearance counts, as in Envoy.
    pub fn build<'b>(
        assignment: Arc<Assignment>,
        options: &BuildOptions,
        before: impl Fn(&EndpointAddress) -> Option<&'b Arc<Endpoint>>,
    ) -> Self {
        Self::build_in(assignment, options, before, Around::default())
    }

    /// The same with what stands around it.
    pub fn build_in<'b>(
        assignment: Arc<Assignment>,
        options: &BuildOptions,
        before: impl Fn(&EndpointAddress) -> Option<&'b Arc<Endpoint>>,
        around: Around<'_>,
    ) -> Self {
        let localities = by_priority(&assignment, before);
        let overprovisioning = assignment.overprovisioning;
        let earlier = around.earlier.map(|set| set.priorities.as_slice());
        let (subsets, whole) = match options.policy.unnamed() {
            BalancePolicy::Subset(policy) => {
                let whole = BuildOptions {
                    policy: policy.inner.clone(),
                    locality_weighted: options.locality_weighted && policy.locality_weights,
                    ..*options
                };
                let earlier = around.earlier.and_then(|set| set.subsets.as_deref());
                let shape = Shape {
                    options: &whole,
                    overprovisioning,
                    zones: around.zones,
                    salt: around.salt,
                    earlier: None,
                };
                let subsets = Subsets::build(policy, &localities, shape, earlier);
                (Some(Box::new(subsets)), Some(whole))
            }
            _ => (None, None),
        };
        let shape = Shape {
            options: whole.as_ref().unwrap_or(options),
            overprovisioning,
            zones: around.zones,
            salt: around.salt,
            earlier,
        };
        let (priorities, loads) = spread(&localities, shape);
        let all: usize = localities.iter().flatten().map(|(_, all)| all.len()).sum();
        let endpoints = match priorities.as_slice() {
            [only] if only.over_all.endpoints().len() == all => Arc::clone(only.over_all.endpoints()),
            _ => localities
                .iter()
                .flatten()
                .flat_map(|(_, endpoints)| endpoints)
                .cloned()
                .collect(),
        };
        Self {
            endpoints,
            priorities,
            overprovisioning,
            loads,
            options: options.clone(),
            assignment,
            subsets,
        }
    }
}

/// The localities of each priority, with the endpoints that stood at their addresses before.
fn by_priority<'a, 'b>(
    assignment: &'a Assignment,
    before: impl Fn(&EndpointAddress) -> Option<&'b Arc<Endpoint>>,
) -> Vec<Vec<Built<'a>>> {
    let last = assignment.localities.iter().map(|l| l.priority.min(LOWEST)).max();
    let count = last.map_or(0, |last| last as usize + 1);
    let mut localities: Vec<Vec<Built<'_>>> = vec![Vec::new(); count];
    let all = assignment.localities.iter().map(|l| l.endpoints.len()).sum();
    let mut seen: HashSet<&EndpointAddress, Hashing> =
        HashSet::with_capacity_and_hasher(all, Hashing::default());
    for locality in &assignment.localities {
        let endpoints = locality
            .endpoints
            .iter()
            .filter(|spec| seen.insert(&spec.address))
            .map(|spec| match before(&spec.address) {
                Some(same) if same.spec == *spec => Arc::clone(same),
                Some(other) => Arc::new(Endpoint::renewed(other, Arc::clone(spec))),
                None => Arc::new(Endpoint::new(Arc::clone(spec))),
            })
            .collect();
        let place = Place {
            locality: &locality.locality,
            weight: locality.weight,
        };
        localities[locality.priority.min(LOWEST) as usize].push((place, endpoints));
    }
    localities
}

/// Priorities and their shares of the load.
pub(super) fn spread(localities: &[Vec<Built<'_>>], shape: Shape<'_>) -> (Vec<Priority>, Arc<PriorityLoads>) {
    let Shape {
        options,
        overprovisioning,
        zones,
        ..
    } = shape;
    let few = options.policy.random_subset().map(|few| {
        localities
            .iter()
            .map(|of| kept(of, few, shape.salt))
            .collect::<Vec<_>>()
    });
    let localities = few.as_deref().unwrap_or(localities);
    let mut priorities: Vec<Priority> = localities
        .iter()
        .enumerate()
        .map(|(at, of)| priority(of, shape, shape.earlier.and_then(|earlier| earlier.get(at))))
        .collect();
    let by_zone = !options.locality_weighted && options.policy.knows_zones();
    if let (Some(first), [of, ..], Some(counts)) =
        (priorities.first_mut(), localities, zones.filter(|_| by_zone))
    {
        first.zones = Zones::build(of, options, counts);
    }
    let standings: Vec<Standing> = priorities
        .iter()
        .map(|priority| priority.standing(overprovisioning))
        .collect();
    let loads = PriorityLoads::new(&standings, options.panic_threshold).shared();
    (priorities, loads)
}

/// Those endpoints of a priority that this process uses.
fn kept<'a>(localities: &[Built<'a>], few: &RandomSubset, salt: u64) -> Vec<Built<'a>> {
    let all = || localities.iter().flat_map(|(_, endpoints)| endpoints);
    let Some(bound) = few.bound(all(), salt) else {
        return localities.to_vec();
    };
    let within = |endpoint: &&Arc<Endpoint>| RandomSubset::keeps(endpoint, bound, salt);
    localities
        .iter()
        .map(|(place, endpoints)| (*place, endpoints.iter().filter(within).cloned().collect()))
        .collect()
}

fn priority(localities: &[Built<'_>], shape: Shape<'_>, before: Option<&Priority>) -> Priority {
    let (options, over) = (shape.options, shape.overprovisioning);
    let hashing = options.policy.hashes();
    let over_class = |class: Option<Health>| {
        let groups: Vec<Group<'_>> = localities
            .iter()
            .map(|(place, all)| {
                let eligible: Vec<_> = all
                    .iter()
                    .filter(|e| class.is_none_or(|class| e.health() == class))
                    .collect();
                // In panic Envoy's schedulers ignore localities; its hash tables do not.
                let weighted = options.locality_weighted && (class.is_some() || hashing);
                let ratio = if hashing {
                    1.0
                } else {
                    let counted = all.iter().filter(|e| !e.does_not_count()).count();
                    availability(eligible.len(), counted, over)
                };
                let weight = weighted.then(|| f64::from(place.weight.unwrap_or(0)) * ratio);
                Group {
                    weight,
                    endpoints: eligible,
                }
            })
            .collect();
        if groups.iter().all(|group| group.endpoints.is_empty()) {
            return Balancer::over_nothing();
        }
        balancer(shape, &groups, before.map(|before| before.over(class)))
    };
    let count = |class: Health| {
        localities
            .iter()
            .flat_map(|(_, all)| all)
            .filter(|e| e.health() == class)
            .count() as u32
    };
    let healthy = count(Health::Healthy);
    let total = localities.iter().map(|(_, all)| all.len() as u32).sum();
    let everybody = localities.iter().flat_map(|(_, all)| all);
    let excluded = everybody.filter(|e| e.does_not_count()).count() as u32;
    let over_healthy = over_class(Some(Health::Healthy));
    let over_all = if healthy == total && (hashing || !options.locality_weighted) {
        Arc::clone(&over_healthy)
    } else {
        over_class(None)
    };
    Priority {
        healthy,
        degraded: count(Health::Degraded),
        total,
        excluded,
        over_healthy,
        over_degraded: over_class(Some(Health::Degraded)),
        over_all,
        zones: None,
    }
}

/// The policy over these groups; `before` was the one over the same class.
fn balancer(shape: Shape<'_>, groups: &[Group<'_>], before: Option<&Balancer>) -> Arc<Balancer> {
    let policy = &shape.options.policy;
    Arc::new(match policy.among() {
        BalancePolicy::PickFirst { shuffle } => {
            Balancer::first(groups, shuffle.then_some(shape.salt), before)
        }
        _ => Balancer::build(policy, groups),
    })
}

/// How much of a locality's weight counts: all of it while enough of its endpoints are eligible.
fn availability(eligible: usize, total: usize, overprovisioning: u32) -> f64 {
    if total == 0 {
        return 0.0;
    }
    (f64::from(overprovisioning) / 100.0 * eligible as f64 / total as f64).min(1.0)
}

impl Priority {
    /// Over the endpoints of one class, or all.
    fn over(&self, class: Option<Health>) -> &Balancer {
        match class {
            Some(Health::Degraded) => &self.over_degraded,
            Some(_) => &self.over_healthy,
            None => &self.over_all,
        }
    }

    fn standing(&self, overprovisioning: u32) -> Standing {
        Standing {
            healthy: self.healthy,
            degraded: self.degraded,
            total: self.total,
            excluded: self.excluded,
            overprovisioning,
        }
    }
}

impl EndpointSet {
    /// How its priorities are, in order.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        self.priorities
            .iter()
            .map(|priority| priority.standing(self.overprovisioning))
    }
}

impl Standing {
    /// Whether there is no endpoint.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How many count where shares are compared.
    fn counted(&self) -> u32 {
        self.total - self.excluded
    }

    /// How much of the load `part` of its endpoints can take, percent.
    fn percent(&self, part: u32) -> u32 {
        match self.counted() {
            0 => 0,
            total => (u64::from(self.overprovisioning) * u64::from(part) / u64::from(total)).min(100) as u32,
        }
    }
}

impl PriorityLoads {
    /// Envoy's distribution: each priority takes what its availability (healthy share times overprovisioning, at most
    /// 100) allows, healthy before degraded; what rounding left goes to the first available one.
    pub fn new(priorities: &[Standing], panic_threshold: u8) -> Self {
        if priorities.is_empty() {
            return Self::default();
        }
        let health: Vec<u32> = priorities.iter().map(|p| p.percent(p.healthy)).collect();
        let weak: Vec<u32> = priorities.iter().map(|p| p.percent(p.degraded)).collect();
        let available = health.iter().chain(&weak).sum::<u32>().min(100);
        let mut loads = Self {
            panic: vec![false; priorities.len()],
            ..Self::default()
        };
        if available == 0 {
            loads.healthy = vec![0; priorities.len()];
            loads.degraded = vec![0; priorities.len()];
            loads.healthy[0] = 100;
        } else {
            let mut rest = 100;
            loads.healthy = distribute(&health, available, &mut rest);
            loads.degraded = distribute(&weak, available, &mut rest);
            if let Some(first) = health.iter().position(|h| *h > 0) {
                loads.healthy[first] += rest;
            } else if let Some(first) = weak.iter().position(|h| *h > 0) {
                loads.degraded[first] += rest;
            }
        }
        if available == 100 || panic_threshold == 0 {
            return loads;
        }
        loads.panic = priorities.iter().map(|p| in_panic(p, panic_threshold)).collect();
        if loads.panic.iter().all(|panic| *panic) {
            loads.spread_by_size(priorities);
        }
        loads
    }

    /// One for all sets whose whole load goes to the healthy endpoints of one priority: nearly all.
    fn shared(self) -> Arc<Self> {
        static PLAIN: OnceLock<Arc<PriorityLoads>> = OnceLock::new();
        let plain = PLAIN.get_or_init(|| {
            Arc::new(Self {
                healthy: vec![100],
                degraded: vec![0],
                panic: vec![false],
            })
        });
        if self == **plain {
            Arc::clone(plain)
        } else {
            Arc::new(self)
        }
    }

    /// The priority and health class that this hash (or random number) falls on.
    pub fn choose(&self, hash: u64) -> (usize, Health) {
        let ticket = (hash % 100) as u32;
        let mut sum = 0;
        for (loads, class) in [
            (&self.healthy, Health::Healthy),
            (&self.degraded, Health::Degraded),
        ] {
            for (at, load) in loads.iter().enumerate() {
                sum += load;
                if ticket < sum {
                    return (at, class);
                }
            }
        }
        (0, Health::Healthy)
    }

    /// Everything is in panic: load by the number of endpoints.
    fn spread_by_size(&mut self, priorities: &[Standing]) {
        let total: u64 = priorities.iter().map(|p| u64::from(p.total)).sum();
        self.degraded = vec![0; priorities.len()];
        self.healthy = vec![0; priorities.len()];
        let Some(first) = priorities.iter().position(|p| p.total > 0) else {
            self.healthy[0] = 100;
            return;
        };
        for (load, priority) in self.healthy.iter_mut().zip(priorities) {
            *load = (100 * u64::from(priority.total) / total) as u32;
        }
        self.healthy[first] += 100 - self.healthy.iter().sum::<u32>();
    }
}

fn distribute(availability: &[u32], available: u32, rest: &mut u32) -> Vec<u32> {
    availability
        .iter()
        .map(|part| {
            let load = (part * 100 / available).min(*rest);
            *rest -= load;
            load
        })
        .collect()
}

fn in_panic(priority: &Standing, threshold: u8) -> bool {
    let usable = f64::from(priority.healthy) + f64::from(priority.degraded);
    let counted = priority.counted();
    let percent = if counted == 0 {
        0.0
    } else {
        100.0 * usable / f64::from(counted)
    };
    percent < f64::from(threshold.min(100))
}
