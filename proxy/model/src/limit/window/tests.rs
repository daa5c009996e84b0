//! Every transition of every window, and what four workers get at 100,000 requests per second.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn window(limit: u32, per: Duration, kind: WindowKind) -> Window {
    Window { limit, per, kind }
}

fn at(start: Instant, millis: u64) -> Instant {
    start + Duration::from_millis(millis)
}

#[test]
fn a_fixed_window_fills_refuses_ends_and_begins_anew() {
    let windows = Windows::new(&[window(2, SECOND, WindowKind::Fixed)]);
    let start = Instant::now();
    assert_eq!(windows.take(at(start, 0)), Ok(()));
    assert_eq!(windows.take(at(start, 900)), Ok(()));
    assert_eq!(windows.take(at(start, 900)), Err(Duration::from_millis(100)));
    assert_eq!(windows.take(at(start, 999)), Err(Duration::from_millis(1)));
    assert_eq!(windows.take(at(start, 1000)), Ok(()), "the next window is empty");
    assert_eq!(windows.take(at(start, 1000)), Ok(()));
    assert_eq!(windows.take(at(start, 1999)), Err(Duration::from_millis(1)));
    assert_eq!(
        windows.take(at(start, 7500)),
        Ok(()),
        "windows without requests pass"
    );
    // Who is late counts in the window of the others.
    assert_eq!(windows.take(at(start, 1000)), Ok(()));
    assert!(windows.take(at(start, 7500)).is_err());
}

#[test]
fn a_sliding_window_gives_back_what_left_it_and_no_sooner() {
    let windows = Windows::new(&[window(2, SECOND, WindowKind::Sliding)]);
    let start = Instant::now();
    assert_eq!(windows.take(at(start, 500)), Ok(()));
    let start = at(start, 500);
    assert_eq!(windows.take(at(start, 600)), Ok(()));
    let wait = windows.take(at(start, 700)).unwrap_err();
    assert!(
        wait >= Duration::from_millis(300) && wait <= Duration::from_millis(304),
        "{wait:?}"
    );
    assert!(windows.take(at(start, 1000)).is_err());
    assert_eq!(windows.take(at(start, 1004)), Ok(()), "the first left");
    assert!(
        windows.take(at(start, 1500)).is_err(),
        "the one of 600 is still in it"
    );
    assert_eq!(windows.take(at(start, 1610)), Ok(()));
    assert_eq!(
        windows.take(at(start, 60_000)),
        Ok(()),
        "a long silence empties it"
    );
    assert_eq!(windows.take(at(start, 60_000)), Ok(()));
    assert!(windows.take(at(start, 60_000)).is_err());
}

#[test]
fn no_second_sees_more_than_a_sliding_window_allows() {
    let windows = Windows::new(&[window(50, SECOND, WindowKind::Sliding)]);
    let start = Instant::now();
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut micros, mut taken) = (0, Vec::new());
    for _ in 0..20_000 {
        micros += rng.u64(0..4000);
        if windows.take(start + Duration::from_micros(micros)).is_ok() {
            taken.push(micros);
        }
    }
    // Any 51 neighbours span a second at least.
    let tight = taken.windows(51).map(|some| some[50] - some[0]).min();
    assert!(tight >= Some(1_000_000), "{tight:?}");
    let share = taken.len() as f64 / (micros as f64 / 1e6 * 50.0);
    assert!((0.98..=1.02).contains(&share), "{share}");
}

#[test]
fn windows_are_taken_together_or_not_at_all() {
    let windows = Windows::new(&[
        window(2, SECOND, WindowKind::Fixed),
        window(3, 10 * SECOND, WindowKind::Fixed),
    ]);
    let start = Instant::now();
    assert!(windows.take(start).is_ok() && windows.take(start).is_ok());
    // The short one refuses, and the long one does not count these.
    for _ in 0..5 {
        assert_eq!(windows.take(start), Err(SECOND));
    }
    assert!(windows.take(at(start, 1000)).is_ok(), "the third of the long one");
    assert_eq!(
        windows.take(at(start, 1000)),
        Err(9 * SECOND),
        "the long one says when"
    );
    assert!(windows.take(at(start, 9_999)).is_err());
    assert!(windows.take(at(start, 10_000)).is_ok());
}

#[test]
fn no_window_takes_everything_and_a_window_of_none_nothing() {
    let start = Instant::now();
    assert!(Windows::new(&[]).take(start).is_ok());
    for kind in [WindowKind::Fixed, WindowKind::Sliding] {
        assert!(Windows::new(&[window(0, SECOND, kind)]).take(start).is_err());
    }
}

#[test]
fn a_queue_lets_requests_out_evenly_and_is_full_once() {
    let queue = Queue {
        interval: Duration::from_millis(100),
        length: 2,
    };
    let queued = Queued::default();
    let start = Instant::now();
    let waits = |millis| queued.join(&queue, at(start, millis));
    assert_eq!(
        waits(0),
        Ok(Duration::ZERO),
        "an idle queue lets the first through"
    );
    assert_eq!(waits(0), Ok(Duration::from_millis(100)));
    assert_eq!(waits(0), Ok(Duration::from_millis(200)));
    assert_eq!(waits(0), Err(Duration::from_millis(100)), "full: two wait");
    assert_eq!(waits(99), Err(Duration::from_millis(1)));
    assert_eq!(waits(100), Ok(Duration::from_millis(200)), "one left");
    assert_eq!(waits(10_000), Ok(Duration::ZERO), "silence saves nothing up");
    assert_eq!(waits(10_000), Ok(Duration::from_millis(100)));
}

/// Four workers, each with 25,000 requests a second for `seconds`, on one simulated clock; how many are let through.
fn storm(seconds: u64, take: impl Fn(Instant) -> bool + Sync) -> u64 {
    let start = Instant::now();
    let clock = AtomicU64::new(0);
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..seconds * 25_000 {
                    // Ten microseconds pass from request to request.
                    let micros = clock.fetch_add(10, Ordering::Relaxed);
                    if take(start + Duration::from_micros(micros)) {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    taken.into_inner()
}

fn is_near(taken: u64, expected: u64) {
    let error = taken.abs_diff(expected) as f64 / expected as f64;
    assert!(error <= 0.01, "{taken} for {expected}");
}

#[test]
fn four_workers_at_100_000_requests_per_second_get_the_limit_within_one_percent() {
    let fixed = Windows::new(&[window(30_000, SECOND, WindowKind::Fixed)]);
    is_near(storm(3, |now| fixed.take(now).is_ok()), 90_000);
    let sliding = Windows::new(&[window(30_000, SECOND, WindowKind::Sliding)]);
    is_near(storm(3, |now| sliding.take(now).is_ok()), 90_000);
    let both = Windows::new(&[
        window(30_000, SECOND, WindowKind::Sliding),
        window(50_000, 3 * SECOND, WindowKind::Fixed),
    ]);
    is_near(storm(3, |now| both.take(now).is_ok()), 50_000);
    let queue = Queue {
        interval: Duration::from_micros(50),
        length: 20,
    };
    let queued = Queued::default();
    is_near(storm(3, |now| queued.join(&queue, now).is_ok()), 60_000);
    let bucket = crate::filter::TokenBucket::new(crate::filter::Fill {
        max_tokens: 100,
        tokens_per_fill: 20_000,
        interval: SECOND,
    });
    is_near(storm(3, |now| bucket.take(1, now)), 60_100);
}
