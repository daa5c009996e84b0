//! What a route does to the heads of its request and response: header mutations, host and path, the router's own
//! headers, the hash for consistent balancing.
//!
//! Holds: Envoy's order: mutations, then host, then path, then what the router says about itself.

use std::time::Duration;

use http::header::{HeaderName, SET_COOKIE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue};
use remora_model::cluster::ClusterConfig;
use remora_model::endpoint::Endpoint;
use remora_model::log::Format;
use remora_model::route::{Forward, HostRewrite, Render, request_hash};

use super::request::facts;
use super::target::Chosen;
use crate::exchange::RequestHead;
use crate::observe::ExchangeRecord;
use crate::observe::values::{self, Values};

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const IS_TIMEOUT_RETRY: HeaderName = HeaderName::from_static("x-envoy-is-timeout-retry");
/// How long an upstream has for its answer, milliseconds.
pub const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// What a client says to the router alone: it goes no further.
const ROUTER_HEADERS: [HeaderName; 7] = [
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
];

/// Prints the formats of header values over what is known of the exchange so far.
pub struct Printer<'a> {
    /// What is known of the exchange.
    pub record: &'a ExchangeRecord,
    /// The request's headers.
    pub request: Option<&'a HeaderMap>,
    /// The response's headers.
    pub response: Option<&'a HeaderMap>,
}

impl Render for Printer<'_> {
    fn render(&self, format: &Format) -> Option<HeaderValue> {
        let Format::Text { pieces, omit_empty } = format else {
            return None;
        };
        let values = Values {
            record: self.record,
            request_headers: self.request,
            response_headers: self.response,
            response_trailers: None,
            local_body: None,
        };
        let text = values::render_text(pieces, &values, *omit_empty);
        HeaderValue::from_str(&text).ok()
    }
}

/// Prints over a request that has no response yet.
pub fn printer<'a>(head: &'a RequestHead, record: &'a ExchangeRecord) -> Printer<'a> {
    Printer {
        record,
        request: Some(&head.headers),
        response: None,
    }
}

/// Makes the request's head what the upstream gets. Whether it came from a router, which says how long it waits.
pub fn request(
    head: &mut RequestHead,
    forward: &Forward,
    chosen: &Chosen,
    timeout: Option<Duration>,
    record: &ExchangeRecord,
) -> bool {
    if head
        .headers
        .keys()
        .any(|name| name.as_str().starts_with("x-envoy-"))
    {
        for name in &ROUTER_HEADERS {
            head.headers.remove(name);
        }
    }
    if chosen.mutates_request() {
        // The operators see the headers as they were.
        let before = head.headers.clone();
        let printer = Printer {
            record,
            request: Some(&before),
            response: None,
        };
        chosen.decision().mutate_request(&mut head.headers, &printer);
    }
    if !matches!(forward.host, HostRewrite::Endpoint) {
        let host = chosen
            .weighted()
            .and_then(|entry| entry.host_rewrite.clone())
            .or_else(|| {
                forward
                    .host
                    .apply(&facts(head, record), None, &printer(head, record))
            });
        rewrite_host(head, forward, host, record);
    }
    let matched = &chosen.route.criteria.path;
    if let Some(rewritten) = forward
        .path
        .apply(matched, head.path.as_str(), &printer(head, record))
        && let Ok(path) = PathAndQuery::try_from(rewritten)
    {
        if !record.quiet
            && let Ok(original) = HeaderValue::from_str(head.path.as_str())
        {
            head.headers.insert(ORIGINAL_PATH, original);
        }
        head.path = path;
    }
    let by_router = match timeout.map(|timeout| HeaderValue::from(timeout.as_millis() as u64)) {
        _ if record.quiet => head.headers.remove(EXPECTED_TIMEOUT).is_some(),
        Some(millis) => head.headers.insert(EXPECTED_TIMEOUT, millis).is_some(),
        None => head.headers.contains_key(EXPECTED_TIMEOUT),
    };
    if chosen.virtual_host.include_attempt_count {
        head.headers.insert(ATTEMPT_COUNT, HeaderValue::from(1));
    }
    by_router
}

/// `auto_host_rewrite`: the host is known only when the endpoint is.
pub fn endpoint_host(
    head: &mut RequestHead,
    forward: &Forward,
    endpoint: &Endpoint,
    record: &ExchangeRecord,
) {
    if matches!(forward.host, HostRewrite::Endpoint)
        && let Some(name) = endpoint.spec.details().hostname.as_deref()
    {
        if record.attempts == 1 {
            rewrite_host(head, forward, HeaderValue::from_str(name).ok(), record);
        } else if let Ok(authority) = Authority::try_from(name) {
            head.authority = Some(authority);
        }
    }
}

/// What the upstream is told of another attempt.
pub fn attempt(
    head: &mut RequestHead,
    chosen: &Chosen,
    number: u32,
    timed_out: bool,
    limit: Option<Duration>,
) {
    if let Some(limit) = limit {
        head.headers
            .insert(EXPECTED_TIMEOUT, HeaderValue::from(limit.as_millis() as u64));
    }

    if chosen.virtual_host.include_attempt_count {
        head.headers.insert(ATTEMPT_COUNT, HeaderValue::from(number));
    }
    if chosen.virtual_host.include_is_timeout_retry {
        let said = if timed_out { "true" } else { "false" };
        head.headers
            .insert(IS_TIMEOUT_RETRY, HeaderValue::from_static(said));
    }
}

/// What the client is told of the attempts (`include_attempt_count_in_response`).
pub fn attempts_made(headers: &mut HeaderMap, chosen: &Chosen, number: u32) {
    if chosen.virtual_host.attempt_count_in_response {
        headers.insert(ATTEMPT_COUNT, HeaderValue::from(number));
    }
}

fn rewrite_host(
    head: &mut RequestHead,
    forward: &Forward,
    host: Option<HeaderValue>,
    record: &ExchangeRecord,
) {
    let Some(authority) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok()) else {
        return;
    };
    if forward.append_x_forwarded_host
        && let Some(before) = &head.authority
        && let Ok(before) = HeaderValue::from_str(before.as_str())
    {
        head.headers.append(FORWARDED_HOST, before);
    }
    if let Some(before) = &head.authority
        && *before != authority
        && !record.quiet
        && let Ok(before) = HeaderValue::from_str(before.as_str())
    {
        head.headers.insert(ORIGINAL_HOST, before);
    }
    head.authority = Some(authority);
}

/// Applies the route's response mutations.
pub fn response(
    headers: &mut HeaderMap,
    chosen: &Chosen,
    record: &ExchangeRecord,
    request_headers: Option<&HeaderMap>,
) {
    if chosen.mutates_response() {
        let before = headers.clone();
        let printer = Printer {
            record,
            request: request_headers,
            response: Some(&before),
        };
        chosen.decision().mutate_response(headers, &printer);
    }
}

/// The request's hash, and the cookie that its response is to set.
pub fn hash(
    cluster: &ClusterConfig,
    forward: &Forward,
    head: &RequestHead,
    record: &ExchangeRecord,
    rng: &mut fastrand::Rng,
) -> (Option<u64>, Option<HeaderValue>) {
    let policies = match (&cluster.rare, &forward.endpoint) {
        (Some(rare), _) if !rare.hash_policies.is_empty() => &rare.hash_policies,
        (_, Some(choice)) if !choice.hash_policies.is_empty() => &choice.hash_policies,
        _ => return (None, None),
    };
    let source = Some(record.client.ip());
    let found = request_hash(policies, &facts(head, record), source, || rng.u64(..));
    let cookie = found
        .cookie
        .and_then(|cookie| HeaderValue::try_from(cookie.header()).ok());
    (found.hash, cookie)
}

/// Adds the cookie that a hash policy asked for.
pub fn set_cookie(headers: &mut HeaderMap, cookie: &Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie.clone());
    }
}
