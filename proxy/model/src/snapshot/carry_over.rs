//! Where live state moves from one version of the world to the next.
//!
//! Holds: a cluster keeps its counts by its id, an endpoint by its address within its cluster, a filter chain (with the
//! TLS state that the shell keeps beside it) by name and fingerprint within its listener. What vanished is marked when
//! the next version is finished, never before; what comes back later starts afresh.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::endpoint::{Endpoint, EndpointAddress, EndpointSet};
use crate::listener::{FilterChain, Listener};

/// Endpoints by address, collected from earlier sets of one cluster.
pub type ByAddress<'a> = HashMap<&'a EndpointAddress, &'a Arc<Endpoint>, rapidhash::fast::RandomState>;

/// The endpoints of all these sets; an earlier set wins.
pub fn by_address<'a>(sets: impl IntoIterator<Item = &'a EndpointSet>) -> ByAddress<'a> {
    let mut known = ByAddress::default();
    for endpoint in sets.into_iter().flat_map(|set| set.endpoints.iter()) {
        known.entry(&endpoint.spec.address).or_insert(endpoint);
    }
    known
}

/// Marks the endpoints of `before` whose counts `after` does not share any more.
pub fn mark_removed(before: &EndpointSet, after: Option<&EndpointSet>) {
    let kept = by_address(after);
    for endpoint in before.endpoints.iter() {
        let goes_on = kept
            .get(&endpoint.spec.address)
            .is_some_and(|after| after.shares_counts(endpoint));
        if !goes_on {
            endpoint.live().removed.store(true, Ordering::Relaxed);
        }
    }
}

/// Puts the chains of `before` that did not change into `after`, so that both versions share them.
pub fn share_chains(before: &Listener, after: &mut Listener) {
    let mut old: HashMap<(u64, &str), &Arc<FilterChain>> = HashMap::new();
    for chain in before.chains.iter().chain(&before.default_chain) {
        old.insert((chain.fingerprint, &chain.name), chain);
    }
    for chain in after.chains.iter_mut().chain(&mut after.default_chain) {
        if let Some(same) = old.get(&(chain.fingerprint, chain.name.as_ref()))
            && same.criteria == chain.criteria
        {
            *chain = Arc::clone(same);
        }
    }
}
