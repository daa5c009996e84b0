//! A table of rules of RFC 9111, each with its section.

use super::*;
use crate::matching::Pattern;

const NOW: u64 = 1_000_000_000;

/// `name: value | name: value`.
fn headers(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in text.split(" | ").filter_map(|field| field.split_once(": ")) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn filter() -> CacheFilter {
    CacheFilter {
        vary: vec![StringMatcher::Exact(Pattern::new("accept", true))],
        max_body: 100,
        ..CacheFilter::default()
    }
}

fn kept(status: u16, request: &str, response: &str) -> Option<Stored> {
    let (filter, request) = (filter(), headers(request));
    let status = StatusCode::from_u16(status).unwrap();
    filter.keeps(&filter.asked(&request), &request, status, &headers(response), NOW)
}

fn stored(response: &str) -> Stored {
    kept(200, "", response).expect("it is kept")
}

fn asked(control: &str) -> RequestControl {
    RequestControl::of(&headers(&format!("cache-control: {control}")))
}

/// Section and rule, status, request, response, whether it is kept.
const KEEPING: [(&str, u16, &str, &str, bool); 15] = [
    ("3: explicit freshness", 200, "", "cache-control: max-age=5", true),
    ("3: no freshness", 200, "", "", false),
    (
        "3: a status without a heuristic",
        500,
        "",
        "cache-control: max-age=5",
        false,
    ),
    ("3: an absence", 404, "", "cache-control: max-age=5", true),
    ("3.3: a part", 206, "", "cache-control: max-age=5", false),
    (
        "5.2.2.4: no-cache may be kept",
        200,
        "",
        "cache-control: no-cache",
        true,
    ),
    (
        "5.2.2.5: no-store",
        200,
        "",
        "cache-control: max-age=5, no-store",
        false,
    ),
    (
        "5.2.2.7: private",
        200,
        "",
        "cache-control: max-age=5, private",
        false,
    ),
    (
        "5.2.1.5: the request's no-store",
        200,
        "cache-control: no-store",
        "cache-control: max-age=5",
        false,
    ),
    (
        "5.3: expires needs a date",
        200,
        "",
        "expires: Sun, 09 Sep 2001 01:46:45 GMT",
        false,
    ),
    (
        "5.3: expires",
        200,
        "",
        "date: Sun, 09 Sep 2001 01:46:40 GMT | expires: Sun, 09 Sep 2001 01:46:45 GMT",
        true,
    ),
    (
        "4.1: vary that is allowed",
        200,
        "",
        "cache-control: max-age=5 | vary: Accept",
        true,
    ),
    (
        "4.1: vary that is not",
        200,
        "",
        "cache-control: max-age=5 | vary: accept, cookie",
        false,
    ),
    (
        "4.1: vary by everything",
        200,
        "",
        "cache-control: max-age=5 | vary: *",
        false,
    ),
    (
        "max_body_bytes",
        200,
        "",
        "cache-control: max-age=5 | content-length: 101",
        false,
    ),
];

#[test]
fn what_may_be_kept() {
    for (rule, status, request, response, keeps) in KEEPING {
        assert_eq!(kept(status, request, response).is_some(), keeps, "{rule}");
    }
}

#[test]
fn which_requests_are_answered() {
    let concerns = |method, fields| filter().concerns(&method, &headers(fields));
    assert!(concerns(Method::GET, "") && concerns(Method::HEAD, ""));
    assert!(
        !concerns(Method::POST, ""),
        "section 3: a method that is understood"
    );
    assert!(!concerns(Method::GET, "authorization: x"), "section 3.5");
    assert!(
        !concerns(Method::GET, "if-none-match: \"a\""),
        "section 4.3.2 is the upstream's"
    );
}

/// Section and rule, response, `cache-control` of the request, seconds later, what is done.
const ANSWERING: [(&str, &str, &str, u64, Use); 15] = [
    ("4.2: fresh", "cache-control: max-age=5", "", 4, Use::Answer(4)),
    ("4.2: stale", "cache-control: max-age=5", "", 5, Use::Validate),
    (
        "5.2.2.10: s-maxage wins",
        "cache-control: max-age=1, s-maxage=9",
        "",
        8,
        Use::Answer(8),
    ),
    (
        "5.2.2.4: no-cache",
        "cache-control: no-cache, max-age=5",
        "",
        0,
        Use::Validate,
    ),
    (
        "4.2.3: age counts",
        "cache-control: max-age=5 | age: 3",
        "",
        1,
        Use::Answer(4),
    ),
    (
        "4.2.3: age counts to the end",
        "cache-control: max-age=5 | age: 3",
        "",
        2,
        Use::Validate,
    ),
    (
        "4.2.3: a date",
        "cache-control: max-age=5 | date: Sun, 09 Sep 2001 01:46:36 GMT",
        "",
        0,
        Use::Answer(4),
    ),
    (
        "5.2.1.1: max-age of the request",
        "cache-control: max-age=5",
        "max-age=2",
        3,
        Use::Validate,
    ),
    (
        "5.2.1.2: max-stale",
        "cache-control: max-age=5",
        "max-stale=3",
        8,
        Use::Answer(8),
    ),
    (
        "5.2.1.2: max-stale is over",
        "cache-control: max-age=5",
        "max-stale=3",
        9,
        Use::Validate,
    ),
    (
        "5.2.1.2: max-stale without end",
        "cache-control: max-age=5",
        "max-stale",
        1000,
        Use::Answer(1000),
    ),
    (
        "5.2.2.2: must-revalidate",
        "cache-control: max-age=5, must-revalidate",
        "max-stale",
        6,
        Use::Validate,
    ),
    (
        "5.2.1.3: min-fresh",
        "cache-control: max-age=5",
        "min-fresh=2",
        3,
        Use::Answer(3),
    ),
    (
        "5.2.1.3: min-fresh is not met",
        "cache-control: max-age=5",
        "min-fresh=2",
        4,
        Use::Validate,
    ),
    (
        "5.2.1.4: no-cache of the request",
        "cache-control: max-age=5",
        "no-cache",
        0,
        Use::Validate,
    ),
];

#[test]
fn when_what_is_kept_answers() {
    for (rule, response, control, after, expected) in ANSWERING {
        assert_eq!(
            stored(response).answers(&asked(control), NOW + after),
            expected,
            "{rule}"
        );
    }
    let pragma = RequestControl::of(&headers("pragma: no-cache"));
    let five = stored("cache-control: max-age=5");
    assert_eq!(five.answers(&pragma, NOW), Use::Validate, "section 5.4");
    assert!(asked("only-if-cached").only_kept, "section 5.2.1.7");
    assert_eq!(asked("max-age=x").max_age, None);
    let wrong = stored("cache-control: max-age=x");
    assert_eq!(
        wrong.answers(&asked(""), NOW),
        Use::Validate,
        "section 4.2.1: not to be read is stale"
    );
}

#[test]
fn an_answer_suits_requests_like_its_own() {
    let stored = kept(
        200,
        "accept: text/html",
        "cache-control: max-age=5 | vary: accept",
    )
    .unwrap();
    assert!(stored.suits(&headers("accept: text/html | cookie: x")));
    assert!(!stored.suits(&headers("accept: */*")) && !stored.suits(&HeaderMap::new()));
}

#[test]
fn what_is_stale_is_asked_for_and_refreshed() {
    let fields = "cache-control: max-age=5 | etag: \"a\" | last-modified: Sun, 09 Sep 2001 01:46:36 GMT | content-type: text/plain | x-a: 1";
    let stale = stored(fields);
    let mut request = HeaderMap::new();
    assert!(stale.ask(&mut request), "section 4.3.1");
    assert_eq!(request.get("if-none-match").unwrap(), "\"a\"");
    assert_eq!(
        request.get("if-modified-since").unwrap(),
        "Sun, 09 Sep 2001 01:46:36 GMT"
    );
    assert!(!stored("cache-control: max-age=5").ask(&mut HeaderMap::new()));

    let not_modified = headers("cache-control: max-age=9 | x-a: 2 | content-type: x/y");
    let fresh = stale.refreshed(&not_modified, NOW + 100);
    assert_eq!(
        fresh.answers(&asked(""), NOW + 108),
        Use::Answer(8),
        "section 4.3.4"
    );
    assert_eq!(fresh.headers.get("x-a").unwrap(), "2");
    assert_eq!(fresh.headers.get("content-type").unwrap(), "text/plain");
}

#[test]
fn a_part_is_cut_from_the_whole() {
    let rules = [
        ("bytes=0-3", Part::Octets(0, 3)),
        ("bytes=8-", Part::Octets(8, 9)),
        ("bytes=8-100", Part::Octets(8, 9)),
        ("bytes=-3", Part::Octets(7, 9)),
        ("bytes=-100", Part::Octets(0, 9)),
        ("bytes=10-", Part::Unsatisfiable),
        ("bytes=-0", Part::Unsatisfiable),
        ("bytes=3-2", Part::Whole),
        ("bytes=0-1,3-4", Part::Whole),
        ("items=0-1", Part::Whole),
        ("bytes=x-y", Part::Whole),
    ];
    for (range, expected) in rules {
        assert_eq!(part(range, 10), expected, "{range}");
    }
}
