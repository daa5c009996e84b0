//! Every way between the states, with the thresholds, and the times between two checks.

use super::*;
use crate::endpoint::Health;
use crate::health::{Flag, Flags};

const THREE: Thresholds = Thresholds {
    unhealthy: 3,
    healthy: 2,
};
const PASSED: Finding = Finding::Passed { degraded: false };
const NETWORK: Finding = Finding::Failed(Shortfall::Network);
const TIMED_OUT: Finding = Finding::Failed(Shortfall::TimedOut);
const WRONG: Finding = Finding::Failed(Shortfall::Answer { retriable: false });
const RETRIABLE: Finding = Finding::Failed(Shortfall::Answer { retriable: true });

fn after(findings: &[Finding]) -> (Course, Moved) {
    let mut course = Course::new(false);
    let mut moved = Moved::Nothing;
    for finding in findings {
        moved = course.find(THREE, *finding, false);
    }
    (course, moved)
}

fn flags(course: &Course) -> Flags {
    let flags = Flags::none();
    course.show(&flags);
    flags
}

#[test]
fn the_first_check_decides_at_once() {
    assert!(after(&[]).0.is_unchecked());
    assert_eq!(flags(&after(&[]).0).over(Health::Healthy), Health::Unhealthy);
    assert_eq!(after(&[PASSED]).1, Moved::Up);
    assert_eq!(flags(&after(&[PASSED]).0).over(Health::Healthy), Health::Healthy);
    let (course, moved) = after(&[NETWORK]);
    assert_eq!(
        (moved, course.is_unchecked(), course.is_passing()),
        (Moved::Nothing, false, false)
    );
}

#[test]
fn silence_counts_and_a_wrong_answer_decides() {
    for silent in [NETWORK, TIMED_OUT, RETRIABLE] {
        assert_eq!(after(&[PASSED, silent]).1, Moved::Pending);
        assert_eq!(after(&[PASSED, silent, silent]).1, Moved::Pending);
        assert_eq!(after(&[PASSED, silent, silent, silent]).1, Moved::Down);
        // In a row, that is.
        assert_eq!(after(&[PASSED, silent, silent, PASSED, silent]).1, Moved::Pending);
    }
    assert_eq!(after(&[PASSED, WRONG]).1, Moved::Down);
    assert_eq!(after(&[PASSED, NETWORK, WRONG]).1, Moved::Down);
    assert_eq!(
        after(&[PASSED, Finding::Failed(Shortfall::Passive)]).1,
        Moved::Down
    );
}

#[test]
fn the_way_back_is_passed_as_often_as_the_threshold_says() {
    assert_eq!(after(&[WRONG, PASSED]).1, Moved::Pending);
    assert_eq!(after(&[WRONG, PASSED, PASSED]).1, Moved::Up);
    assert_eq!(after(&[WRONG, PASSED, NETWORK, PASSED]).1, Moved::Pending);
    assert_eq!(after(&[WRONG, PASSED, PASSED, PASSED]).1, Moved::Nothing);
}

#[test]
fn a_threshold_of_zero_is_never_reached() {
    let never = Thresholds {
        unhealthy: 0,
        healthy: 0,
    };
    let mut course = Course::new(false);
    assert_eq!(course.find(never, PASSED, false), Moved::Up);
    for _ in 0..100 {
        assert_eq!(course.find(never, NETWORK, false), Moved::Pending);
    }
    assert_eq!(course.find(never, WRONG, false), Moved::Down);
    for _ in 0..100 {
        assert_eq!(course.find(never, PASSED, false), Moved::Pending);
    }
}

#[test]
fn what_was_found_is_shown() {
    let mut course = Course::new(true);
    let shown = flags(&course);
    assert!(shown.has(Flag::FailedCheck) && shown.has(Flag::Unchecked) && shown.does_not_count());
    // No answer is an answer: from here on it counts.
    course.find(THREE, TIMED_OUT, false);
    let shown = flags(&course);
    assert!(shown.has(Flag::FailedCheck) && shown.has(Flag::TimedOut) && !shown.does_not_count());
    course.find(THREE, NETWORK, false);
    assert!(!flags(&course).has(Flag::TimedOut));
    course.find(THREE, PASSED, false);
    course.find(THREE, Finding::Passed { degraded: true }, false);
    let shown = flags(&course);
    assert_eq!(shown.over(Health::Healthy), Health::Degraded);
    assert_eq!(shown.over(Health::Unhealthy), Health::Unhealthy);
    course.find(THREE, WRONG, true);
    let shown = flags(&course);
    assert!(shown.has(Flag::Leaves) && shown.does_not_count() && shown.has(Flag::Degraded));
    course.find(THREE, PASSED, false);
    assert!(flags(&course).has(Flag::Leaves));
    course.find(THREE, PASSED, false);
    assert_eq!(flags(&course).over(Health::Healthy), Health::Healthy);
    let shown = flags(&Course::new(true));
    shown.set(Flag::Ejected, true);
    assert!(Course::hide(&shown) && !shown.has(Flag::FailedCheck) && shown.has(Flag::Ejected));
    assert!(!Course::hide(&shown), "nothing changes twice");
}

fn intervals() -> Intervals {
    let seconds = Duration::from_secs;
    Intervals {
        usual: seconds(1),
        unused: seconds(2),
        unused_healthy: seconds(3),
        unhealthy: seconds(4),
        unhealthy_edge: seconds(5),
        healthy_edge: seconds(6),
        initial_jitter: Duration::ZERO,
        jitter: Duration::ZERO,
        jitter_percent: 0,
    }
}

#[test]
fn the_next_check_comes_as_envoy_would_make_it() {
    let mut rng = fastrand::Rng::with_seed(1);
    let times = intervals();
    let expected = [
        (PASSED, Moved::Nothing, true, 1),
        (PASSED, Moved::Up, true, 1),
        (PASSED, Moved::Pending, true, 6),
        (NETWORK, Moved::Pending, true, 5),
        (NETWORK, Moved::Down, true, 4),
        (NETWORK, Moved::Nothing, true, 4),
        (PASSED, Moved::Up, false, 3),
        (PASSED, Moved::Pending, false, 2),
        (NETWORK, Moved::Down, false, 2),
    ];
    for (finding, moved, used, seconds) in expected {
        let next = times.next(finding, moved, used, &mut rng);
        assert_eq!(next, Duration::from_secs(seconds), "{finding:?} {moved:?} {used}");
    }
    assert_eq!(times.first(&mut rng), Duration::ZERO);
}

#[test]
fn jitter_is_added_and_stays_below_its_bounds() {
    let mut rng = fastrand::Rng::with_seed(1);
    let times = Intervals {
        initial_jitter: Duration::from_secs(2),
        jitter: Duration::from_millis(500),
        jitter_percent: 100,
        ..intervals()
    };
    let next: Vec<_> = (0..2000)
        .map(|_| times.next(PASSED, Moved::Nothing, true, &mut rng))
        .collect();
    let (least, most) = (next.iter().min().unwrap(), next.iter().max().unwrap());
    assert!(
        *least >= Duration::from_secs(1) && *least < Duration::from_millis(1100),
        "{least:?}"
    );
    assert!(
        *most > Duration::from_millis(2300) && *most < Duration::from_millis(2500),
        "{most:?}"
    );
    assert!((0..200).all(|_| times.first(&mut rng) < Duration::from_secs(2)));
    assert!((0..200).any(|_| times.first(&mut rng) > Duration::from_secs(1)));
}

fn http_check() -> HttpCheck {
    HttpCheck {
        path: PathAndQuery::from_static("/"),
        host: None,
        method: Method::GET,
        http2: false,
        body: Bytes::new(),
        expected_body: Payloads(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"b")]),
        searched: Some(1024),
        headers: HeaderMutations::default(),
        expected: vec![(200, 201), (300, 310)],
        retriable: vec![(200, 600)],
        service: None,
    }
}

#[test]
fn an_answer_is_judged_by_body_status_and_name() {
    let check = http_check();
    let mut headers = HeaderMap::new();
    let find = |check: &HttpCheck, status, headers: &HeaderMap, body: &str| {
        check.judge(status, headers, body.as_bytes()).finding
    };
    assert_eq!(find(&check, 200, &headers, "xabxb"), PASSED);
    assert_eq!(find(&check, 309, &headers, "abb"), PASSED);
    // The same byte is not found twice.
    assert_eq!(find(&check, 200, &headers, "ab"), WRONG);
    assert_eq!(find(&check, 503, &headers, "abb"), RETRIABLE);
    assert_eq!(find(&check, 310, &headers, "abb"), RETRIABLE);
    assert_eq!(find(&check, 199, &headers, "abb"), WRONG);
    headers.insert(DEGRADED, http::HeaderValue::from_static(""));
    assert_eq!(
        find(&check, 200, &headers, "abb"),
        Finding::Passed { degraded: true }
    );
    headers.insert(IMMEDIATE_FAIL, http::HeaderValue::from_static("true"));
    assert!(!check.judge(200, &headers, b"abb").leaves);
    assert!(check.judge(503, &headers, b"abb").leaves && check.judge(200, &headers, b"").leaves);
    let named = HttpCheck {
        service: Some(StringMatcher::Exact(crate::matching::Pattern::new("mine", false))),
        ..http_check()
    };
    let judged = named.judge(200, &headers, b"abb");
    assert_eq!(
        (judged.finding, judged.verified, judged.leaves),
        (WRONG, true, false)
    );
    headers.insert(CHECKED_CLUSTER, http::HeaderValue::from_static("mine"));
    assert_eq!(
        find(&named, 200, &headers, "abb"),
        Finding::Passed { degraded: true }
    );
    assert!(!named.judge(503, &headers, b"abb").verified);
}

#[test]
fn an_endpoint_may_be_asked_elsewhere() {
    let own = EndpointAddress::Socket("10.0.0.1:80".parse().unwrap());
    let at = |address: &str| EndpointAddress::Socket(address.parse().unwrap());
    let mut target = CheckTarget::default();
    assert_eq!(target.address(&own), own);
    target.port = Some(81);
    assert_eq!(target.address(&own), at("10.0.0.1:81"));
    target.address = Some(at("10.0.0.2:82"));
    assert_eq!(target.address(&own), at("10.0.0.2:81"));
    target.port = None;
    assert_eq!(target.address(&own), at("10.0.0.2:82"));
}
