//! Which endpoints does a request's metadata select? What `lb_subset_config` or the `subset` policy says.

use super::BalancePolicy;
use crate::Name;
use crate::endpoint::Labels;

/// `lb_subset_config`, or the typed policy `subset`.
#[derive(Debug, Clone, PartialEq)]
pub struct SubsetPolicy {
    /// How one endpoint of a subset is chosen.
    pub inner: BalancePolicy,
    /// `fallback_policy`: what a request gets that selects no subset.
    pub fallback: SubsetFallback,
    /// `default_subset`.
    pub default_subset: Labels,
    /// `subset_selectors`, in the order in which they are asked.
    pub selectors: Vec<SubsetSelector>,
    /// `allow_redundant_keys`: labels of a request that no selector has are left out.
    pub redundant_keys: bool,
    /// `locality_weight_aware`.
    pub locality_weights: bool,
    /// `scale_locality_weight`.
    pub scaled_weights: bool,
    /// `panic_mode_any`: where the fallback has no endpoint, any.
    pub panic_any: bool,
    /// `list_as_any`: an endpoint belongs to the subset of each value of a list.
    pub list_as_any: bool,
    /// `metadata_fallback_policy: FALLBACK_LIST`: other labels to try stand in the request's `fallback_list`.
    pub fallback_list: bool,
}

/// `LbSubsetFallbackPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubsetFallback {
    /// Nothing.
    #[default]
    None,
    /// Any endpoint.
    Any,
    /// An endpoint with the labels of `default_subset`.
    Default,
}

/// `LbSubsetSelector`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubsetSelector {
    /// `keys`, sorted, each once: every combination of their values is a subset.
    pub keys: Vec<Name>,
    /// `single_host_per_subset`.
    pub single_host: bool,
    /// `fallback_policy`; `None`: that of the policy.
    pub fallback: Option<SelectorFallback>,
}

/// `LbSubsetSelectorFallbackPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectorFallback {
    /// Nothing, any endpoint, or the default subset.
    Like(SubsetFallback),
    /// The choice begins anew with these of the request's labels.
    Keys(Vec<Name>),
}

impl SubsetPolicy {
    /// Whether something falls back to `default_subset`.
    pub(crate) fn uses_default(&self) -> bool {
        let default = SelectorFallback::Like(SubsetFallback::Default);
        let selectors = self.selectors.iter();
        self.fallback == SubsetFallback::Default
            || selectors
                .filter_map(|selector| selector.fallback.as_ref())
                .any(|fallback| *fallback == default)
    }

    /// What a request gets whose labels have exactly a selector's keys, but select no subset. Selectors form a tree in
    /// Envoy, in which one that is the beginning of an earlier one has no fallback of its own.
    pub(crate) fn fallback_of(&self, criteria: &Labels) -> Option<&SelectorFallback> {
        let keys = |selector: &SubsetSelector| selector.keys.iter().eq(criteria.iter().map(|(key, _)| key));
        let begins = |selector: &SubsetSelector| {
            selector.keys.len() > criteria.len()
                && selector
                    .keys
                    .iter()
                    .zip(criteria.iter())
                    .all(|(own, (key, _))| own == key)
        };
        let first = self
            .selectors
            .iter()
            .find(|selector| keys(selector) || begins(selector))?;
        first.fallback.as_ref().filter(|_| keys(first))
    }

    /// The labels of the first selector whose keys the request has all, where redundant ones are allowed.
    pub(crate) fn narrowed(&self, criteria: &Labels) -> Option<Labels> {
        if !self.redundant_keys {
            return None;
        }
        let has_all = |selector: &&SubsetSelector| selector.keys.iter().all(|key| criteria.at(key).is_some());
        let selector = self.selectors.iter().find(has_all)?;
        Some(criteria.only(|key| selector.keys.iter().any(|own| **own == *key)))
    }
}
