//! Positions by a point in the sum of their weights.

/// Running sums of weights. Holds: the sum fits 32 bits (larger ones are scaled down, each kept at 1 or more).
#[derive(Debug, Clone)]
pub(super) enum Cumulative {
    /// So many positions of this weight each, above 0.
    Equal { count: usize, each: u32 },
    /// Where the interval of each position ends.
    Different(Vec<u32>),
}

impl Cumulative {
    pub(super) fn new(weights: &[u32]) -> Self {
        let sum: u64 = weights.iter().copied().map(u64::from).sum();
        let count = weights.len();
        match weights.first() {
            Some(first) if *first > 0 && weights.iter().all(|w| w == first) => {
                let each = scaled(*first, sum, count as u64);
                return Self::Equal { count, each };
            }
            _ => {}
        }
        let mut end = 0u32;
        let ends = weights.iter().map(|weight| {
            end = end.saturating_add(scaled(*weight, sum, count as u64));
            end
        });
        Self::Different(ends.collect())
    }

    /// The number of positions if all have the same weight above 0.
    pub(super) fn equal(&self) -> Option<usize> {
        match self {
            Self::Equal { count, .. } => Some(*count),
            Self::Different(_) => None,
        }
    }

    pub(super) fn total(&self) -> u64 {
        match self {
            Self::Equal { count, each } => *count as u64 * u64::from(*each),
            Self::Different(ends) => ends.last().copied().unwrap_or(0).into(),
        }
    }

    /// The position whose interval holds `point`, which must be below the total.
    pub(super) fn at(&self, point: u32) -> Option<usize> {
        let (found, count) = match self {
            Self::Equal { count, each } => ((point / (*each).max(1)) as usize, *count),
            Self::Different(ends) => (ends.partition_point(|end| *end <= point), ends.len()),
        };
        (found < count).then_some(found)
    }

    /// A position at random by weight.
    pub(super) fn random(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        match self {
            Self::Equal { count, .. } => Some(rng.usize(..*count)),
            Self::Different(ends) => match ends.last().copied().unwrap_or(0) {
                0 => None,
                total => self.at(rng.u32(..total)),
            },
        }
    }

    /// A position at random that differs from `from` where two draws are enough to find one.
    pub(super) fn another(&self, from: usize, rng: &mut fastrand::Rng) -> Option<usize> {
        if let Some(count) = self.equal() {
            return Some((from + 1 + rng.usize(..count - 1)) % count);
        }
        let candidate = self.random(rng)?;
        if candidate == from {
            self.random(rng)
        } else {
            Some(candidate)
        }
    }

    /// A position at random by these parts (0 to 1) of the weights.
    pub(super) fn random_part(&self, part: &impl Fn(usize) -> f64, rng: &mut fastrand::Rng) -> Option<usize> {
        // Taking what is drawn with the probability of its part gives the right shares; where most is refused, the
        // sum is cheaper.
        for _ in 0..8 {
            let drawn = self.random(rng)?;
            if rng.f64() < part(drawn) {
                return Some(drawn);
            }
        }
        let share = |at: usize| f64::from(self.weight(at)) * part(at);
        let mut point = rng.f64() * (0..self.count()).map(share).sum::<f64>();
        let reached = |at: &usize| {
            point -= share(*at);
            point < 0.0
        };
        (0..self.count()).find(reached).or_else(|| self.random(rng))
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Self::Equal { count, .. } => *count,
            Self::Different(ends) => ends.len(),
        }
    }

    pub(super) fn weight(&self, at: usize) -> u32 {
        match self {
            Self::Equal { each, .. } => *each,
            Self::Different(ends) => {
                let before = at.checked_sub(1).map_or(0, |before| ends[before]);
                ends[at] - before
            }
        }
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
        let equal = Cumulative::new(&[2, 2, 2]);
        let found: Vec<_> = (0..6).filter_map(|point| equal.at(point)).collect();
        assert_eq!(found, [0, 0, 1, 1, 2, 2]);
        assert_eq!((equal.total(), equal.at(6), equal.weight(1)), (6, None, 2));
    }

    #[test]
    fn a_sum_beyond_32_bits_keeps_the_proportions() {
        let weights = Cumulative::new(&[u32::MAX, u32::MAX, 1]);
        assert!(weights.total() <= u64::from(u32::MAX));
        assert_eq!(weights.weight(0), weights.weight(1));
        assert_eq!(weights.weight(2), 1);
    }
}
