//! Endpoints that fail alone, all together, for long and again and again.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::balance::BalancePolicy;
use crate::endpoint::tests_support::address;
use crate::endpoint::{
    Assignment, BuildOptions, Endpoint, EndpointSet, EndpointSpec, Health, Locality, LocalitySpec,
};

/// A set of so many endpoints of one priority, as the control thread would build it now.
fn set(count: u8, before: Option<&EndpointSet>) -> EndpointSet {
    let endpoints = (0..count)
        .map(|n| Arc::new(EndpointSpec::at(address(n))))
        .collect();
    let mut assignment = Assignment::empty("c".into());
    assignment.localities.push(LocalitySpec {
        locality: Locality::default(),
        weight: None,
        priority: 0,
        endpoints,
    });
    let options = BuildOptions {
        policy: BalancePolicy::RoundRobin,
        locality_weighted: false,
        panic_threshold: 50,
    };
    EndpointSet::build(Arc::new(assignment), &options, |address| {
        let members = before?.endpoints.iter();
        members.into_iter().find(|e| e.spec.address == *address)
    })
}

/// A cluster in simulated time: every request goes round robin over what is usable.
struct World {
    settings: OutlierDetection,
    set: EndpointSet,
    now: Duration,
    next_interval: Duration,
    turn: u32,
    rng: fastrand::Rng,
    verdicts: Vec<Verdict>,
    judged: Vec<Trip>,
}

impl World {
    fn new(count: u8, settings: OutlierDetection) -> Self {
        Self {
            next_interval: settings.interval,
            settings,
            set: set(count, None),
            now: Duration::ZERO,
            turn: 0,
            rng: fastrand::Rng::with_seed(7),
            verdicts: Vec::new(),
            judged: Vec::new(),
        }
    }

    fn rebuild(&mut self) {
        self.set = set(self.set.endpoints.len() as u8, Some(&self.set));
    }

    /// One request a millisecond, answered by `status` of the endpoint's number; returns who was asked.
    fn request(&mut self, status: impl Fn(usize) -> Outcome) -> usize {
        self.now += Duration::from_millis(1);
        let balancer = &self.set.priorities[0].over_healthy;
        let balancer = if balancer.endpoints().is_empty() {
            &self.set.priorities[0].over_all
        } else {
            balancer
        };
        self.turn += 1;
        let endpoint = Arc::clone(balancer.pick(self.turn, None, &mut self.rng).unwrap());
        let at = self.position(&endpoint);
        let monitor = &endpoint.live().watch().monitor;
        for trip in monitor
            .report(&self.settings, status(at), self.now)
            .into_iter()
            .flatten()
        {
            let verdict = self
                .settings
                .tripped(&self.set, &endpoint, trip, self.now, &mut self.rng);
            self.verdicts.push(verdict);
            self.judged.push(trip);
        }
        if self.now >= self.next_interval {
            self.next_interval += self.settings.interval;
            for change in self.settings.interval_ended(&self.set, self.now, &mut self.rng) {
                if let Change::Judged(_, trip, verdict) = change {
                    self.verdicts.push(verdict);
                    self.judged.push(trip);
                }
            }
        }
        self.rebuild();
        at
    }

    fn position(&self, endpoint: &Endpoint) -> usize {
        let mut all = self.set.endpoints.iter();
        all.position(|e| e.shares_counts(endpoint)).unwrap()
    }

    fn ejected(&self) -> Vec<usize> {
        (0..self.set.endpoints.len())
            .filter(|at| self.set.endpoints[*at].has(Flag::Ejected))
            .collect()
    }
}

fn failing(numbers: &'static [usize]) -> impl Fn(usize) -> Outcome {
    move |at| Outcome::Answered(if numbers.contains(&at) { 503 } else { 200 })
}

fn short() -> OutlierDetection {
    OutlierDetection {
        interval: Duration::from_secs(1),
        base: Duration::from_secs(3),
        max_percent: 50,
        ..OutlierDetection::default()
    }
}

#[test]
fn one_failing_of_ten_is_ejected_within_an_interval_and_returns() {
    let mut world = World::new(10, short());
    while world.ejected().is_empty() {
        world.request(failing(&[3]));
        assert!(world.now < world.settings.interval, "not ejected in time");
    }
    assert_eq!(world.ejected(), [3]);
    assert_eq!(world.set.endpoints[3].health(), Health::Unhealthy);
    let ejected_at = world.now;
    // Its fifth failure ejected it, and nobody asks it any more.
    for _ in 0..1000 {
        assert_ne!(world.request(failing(&[3])), 3);
    }
    while !world.ejected().is_empty() {
        world.request(failing(&[]));
    }
    let away = world.now - ejected_at;
    assert!(away >= world.settings.base && away <= world.settings.base + world.settings.interval);
    assert!((0..10).any(|_| world.request(failing(&[])) == 3), "back in use");
}

#[test]
fn what_all_have_in_common_ejects_none() {
    for balance_of_time in [0, 500] {
        let mut world = World::new(
            10,
            OutlierDetection {
                max_percent: 100,
                ..short()
            },
        );
        for _ in 0..balance_of_time {
            world.request(failing(&[]));
        }
        for _ in 0..5000 {
            world.request(|_| Outcome::Answered(503));
            assert_eq!(world.ejected(), [0usize; 0]);
        }
        assert!(world.verdicts.contains(&Verdict::Common));
        assert!(!world.verdicts.contains(&Verdict::Ejected));
    }
}

#[test]
fn a_lone_endpoint_is_never_ejected() {
    let mut world = World::new(
        1,
        OutlierDetection {
            max_percent: 100,
            always_one: true,
            ..short()
        },
    );
    for _ in 0..100 {
        world.request(|_| Outcome::Answered(500));
    }
    assert!(world.ejected().is_empty() && world.verdicts.contains(&Verdict::Common));
}

#[test]
fn the_last_that_works_stays_when_the_others_are_out() {
    let mut world = World::new(
        3,
        OutlierDetection {
            max_percent: 100,
            ..short()
        },
    );
    for _ in 0..100 {
        world.request(failing(&[0, 1]));
    }
    assert_eq!(world.ejected(), [0, 1]);
    for _ in 0..100 {
        world.request(|_| Outcome::Answered(500));
    }
    assert_eq!(world.ejected(), [0, 1], "the last one fails too, and stays");
}

#[test]
fn no_more_than_the_allowed_share_is_ejected() {
    let mut world = World::new(
        10,
        OutlierDetection {
            max_percent: 20,
            ..short()
        },
    );
    for _ in 0..900 {
        world.request(failing(&[0, 1, 2, 3]));
    }
    assert_eq!(world.ejected().len(), 2);
    assert!(world.verdicts.contains(&Verdict::Overflow));
    // Ten percent of five is none, unless one may always go.
    for always_one in [false, true] {
        let mut world = World::new(
            5,
            OutlierDetection {
                max_percent: 10,
                always_one,
                ..short()
            },
        );
        for _ in 0..500 {
            world.request(failing(&[0, 1]));
        }
        assert_eq!(world.ejected().len(), usize::from(always_one));
    }
}

#[test]
fn each_ejection_is_longer_up_to_the_maximum_and_shorter_again_in_peace() {
    let settings = OutlierDetection {
        max: Duration::from_secs(9),
        ..short()
    };
    let mut world = World::new(4, settings);
    let mut away = Vec::new();
    for _ in 0..5 {
        while world.ejected().is_empty() {
            world.request(failing(&[2]));
        }
        let since = world.now;
        while !world.ejected().is_empty() {
            world.request(failing(&[2]));
        }
        away.push((world.now - since).as_secs());
    }
    assert_eq!(away, [3, 6, 9, 9, 9]);
    for _ in 0..10_000 {
        world.request(failing(&[]));
    }
    while world.ejected().is_empty() {
        world.request(failing(&[2]));
    }
    let since = world.now;
    while !world.ejected().is_empty() {
        world.request(failing(&[2]));
    }
    assert_eq!((world.now - since).as_secs(), 3);
}

#[test]
fn runs_are_counted_by_kind_and_ended_by_what_differs() {
    use Outcome::{Answered, Reset, TimedOut};
    let judged = |settings: OutlierDetection, outcomes: &[Outcome]| {
        let monitor = Monitor::default();
        let mut trips = Vec::new();
        for outcome in outcomes {
            let reached = monitor.report(&settings, *outcome, Duration::from_secs(1));
            trips.extend(reached.into_iter().flatten());
        }
        trips
    };
    let three = || OutlierDetection {
        consecutive_5xx: 3,
        consecutive_gateway: 2,
        consecutive_local: 2,
        ..OutlierDetection::default()
    };
    let split = OutlierDetection {
        split: true,
        ..three()
    };
    let (server, gateway) = (Trip::Consecutive5xx, Trip::ConsecutiveGateway);
    assert_eq!(judged(three(), &[Answered(500); 3]), [server]);
    assert_eq!(judged(three(), &[Answered(503); 3]), [gateway, server]);
    assert_eq!(
        judged(three(), &[Answered(503), Answered(500), Answered(503)]),
        [server]
    );
    assert_eq!(
        judged(
            three(),
            &[Answered(500), Answered(500), Answered(404), Answered(500)]
        ),
        []
    );
    assert_eq!(judged(three(), &[Reset, TimedOut, Reset]), [gateway, server]);
    assert_eq!(
        judged(split.clone(), &[Reset, TimedOut]),
        [Trip::ConsecutiveLocal]
    );
    assert_eq!(judged(split.clone(), &[Reset, Outcome::Connected, Reset]), []);
    assert_eq!(
        judged(split, &[Answered(500), Reset, Answered(500), Answered(500)]),
        [server]
    );
    // A run is told of once.
    assert_eq!(judged(three(), &[Answered(500); 9]), [server]);
}

#[test]
fn an_endpoint_with_a_low_success_rate_is_ejected_at_the_end_of_an_interval() {
    let settings = OutlierDetection {
        consecutive_5xx: 0,
        success_rate: RateRule {
            minimum_hosts: 5,
            volume: 20,
            factor: 1900,
        },
        ..short()
    };
    let mut world = World::new(10, settings);
    // Every third answer of endpoint 4 is well.
    let turn = std::cell::Cell::new(0);
    let bad = |at: usize| {
        turn.set(turn.get() + 1);
        Outcome::Answered(if at == 4 && turn.get() % 3 > 0 { 500 } else { 200 })
    };
    while world.now < Duration::from_millis(999) {
        world.request(bad);
        assert!(world.ejected().is_empty());
    }
    world.request(bad);
    assert_eq!(world.ejected(), [4]);
    assert_eq!(
        (world.judged, world.verdicts),
        (vec![Trip::SuccessRate], vec![Verdict::Ejected])
    );
}

#[test]
fn a_failure_percentage_ejects_some_but_not_all() {
    let settings = OutlierDetection {
        consecutive_5xx: 0,
        failure_percentage: RateRule {
            minimum_hosts: 5,
            volume: 20,
            factor: 60,
        },
        success_rate: RateRule {
            minimum_hosts: 100,
            volume: 1,
            factor: 1,
        },
        enforcing: Enforcing {
            failure_percentage: 100,
            ..OutlierDetection::default().enforcing
        },
        max_percent: 100,
        ..short()
    };
    let mut world = World::new(6, settings.clone());
    for _ in 0..1000 {
        world.request(failing(&[1, 5]));
    }
    assert_eq!(world.ejected(), [1, 5]);
    let mut world = World::new(6, settings);
    for _ in 0..5000 {
        world.request(|_| Outcome::Answered(500));
    }
    assert!(world.ejected().is_empty() && world.verdicts.iter().all(|v| *v == Verdict::Common));
}

#[test]
fn what_is_not_enforced_is_only_noticed() {
    let mut settings = short();
    settings.enforcing.consecutive_5xx = 0;
    let mut world = World::new(3, settings);
    for _ in 0..100 {
        world.request(failing(&[1]));
    }
    assert!(world.ejected().is_empty());
    assert!(
        world
            .verdicts
            .iter()
            .all(|verdict| *verdict == Verdict::NotEnforced)
    );
}

#[test]
fn a_refusal_leaves_an_endpoint_out_but_never_the_last_nor_into_panic() {
    let all = set(3, None);
    let [a, b, c] = [0, 1, 2].map(|n| Arc::clone(&all.endpoints[n]));
    assert_eq!(Quarantine::refused(&all, &a), Some(quarantine::FIRST));
    assert_eq!(a.health(), Health::Unhealthy);
    assert_eq!(Quarantine::refused(&all, &a), None, "it is out already");
    // One of three would be left, which is panic.
    assert_eq!(Quarantine::refused(&all, &b), None);
    Quarantine::over(&a);
    assert_eq!(Quarantine::refused(&all, &a), Some(quarantine::FIRST * 2));
    for _ in 0..9 {
        Quarantine::over(&a);
        assert!(Quarantine::refused(&all, &a).unwrap() <= quarantine::LONGEST);
    }
    Quarantine::over(&a);
    a.live().connected();
    assert_eq!(Quarantine::refused(&all, &a), Some(quarantine::FIRST));
    assert_eq!(c.health(), Health::Healthy);
    let lone = set(1, None);
    assert_eq!(Quarantine::refused(&lone, &lone.endpoints[0]), None);
}
