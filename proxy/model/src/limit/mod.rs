//! What is counted together, and how much of it may pass?
//!
//! A [`Rule`] (`envoy.config.route.v3.RateLimit`) makes a [`Descriptor`] of a request: the key that local buckets and the
//! rate limit service count by. Rules stand at routes and virtual hosts, or in a filter.
//! Windows and queues count what Envoy's buckets cannot say.

mod answer;
mod descriptor;
mod recent;
mod rule;
mod window;

pub use answer::{CurrentLimit, DescriptorStatus, LimitAnswer};
pub use descriptor::{Descriptor, Entry, LimitOverride, TellClients, Unit};
pub use recent::Recent;
pub use rule::{
    Action, DescriptorHits, LimitFacts, MetadataKey, MetadataSource, RateLimits, Rule, VirtualHostLimits,
};
pub use window::{Queue, Queued, Window, WindowKind, Windows};
