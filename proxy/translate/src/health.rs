//! What of a cluster concerns the health of its endpoints: [`HealthSettings`].
//!
//! Holds: defaults are Envoy's; a cluster that says nothing has none.

use std::collections::BTreeMap;
use std::time::Duration;

use remora_model::balance::LoadWatch;
use remora_model::health::{BreakerSettings, Enforcing, HealthSettings, MOST, OutlierDetection, RateRule};

use crate::context::Work;
use crate::pb::envoy::config::cluster::v3 as api;
use crate::pb::google::protobuf::{Struct, Value, value::Kind};
use crate::{health_check, value};

/// Where a cluster's metadata speaks of its circuit breaker.
const BREAKER: &str = "remora.circuit_breaker";

/// How long a breaker stays open unless it says otherwise.
const OPEN_FOR: Duration = Duration::from_secs(30);

/// `outlier_detection`, `health_checks`, and the extension in `metadata`; `bytes`: the cluster as received.
pub(crate) fn settings(
    work: &mut Work<'_, '_>,
    said: &api::Cluster,
    bytes: &[u8],
    load: Option<LoadWatch>,
) -> Option<Box<HealthSettings>> {
    let outlier = said
        .outlier_detection
        .as_ref()
        .map(|said| work.at("outlier_detection", |work| outlier(work, said)));
    let breaker = said.metadata.as_ref().and_then(|metadata| {
        let known = usize::from(metadata.filter_metadata.contains_key(BREAKER));
        if metadata.filter_metadata.len() > known || !metadata.typed_filter_metadata.is_empty() {
            work.ignored("Cluster.metadata");
        }
        let said = metadata.filter_metadata.get(BREAKER)?;
        work.at(&format!("metadata.filter_metadata[{BREAKER}]"), |work| {
            breaker(work, said)
        })
    });
    HealthSettings {
        outlier,
        breaker,
        load,
        check: health_check::of(work, said, bytes),
        close_on_failure: said.close_connections_on_host_health_failure,
    }
    .said()
}

fn outlier(work: &mut Work<'_, '_>, said: &api::OutlierDetection) -> OutlierDetection {
    work.review(said);
    let default = OutlierDetection::default();
    let count = |said: &Option<crate::pb::google::protobuf::UInt32Value>, default: u32| {
        said.as_ref().map_or(default, |said| said.value)
    };
    let base = value::positive(
        work,
        "base_ejection_time",
        said.base_ejection_time.as_ref(),
        default.base,
    );
    let longest = default.max.max(base);
    let max = value::positive(
        work,
        "max_ejection_time",
        said.max_ejection_time.as_ref(),
        longest,
    );
    if max < base {
        work.wrong("max_ejection_time cannot be smaller than base_ejection_time");
    }
    let jitter = said.max_ejection_time_jitter.as_ref();
    let (rate, share) = (default.success_rate, default.failure_percentage);
    OutlierDetection {
        consecutive_5xx: count(&said.consecutive_5xx, default.consecutive_5xx),
        consecutive_gateway: count(&said.consecutive_gateway_failure, default.consecutive_gateway),
        consecutive_local: count(&said.consecutive_local_origin_failure, default.consecutive_local),
        split: said.split_external_local_origin_errors,
        interval: value::positive(work, "interval", said.interval.as_ref(), default.interval),
        base,
        max,
        jitter: value::duration(work, "max_ejection_time_jitter", jitter).unwrap_or(Duration::ZERO),
        max_percent: percent(
            work,
            "max_ejection_percent",
            &said.max_ejection_percent,
            default.max_percent,
        ),
        always_one: value::bool_or(said.always_eject_one_host.as_ref(), false),
        check_returns: value::bool_or(said.successful_active_health_check_uneject_host.as_ref(), true),
        success_rate: RateRule {
            minimum_hosts: count(&said.success_rate_minimum_hosts, rate.minimum_hosts),
            volume: count(&said.success_rate_request_volume, rate.volume),
            factor: count(&said.success_rate_stdev_factor, rate.factor),
        },
        failure_percentage: RateRule {
            minimum_hosts: count(&said.failure_percentage_minimum_hosts, share.minimum_hosts),
            volume: count(&said.failure_percentage_request_volume, share.volume),
            factor: percent(
                work,
                "failure_percentage_threshold",
                &said.failure_percentage_threshold,
                share.factor,
            ),
        },
        enforcing: enforcing(work, said, default.enforcing),
    }
}

fn enforcing(work: &mut Work<'_, '_>, said: &api::OutlierDetection, default: Enforcing) -> Enforcing {
    let mut of = |field, said, default| percent(work, field, said, default);
    Enforcing {
        consecutive_5xx: of(
            "enforcing_consecutive_5xx",
            &said.enforcing_consecutive_5xx,
            default.consecutive_5xx,
        ),
        consecutive_gateway: of(
            "enforcing_consecutive_gateway_failure",
            &said.enforcing_consecutive_gateway_failure,
            default.consecutive_gateway,
        ),
        consecutive_local: of(
            "enforcing_consecutive_local_origin_failure",
            &said.enforcing_consecutive_local_origin_failure,
            default.consecutive_local,
        ),
        success_rate: of(
            "enforcing_success_rate",
            &said.enforcing_success_rate,
            default.success_rate,
        ),
        local_success_rate: of(
            "enforcing_local_origin_success_rate",
            &said.enforcing_local_origin_success_rate,
            default.local_success_rate,
        ),
        failure_percentage: of(
            "enforcing_failure_percentage",
            &said.enforcing_failure_percentage,
            default.failure_percentage,
        ),
        local_failure_percentage: of(
            "enforcing_failure_percentage_local_origin",
            &said.enforcing_failure_percentage_local_origin,
            default.local_failure_percentage,
        ),
    }
}

fn percent(
    work: &mut Work<'_, '_>,
    field: &str,
    said: &Option<crate::pb::google::protobuf::UInt32Value>,
    default: u32,
) -> u32 {
    value::number_or(work, field, said.as_ref(), default, 0..=100)
}

/// `failures` (required) and `probes` are numbers, `window` and `open_for` durations like `"30s"`; nothing else may stand
/// there.
fn breaker(work: &mut Work<'_, '_>, said: &Struct) -> Option<BreakerSettings> {
    let mut fields: BTreeMap<&str, &Value> = said
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    let failures = fields
        .remove("failures")
        .map(|value| count(work, "failures", value));
    let probes = fields.remove("probes").map(|value| count(work, "probes", value));
    let window = fields.remove("window").map(|value| time(work, "window", value));
    let open_for = fields
        .remove("open_for")
        .map(|value| time(work, "open_for", value));
    for unknown in fields.keys() {
        work.wrong_at(unknown, "is not one of failures, window, open_for, probes");
    }
    let Some(failures) = failures else {
        work.wrong_at("failures", "expected a number, found none");
        return None;
    };
    Some(BreakerSettings {
        failures: failures?,
        window: match window {
            Some(window) => Some(window?),
            None => None,
        },
        open_for: open_for.map_or(Some(OPEN_FOR), |said| said)?,
        probes: probes.map_or(Some(1), |said| said)?,
    })
}

fn count(work: &mut Work<'_, '_>, field: &str, said: &Value) -> Option<u32> {
    match said.kind {
        Some(Kind::NumberValue(number))
            if number.fract() == 0.0 && (1.0..=f64::from(MOST)).contains(&number) =>
        {
            Some(number as u32)
        }
        _ => {
            work.wrong_at(field, format!("expected a whole number from 1 to {MOST}"));
            None
        }
    }
}

fn time(work: &mut Work<'_, '_>, field: &str, said: &Value) -> Option<Duration> {
    let text = match &said.kind {
        Some(Kind::StringValue(text)) => text.as_str(),
        _ => "",
    };
    let seconds = text
        .strip_suffix('s')
        .and_then(|seconds| seconds.parse::<f64>().ok());
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = time.filter(|time| *time >= Duration::from_millis(1));
    if time.is_none() {
        work.wrong_at(field, "expected a duration above 0, like \"30s\"");
    }
    time
}
