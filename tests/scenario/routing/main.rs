//! What a route does beyond choosing a cluster, as a client, an upstream and an operator see it.

mod fallback;
mod mirror;
mod retries;
mod scene;
mod time_limits;
