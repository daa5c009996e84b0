//! Shares of requests that chance picks: `FractionalPercent` in millionths.

/// Draws whether a request falls into a share of so many in a million. Nothing is drawn for an empty share.
pub fn falls(per_million: u32, rng: &mut fastrand::Rng) -> bool {
    per_million > 0 && rng.u32(..1_000_000) < per_million
}
