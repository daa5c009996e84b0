//! What does a backend in a brown-out get from three proxies in a row that all retry?
//!
//! Requests come at random times through three hops to a backend that fails a share of them. Each hop decides as the
//! proxy does (`remora_model::retry`), with a policy of three retries and a cluster of which nothing was said.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode};
use remora_model::cluster::{ClusterLive, RequestPriority};
use remora_model::retry::{
    Bearer, Conditions, Ended, Moment, NO_RETRY, Reset, RetryLimit, RetryPolicy, Tries,
};

const HOPS: usize = 3;
const PRIORITY: RequestPriority = RequestPriority::Default;

/// Who stands between two hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    /// Nobody: one proxy hears what the next says.
    Nothing,
    /// Applications, which answer 503 themselves and pass no header on.
    Applications,
}

/// What happens at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A new request comes in.
    Arrives,
    /// A hop sends a request on.
    Sends { request: usize, hop: usize },
    /// The backend answers.
    Answers { request: usize },
}

/// The fate of all requests.
#[derive(Debug, Default)]
struct Seen {
    came: u64,
    at_backend: u64,
    failed: u64,
}

impl Seen {
    fn amplification(&self) -> f64 {
        self.at_backend as f64 / self.came as f64
    }

    fn failures(&self) -> f64 {
        self.failed as f64 / self.came as f64
    }
}

struct Chain {
    between: Between,
    /// Failures of the backend in a thousand requests.
    share: u64,
    policy: RetryPolicy,
    limit: RetryLimit,
    lives: [Arc<ClusterLive>; HOPS],
    requests: Vec<[Tries; HOPS]>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    /// Connections of this hop that are yet to fail.
    broken: [u32; HOPS],
    started: Instant,
    rng: fastrand::Rng,
    seen: Seen,
}

impl Chain {
    fn new(between: Between, share: u64, seed: u64) -> Self {
        let policy = RetryPolicy {
            on: Conditions::parse("5xx", |_| {}),
            retries: 3,
            ..RetryPolicy::default()
        };
        Self {
            between,
            share,
            policy,
            limit: RetryLimit::Unsaid,
            lives: Default::default(),
            requests: Vec::new(),
            events: BinaryHeap::new(),
            broken: [0; HOPS],
            started: Instant::now(),
            rng: fastrand::Rng::with_seed(seed),
            seen: Seen::default(),
        }
    }

    fn at(&mut self, when: Duration, event: Event) {
        let order = self.rng.u64(..);
        self.events.push(Reverse((when, order, event)));
    }

    /// `rate` requests a second, at random times, for so long.
    fn run(mut self, rate: f64, length: Duration) -> Seen {
        let mut at = Duration::ZERO;
        while at < length {
            self.at(at, Event::Arrives);
            at += Duration::from_secs_f64(-(1.0 - self.rng.f64()).ln() / rate);
        }
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            match event {
                Event::Arrives => {
                    self.seen.came += 1;
                    self.requests.push(Default::default());
                    self.comes_to(self.requests.len() - 1, 0, now);
                }
                Event::Sends { request, hop } => self.sends(request, hop, now),
                Event::Answers { request } => self.answers(request, now),
            }
        }
        for live in &self.lives {
            let left = live.at(PRIORITY);
            assert_eq!(left.requests.load(Ordering::Relaxed), 0);
        }
        self.seen
    }

    /// A hop hears of a request.
    fn comes_to(&mut self, request: usize, hop: usize, now: Duration) {
        self.requests[request][hop] = Tries::new(&self.policy);
        self.limit.first(&self.lives[hop], PRIORITY, self.started + now);
        self.sends(request, hop, now);
    }

    fn sends(&mut self, request: usize, hop: usize, now: Duration) {
        let in_flight = &self.lives[hop].at(PRIORITY).requests;
        in_flight.fetch_add(1, Ordering::Relaxed);
        if self.broken[hop] > 0 {
            self.broken[hop] -= 1;
            self.comes_back(request, hop, Err(Reset::Connect), now);
        } else if hop + 1 < HOPS {
            self.comes_to(request, hop + 1, now);
        } else {
            self.seen.at_backend += 1;
            let took = Duration::from_millis(5 + self.rng.u64(..30));
            self.at(now + took, Event::Answers { request });
        }
    }

    fn answers(&mut self, request: usize, now: Duration) {
        let failed = self.rng.u64(..1000) < self.share;
        let status = if failed {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        self.comes_back(request, HOPS - 1, Ok(status), now);
    }

    /// What comes back to a hop, and from there to the one before it, until one tries again.
    fn comes_back(&mut self, request: usize, last: usize, end: Result<StatusCode, Reset>, now: Duration) {
        let status = end.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut reset = end.err();
        let mut fields = HeaderMap::new();
        for hop in (0..=last).rev() {
            let live = &self.lives[hop];
            live.at(PRIORITY).requests.fetch_sub(1, Ordering::Relaxed);
            let ended = match reset.take() {
                Some(reset) => Ended::Reset(reset),
                None => Ended::Answered(status, &fields),
            };
            let bearer = Bearer {
                limit: self.limit,
                live,
                priority: PRIORITY,
            };
            let moment = || Moment {
                now: self.started + now,
                unix_seconds: 0,
            };
            let tries = &mut self.requests[request][hop];
            if let Ok(again) = tries.again(&self.policy, &ended, true, bearer, moment, &mut self.rng) {
                self.at(now + again.wait, Event::Sends { request, hop });
                return;
            }
            if tries.given_up().is_some() {
                fields.insert(NO_RETRY, HeaderValue::from_static("1"));
            }
            *tries = Tries::default();
            if self.between == Between::Applications {
                fields.clear();
            }
        }
        self.seen.failed += u64::from(status != StatusCode::OK);
    }
}

const BOTH: [Between; 2] = [Between::Nothing, Between::Applications];

#[test]
fn a_brown_out_is_amplified_by_a_fifth_at_most() {
    for seed in 1..=2 {
        for between in BOTH {
            for percent in [1, 2, 5, 10, 20, 35, 50, 75, 90, 100] {
                let chain = Chain::new(between, percent * 10, seed);
                let seen = chain.run(300.0, Duration::from_secs(40));
                let (most, amplification) = (1.2, seen.amplification());
                assert!(
                    amplification <= most,
                    "seed {seed}, {percent} %, {between:?}: {amplification}"
                );
            }
        }
    }
}

#[test]
fn proxies_that_hear_each_other_amplify_no_more_than_one_of_them() {
    for percent in [20, 50, 100] {
        let seen = Chain::new(Between::Nothing, percent * 10, 3).run(300.0, Duration::from_secs(40));
        assert!(
            seen.amplification() <= 1.07,
            "{percent} %: {}",
            seen.amplification()
        );
    }
}

/// Why the share of recent requests is needed: Envoy's budget, said or as it was the default here before, multiplies.
#[test]
fn a_budget_of_what_is_in_flight_alone_would_not_do() {
    let mut chain = Chain::new(Between::Applications, 1000, 3);
    chain.limit = RetryLimit::Budget {
        share: 2000,
        floor: 3,
    };
    let seen = chain.run(300.0, Duration::from_secs(20));
    assert!(seen.amplification() > 1.5, "{}", seen.amplification());
}

#[test]
fn few_failures_are_hidden_from_the_client() {
    for between in BOTH {
        for (percent, left) in [(1, 0.0005), (3, 0.002), (5, 0.005)] {
            let seen = Chain::new(between, percent * 10, 5).run(300.0, Duration::from_secs(40));
            assert!(
                seen.failures() <= left,
                "{percent} %, {between:?}: {}",
                seen.failures()
            );
        }
    }
}

#[test]
fn a_single_failure_is_tried_again_where_it_happens_at_every_hop() {
    for hop in 0..HOPS {
        for between in BOTH {
            let mut chain = Chain::new(between, 0, 7);
            chain.broken[hop] = 2;
            let seen = chain.run(1.0, Duration::from_secs(20));
            assert!(seen.came > 5 && seen.failed == 0, "hop {hop}: {seen:?}");
            assert_eq!(seen.at_backend, seen.came, "hop {hop}: {seen:?}");
        }
    }
}
