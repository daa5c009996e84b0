//! Policies by what endpoints report or how quickly they answer: `client_side_weighted_round_robin`, `peak_ewma`.
//!
//! The message of the latter is of Envoy's contributed extensions and no part of its API; here its fields are read from
//! the bytes, or from a `TypedStruct` that names it.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use remora_model::balance::{BalancePolicy, ClientWeighted, PeakEwma};

use super::Policy;
use super::slow_start::{Beginning, slow_start};
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use crate::pb::google::protobuf::{Duration as SaidDuration, Struct, value::Kind};
use crate::value;

const BLACKOUT: Duration = Duration::from_secs(10);
const EXPIRATION: Duration = Duration::from_secs(180);
const UPDATE: Duration = Duration::from_secs(1);
/// Shorter update periods count as this one.
const SHORTEST: Duration = Duration::from_millis(100);
const DECAY: Duration = Duration::from_secs(10);
const DEFAULT_TIME: Duration = Duration::from_millis(10);

pub(super) fn client_weighted(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Policy> {
    let said: ClientSideWeightedRoundRobin = extension.decode(work)?;
    work.review(&said);
    let or = |work: &mut Work<'_, '_>, field: &str, said: &Option<SaidDuration>, default| {
        value::duration(work, field, said.as_ref()).unwrap_or(default)
    };
    let penalty = said
        .error_utilization_penalty
        .as_ref()
        .map_or(1.0, |said| f64::from(said.value));
    if !(penalty >= 0.0 && penalty.is_finite()) {
        work.wrong_at(
            "error_utilization_penalty",
            format!("expected at least 0, found {penalty}"),
        );
    }
    let metrics = said.metric_names_for_computing_utilization.iter();
    let policy = ClientWeighted {
        blackout: or(work, "blackout_period", &said.blackout_period, BLACKOUT),
        expiration: or(
            work,
            "weight_expiration_period",
            &said.weight_expiration_period,
            EXPIRATION,
        ),
        update_period: or(work, "weight_update_period", &said.weight_update_period, UPDATE).max(SHORTEST),
        error_penalty: penalty,
        metrics: metrics.map(|name| name.as_str().into()).collect(),
    };
    let slow = said.slow_start_config.as_ref().map(Beginning::from);
    slow_start(work, slow, BalancePolicy::ClientWeighted(Arc::new(policy))).map(Policy::plain)
}

/// What of `PeakEwma` has an effect here.
#[derive(Clone, PartialEq, Message)]
struct SaidPeakEwma {
    #[prost(message, optional, tag = "1")]
    decay_time: Option<SaidDuration>,
    #[prost(message, optional, tag = "4")]
    default_rtt: Option<SaidDuration>,
}

pub(super) fn peak_ewma(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Policy> {
    let said = match extension.free() {
        None => extension.decode::<SaidPeakEwma>(work)?,
        Some(free) => SaidPeakEwma {
            decay_time: text_duration(work, free, "decay_time"),
            default_rtt: text_duration(work, free, "default_rtt"),
        },
    };
    Some(Policy::plain(BalancePolicy::PeakEwma(Arc::new(PeakEwma {
        decay: value::positive(work, "decay_time", said.decay_time.as_ref(), DECAY),
        default: value::positive(work, "default_rtt", said.default_rtt.as_ref(), DEFAULT_TIME),
    }))))
}

/// A duration as JSON writes it: `1.5s`.
fn text_duration(work: &mut Work<'_, '_>, said: &Struct, field: &str) -> Option<SaidDuration> {
    let kind = said.fields.get(field)?.kind.as_ref()?;
    let seconds = match kind {
        Kind::StringValue(text) => text
            .strip_suffix('s')
            .and_then(|seconds| seconds.parse::<f64>().ok()),
        _ => None,
    };
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let Some(duration) = duration else {
        work.wrong_at(field, "expected a duration like 1.5s, found another value");
        return None;
    };
    Some(SaidDuration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    })
}
