//! How assignments become priorities, loads and groups.

use std::sync::Arc;

use super::tests_support::address;
use super::*;
use crate::balance::BalancePolicy;

fn options(policy: BalancePolicy, panic_threshold: u8) -> BuildOptions {
    BuildOptions {
        policy,
        locality_weighted: false,
        panic_threshold,
    }
}

fn locality(priority: u32, weight: Option<u32>, endpoints: &[(u8, Health)]) -> LocalitySpec {
    let endpoints = endpoints
        .iter()
        .map(|(n, health)| {
            Arc::new(EndpointSpec {
                status: (*health).into(),
                ..EndpointSpec::at(address(*n))
            })
        })
        .collect();
    LocalitySpec {
        locality: Locality::default(),
        weight,
        priority,
        endpoints,
    }
}

fn build(localities: Vec<LocalitySpec>, options: &BuildOptions) -> EndpointSet {
    let assignment = Assignment {
        name: "c".into(),
        localities,
        overprovisioning: 140,
    };
    assignment.check().unwrap();
    EndpointSet::build(Arc::new(assignment), options, |_| None)
}

use Health::{Degraded as D, Healthy as H, Unhealthy as U};

/// Health by priority, then the loads of healthy and degraded endpoints and panic by priority.
type LoadCase<'a> = (&'a [&'a [Health]], &'a [u32], &'a [u32], &'a [bool]);

#[test]
fn loads_follow_overprovisioning_and_panic() {
    let cases: &[LoadCase<'_>] = &[
        // All healthy: everything to the first priority.
        (&[&[H, H], &[H]], &[100, 0], &[0, 0], &[false, false]),
        // 3 of 4 healthy: 105 % is enough.
        (&[&[H, H, H, U], &[H]], &[100, 0], &[0, 0], &[false, false]),
        // 1 of 2 healthy: 70 %, the rest to the next.
        (&[&[H, U], &[H]], &[70, 30], &[0, 0], &[false, false]),
        // Together less than 100 %: shares are scaled; 28 % healthy is below 50: panic there.
        (
            &[&[H, U, U, U, U], &[H, U, U, U, U]],
            &[50, 50],
            &[0, 0],
            &[true, true],
        ),
        // Degraded ones take what healthy ones cannot.
        (&[&[H, D]], &[70], &[30], &[false]),
        // Nothing is healthy: panic by size.
        (&[&[U], &[U, U, U]], &[25, 75], &[0, 0], &[true, true]),
        // A gap in the priorities has no endpoints.
        (&[&[], &[H]], &[0, 100], &[0, 0], &[false, false]),
    ];
    for (priorities, healthy, degraded, panic) in cases {
        let mut number = 0;
        let localities = priorities.iter().zip(0..).map(|(health, priority)| {
            let endpoints: Vec<_> = health
                .iter()
                .map(|health| {
                    number += 1;
                    (number, *health)
                })
                .collect();
            locality(priority, None, &endpoints)
        });
        let loads = build(localities.collect(), &options(BalancePolicy::Random, 50)).loads;
        assert_eq!(
            (&loads.healthy[..], &loads.degraded[..], &loads.panic[..]),
            (*healthy, *degraded, *panic),
            "{priorities:?}"
        );
        assert_eq!(loads.healthy.iter().chain(&loads.degraded).sum::<u32>(), 100);
    }
}

#[test]
fn a_threshold_of_zero_never_panics() {
    let set = build(
        vec![locality(0, None, &[(1, U), (2, U)])],
        &options(BalancePolicy::Random, 0),
    );
    assert_eq!(set.loads.panic, [false]);
    let degraded = build(
        vec![locality(0, None, &[(1, D), (2, U)])],
        &options(BalancePolicy::Random, 0),
    );
    assert_eq!(
        (degraded.loads.healthy.clone(), degraded.loads.degraded.clone()),
        (vec![0], vec![100])
    );
}

#[test]
fn an_address_counts_once() {
    let set = build(
        vec![locality(0, None, &[(1, H), (1, H), (2, H)])],
        &options(BalancePolicy::RoundRobin, 50),
    );
    assert_eq!(set.endpoints.len(), 2);
    let mut rng = fastrand::Rng::with_seed(1);
    let picks: Vec<_> = (0..4)
        .map(|s| {
            set.priorities[0]
                .over_healthy
                .pick(s, None, &mut rng)
                .unwrap()
                .spec
                .address
                .clone()
        })
        .collect();
    assert_eq!(picks, [address(1), address(2), address(1), address(2)]);
}

#[test]
fn an_unhealthy_share_of_a_locality_reduces_its_weight() {
    let weighted = BuildOptions {
        locality_weighted: true,
        ..options(BalancePolicy::RoundRobin, 0)
    };
    // One of two healthy: weight 1 * 70 %, against 1 of the other locality.
    let set = build(
        vec![
            locality(0, Some(1), &[(1, H), (2, U)]),
            locality(0, Some(1), &[(3, H)]),
        ],
        &weighted,
    );
    let mut rng = fastrand::Rng::with_seed(1);
    let first = (0..17_000)
        .filter(|s| {
            set.priorities[0]
                .over_healthy
                .pick(*s, None, &mut rng)
                .unwrap()
                .spec
                .address
                == address(1)
        })
        .count();
    assert!((6_950..7_050).contains(&first), "{first}");
}

#[test]
fn a_locality_without_weight_gets_nothing_where_weights_count() {
    let weighted = BuildOptions {
        locality_weighted: true,
        ..options(BalancePolicy::RoundRobin, 0)
    };
    let set = build(
        vec![locality(0, None, &[(1, H)]), locality(0, Some(1), &[(2, H)])],
        &weighted,
    );
    let mut rng = fastrand::Rng::with_seed(1);
    for sequence in 0..10 {
        assert_eq!(
            set.priorities[0]
                .over_healthy
                .pick(sequence, None, &mut rng)
                .unwrap()
                .spec
                .address,
            address(2)
        );
    }
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let mut heavy = locality(0, None, &[(1, H), (2, H)]);
    Arc::make_mut(&mut heavy.endpoints[0]).weight = u32::MAX;
    let assignment = |localities| Assignment {
        name: "c".into(),
        localities,
        overprovisioning: 140,
    };
    assert_eq!(assignment(vec![heavy]).check(), Err(BuildError::EndpointWeights));
    let heavy = || locality(3, Some(u32::MAX), &[]);
    assert_eq!(
        assignment(vec![heavy(), heavy()]).check(),
        Err(BuildError::LocalityWeights(3))
    );
    assert_eq!(
        assignment(vec![locality(129, None, &[])]).check(),
        Err(BuildError::Priority(129))
    );
}

/// The set that follows `before` when these endpoints are all there are.
fn after(before: &EndpointSet, endpoints: &[(u8, Health)], salt: u64) -> EndpointSet {
    let assignment = Assignment {
        name: "c".into(),
        localities: vec![locality(0, None, endpoints)],
        overprovisioning: 140,
    };
    let around = Around {
        earlier: Some(before),
        salt,
        ..Around::default()
    };
    let known = |address: &EndpointAddress| before.endpoints.iter().find(|e| e.spec.address == *address);
    EndpointSet::build_in(Arc::new(assignment), &before.options, known, around)
}

fn picked(set: &EndpointSet) -> EndpointAddress {
    let mut rng = fastrand::Rng::with_seed(1);
    let balancer = &set.priorities[0].over_healthy;
    balancer.pick(0, None, &mut rng).unwrap().spec.address.clone()
}

#[test]
fn the_first_stays_the_first_until_it_may_not_be_used() {
    for shuffle in [false, true] {
        let options = options(BalancePolicy::PickFirst { shuffle }, 50);
        let none = build(Vec::new(), &options);
        let all: Vec<_> = (1..6).map(|n| (n, H)).collect();
        let set = after(&none, &all, 7);
        let first = picked(&set);
        assert!(shuffle || first == address(1));
        // Others come and go, and the list is turned round.
        let mut others: Vec<_> = (0..9).map(|n| (n, H)).rev().collect();
        let set = after(&set, &others, 7);
        assert_eq!(picked(&set), first);
        others.iter_mut().find(|(n, _)| address(*n) == first).unwrap().1 = U;
        let set = after(&set, &others, 7);
        let second = picked(&set);
        assert_ne!(second, first);
        let set = after(&set, &all, 7);
        assert_eq!(
            picked(&set) == second,
            all.iter().any(|(n, _)| address(*n) == second)
        );
    }
}

#[test]
fn a_few_by_chance_are_all_that_is_chosen_from() {
    let few = crate::balance::RandomSubset {
        size: 3,
        inner: BalancePolicy::RoundRobin,
    };
    let options = options(BalancePolicy::RandomSubset(Arc::new(few)), 50);
    let all: Vec<_> = (0..12).map(|n| (n, H)).collect();
    let used = |set: &EndpointSet| {
        let mut used: Vec<_> = set.priorities[0]
            .over_all
            .endpoints()
            .iter()
            .map(|e| e.spec.address.clone())
            .collect();
        used.sort();
        used
    };
    let none = build(Vec::new(), &options);
    let sets: Vec<EndpointSet> = (0..20).map(|salt| after(&none, &all, salt)).collect();
    assert!(
        sets.iter()
            .all(|set| used(set).len() == 3 && set.endpoints.len() == 12)
    );
    assert!(
        sets.iter().any(|set| used(set) != used(&sets[0])),
        "every process has the same few"
    );
    // One of them falls ill: it is still one of the few, as gRFC A68 has it.
    let EndpointAddress::Socket(ill) = used(&sets[0])[0].clone() else {
        panic!("not an address");
    };
    let sick: Vec<_> = all
        .iter()
        .map(|(n, _)| {
            (
                *n,
                if address(*n) == EndpointAddress::Socket(ill) {
                    U
                } else {
                    H
                },
            )
        })
        .collect();
    let set = after(&sets[0], &sick, 0);
    assert_eq!(used(&set), used(&sets[0]));
    assert_eq!((set.priorities[0].healthy, set.priorities[0].total), (2, 3));
}
