//! Which endpoints are left out, for how long, and what does that look like from outside?
//!
//! Where Envoy has the feature it goes through the same test, so the expectations are its own.

mod breakers;
mod check_kinds;
mod check_life;
mod checks;
mod circuit;
mod outliers;
mod patient;
mod stage;
