//! Positions by a point in the sum of their weights.

/// Running sums of weights. Holds: the sum fits 32 bits (larger ones are scaled down, each kept at 1 or more).
#[derive(Debug, Clone)]
pub(super) struct Cumulative {
    ends: Vec<u32>,
    equal: bool,
}

impl Cumulative {
    pub(super) fn new(weights: &[u32]) -> Self {
        let sum: u64 = weights.iter().copied().map(u64::from).sum();
        let equal = !weights.is_empty() && weights[0] > 0 && weights.iter().all(|w| *w == weights[0]);
        let mut end = 0u32;
        let ends = weights
            .iter()
            .map(|weight| {
                end = end.saturating_add(scaled(*weight, sum, weights.len() as u64));
                end
            })
            .collect();
        Self { ends, equal }
    }

    /// The number of positions if all have the same weight above 0.
    pub(super) fn equal(&self) -> Option<usize> {
        self.equal.then_some(self.ends.len())
    }

    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0).into()
    }

    /// The position whose interval holds `point`, which must be below the total.
    pub(super) fn at(&self, point: u32) -> Option<usize> {
        let found = self.ends.partition_point(|end| *end <= point);
        (found < self.ends.len()).then_some(found)
    }

    /// A position at random by weight.
    pub(super) fn random(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        if self.equal {
            return Some(rng.usize(..self.ends.len()));
        }
        let total = *self.ends.last()?;
        if total == 0 {
            None
        } else {
            self.at(rng.u32(..total))
        }
    }

    pub(super) fn weight(&self, at: usize) -> u32 {
        let before = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ends[at] - before
    }
}

fn scaled(weight: u32, sum: u64, count: u64) -> u32 {
    let room = u64::from(u32::MAX);
    if weight == 0 || sum <= room {
        return weight;
    }
    let share = u128::from(weight) * u128::from(room - count.min(room / 2)) / u128::from(sum);
    (share as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_falls_into_the_interval_of_its_weight() {
        let weights = Cumulative::new(&[2, 0, 3]);
        let found: Vec<_> = (0..5).filter_map(|point| weights.at(point)).collect();
        assert_eq!(found, [0, 0, 2, 2, 2]);
        assert_eq!(weights.at(5), None);
    }

    #[test]
    fn a_sum_beyond_32_bits_keeps_the_proportions() {
        let weights = Cumulative::new(&[u32::MAX, u32::MAX, 1]);
        assert!(weights.total() <= u64::from(u32::MAX));
        assert_eq!(weights.weight(0), weights.weight(1));
        assert_eq!(weights.weight(2), 1);
    }
}
