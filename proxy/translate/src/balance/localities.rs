//! Whether localities have weights, or requests stay in their zone.

use std::sync::Arc;

use remora_model::balance::{BalancePolicy, ZoneAware, ZoneSettings};

use super::Policy;
use crate::context::Work;
use crate::pb::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, common_lb_config::LocalityConfigSpecifier,
};
use crate::pb::envoy::extensions::load_balancing_policies as typed;
use crate::value;

/// What is said of localities.
pub(super) enum Localities {
    Plain,
    Weighted,
    Zones(ZoneSettings),
}

impl Localities {
    /// `balance` with these localities.
    pub(super) fn around(self, inner: BalancePolicy) -> Policy {
        match self {
            Self::Plain => Policy::plain(inner),
            Self::Weighted => Policy {
                locality_weighted: true,
                ..Policy::plain(inner)
            },
            Self::Zones(settings) => {
                Policy::plain(BalancePolicy::ZoneAware(Arc::new(ZoneAware { inner, settings })))
            }
        }
    }
}

/// The fields that both forms of `ZoneAwareLbConfig` have, over `others`.
fn zone_settings(
    work: &mut Work<'_, '_>,
    enabled: Option<&crate::pb::envoy::r#type::v3::Percent>,
    least: Option<&crate::pb::google::protobuf::UInt64Value>,
    others: ZoneSettings,
) -> Option<ZoneSettings> {
    let percent = enabled.map_or(100.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&percent) {
        work.wrong_at("routing_enabled", format!("expected 0 to 100, found {percent}"));
        return None;
    }
    Some(ZoneSettings {
        enabled: percent.round() as u8,
        least_endpoints: least.map_or(others.least_endpoints, |least| least.value),
        ..others
    })
}

/// Of `common_lb_config`.
pub(super) fn of_cluster(work: &mut Work<'_, '_>, common: Option<&CommonLbConfig>) -> Option<Localities> {
    Some(
        match common.and_then(|common| common.locality_config_specifier.as_ref()) {
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => Localities::Weighted,
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(said)) => {
                let settings = ZoneSettings {
                    fail_on_panic: said.fail_traffic_on_panic,
                    ..ZoneSettings::default()
                };
                let (enabled, least) = (said.routing_enabled.as_ref(), said.min_cluster_size.as_ref());
                Localities::Zones(work.at("common_lb_config.zone_aware_lb_config", |work| {
                    zone_settings(work, enabled, least, settings)
                })?)
            }
            None => Localities::Plain,
        },
    )
}

/// Of a typed policy.
pub(super) fn of_policy(
    work: &mut Work<'_, '_>,
    said: Option<typed::common::v3::LocalityLbConfig>,
) -> Option<Localities> {
    use typed::common::v3::locality_lb_config::{
        LocalityConfigSpecifier as Specifier, zone_aware_lb_config::LocalityBasis,
    };
    Some(match said.and_then(|said| said.locality_config_specifier) {
        Some(Specifier::LocalityWeightedLbConfig(_)) => Localities::Weighted,
        Some(Specifier::ZoneAwareLbConfig(said)) => {
            let path = "locality_lb_config.zone_aware_lb_config";
            let basis: LocalityBasis = work.at(path, |work| {
                value::known(work, "locality_basis", said.locality_basis)
            })?;
            let settings = ZoneSettings {
                fail_on_panic: said.fail_traffic_on_panic,
                direct: said.force_locality_direct_routing,
                forced_with: said
                    .force_local_zone
                    .map(|forced| forced.min_size.map_or(1, |least| least.value)),
                by_weight: basis == LocalityBasis::HealthyHostsWeight,
                ..ZoneSettings::default()
            };
            let (enabled, least) = (said.routing_enabled.as_ref(), said.min_cluster_size.as_ref());
            Localities::Zones(work.at(path, |work| zone_settings(work, enabled, least, settings))?)
        }
        None => Localities::Plain,
    })
}
