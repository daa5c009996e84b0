//! How far may an endpoint's load go beyond its share before the keys that fall on it go elsewhere?
//!
//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016; `hash_balance_factor`): an endpoint with
//! more requests in flight than `factor` percent of its share passes the key on. To whom follows from the hash alone, in
//! Envoy's order, so that a mixed fleet passes it on to the same endpoint.
//! Holds: an endpoint within its bound costs one division; only one beyond it looks at the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::HashedEndpoint;
use crate::endpoint::Endpoint;

/// The bound over one group.
#[derive(Debug, Clone)]
pub(super) struct LoadBound {
    /// Percent, at least 100.
    factor: u32,
    /// By position; 0: never chosen.
    shares: Vec<f64>,
    /// Positions with a share, in order.
    eligible: Vec<u32>,
}

impl LoadBound {
    pub(super) fn new(endpoints: &[HashedEndpoint<'_>], factor: u32) -> Self {
        let shares: Vec<f64> = endpoints.iter().map(|e| e.share).collect();
        let eligible = (0u32..)
            .zip(&shares)
            .filter(|(_, share)| **share > 0.0)
            .map(|(at, _)| at)
            .collect();
        Self {
            factor,
            shares,
            eligible,
        }
    }

    /// `first` while it is within its bound; else the first of the others that is, in the order that `hash` shuffles
    /// them into; else the one that is the least beyond it. `in_flight` counts the cluster's requests, this one among
    /// them.
    pub(super) fn settle(
        &self,
        first: usize,
        hash: u64,
        in_flight: u32,
        endpoints: &[Arc<Endpoint>],
    ) -> Option<usize> {
        let slots = (u64::from(in_flight.max(1)) * u64::from(self.factor)).div_ceil(100) as f64;
        let load = |at: usize| {
            let active = endpoints.get(at)?.counts().active.load(Ordering::Relaxed);
            Some(f64::from(active) / (slots * self.shares.get(at)?).ceil().max(1.0))
        };
        let mut least = (load(first)?, first);
        if least.0 <= 1.0 {
            return Some(first);
        }
        let mut order: SmallVec<[u32; 64]> = SmallVec::from_slice(&self.eligible);
        let mut random = Twister::new(hash as u32);
        for at in 0..order.len() {
            let drawn = random.below((order.len() - at) as u32) as usize;
            order.swap(at, at + drawn);
            let candidate = order[at] as usize;
            if candidate == first {
                continue;
            }
            let load = load(candidate)?;
            if load <= 1.0 {
                return Some(candidate);
            }
            if load < least.0 {
                least = (load, candidate);
            }
        }
        Some(least.1)
    }
}

/// MT19937 (Matsumoto and Nishimura 1998), the generator behind Envoy's shuffle.
struct Twister {
    state: [u32; 624],
    at: usize,
}

impl Twister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for at in 1..state.len() {
            let before = state[at - 1];
            state[at] = 1_812_433_253u32
                .wrapping_mul(before ^ (before >> 30))
                .wrapping_add(at as u32);
        }
        Self { state, at: 0 }
    }

    fn next(&mut self) -> u32 {
        let size = self.state.len();
        let (at, next, far) = (self.at, (self.at + 1) % size, (self.at + 397) % size);
        let joined = (self.state[at] & 0x8000_0000) | (self.state[next] & 0x7fff_ffff);
        let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
        self.state[at] = self.state[far] ^ (joined >> 1) ^ odd;
        self.at = next;
        let mut word = self.state[at];
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Uniform below `bound`, which is above 0.
    fn below(&mut self, bound: u32) -> u32 {
        let width = (1u64 << 32) / u64::from(bound.max(1));
        loop {
            let drawn = u64::from(self.next()) / width;
            if drawn < u64::from(bound.max(1)) {
                return drawn as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::tests_support::endpoints;

    fn bound(shares: &[f64], factor: u32) -> LoadBound {
        let all: Vec<_> = shares
            .iter()
            .map(|share| HashedEndpoint {
                key: "".into(),
                share: *share,
            })
            .collect();
        LoadBound::new(&all, factor)
    }

    fn load(all: &[Arc<Endpoint>], active: &[u32]) {
        for (endpoint, active) in all.iter().zip(active) {
            endpoint.live().active.store(*active, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_generator_is_the_standards() {
        // The 10,000th number of the default seed, from the C++ standard [rand.predef].
        let mut random = Twister::new(5489);
        assert_eq!((0..10_000).map(|_| random.next()).last(), Some(4_123_659_995));
    }

    #[test]
    fn within_its_bound_an_endpoint_keeps_its_keys() {
        let all = endpoints(&[1; 4]);
        let bound = bound(&[0.25; 4], 120);
        // 11 in flight make ceil(1.2 * 11) = 14 slots, 4 for each.
        load(&all, &[4, 3, 2, 2]);
        assert!((0..100).all(|hash| bound.settle(0, hash, 11, &all) == Some(0)));
        load(&all, &[5, 2, 2, 2]);
        assert!((0..100).all(|hash| bound.settle(0, hash, 11, &all) != Some(0)));
    }

    #[test]
    fn a_key_is_passed_on_to_the_same_endpoint_and_keys_to_all() {
        let all = endpoints(&[1; 4]);
        let bound = bound(&[0.25; 4], 120);
        load(&all, &[9, 0, 0, 0]);
        let mut counts = [0; 4];
        for hash in 0..3_000 {
            let chosen = bound.settle(0, hash, 10, &all).unwrap();
            assert_eq!(bound.settle(0, hash, 10, &all), Some(chosen));
            counts[chosen] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|n| (850..1_150).contains(n)), "{counts:?}");
    }

    #[test]
    fn where_all_are_beyond_their_bounds_the_least_loaded_takes_it() {
        let all = endpoints(&[1; 3]);
        let bound = bound(&[1.0 / 3.0; 3], 100);
        load(&all, &[9, 7, 8]);
        assert!((0..100).all(|hash| bound.settle(0, hash, 3, &all) == Some(1)));
    }

    #[test]
    fn no_endpoint_goes_further_than_one_beyond_its_bound() {
        for factor in [100, 125, 200] {
            let (all, shares) = (endpoints(&[1; 5]), [0.1, 0.2, 0.3, 0.4, 0.0]);
            let bound = bound(&shares, factor);
            let mut rng = fastrand::Rng::with_seed(5);
            for in_flight in 1..400 {
                // Nearly all requests have one key.
                let hash = if rng.u32(..10) > 0 { 7 } else { rng.u64(..) };
                let chosen = bound.settle((hash % 4) as usize, hash, in_flight, &all).unwrap();
                all[chosen].live().active.fetch_add(1, Ordering::Relaxed);
                let slots = f64::from((in_flight * factor).div_ceil(100));
                let active = f64::from(all[chosen].live().active.load(Ordering::Relaxed));
                assert!(
                    active <= (slots * shares[chosen]).ceil() + 1.0,
                    "{chosen}: {active}"
                );
            }
            assert_eq!(all[4].live().active.load(Ordering::Relaxed), 0);
        }
    }
}
