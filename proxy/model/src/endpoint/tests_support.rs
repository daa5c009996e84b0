//! Builders for the tests of this crate.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{Endpoint, EndpointAddress, EndpointSpec, Health, HealthStatus};

impl From<Health> for HealthStatus {
    /// The plainest status that means it.
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Unknown,
            Health::Degraded => Self::Degraded,
            Health::Unhealthy => Self::Unhealthy,
        }
    }
}

/// `10.0.0.n:80`.
pub(crate) fn address(n: u8) -> EndpointAddress {
    EndpointAddress::Socket(SocketAddr::from((Ipv4Addr::new(10, 0, 0, n), 80)))
}

/// Endpoints `10.0.0.0:80`, `10.0.0.1:80`, ... with these weights.
pub(crate) fn endpoints(weights: &[u32]) -> Vec<Arc<Endpoint>> {
    weights
        .iter()
        .enumerate()
        .map(|(n, weight)| {
            let spec = EndpointSpec {
                weight: *weight,
                ..EndpointSpec::at(address(n as u8))
            };
            Arc::new(Endpoint::new(Arc::new(spec)))
        })
        .collect()
}
