//! A ring of hashes (Ketama's idea), bit for bit the ring that Envoy builds from the same endpoints.
//!
//! Each endpoint stands on the ring under the hashes of `key_0`, `key_1`, ...; as many times as its share of a ring that
//! is scaled until the lightest endpoint has a whole number of entries, within the configured bounds.

use super::hash::{murmur2_64, xx64};
use super::{HashedEndpoint, RingHashFunction};

/// libstdc++'s seed, which Envoy uses with MurmurHash2.
const MURMUR_SEED: u64 = 0xc70f_6907;

/// The ring over one group.
#[derive(Debug, Clone)]
pub struct RingHash {
    /// (hash, position), sorted by hash.
    ring: Vec<(u64, u32)>,
}

impl RingHash {
    /// A ring of at least `minimum` entries where `maximum` allows it.
    pub fn new(
        endpoints: &[HashedEndpoint<'_>],
        minimum: u64,
        maximum: u64,
        function: RingHashFunction,
    ) -> Self {
        let lightest = endpoints
            .iter()
            .map(|e| e.share)
            .filter(|share| *share > 0.0)
            .fold(f64::INFINITY, f64::min);
        if lightest.is_infinite() {
            return Self { ring: Vec::new() };
        }
        let scale = ((lightest * minimum as f64).ceil() / lightest).min(maximum as f64);
        let mut ring = Vec::with_capacity(scale.ceil() as usize);
        let mut key = Vec::with_capacity(64);
        let (mut made, mut target) = (0.0, 0.0);
        for (position, endpoint) in endpoints.iter().enumerate().filter(|(_, e)| e.share > 0.0) {
            target += scale * endpoint.share;
            let mut number = 0u64;
            while made < target {
                key.clear();
                key.extend_from_slice(endpoint.key.as_bytes());
                key.extend_from_slice(format!("_{number}").as_bytes());
                let hash = match function {
                    RingHashFunction::XxHash => xx64(&key, 0),
                    RingHashFunction::MurmurHash2 => murmur2_64(&key, MURMUR_SEED),
                };
                ring.push((hash, position as u32));
                number += 1;
                made += 1.0;
            }
        }
        ring.sort_by_key(|(hash, _)| *hash);
        Self { ring }
    }

    /// The position of the first entry at or after `hash`, around the ring.
    pub fn pick(&self, hash: u64) -> Option<usize> {
        let at = self.ring.partition_point(|(entry, _)| *entry < hash);
        let (_, position) = self.ring.get(at).or_else(|| self.ring.first())?;
        Some(*position as usize)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is nothing to choose from.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}
