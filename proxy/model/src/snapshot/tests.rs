//! Edits share what did not change and carry live state over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::*;
use crate::balance::BalancePolicy;
use crate::cluster::tests::config;
use crate::endpoint::tests_support::address;
use crate::endpoint::{Assignment, Endpoint, EndpointSpec, Locality, LocalitySpec};
use crate::listener::ChainMatch;
use crate::listener::tests::{chain, listener};

fn id(index: u32) -> ClusterId {
    ClusterId::from_index(index)
}

fn assignment(numbers: impl IntoIterator<Item = u8>) -> Arc<Assignment> {
    let endpoints = numbers
        .into_iter()
        .map(|n| Arc::new(EndpointSpec::at(address(n))))
        .collect();
    let locality = LocalitySpec {
        locality: Locality::default(),
        weight: None,
        priority: 0,
        endpoints,
    };
    Arc::new(Assignment {
        localities: vec![locality],
        ..Assignment::empty("c".into())
    })
}

fn endpoint(snapshot: &Snapshot, cluster: u32, n: u8) -> &Arc<Endpoint> {
    let all = &snapshot.cluster(id(cluster)).unwrap().endpoints.endpoints;
    all.iter()
        .find(|endpoint| endpoint.spec.address == address(n))
        .unwrap()
}

fn world() -> Snapshot {
    let mut edit = Edit::new(&Snapshot::default());
    assert!(edit.set_cluster(config(0, BalancePolicy::RoundRobin, 1)));
    assert!(edit.set_cluster(config(1, BalancePolicy::RoundRobin, 1)));
    assert!(edit.set_endpoints(id(0), assignment([1, 2])));
    edit.finish()
}

#[test]
fn counts_survive_changes_of_endpoints_and_of_configuration() {
    let first = world();
    assert_eq!(first.generation, 1);
    endpoint(&first, 0, 1).live().active.store(7, Relaxed);
    let mut edit = Edit::new(&first);
    assert!(edit.set_endpoints(id(0), assignment([1, 3])));
    assert!(edit.set_cluster(config(0, BalancePolicy::Random, 2)));
    assert!(
        !endpoint(&first, 0, 2).live().removed.load(Relaxed),
        "nothing is marked before the edit is finished"
    );
    let second = edit.finish();
    assert_eq!(endpoint(&second, 0, 1).live().active.load(Relaxed), 7);
    assert!(endpoint(&first, 0, 2).live().removed.load(Relaxed));
    assert!(!endpoint(&second, 0, 3).live().removed.load(Relaxed));
    assert!(Arc::ptr_eq(
        &first.cluster(id(0)).unwrap().live,
        &second.cluster(id(0)).unwrap().live
    ));
    assert!(
        Arc::ptr_eq(first.cluster(id(1)).unwrap(), second.cluster(id(1)).unwrap()),
        "untouched parts are shared"
    );
}

#[test]
fn an_endpoint_that_comes_back_is_not_removed() {
    let first = world();
    let mut edit = Edit::new(&first);
    edit.set_endpoints(id(0), assignment([1]));
    edit.set_endpoints(id(0), assignment([1, 2]));
    let second = edit.finish();
    assert!(!endpoint(&second, 0, 2).live().removed.load(Relaxed));
    assert!(Arc::ptr_eq(
        endpoint(&first, 0, 2).live(),
        endpoint(&second, 0, 2).live()
    ));
    let mut edit = Edit::new(&second);
    edit.set_endpoints(id(0), assignment([1]));
    let third = edit.finish();
    let mut edit = Edit::new(&third);
    edit.set_endpoints(id(0), assignment([1, 2]));
    let fourth = edit.finish();
    assert!(endpoint(&second, 0, 2).live().removed.load(Relaxed));
    assert!(!endpoint(&fourth, 0, 2).live().removed.load(Relaxed));
}

#[test]
fn setting_what_is_there_changes_nothing() {
    let first = world();
    let mut edit = Edit::new(&first);
    assert!(!edit.set_cluster(config(0, BalancePolicy::RoundRobin, 1)));
    assert!(!edit.set_endpoints(id(0), assignment([1, 2])));
    assert!(
        !edit.set_endpoints(id(9), assignment([1])),
        "there is no such cluster"
    );
    assert!(!edit.remove_cluster(id(9)) && !edit.remove_listener("l") && !edit.changed());
}

#[test]
fn removing_a_cluster_removes_its_endpoints() {
    let first = world();
    let mut edit = Edit::new(&first);
    assert!(edit.remove_cluster(id(0)));
    let second = edit.finish();
    assert!(second.cluster(id(0)).is_none() && first.cluster(id(0)).is_some());
    assert!(endpoint(&first, 0, 1).live().removed.load(Relaxed));
}

#[test]
fn chains_that_did_not_change_are_shared() {
    let with_port = |port| ChainMatch {
        destination_port: Some(port),
        ..ChainMatch::default()
    };
    let chains = |second| vec![chain("a", with_port(1), 11), chain("b", with_port(2), second)];
    let mut edit = Edit::new(&Snapshot::default());
    edit.set_listener(listener("l", "0.0.0.0:1", chains(22)));
    let first = edit.finish();
    let mut edit = Edit::new(&first);
    edit.set_listener(listener("l", "0.0.0.0:1", chains(33)));
    let second = edit.finish();
    let of = |snapshot: &Snapshot| snapshot.listeners.named("l").unwrap().chains.clone();
    assert!(Arc::ptr_eq(&of(&first)[0], &of(&second)[0]));
    assert!(!Arc::ptr_eq(&of(&first)[1], &of(&second)[1]));
}

#[derive(Debug, Clone)]
enum Step {
    Endpoints(u32, BTreeSet<u8>),
    Config(u32, u64),
    Remove(u32),
    Publish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..3, prop::collection::btree_set(0u8..6, 0..6)).prop_map(|(c, e)| Step::Endpoints(c, e)),
        2 => (0u32..3, 0u64..4).prop_map(|(c, f)| Step::Config(c, f)),
        1 => (0u32..3).prop_map(Step::Remove),
        2 => Just(Step::Publish),
    ]
}

fn policy(fingerprint: u64) -> BalancePolicy {
    if fingerprint.is_multiple_of(2) {
        BalancePolicy::RoundRobin
    } else {
        BalancePolicy::Random
    }
}

/// The addresses of every cluster, and whether each endpoint is marked as removed.
fn shape(snapshot: &Snapshot) -> BTreeMap<u32, Vec<(crate::endpoint::EndpointAddress, bool)>> {
    let endpoints = |cluster: &crate::cluster::Cluster| {
        cluster
            .endpoints
            .endpoints
            .iter()
            .map(|e| (e.spec.address.clone(), e.live().removed.load(Relaxed)))
            .collect()
    };
    snapshot
        .clusters
        .iter()
        .map(|(id, cluster)| (id.index() as u32, endpoints(cluster)))
        .collect()
}

proptest! {
    /// Any sequence of edits ends in the world that a rebuild from scratch gives, and a count set on an endpoint stays
    /// on it for as long as it is in every published version.
    #[test]
    fn carrying_over_loses_no_count_and_equals_a_rebuild(steps in prop::collection::vec(step(), 1..40)) {
        let mut published = Snapshot::default();
        let mut edit = Edit::new(&published);
        let mut said: BTreeMap<u32, (u64, BTreeSet<u8>)> = BTreeMap::new();
        let mut counts: BTreeMap<(u32, u8), u32> = BTreeMap::new();
        let mut next = 1;
        for step in steps.into_iter().chain([Step::Publish]) {
            match step {
                Step::Endpoints(cluster, numbers) => {
                    edit.set_endpoints(id(cluster), assignment(numbers.clone()));
                    if let Some((_, of)) = said.get_mut(&cluster) {
                        *of = numbers;
                    }
                }
                Step::Config(cluster, fingerprint) => {
                    edit.set_cluster(config(cluster, policy(fingerprint), fingerprint));
                    said.entry(cluster).or_default().0 = fingerprint;
                }
                Step::Remove(cluster) => {
                    edit.remove_cluster(id(cluster));
                    said.remove(&cluster);
                }
                Step::Publish => {
                    published = edit.finish();
                    edit = Edit::new(&published);
                    counts.retain(|(cluster, n), _| said.get(cluster).is_some_and(|(_, of)| of.contains(n)));
                    for (cluster, (_, numbers)) in &said {
                        for n in numbers {
                            let live = endpoint(&published, *cluster, *n).live();
                            let expected = *counts.entry((*cluster, *n)).or_insert_with(|| {
                                next += 1;
                                live.active.store(next, Relaxed);
                                next
                            });
                            prop_assert_eq!(live.active.load(Relaxed), expected);
                        }
                    }
                }
            }
        }
        let mut scratch = Edit::new(&Snapshot::default());
        for (cluster, (fingerprint, numbers)) in &said {
            scratch.set_cluster(config(*cluster, policy(*fingerprint), *fingerprint));
            scratch.set_endpoints(id(*cluster), assignment(numbers.clone()));
        }
        prop_assert_eq!(shape(&published), shape(&scratch.finish()));
    }
}
