//! What is counted together, and how much of it may pass?
//!
//! A [`Rule`] (`envoy.config.route.v3.RateLimit`) makes a [`Descriptor`] of a request: the key that local buckets and the
//! rate limit service count by. Rules stand at routes and virtual hosts, or in a filter. Nothing here counts.

mod descriptor;
mod rule;

pub use descriptor::{Descriptor, Entry, LimitOverride, TellClients, Unit};
pub use rule::{
    Action, DescriptorHits, LimitFacts, MetadataKey, MetadataSource, RateLimits, Rule, VirtualHostLimits,
};
