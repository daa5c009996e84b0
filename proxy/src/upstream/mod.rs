//! Connections to endpoints: opening, keeping, reusing and retiring them, per worker.
//!
//! Holds: pools belong to one worker and need no lock; what must be exact across workers (connections, pending
//! requests) is counted in `ClusterLive`. A connection is reused only if it is alive as far as we can see without a
//! system call. A pool whose endpoint or transport is gone from the world closes its idle connections and keeps none.

pub mod check;
mod connect;
mod exchange;
pub mod health;
mod lease;
pub mod load;
mod original_destination;
mod pool;
mod sweep;

pub use connect::{Connected, Wish, connect};
pub use exchange::UpstreamExchange;
pub use lease::{InFlight, Lease, OpenConnection, Places};
pub use original_destination::OriginalDestinations;
pub use pool::{Acquire, Pools, Protocol};
pub use sweep::sweep_idle;
