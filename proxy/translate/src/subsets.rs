//! `lb_subset_config` and the typed policy `subset` to [`SubsetPolicy`]; `metadata_match` to labels.

use remora_model::Name;
use remora_model::balance::{BalancePolicy, SelectorFallback, SubsetFallback, SubsetPolicy, SubsetSelector};
use remora_model::endpoint::Labels;

use crate::context::Work;
use crate::endpoint;
use crate::pb::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use crate::pb::envoy::config::core::v3::Metadata;
use crate::pb::envoy::extensions::load_balancing_policies::subset::v3 as api;
use crate::pb::envoy::extensions::load_balancing_policies::subset::v3::subset::{
    self as of, LbSubsetMetadataFallbackPolicy as FallbackList,
    lb_subset_selector::LbSubsetSelectorFallbackPolicy as OfSelector,
};
use crate::value;

/// The labels that a `metadata_match` asks for.
pub(crate) fn wanted(said: Option<&Metadata>) -> Option<Labels> {
    said?.filter_metadata.get("envoy.lb").map(endpoint::labels)
}

/// `lb_subset_config` in the words of the typed policy; `None` where it selects nothing.
pub(crate) fn typed(said: Option<&LbSubsetConfig>) -> Option<api::Subset> {
    let said = said.filter(|said| !said.subset_selectors.is_empty())?;
    let selectors = said.subset_selectors.iter().map(|said| of::LbSubsetSelector {
        keys: said.keys.clone(),
        single_host_per_subset: said.single_host_per_subset,
        fallback_policy: said.fallback_policy,
        fallback_keys_subset: said.fallback_keys_subset.clone(),
    });
    Some(api::Subset {
        fallback_policy: said.fallback_policy,
        default_subset: said.default_subset.clone(),
        subset_selectors: selectors.collect(),
        allow_redundant_keys: false,
        locality_weight_aware: said.locality_weight_aware,
        scale_locality_weight: said.scale_locality_weight,
        panic_mode_any: said.panic_mode_any,
        list_as_any: said.list_as_any,
        metadata_fallback_policy: said.metadata_fallback_policy,
        subset_lb_policy: None,
    })
}

/// The policy, with `inner` among the endpoints of a subset.
pub(crate) fn policy(
    work: &mut Work<'_, '_>,
    said: &api::Subset,
    inner: BalancePolicy,
) -> Option<SubsetPolicy> {
    let fallback = match value::known(work, "fallback_policy", said.fallback_policy)? {
        of::LbSubsetFallbackPolicy::NoFallback => SubsetFallback::None,
        of::LbSubsetFallbackPolicy::AnyEndpoint => SubsetFallback::Any,
        of::LbSubsetFallbackPolicy::DefaultSubset => SubsetFallback::Default,
    };
    let mut selectors = work.each("subset_selectors", &said.subset_selectors, selector);
    if said.allow_redundant_keys {
        // The one with the most keys is asked first.
        selectors.sort_by_key(|selector| std::cmp::Reverse(selector.keys.len()));
    }
    let list: FallbackList = value::known(work, "metadata_fallback_policy", said.metadata_fallback_policy)?;
    Some(SubsetPolicy {
        inner,
        fallback,
        default_subset: said
            .default_subset
            .as_ref()
            .map(endpoint::labels)
            .unwrap_or_default(),
        selectors,
        redundant_keys: said.allow_redundant_keys,
        locality_weights: said.locality_weight_aware,
        scaled_weights: said.locality_weight_aware && said.scale_locality_weight,
        panic_any: said.panic_mode_any,
        list_as_any: said.list_as_any,
        fallback_list: list == FallbackList::FallbackList,
    })
}

fn selector(work: &mut Work<'_, '_>, said: &of::LbSubsetSelector) -> Option<SubsetSelector> {
    let names = |said: &[String]| -> Vec<Name> {
        let mut names: Vec<Name> = said.iter().map(|name| name.as_str().into()).collect();
        names.sort();
        names.dedup();
        names
    };
    let keys = names(&said.keys);
    let policy: OfSelector = value::known(work, "fallback_policy", said.fallback_policy)?;
    let fewer = names(&said.fallback_keys_subset);
    let wrong = if policy != OfSelector::KeysSubset {
        (!fewer.is_empty()).then_some("fallback_keys_subset can be set only for KEYS_SUBSET fallback_policy")
    } else if fewer.is_empty() {
        Some("fallback_keys_subset cannot be empty")
    } else if !fewer.iter().all(|key| keys.contains(key)) {
        Some("fallback_keys_subset must be a subset of selector keys")
    } else if fewer.len() == keys.len() {
        Some("fallback_keys_subset cannot be equal to keys")
    } else {
        None
    };
    if let Some(sentence) = wrong {
        work.wrong_at("fallback_keys_subset", sentence);
        return None;
    }
    let fallback = match policy {
        OfSelector::NotDefined => None,
        OfSelector::NoFallback => Some(SelectorFallback::Like(SubsetFallback::None)),
        OfSelector::AnyEndpoint => Some(SelectorFallback::Like(SubsetFallback::Any)),
        OfSelector::DefaultSubset => Some(SelectorFallback::Like(SubsetFallback::Default)),
        OfSelector::KeysSubset => Some(SelectorFallback::Keys(fewer)),
    };
    Some(SubsetSelector {
        keys,
        single_host: said.single_host_per_subset,
        fallback,
    })
}
