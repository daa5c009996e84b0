//! `envoy.filters.http.local_ratelimit`, in a chain and at a route.
//!
//! Holds: settings whose bytes did not change are the very ones of the version before, with their buckets: those of the
//! same listener, or of the same virtual host (see [`LimitsBefore`]).

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use remora_model::filter::{
    Buckets, ChainedFilter, ConnectionLimit, ConnectionRateLimit, Fill, FilterSettings, HttpFilter,
    LocalRateLimit, NetworkFilter, Quota, RouteFilter,
};
use remora_model::limit::Entry;
use remora_model::listener::{Listener, Routes, Terminal};
use remora_model::route::{Action, ClusterChoice, HeaderMutations, RouteTable, VirtualHost};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::core::v3::{HeaderValueOption, RuntimeFractionalPercent};
use crate::pb::envoy::extensions::common::ratelimit::v3::{VhRateLimitsOptions, XRateLimitHeadersRfcVersion};
use crate::pb::envoy::extensions::filters::http::local_ratelimit::v3 as api;
use crate::pb::envoy::r#type::v3::TokenBucket as SaidBucket;
use crate::pb::google::protobuf::UInt32Value;
use crate::rate_limits::{self, Place};
use crate::{fingerprint, header_mutation, value};

pub(super) const KIND: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// Envoy's shortest `fill_interval`.
const SHORTEST_FILL: Duration = Duration::from_millis(50);
/// Envoy's default `max_dynamic_descriptors`.
const VALUES_AT_A_TIME: u32 = 20;
/// How many headers Envoy takes in each list.
const MOST_HEADERS: usize = 10;

/// Limits of the version before that nobody has claimed yet, in the order in which they stood.
pub(crate) type LimitsBefore = Vec<Known>;

/// A limit of the version before.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// Of requests.
    Requests(Arc<LocalRateLimit>),
    /// Of ours.
    Quota(Arc<Quota>),
    /// Of new connections.
    Rate(Arc<ConnectionRateLimit>),
    /// Of connections at a time.
    Connections(Arc<ConnectionLimit>),
}

/// In a chain, where a limit may be without a bucket, for the routes to say one.
pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<LocalRateLimit>> {
    limit(work, extension, false)
}

/// At a route, where a limit without a bucket makes no sense.
pub(super) fn per_route(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<RouteFilter> {
    limit(work, extension, true).map(RouteFilter::LocalRateLimit)
}

fn limit(work: &mut Work<'_, '_>, extension: &Extension<'_>, at_route: bool) -> Option<Arc<LocalRateLimit>> {
    let said: api::LocalRateLimit = extension.decode(work)?;
    work.review(&said);
    let fingerprint = fingerprint::of(extension.bytes().unwrap_or_default());
    let known = work.claim_limit(|known| match known {
        Known::Requests(limit) if limit.fingerprint == fingerprint => Some(Arc::clone(limit)),
        _ => None,
    });
    if known.is_some() {
        return known;
    }
    if at_route && said.token_bucket.is_none() {
        work.wrong("local rate limit token bucket must be set for per filter configs");
    }
    let stat_prefix = value::required(work, "stat_prefix", &said.stat_prefix);
    let default = match &said.token_bucket {
        Some(said) => Some(work.at("token_bucket", |work| fill(work, said, ""))?),
        None => None,
    };
    let buckets = buckets(work, &said, default);
    let stage = value::number_or(
        work,
        "stage",
        Some(&UInt32Value { value: said.stage }),
        0,
        0..=rate_limits::STAGES,
    );
    let sharing: VhRateLimitsOptions = value::known(work, "vh_rate_limits", said.vh_rate_limits)?;
    let headers: XRateLimitHeadersRfcVersion = value::known(
        work,
        "enable_x_ratelimit_headers",
        said.enable_x_ratelimit_headers,
    )?;
    let request_headers = "request_headers_to_add_when_not_enforced";
    Some(Arc::new(LocalRateLimit {
        stat_prefix: stat_prefix?.into(),
        status: status(work, &said)?,
        buckets,
        rules: rate_limits::rules(work, &said.rate_limits, Place::LocalFilter),
        stage: u8::try_from(stage).ok()?,
        virtual_host: rate_limits::virtual_host(sharing),
        enabled_per_million: share(work, "filter_enabled", said.filter_enabled.as_ref())?,
        enforced_per_million: share(work, "filter_enforced", said.filter_enforced.as_ref())?,
        request_headers: additions(
            work,
            request_headers,
            &said.request_headers_to_add_when_not_enforced,
        ),
        response_headers: additions(work, "response_headers_to_add", &said.response_headers_to_add),
        resource_exhausted: said.rate_limited_as_resource_exhausted,
        tells_clients: headers == XRateLimitHeadersRfcVersion::DraftVersion03,
        tells_when: said.enable_retry_after_header,
        per_connection: said.local_rate_limit_per_downstream_connection,
        fingerprint,
    }))
}

/// The bucket of everything and those of descriptors.
fn buckets(work: &mut Work<'_, '_>, said: &api::LocalRateLimit, default: Option<Fill>) -> Buckets {
    let always = value::bool_or(said.always_consume_default_token_bucket.as_ref(), true);
    let mut buckets = Buckets::new(default, always);
    let capacity = said.max_dynamic_descriptors.as_ref();
    let capacity = value::number_or(
        work,
        "max_dynamic_descriptors",
        capacity,
        VALUES_AT_A_TIME,
        1..=u32::MAX,
    );
    work.each("descriptors", &said.descriptors, |work, said| {
        if said.entries.is_empty() {
            work.wrong_at("entries", "expected at least one entry, found none");
        }
        let entries = work.each("entries", &said.entries, |work, said| {
            value::required(work, "key", &said.key).map(|key| Entry::new(key, &said.value))
        });
        let Some(bucket) = &said.token_bucket else {
            work.wrong_at("token_bucket", "expected a token bucket, found none");
            return None;
        };
        let fill = work.at("token_bucket", |work| fill(work, bucket, " descriptor"))?;
        let added = buckets.add(entries, fill, said.shadow_mode, capacity as usize);
        if let Err(duplicate) = added {
            work.wrong(duplicate.to_string());
        }
        Some(())
    });
    buckets
}

/// A bucket that fills in intervals of at least 50 ms; `whose` is Envoy's word for it.
pub(super) fn fill(work: &mut Work<'_, '_>, said: &SaidBucket, whose: &str) -> Option<Fill> {
    let tokens_per_fill = value::number_or(
        work,
        "tokens_per_fill",
        said.tokens_per_fill.as_ref(),
        1,
        1..=u32::MAX,
    );
    if said.fill_interval.is_none() {
        work.wrong_at("fill_interval", "expected a duration, found none");
        return None;
    }
    let interval = value::duration(work, "fill_interval", said.fill_interval.as_ref())?;
    if interval < SHORTEST_FILL {
        work.wrong(format!(
            "local rate limit{whose} token bucket fill timer must be >= 50ms"
        ));
        return None;
    }
    Some(Fill {
        max_tokens: said.max_tokens,
        tokens_per_fill,
        interval,
    })
}

/// 429 where nothing or less than 400 is said.
fn status(work: &mut Work<'_, '_>, said: &api::LocalRateLimit) -> Option<StatusCode> {
    let code = said.status.as_ref().map_or(0, |status| status.code);
    let status = u16::try_from(code)
        .ok()
        .filter(|code| *code < 600)
        .map(|code| code.max(1));
    match status.map(|code| StatusCode::from_u16(code).unwrap_or(StatusCode::CONTINUE)) {
        Some(status) if status.as_u16() >= 400 => Some(status),
        Some(_) => Some(StatusCode::TOO_MANY_REQUESTS),
        None => {
            work.wrong_at("status.code", format!("expected a status, found {code}"));
            None
        }
    }
}

/// A runtime fraction by its default: nobody where nothing is said.
fn share(work: &mut Work<'_, '_>, field: &str, said: Option<&RuntimeFractionalPercent>) -> Option<u32> {
    let Some(said) = said else { return Some(0) };
    match &said.default_value {
        Some(default) => value::per_million(work, field, default),
        None => {
            work.wrong_at(field, "expected default_value, found none");
            None
        }
    }
}

pub(super) fn additions(work: &mut Work<'_, '_>, field: &str, said: &[HeaderValueOption]) -> HeaderMutations {
    if said.len() > MOST_HEADERS {
        work.wrong_at(
            field,
            format!("expected at most {MOST_HEADERS} headers, found {}", said.len()),
        );
    }
    HeaderMutations {
        add: work.each(field, said, header_mutation::template),
        remove: Vec::new(),
    }
}

/// The limits of a listener, those of its inline routes too.
pub(crate) fn of_listener(listener: &Listener) -> LimitsBefore {
    let mut found = Vec::new();
    for chain in listener.chains.iter().chain(&listener.default_chain) {
        found.extend(chain.network_filters.iter().filter_map(of_network_filter));
        if let Terminal::Http(manager) = &chain.terminal {
            found.extend(manager.filters.iter().filter_map(of_filter));
            if let Routes::Inline(table) = &manager.routes {
                found.extend(of_table(table));
                found.extend(table.virtual_hosts.iter().flat_map(|host| of_virtual_host(host)));
            }
        }
    }
    found
}

/// The limits that a route configuration itself names.
pub(crate) fn of_table(table: &RouteTable) -> LimitsBefore {
    of_settings(&table.filters).collect()
}

/// The limits of a virtual host.
pub(crate) fn of_virtual_host(host: &VirtualHost) -> LimitsBefore {
    let mut found: LimitsBefore = of_settings(&host.filters).collect();
    for route in &host.routes {
        found.extend(of_settings(&route.filters));
        if let Action::Forward(forward) = &route.action
            && let ClusterChoice::Weighted(clusters) = &forward.cluster
        {
            let entries = clusters.entries.iter();
            found.extend(entries.flat_map(|entry| of_settings(&entry.filters)));
        }
    }
    found
}

fn of_network_filter(filter: &NetworkFilter) -> Option<Known> {
    match filter {
        NetworkFilter::RateLimit(limit) => Some(Known::Rate(Arc::clone(limit))),
        NetworkFilter::ConnectionLimit(limit) => Some(Known::Connections(Arc::clone(limit))),
        NetworkFilter::Access(_) => None,
    }
}

fn of_filter(filter: &ChainedFilter) -> Option<Known> {
    match &filter.filter {
        HttpFilter::LocalRateLimit(limit) => Some(Known::Requests(Arc::clone(limit))),
        HttpFilter::Quota(quota) => Some(Known::Quota(Arc::clone(quota))),
        _ => None,
    }
}

fn of_settings(settings: &FilterSettings) -> impl Iterator<Item = Known> {
    settings.iter().filter_map(|said| match said {
        RouteFilter::LocalRateLimit(limit) => Some(Known::Requests(Arc::clone(limit))),
        RouteFilter::Quota(quota) => Some(Known::Quota(Arc::clone(quota))),
        _ => None,
    })
}
