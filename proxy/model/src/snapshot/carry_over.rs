//! Where live state moves from one version of the world to the next.
//!
//! Holds: a cluster keeps its counts by its id, an endpoint by its address within its cluster, a filter chain (with the
//! TLS state that the shell keeps beside it) by name and fingerprint within its listener. What vanished is marked when
//! the next version is finished, never before; what comes back later starts afresh.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::endpoint::{Endpoint, EndpointAddress, EndpointSet};
use crate::listener::{FilterChain, Listener};

/// Endpoints by address, collected from earlier sets of one cluster.
pub type ByAddress<'a> = HashMap<&'a EndpointAddress, &'a Arc<Endpoint>, rapidhash::fast::RandomState>;

/// The endpoints of both sets; the first set wins.
pub fn by_address<'a>(first: Option<&'a EndpointSet>, second: Option<&'a EndpointSet>) -> ByAddress<'a> {
    let second = second.filter(|second| !first.is_some_and(|first| std::ptr::eq(first, *second)));
    let sets = [first, second].into_iter().flatten();
    let all = sets.clone().map(|set| set.endpoints.len()).sum();
    let mut known = ByAddress::with_capacity_and_hasher(all, Default::default());
    for endpoint in sets.flat_map(|set| set.endpoints.iter()) {
        known.entry(&endpoint.spec.address).or_insert(endpoint);
    }
    known
}

/// Marks the endpoints of `before` whose counts `after` does not share any more.
pub fn mark_removed(before: &EndpointSet, after: Option<&EndpointSet>) {
    let by_address = OnceCell::new();
    for (place, endpoint) in before.endpoints.iter().enumerate() {
        let goes_on = |after: &Arc<Endpoint>| after.shares_counts(endpoint);
        // Most of them stand where they stood.
        if after
            .and_then(|after| after.endpoints.get(place))
            .is_some_and(goes_on)
        {
            continue;
        }
        let by_address = by_address.get_or_init(|| self::by_address(after, None));
        if !by_address
            .get(&endpoint.spec.address)
            .copied()
            .is_some_and(goes_on)
        {
            endpoint.live().removed.store(true, Ordering::Relaxed);
        }
    }
}

/// Notes of every endpoint since when it is there.
pub fn note_beginnings(set: &EndpointSet, now: Instant) {
    for endpoint in set.endpoints.iter() {
        endpoint.live().watch().since.or(now);
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
