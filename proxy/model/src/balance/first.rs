//! The first endpoint, as long as it may be used (`pick_first`, gRFC A62).
//!
//! Holds: a change elsewhere moves nothing: the endpoint that was the first stays it while it may be used, and the order of
//! `shuffle_address_list` is that of a hash of address and salt, so it is another in every process and the same for the
//! life of one.

use std::sync::Arc;

use super::hash::xx64;
use super::localities::address;
use crate::endpoint::Endpoint;

/// The position to take; `salt` where the list is shuffled, `before` the one that was taken.
pub(super) fn position(
    endpoints: &[Arc<Endpoint>],
    salt: Option<u64>,
    before: Option<&Endpoint>,
) -> Option<usize> {
    let stays = |before: &Endpoint| {
        endpoints
            .iter()
            .position(|e| e.spec.address == before.spec.address)
    };
    let first = || match salt {
        None => (!endpoints.is_empty()).then_some(0),
        Some(salt) => (0..endpoints.len()).min_by_key(|at| place(&endpoints[*at], salt)),
    };
    before.and_then(stays).or_else(first)
}

/// Where an endpoint stands in the order of this salt.
pub(super) fn place(endpoint: &Endpoint, salt: u64) -> u64 {
    xx64(address(&endpoint.spec.address).as_bytes(), salt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::tests_support::endpoints;

    #[test]
    fn the_first_is_taken_and_stays_while_it_is_there() {
        let all = endpoints(&[1; 4]);
        assert_eq!(position(&all, None, None), Some(0));
        assert_eq!(position(&all[1..], None, None), Some(0));
        assert_eq!(
            position(&all, None, Some(&all[2])),
            Some(2),
            "it returns nowhere by itself"
        );
        assert_eq!(position(&all[..2], None, Some(&all[2])), Some(0));
        assert_eq!(position(&[], None, None), None);
    }

    #[test]
    fn shuffled_lists_spread_processes_evenly_and_one_process_keeps_its_order() {
        let all = endpoints(&[1; 5]);
        let mut counts = [0; 5];
        for salt in 0..5_000 {
            let first = position(&all, Some(salt), None).unwrap();
            counts[first] += 1;
            // Without another endpoint the first is the same.
            let other = (first + 1) % 5;
            let without: Vec<_> = all
                .iter()
                .filter(|e| !Arc::ptr_eq(e, &all[other]))
                .cloned()
                .collect();
            let again = position(&without, Some(salt), None).unwrap();
            assert!(Arc::ptr_eq(&without[again], &all[first]));
        }
        assert!(
            counts.iter().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
    }
}
