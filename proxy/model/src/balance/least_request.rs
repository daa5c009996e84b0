//! The least loaded of a few endpoints drawn at random.
//!
//! Candidates are drawn by weight, and the one with the least `active ^ bias / weight` is taken; the first drawn wins a
//! tie. So idle endpoints get exactly their weight's share, and busy ones settle at in-flight counts in proportion to
//! their weights. A bias of 0 makes it weighted random, as in Envoy.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::weights::Cumulative;
use crate::endpoint::Endpoint;

/// One group, drawn from by load.
#[derive(Debug, Clone)]
pub struct LeastRequest {
    weights: Cumulative,
    choices: Option<u32>,
    bias: f64,
}

impl LeastRequest {
    /// Endpoints with these weights; `choices` of them are looked at for each pick, or all.
    pub fn new(weights: &[u32], choices: Option<u32>, bias: f64) -> Self {
        Self {
            weights: Cumulative::new(weights),
            choices: choices.map(|choices| choices.max(1)),
            bias: bias.max(0.0),
        }
    }

    /// The least loaded of the drawn positions in `endpoints` (which run parallel to the weights).
    pub fn pick(&self, endpoints: &[Arc<Endpoint>], rng: &mut fastrand::Rng) -> Option<usize> {
        let Some(choices) = self.choices else {
            return self.least_of_all(endpoints, &|_| 1.0, rng);
        };
        let mut best = self.weights.random(rng)?;
        if endpoints.len() == 1 || self.bias == 0.0 {
            return Some(best);
        }
        let mut least = self.cost(best, endpoints.get(best)?);
        for _ in 1..choices {
            let candidate = self.weights.another(best, rng)?;
            let cost = self.cost(candidate, endpoints.get(candidate)?);
            if cost < least {
                (best, least) = (candidate, cost);
            }
        }
        Some(best)
    }

    /// The same where a position counts with this part of its weight (0 to 1).
    pub(super) fn pick_part(
        &self,
        endpoints: &[Arc<Endpoint>],
        part: &impl Fn(usize) -> f64,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let Some(choices) = self.choices else {
            return self.least_of_all(endpoints, part, rng);
        };
        let mut best = self.weights.random_part(part, rng)?;
        if endpoints.len() == 1 || self.bias == 0.0 {
            return Some(best);
        }
        let mut least = self.cost(best, endpoints.get(best)?) / part(best);
        for _ in 1..choices {
            let candidate = self.weights.random_part(part, rng)?;
            let cost = self.cost(candidate, endpoints.get(candidate)?) / part(candidate);
            if cost < least {
                (best, least) = (candidate, cost);
            }
        }
        Some(best)
    }

    /// The least loaded of all; one of several by weight.
    fn least_of_all(
        &self,
        endpoints: &[Arc<Endpoint>],
        part: &impl Fn(usize) -> f64,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let (mut best, mut least, mut seen) = (None, f64::INFINITY, 0.0);
        for (at, endpoint) in endpoints.iter().enumerate() {
            let share = f64::from(self.weights.weight(at)) * part(at);
            if share <= 0.0 {
                continue;
            }
            let cost = self.cost(at, endpoint) / part(at);
            if cost < least {
                (best, least, seen) = (Some(at), cost, share);
            } else if cost == least {
                seen += share;
                if rng.f64() * seen < share {
                    best = Some(at);
                }
            }
        }
        best
    }

    fn cost(&self, at: usize, endpoint: &Endpoint) -> f64 {
        let active = f64::from(endpoint.counts().active.load(Ordering::Relaxed));
        let active = if self.bias == 1.0 {
            active
        } else {
            active.powf(self.bias)
        };
        active / f64::from(self.weights.weight(at).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::tests_support::endpoints;

    fn shares(weights: &[u32], active: &[u32], choices: u32, bias: f64) -> Vec<f64> {
        let all = endpoints(weights);
        for (endpoint, active) in all.iter().zip(active) {
            endpoint.live().active.store(*active, Ordering::Relaxed);
        }
        let mut rng = fastrand::Rng::with_seed(3);
        let balancer = LeastRequest::new(weights, (choices > 0).then_some(choices), bias);
        let mut counts = vec![0.0; weights.len()];
        for _ in 0..60_000 {
            counts[balancer.pick(&all, &mut rng).unwrap()] += 1.0 / 60_000.0;
        }
        counts
    }

    #[test]
    fn idle_endpoints_get_their_weights_share() {
        let shares = shares(&[1, 2, 3], &[0, 0, 0], 2, 1.0);
        for (share, expected) in shares.iter().zip([1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]) {
            assert!((share - expected).abs() < 0.01, "{shares:?}");
        }
    }

    #[test]
    fn the_busiest_of_three_is_never_chosen() {
        assert_eq!(shares(&[1, 1, 1], &[9, 1, 1], 2, 1.0)[0], 0.0);
    }

    #[test]
    fn a_full_scan_finds_the_least_loaded_and_ties_go_by_weight() {
        let one = shares(&[1, 1, 1, 1], &[3, 2, 1, 2], 0, 1.0);
        assert!((one[2] - 1.0).abs() < 1e-6, "{one:?}");
        let ties = shares(&[1, 3, 2], &[0, 0, 5], 0, 1.0);
        assert!((ties[0] - 0.25).abs() < 0.01 && ties[2] == 0.0, "{ties:?}");
    }

    #[test]
    fn without_bias_load_does_not_matter() {
        let shares = shares(&[1, 1], &[100, 0], 2, 0.0);
        assert!((shares[0] - 0.5).abs() < 0.01, "{shares:?}");
    }
}
