//! A few endpoints of many, others in every process (`random_subsetting`, gRFC A68).
//!
//! Holds: rendezvous hashing: the endpoints with the lowest hashes of address and salt, so one that comes or goes moves at
//! most one other; which they are says nothing of their health.

use std::sync::Arc;

use super::BalancePolicy;
use super::first::place;
use crate::endpoint::Endpoint;

/// `RandomSubsetting`.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomSubset {
    /// `subset_size`, above 0.
    pub size: u32,
    /// `child_policy`.
    pub inner: BalancePolicy,
}

impl RandomSubset {
    /// Above which place an endpoint of these is left out; `None`: all stay.
    pub(crate) fn bound<'e>(
        &self,
        endpoints: impl Iterator<Item = &'e Arc<Endpoint>>,
        salt: u64,
    ) -> Option<u64> {
        let mut places: Vec<u64> = endpoints.map(|endpoint| place(endpoint, salt)).collect();
        let last = (self.size as usize).checked_sub(1)?;
        (last < places.len()).then(|| *places.select_nth_unstable(last).1)
    }

    /// Whether an endpoint is within a bound.
    pub(crate) fn keeps(endpoint: &Endpoint, bound: u64, salt: u64) -> bool {
        place(endpoint, salt) <= bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::tests_support::endpoints;

    fn kept(all: &[Arc<Endpoint>], size: u32, salt: u64) -> Vec<*const Endpoint> {
        let subset = RandomSubset {
            size,
            inner: BalancePolicy::RoundRobin,
        };
        let bound = subset.bound(all.iter(), salt).unwrap_or(u64::MAX);
        let within = all.iter().filter(|e| RandomSubset::keeps(e, bound, salt));
        within.map(Arc::as_ptr).collect()
    }

    #[test]
    fn so_many_are_kept_and_each_by_as_many_processes() {
        let all = endpoints(&[1; 20]);
        let mut counts = [0; 20];
        for salt in 0..4_000 {
            let kept = kept(&all, 5, salt);
            assert_eq!(kept.len(), 5);
            for (at, endpoint) in all.iter().enumerate() {
                counts[at] += u32::from(kept.contains(&Arc::as_ptr(endpoint)));
            }
        }
        // A quarter of 4,000 each; the bounds are six standard deviations.
        assert!(counts.iter().all(|n| (835..1_165).contains(n)), "{counts:?}");
        assert_eq!(kept(&all[..3], 5, 1).len(), 3);
    }

    #[test]
    fn one_that_goes_moves_at_most_one_other() {
        let all = endpoints(&[1; 12]);
        for salt in 0..200 {
            let before = kept(&all, 4, salt);
            for gone in 0..all.len() {
                let rest: Vec<_> = all
                    .iter()
                    .filter(|e| !Arc::ptr_eq(e, &all[gone]))
                    .cloned()
                    .collect();
                let after = kept(&rest, 4, salt);
                let new = after.iter().filter(|e| !before.contains(e)).count();
                let was_in = before.contains(&Arc::as_ptr(&all[gone]));
                assert_eq!((after.len(), new), (4, usize::from(was_in)));
            }
        }
    }
}
