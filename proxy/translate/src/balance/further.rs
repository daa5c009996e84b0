//! Typed policies that choose among endpoints before another policy does, or without one: `pick_first`,
//! `random_subsetting`, `override_host`.

use std::sync::Arc;

use remora_model::balance::{BalancePolicy, HostSource, OverrideHost, RandomSubset};

use super::{Found, Policy, among};
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use crate::pb::envoy::extensions::load_balancing_policies as typed;
use crate::rate_limits::metadata_key;
use crate::value;

/// One of these policies inside of one that cannot hold it.
const NESTED: &str = "is not supported: this policy inside of another one";

pub(super) fn pick_first(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Policy> {
    let said: typed::pick_first::v3::PickFirst = extension.decode(work)?;
    Some(Policy::plain(BalancePolicy::PickFirst {
        shuffle: said.shuffle_address_list,
    }))
}

pub(super) fn random_subsetting(
    work: &mut Work<'_, '_>,
    extension: &Extension<'_>,
    depth: u8,
) -> Option<Policy> {
    let said: typed::random_subsetting::v3::RandomSubsetting = extension.decode(work)?;
    let size = said.subset_size.as_ref().map_or(0, |size| size.value);
    if size == 0 {
        work.wrong_at("subset_size", "expected a number above 0, found none");
    }
    let inner = child(work, "child_policy", said.child_policy.as_ref(), depth)?;
    if matches!(
        inner.balance,
        BalancePolicy::Subset(_) | BalancePolicy::OverrideHost(_)
    ) {
        work.wrong_at("child_policy", NESTED);
        return None;
    }
    Some(inner.inside(|inner| BalancePolicy::RandomSubset(Arc::new(RandomSubset { size, inner }))))
}

pub(super) fn override_host(work: &mut Work<'_, '_>, extension: &Extension<'_>, depth: u8) -> Option<Policy> {
    let said: typed::override_host::v3::OverrideHost = extension.decode(work)?;
    if said.override_host_sources.is_empty() {
        work.wrong_at("override_host_sources", "value must contain at least 1 item(s)");
    }
    if said.selected_host_key.is_some() {
        work.ignored("OverrideHost.selected_host_key");
    }
    let sources = work.each(
        "override_host_sources",
        &said.override_host_sources,
        |work, said| {
            match (said.header.as_str(), &said.metadata) {
                ("", None) => work.wrong("Empty override source"),
                ("", Some(key)) => {
                    return metadata_key(work, "metadata", Some(key)).map(HostSource::Metadata);
                }
                (name, None) => return value::header_name(work, "header", name).map(HostSource::Header),
                _ => work.wrong("Only one override source must be set"),
            }
            None
        },
    );
    let inner = child(work, "fallback_policy", said.fallback_policy.as_ref(), depth)?;
    if matches!(inner.balance, BalancePolicy::OverrideHost(_)) {
        work.wrong_at("fallback_policy", NESTED);
        return None;
    }
    Some(inner.inside(|inner| BalancePolicy::OverrideHost(Arc::new(OverrideHost { sources, inner }))))
}

/// The first known policy of a list inside of another policy.
fn child(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&LoadBalancingPolicy>,
    depth: u8,
) -> Option<Policy> {
    let Some(said) = said else {
        work.wrong_at(field, "expected a policy, found none");
        return None;
    };
    let mut names = Vec::new();
    match work.at(field, |work| among(work, said, depth - 1, &mut names)) {
        Found::Policy(policy) => Some(policy),
        Found::None => {
            let sentence = "didn't find a registered load balancer factory with names from";
            work.wrong_at(field, format!("{sentence} [{}]", names.join(", ")));
            None
        }
        Found::Wrong => None,
    }
}
