//! Which endpoint is chosen, compared with the real Envoy or with an ideal share?
//!
//! Consistent hashing: both proxies get one bootstrap with the same endpoints (their addresses enter the hash), and for
//! every key the same application must answer.

mod aggregate;
mod bounded;
mod by_load;
mod further;
mod hashing;
mod kinds;
mod policies;
mod sessions;
mod shares;
mod stage;
mod subsets;
mod upstream_tls;
mod zones;
