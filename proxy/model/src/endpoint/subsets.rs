//! The subsets of a cluster's endpoints: which there are, and which one a request gets.
//!
//! Holds: a subset exists while an endpoint has its labels, whatever its health; it is balanced over like a whole cluster,
//! with priorities and a round-robin sequence of its own, which it keeps from version to version.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::build::{Built, Shape, spread};
use super::{Endpoint, LabelValue, Labels, Priority, PriorityLoads};
use crate::Name;
use crate::balance::{SelectorFallback, SubsetFallback, SubsetPolicy, SubsetSelector};
use crate::cluster::{Over, Pick};

/// All subsets of a cluster.
#[derive(Debug)]
pub struct Subsets {
    policy: Arc<SubsetPolicy>,
    by_labels: HashMap<Labels, Subset, rapidhash::fast::RandomState>,
    /// `default_subset`, where something falls back to it.
    default: Option<Subset>,
    /// Endpoints that share a subset of one endpoint with another (`lb_subsets_single_host_per_subset_duplicate`).
    pub duplicates: u64,
    /// What was counted.
    pub counts: Arc<SubsetCounts>,
}

/// What Envoy counts as `lb_subsets_*`, exact across workers and carried over.
#[derive(Debug, Default)]
pub struct SubsetCounts {
    /// Subsets that came up.
    pub created: AtomicU64,
    /// Subsets that went away.
    pub removed: AtomicU64,
    /// Requests whose labels selected a subset.
    pub selected: AtomicU64,
    /// Requests that the fallback policy took.
    pub fallback: AtomicU64,
    /// Requests that `panic_mode_any` took.
    pub fallback_panic: AtomicU64,
}

#[derive(Debug)]
enum Subset {
    /// `single_host_per_subset`.
    Single(Arc<Endpoint>, u32),
    Many {
        priorities: Vec<Priority>,
        loads: Arc<PriorityLoads>,
        sequence: Arc<AtomicU32>,
    },
}

/// Chooses an endpoint of one group.
pub(crate) type Choose<'f, 's> = &'f mut dyn FnMut(Over<'s>) -> Option<Pick<'s>>;

impl Subsets {
    /// The subsets of these localities, by priority; counts and sequences go on where `before` had them.
    pub(super) fn build(
        policy: &Arc<SubsetPolicy>,
        priorities: &[Vec<Built<'_>>],
        shape: Shape<'_>,
        before: Option<&Self>,
    ) -> Self {
        let mut found = Found::default();
        for (priority, localities) in (0u32..).zip(priorities) {
            for endpoint in localities.iter().flat_map(|(_, all)| all) {
                found.add(policy, endpoint, priority);
            }
            found.seen_at_priority.clear();
        }
        let earlier = |labels: &Labels| before.and_then(|before| before.by_labels.get(labels));
        let many = |members: &HashSet<*const Endpoint>, earlier: Option<&Subset>| {
            let own = Shape {
                earlier: match earlier {
                    Some(Subset::Many { priorities, .. }) => Some(priorities),
                    _ => None,
                },
                ..shape
            };
            let (priorities, loads) = spread(&restricted(policy, priorities, members), own);
            let sequence = match earlier {
                Some(Subset::Many { sequence, .. }) => Arc::clone(sequence),
                _ => Arc::default(),
            };
            Subset::Many {
                priorities,
                loads,
                sequence,
            }
        };
        let by_labels: HashMap<_, _, _> = found
            .subsets
            .into_iter()
            .map(|(labels, members)| {
                let subset = match members {
                    Members::Single(endpoint, priority) => Subset::Single(endpoint, priority),
                    Members::Many(members) => many(&members, earlier(&labels)),
                };
                (labels, subset)
            })
            .collect();
        let counts = before.map_or_else(Arc::default, |before| Arc::clone(&before.counts));
        let default = policy.uses_default().then(|| {
            let endpoints = priorities.iter().flatten().flat_map(|(_, all)| all);
            let matching = endpoints.filter(|endpoint| {
                let labels = &endpoint.spec.details().balance_labels;
                labels.satisfy(&policy.default_subset, policy.list_as_any)
            });
            let members = matching.map(Arc::as_ptr).collect();
            many(&members, before.and_then(|before| before.default.as_ref()))
        });
        Self {
            policy: Arc::clone(policy),
            by_labels,
            default,
            duplicates: found.duplicates,
            counts,
        }
    }

    /// Counts what came and went since `before`.
    pub(crate) fn count_changes(before: Option<&Self>, after: Option<&Self>) {
        let has = |subsets: Option<&Self>, labels: &Labels| {
            subsets.is_some_and(|subsets| subsets.by_labels.contains_key(labels))
        };
        let only_in = |one: &Self, other: Option<&Self>| {
            let only = one.by_labels.keys().filter(|labels| !has(other, labels));
            only.count() as u64
        };
        if let Some(after) = after {
            let new = only_in(after, before);
            after.counts.created.fetch_add(new, Ordering::Relaxed);
        }
        if let Some(before) = before {
            let gone = only_in(before, after);
            before.counts.removed.fetch_add(gone, Ordering::Relaxed);
        }
    }

    /// How many there are.
    pub fn active(&self) -> usize {
        self.by_labels.len()
    }

    /// An endpoint for a request with these labels; `any` is the whole cluster.
    pub(crate) fn pick<'s>(
        &'s self,
        any: Over<'s>,
        criteria: Option<&Labels>,
        choose: Choose<'_, 's>,
    ) -> Option<Pick<'s>> {
        const FALLBACK_LIST: &str = "fallback_list";
        let list = criteria
            .filter(|_| self.policy.fallback_list)
            .and_then(|criteria| criteria.at(FALLBACK_LIST));
        let (Some(criteria), Some(list)) = (criteria, list) else {
            return self.once(any, criteria, choose);
        };
        let plain = criteria.only(|key| key != FALLBACK_LIST);
        let alternatives = match list {
            LabelValue::List(values) => &**values,
            _ => &[],
        };
        if alternatives.is_empty() {
            return self.once(any, Some(&plain), choose);
        }
        alternatives.iter().find_map(|alternative| {
            let merged = match alternative {
                LabelValue::Fields(over) => plain.merged(over),
                _ => plain.clone(),
            };
            self.once(any, Some(&merged), &mut *choose)
        })
    }

    /// One walk from the subset to its fallbacks. Ends: a fallback to fewer keys has fewer keys.
    fn once<'s>(
        &'s self,
        any: Over<'s>,
        criteria: Option<&Labels>,
        choose: Choose<'_, 's>,
    ) -> Option<Pick<'s>> {
        let default = || self.default.as_ref().map(Subset::over);
        if let Some(criteria) = criteria {
            let narrowed = self.policy.narrowed(criteria);
            let criteria = narrowed.as_ref().unwrap_or(criteria);
            if let Some(subset) = self.by_labels.get(criteria) {
                self.counts.selected.fetch_add(1, Ordering::Relaxed);
                return subset.pick(choose);
            }
            match self.policy.fallback_of(criteria) {
                Some(SelectorFallback::Like(SubsetFallback::None)) => return None,
                Some(SelectorFallback::Like(SubsetFallback::Any)) => return choose(any),
                Some(SelectorFallback::Like(SubsetFallback::Default)) => return choose(default()??),
                Some(SelectorFallback::Keys(keys)) => {
                    let fewer = criteria.only(|key| keys.iter().any(|kept| **kept == *key));
                    let fewer = (!fewer.is_empty()).then_some(&fewer);
                    return self.once(any, fewer, choose);
                }
                None => {}
            }
        }
        let fallback = match self.policy.fallback {
            SubsetFallback::None => return None,
            SubsetFallback::Any => any,
            SubsetFallback::Default => default()??,
        };
        if let Some(pick) = choose(fallback) {
            self.counts.fallback.fetch_add(1, Ordering::Relaxed);
            return Some(pick);
        }
        if !self.policy.panic_any {
            return None;
        }
        let pick = choose(any)?;
        self.counts.fallback_panic.fetch_add(1, Ordering::Relaxed);
        Some(pick)
    }
}

impl Subset {
    fn over(&self) -> Option<Over<'_>> {
        match self {
            Self::Single(..) => None,
            Self::Many {
                priorities,
                loads,
                sequence,
            } => Some(Over {
                priorities,
                loads,
                sequence,
            }),
        }
    }

    fn pick<'s>(&'s self, choose: Choose<'_, 's>) -> Option<Pick<'s>> {
        match self {
            // Health does not matter here, as in Envoy.
            Self::Single(endpoint, priority) => Some(Pick {
                endpoint,
                priority: *priority,
                panic: false,
            }),
            Self::Many { .. } => choose(self.over()?),
        }
    }
}

/// Members of the subsets while they are collected.
enum Members {
    Single(Arc<Endpoint>, u32),
    Many(HashSet<*const Endpoint>),
}

#[derive(Default)]
struct Found {
    subsets: HashMap<Labels, Members, rapidhash::fast::RandomState>,
    seen_at_priority: HashSet<Labels>,
    duplicates: u64,
}

impl Found {
    fn add(&mut self, policy: &SubsetPolicy, endpoint: &Arc<Endpoint>, priority: u32) {
        let labels = &endpoint.spec.details().balance_labels;
        for selector in &policy.selectors {
            for subset in combinations(labels, selector, policy.list_as_any) {
                let members =
                    self.subsets
                        .entry(subset.clone())
                        .or_insert_with(|| match selector.single_host {
                            true => Members::Single(Arc::clone(endpoint), priority),
                            false => Members::Many(HashSet::new()),
                        });
                match members {
                    Members::Many(members) => {
                        members.insert(Arc::as_ptr(endpoint));
                    }
                    Members::Single(..) => {
                        self.duplicates += u64::from(!self.seen_at_priority.insert(subset));
                    }
                }
            }
        }
    }
}

/// The labels of every subset of `selector` that an endpoint with `labels` belongs to.
fn combinations(labels: &Labels, selector: &SubsetSelector, list_as_any: bool) -> Vec<Labels> {
    if selector.keys.is_empty() {
        return Vec::new();
    }
    let mut all: Vec<Vec<(Name, LabelValue)>> = vec![Vec::new()];
    for key in &selector.keys {
        let values = match labels.at(key) {
            None => return Vec::new(),
            Some(LabelValue::List(values)) if list_as_any => &**values,
            Some(value) => std::slice::from_ref(value),
        };
        all = all
            .iter()
            .flat_map(|begun| {
                values.iter().map(|value| {
                    let mut longer = begun.clone();
                    longer.push((Arc::clone(key), value.clone()));
                    longer
                })
            })
            .collect();
    }
    all.into_iter().map(Labels::new).collect()
}

/// The localities with these of their endpoints, and with their weights scaled where that was said.
fn restricted<'a>(
    policy: &SubsetPolicy,
    priorities: &[Vec<Built<'a>>],
    members: &HashSet<*const Endpoint>,
) -> Vec<Vec<Built<'a>>> {
    let locality = |(said, all): &Built<'a>| {
        let kept: Vec<_> = all
            .iter()
            .filter(|endpoint| members.contains(&Arc::as_ptr(endpoint)))
            .cloned()
            .collect();
        let mut said = *said;
        if policy.scaled_weights && !all.is_empty() {
            let scaled = f64::from(said.weight.unwrap_or(0)) * kept.len() as f64 / all.len() as f64;
            said.weight = Some(scaled.round() as u32);
        }
        (said, kept)
    };
    priorities
        .iter()
        .map(|localities| localities.iter().map(locality).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::BalancePolicy;
    use crate::cluster::tests::config;
    use crate::cluster::{ClusterConfig, PickFacts};
    use crate::endpoint::tests_support::address;
    use crate::endpoint::{Assignment, EndpointDetails, EndpointSpec, Locality, LocalitySpec};
    use crate::snapshot::{Edit, Snapshot};

    fn labels(version: &str) -> Labels {
        Labels::new(vec![("version".into(), LabelValue::Text(version.into()))])
    }

    fn assignment(versions: &[&str]) -> Arc<Assignment> {
        let endpoint = |(n, version): (u8, &&str)| {
            Arc::new(EndpointSpec {
                details: Some(Arc::new(EndpointDetails {
                    balance_labels: labels(version),
                    ..EndpointDetails::default()
                })),
                ..EndpointSpec::at(address(n))
            })
        };
        Arc::new(Assignment {
            localities: vec![LocalitySpec {
                locality: Locality::default(),
                weight: None,
                priority: 0,
                endpoints: (0..).zip(versions).map(endpoint).collect(),
            }],
            ..Assignment::empty("c".into())
        })
    }

    fn by_version() -> Arc<ClusterConfig> {
        let policy = SubsetPolicy {
            inner: BalancePolicy::RoundRobin,
            fallback: SubsetFallback::None,
            default_subset: Labels::none(),
            selectors: vec![SubsetSelector {
                keys: vec!["version".into()],
                single_host: false,
                fallback: None,
            }],
            redundant_keys: false,
            locality_weights: false,
            scaled_weights: false,
            panic_any: false,
            list_as_any: false,
            fallback_list: false,
        };
        config(0, BalancePolicy::Subset(Arc::new(policy)), 1)
    }

    fn picks(world: &Snapshot, version: &str, count: usize) -> Vec<crate::endpoint::EndpointAddress> {
        let (_, cluster) = world.clusters.iter().next().unwrap();
        let wanted = labels(version);
        let facts = PickFacts {
            labels: Some(&wanted),
            ..PickFacts::default()
        };
        let mut rng = fastrand::Rng::with_seed(1);
        (0..count)
            .map(|_| {
                cluster
                    .pick(&facts, &mut rng)
                    .unwrap()
                    .endpoint
                    .spec
                    .address
                    .clone()
            })
            .collect()
    }

    fn counts(world: &Snapshot) -> (usize, u64, u64) {
        let (_, cluster) = world.clusters.iter().next().unwrap();
        let subsets = cluster.endpoints.subsets.as_ref().unwrap();
        let counts = &subsets.counts;
        (
            subsets.active(),
            counts.created.load(Ordering::Relaxed),
            counts.removed.load(Ordering::Relaxed),
        )
    }

    #[test]
    fn a_subset_takes_turns_of_its_own_and_keeps_them_when_others_change() {
        let mut edit = Edit::new(&Snapshot::default());
        let config = by_version();
        edit.set_cluster(config.clone());
        edit.set_endpoints(config.id, assignment(&["1", "1", "2", "2"]));
        let world = edit.finish();
        // Requests for both alternate: a common sequence would give each the same endpoint for ever.
        let turns: Vec<_> = (0..2)
            .flat_map(|_| [picks(&world, "1", 1), picks(&world, "2", 1)])
            .flatten()
            .collect();
        assert_eq!(turns, [0, 2, 1, 3].map(address));
        assert_eq!(picks(&world, "1", 1), [address(0)]);

        let mut edit = Edit::new(&world);
        edit.set_endpoints(config.id, assignment(&["1", "1", "3", "3", "4"]));
        drop(edit.preview().clone());
        assert_eq!(counts(&world), (2, 2, 0), "nothing changed yet");
        let next = edit.finish();
        assert_eq!(picks(&next, "1", 2), [1, 0].map(address));
        assert_eq!(picks(&next, "3", 2), [2, 3].map(address));
        assert_eq!(counts(&next), (3, 4, 1));
    }
}
