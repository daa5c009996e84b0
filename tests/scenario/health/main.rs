//! Which endpoints are left out, for how long, and what does that look like from outside?
//!
//! Where Envoy has the feature it goes through the same test, so the expectations are its own.

mod breakers;
mod circuit;
mod outliers;
mod stage;
