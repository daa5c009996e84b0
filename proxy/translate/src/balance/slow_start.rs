//! `slow_start_config`, of a cluster or of a typed policy.

use std::sync::Arc;

use remora_model::balance::{BalancePolicy, SlowStart};

use crate::context::Work;
use crate::pb::envoy::config::cluster::v3 as api;
use crate::pb::envoy::extensions::load_balancing_policies as typed;
use crate::value;

/// `SlowStartConfig`, of a cluster or of a typed policy.
pub(super) struct Beginning<'s> {
    window: Option<&'s crate::pb::google::protobuf::Duration>,
    aggression: Option<f64>,
    percent: Option<f64>,
}

macro_rules! beginning {
    ($($said:ty),+) => {$(
        impl<'s> From<&'s $said> for Beginning<'s> {
            fn from(said: &'s $said) -> Self {
                Self {
                    window: said.slow_start_window.as_ref(),
                    aggression: said.aggression.as_ref().map(|aggression| aggression.default_value),
                    percent: said.min_weight_percent.as_ref().map(|percent| percent.value),
                }
            }
        }
    )+};
}
beginning!(api::cluster::SlowStartConfig, typed::common::v3::SlowStartConfig);

/// `inner`, where new endpoints begin with less as far as that was said.
pub(super) fn slow_start(
    work: &mut Work<'_, '_>,
    said: Option<Beginning<'_>>,
    inner: BalancePolicy,
) -> Option<BalancePolicy> {
    let Some(said) = said else { return Some(inner) };
    work.at("slow_start_config", |work| {
        let window = value::limit(work, "slow_start_window", said.window);
        let percent = said.percent.unwrap_or(10.0);
        if !(0.0..=100.0).contains(&percent) {
            work.wrong_at(
                "min_weight_percent",
                format!("expected 0 to 100, found {percent}"),
            );
            return None;
        }
        let Some(window) = window else { return Some(inner) };
        Some(BalancePolicy::SlowStart(Arc::new(SlowStart {
            inner,
            window,
            aggression: said
                .aggression
                .filter(|aggression| *aggression > 0.0)
                .unwrap_or(1.0),
            least: percent / 100.0,
        })))
    })
}
