//! What a route does beyond choosing a cluster, as a client, an upstream and an operator see it.

mod elsewhere;
mod fallback;
mod http2_settings;
mod mirror;
mod retries;
mod scene;
mod time_limits;
