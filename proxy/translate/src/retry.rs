//! `RetryPolicy` of virtual hosts and routes, and the retry limits of clusters.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use remora_model::retry::{
    BackOff, Conditions, RateLimitedBackOff, ResetFormat, ResetHeader, RetryLimit, RetryPolicy,
};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use crate::pb::envoy::config::route::v3::{self as api, retry_policy as inner};
use crate::{matcher, value};

const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
/// Envoy's default `max_interval` of a back-off that a server asks for.
const RATE_LIMITED_MAX: Duration = Duration::from_secs(300);

/// A retry policy; one without `retry_on` tries nothing again, but its time limits for attempts hold.
pub(crate) fn policy(work: &mut Work<'_, '_>, said: &api::RetryPolicy) -> Option<Arc<RetryPolicy>> {
    work.review(said);
    let mut unknown = false;
    let on = Conditions::parse(&said.retry_on, |_| unknown = true);
    if unknown {
        work.ignored("RetryPolicy.retry_on");
    }
    let codes = work.each(
        "retriable_status_codes",
        &said.retriable_status_codes,
        |work, code| {
            let known = u16::try_from(*code).ok();
            if known.is_none() {
                work.wrong(format!("expected a status code, found {code}"));
            }
            known
        },
    );
    let back_off = match &said.retry_back_off {
        Some(said) => work.at("retry_back_off", |work| back_off(work, said))?,
        None => BackOff::default(),
    };
    let rate_limited = match &said.rate_limited_retry_back_off {
        Some(said) => Some(work.at("rate_limited_retry_back_off", |work| rate_limited(work, said))?),
        None => None,
    };
    let policy = RetryPolicy {
        on,
        retries: said.num_retries.as_ref().map_or(1, |retries| retries.value),
        per_try_timeout: value::limit(work, "per_try_timeout", said.per_try_timeout.as_ref()),
        per_try_idle_timeout: value::limit(work, "per_try_idle_timeout", said.per_try_idle_timeout.as_ref()),
        back_off,
        rate_limited,
        status_codes: codes,
        headers: work.each("retriable_headers", &said.retriable_headers, matcher::header),
        request_headers: work.each(
            "retriable_request_headers",
            &said.retriable_request_headers,
            matcher::header,
        ),
        avoid_previous_hosts: avoids_previous_hosts(work, &said.retry_host_predicate),
        host_attempts: u32::try_from(said.host_selection_retry_max_attempts.max(1)).unwrap_or(u32::MAX),
    };
    Some(work.context.repeated.retry(said, policy))
}

/// Whether a try that is not answered in time goes on beside the next.
pub(crate) fn hedges(work: &mut Work<'_, '_>, said: &api::HedgePolicy) -> bool {
    work.review(said);
    if said
        .initial_requests
        .as_ref()
        .is_some_and(|count| count.value == 0)
    {
        work.wrong_at("initial_requests", "expected at least 1, found 0");
    }
    said.hedge_on_per_try_timeout
}

fn back_off(work: &mut Work<'_, '_>, said: &inner::RetryBackOff) -> Option<BackOff> {
    if said.base_interval.is_none() {
        work.wrong_at("base_interval", "expected a duration, found none");
        return None;
    }
    let default = BackOff::default();
    let base = value::positive(work, "base_interval", said.base_interval.as_ref(), default.base);
    // Envoy counts in whole milliseconds, at least one.
    let base = base.max(Duration::from_millis(1));
    let max = value::positive(
        work,
        "max_interval",
        said.max_interval.as_ref(),
        base.saturating_mul(10),
    );
    if said.max_interval.is_some() && max < base {
        work.wrong("retry_policy.max_interval must greater than or equal to the base_interval");
    }
    Some(BackOff { base, max })
}

fn rate_limited(
    work: &mut Work<'_, '_>,
    said: &inner::RateLimitedRetryBackOff,
) -> Option<RateLimitedBackOff> {
    if said.reset_headers.is_empty() {
        work.wrong_at("reset_headers", "expected at least one header, found none");
    }
    let headers = work.each("reset_headers", &said.reset_headers, |work, said| {
        let name: HeaderName = value::header_name(work, "name", &said.name)?;
        let format = match value::known(work, "format", said.format)? {
            inner::ResetHeaderFormat::Seconds => ResetFormat::Seconds,
            inner::ResetHeaderFormat::UnixTimestamp => ResetFormat::UnixTimestamp,
        };
        Some(ResetHeader { name, format })
    });
    let max = value::positive(work, "max_interval", said.max_interval.as_ref(), RATE_LIMITED_MAX);
    Some(RateLimitedBackOff { headers, max })
}

fn avoids_previous_hosts(work: &mut Work<'_, '_>, said: &[inner::RetryHostPredicate]) -> bool {
    let mut found = false;
    work.each("retry_host_predicate", said, |work, said| -> Option<()> {
        let kind = match &said.config_type {
            Some(inner::retry_host_predicate::ConfigType::TypedConfig(any)) => Extension::open(any).kind,
            None => String::new(),
        };
        if kind == PREVIOUS_HOSTS {
            found = true;
        } else {
            work.ignored("RetryPolicy.retry_host_predicate");
        }
        None
    });
    found
}

/// What limits the retries of a priority: a budget goes before a number, and is the default.
pub(crate) fn limit(said: &Thresholds) -> RetryLimit {
    let Some(budget) = &said.retry_budget else {
        return said
            .max_retries
            .as_ref()
            .map_or_else(RetryLimit::default, |max| RetryLimit::Fixed(max.value));
    };
    let percent = budget
        .budget_percent
        .as_ref()
        .map_or(20.0, |percent| percent.value);
    RetryLimit::Budget {
        share: (percent.clamp(0.0, 100.0) * 100.0) as u32,
        floor: budget
            .min_retry_concurrency
            .as_ref()
            .map_or(3, |floor| floor.value),
    }
}
