//! Weighted random choice.

use super::weights::Cumulative;

/// One group, drawn from at random by weight.
#[derive(Debug, Clone)]
pub struct WeightedRandom {
    weights: Cumulative,
}

impl WeightedRandom {
    /// Endpoints with these weights (0: never chosen).
    pub fn new(weights: &[u32]) -> Self {
        Self {
            weights: Cumulative::new(weights),
        }
    }

    /// A position at random; `None` if no weight is above 0.
    pub fn pick(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        self.weights.random(rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        let mut rng = fastrand::Rng::with_seed(7);
        let random = WeightedRandom::new(&[1, 0, 3]);
        let mut counts = [0u32; 3];
        for _ in 0..40_000 {
            counts[random.pick(&mut rng).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
    }
}
