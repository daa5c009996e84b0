//! Weighted round robin as a pure function of one sequence number.
//!
//! Equal weights: the endpoints in turn. Other weights: the sequence number walks over `0..total` in steps that share no
//! divisor with `total` and are close to the golden section of it; the endpoint whose interval of length `weight` is hit
//! is chosen. Holds: among any `total` consecutive numbers each endpoint is chosen exactly `weight` times, whoever drew
//! the numbers, and shorter runs stay close to that share. Constant state, no lock, one binary search.

use super::weights::Cumulative;

/// The schedule over one group.
#[derive(Debug, Clone)]
pub struct RoundRobin {
    weights: Cumulative,
    step: u64,
}

impl RoundRobin {
    /// A schedule over endpoints with these weights (0: never chosen).
    pub fn new(weights: &[u32]) -> Self {
        let weights = Cumulative::new(weights);
        let step = step(weights.total());
        Self { weights, step }
    }

    /// The position for this sequence number; `None` if no weight is above 0.
    pub fn pick(&self, sequence: u32) -> Option<usize> {
        let total = self.weights.total();
        if total == 0 {
            return None;
        }
        if let Some(count) = self.weights.equal() {
            return Some((u64::from(sequence) % count as u64) as usize);
        }
        // Both factors are below 2^32, so the product fits.
        self.weights.at((u64::from(sequence) * self.step % total) as u32)
    }
}

impl RoundRobin {
    /// The same where a position counts with this part of its weight (0 to 1).
    pub(super) fn pick_part(
        &self,
        sequence: u32,
        part: &impl Fn(usize) -> f64,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let next = self.pick(sequence).filter(|at| rng.f64() < part(*at));
        next.or_else(|| self.weights.random_part(part, rng))
    }
}

/// A step below `total` near its golden section that shares no divisor with it.
fn step(total: u64) -> u64 {
    let middle = (total as f64 * 0.618_033_988_749_894_9) as u64;
    (0..=total)
        .flat_map(|distance| [middle.checked_sub(distance), Some(middle + distance)])
        .flatten()
        .find(|step| (1..total.max(2)).contains(step) && divisor(*step, total) == 1)
        .unwrap_or(1)
}

fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_weights_take_turns() {
        let schedule = RoundRobin::new(&[3, 3, 3]);
        let turns: Vec<_> = (0..6).filter_map(|s| schedule.pick(s)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn nothing_to_choose_from_is_none() {
        assert_eq!(RoundRobin::new(&[]).pick(7), None);
        assert_eq!(RoundRobin::new(&[0, 0]).pick(7), None);
        assert_eq!(RoundRobin::new(&[0, 5]).pick(7), Some(1));
    }

    #[test]
    fn a_heavy_endpoint_is_spread_and_not_bunched() {
        let schedule = RoundRobin::new(&[5, 1, 1]);
        let picks: Vec<_> = (0..700).filter_map(|s| schedule.pick(s)).collect();
        let longest = picks.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
        assert!(longest <= Some(4), "{longest:?}");
    }

    proptest! {
        #[test]
        fn any_whole_period_has_the_exact_shares(weights in prop::collection::vec(0u32..40, 1..20), start in 0u32..1_000_000) {
            let total: u32 = weights.iter().sum();
            let schedule = RoundRobin::new(&weights);
            let mut counts = vec![0u32; weights.len()];
            for sequence in start..start + total {
                if let Some(at) = schedule.pick(sequence) {
                    counts[at] += 1;
                }
            }
            prop_assert_eq!(counts, weights);
        }
    }
}
