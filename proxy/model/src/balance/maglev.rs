//! A Maglev table, bit for bit the one that Envoy fills from the same endpoints.
//!
//! Endpoints take turns, in the order of their keys, to claim the next free slot of their own permutation of the table;
//! one with a third of the greatest share claims in every third round.

use super::HashedEndpoint;
use super::hash::xx64;

/// The table over one group.
#[derive(Debug, Clone)]
pub struct Maglev {
    slots: Vec<u32>,
}

const FREE: u32 = u32::MAX;

struct Claimant {
    position: u32,
    offset: u64,
    skip: u64,
    share: f64,
    target: f64,
    next: u64,
}

impl Maglev {
    /// A table with `size` slots, a prime.
    pub fn new(endpoints: &[HashedEndpoint<'_>], size: u64) -> Self {
        let size = size.max(2);
        let greatest = endpoints.iter().map(|e| e.share).fold(0.0, f64::max);
        if greatest <= 0.0 {
            return Self { slots: Vec::new() };
        }
        let mut order: Vec<usize> = (0..endpoints.len())
            .filter(|at| endpoints[*at].share > 0.0)
            .collect();
        order.sort_by(|a, b| endpoints[*a].key.cmp(&endpoints[*b].key));
        let mut claimants: Vec<Claimant> = order
            .into_iter()
            .map(|position| {
                let key = endpoints[position].key.as_bytes();
                Claimant {
                    position: position as u32,
                    offset: xx64(key, 0) % size,
                    skip: xx64(key, 1) % (size - 1) + 1,
                    share: endpoints[position].share,
                    target: 0.0,
                    next: 0,
                }
            })
            .collect();
        let mut slots = vec![FREE; size as usize];
        let mut free = size;
        let mut round = 1.0;
        while free > 0 {
            for claimant in &mut claimants {
                if free == 0 {
                    break;
                }
                if round * claimant.share < claimant.target {
                    continue;
                }
                claimant.target += greatest;
                claimant.claim(&mut slots);
                free -= 1;
            }
            round += 1.0;
        }
        Self { slots }
    }

    /// The position that this hash falls on.
    pub fn pick(&self, hash: u64) -> Option<usize> {
        let size = self.slots.len() as u64;
        if size == 0 {
            None
        } else {
            Some(self.slots[(hash % size) as usize] as usize)
        }
    }
}

impl Claimant {
    /// Takes the next slot of the permutation that is free. With a size that is not a prime the permutation may miss
    /// the free ones; then it is the first of those.
    fn claim(&mut self, slots: &mut [u32]) {
        let size = slots.len() as u64;
        for _ in 0..size {
            let slot = (self.offset + self.skip * self.next) % size;
            self.next += 1;
            if slots[slot as usize] == FREE {
                slots[slot as usize] = self.position;
                return;
            }
        }
        if let Some(slot) = slots.iter_mut().find(|slot| **slot == FREE) {
            *slot = self.position;
        }
    }
}
