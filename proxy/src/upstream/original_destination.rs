//! Endpoints that the control plane never named: the addresses that clients themselves wanted (`ORIGINAL_DST`).
//!
//! Holds: one endpoint per (cluster, address) and worker while it is used, so that its connections are pooled; those
//! unused for a while are forgotten at the next world.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use remora_model::cluster::ClusterConfig;
use remora_model::endpoint::{Endpoint, EndpointAddress, EndpointSpec};

/// More than this many and the table starts anew: connections in use keep their endpoints.
const LIMIT: usize = 10_000;

/// The endpoints of original-destination clusters on one worker.
#[derive(Debug, Default)]
pub struct OriginalDestinations(
    RefCell<HashMap<(usize, SocketAddr), Arc<Endpoint>, rapidhash::fast::RandomState>>,
);

impl OriginalDestinations {
    /// The endpoint at `address` of this cluster.
    pub fn endpoint(&self, cluster: &ClusterConfig, address: SocketAddr) -> Arc<Endpoint> {
        let mut known = self.0.borrow_mut();
        if known.len() >= LIMIT {
            known.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
        }
        let endpoint = known.entry((cluster.id.index(), address)).or_insert_with(|| {
            Arc::new(Endpoint::new(Arc::new(EndpointSpec::at(
                EndpointAddress::Socket(address),
            ))))
        });
        Arc::clone(endpoint)
    }

    /// Forgets endpoints that nobody uses.
    pub fn forget_unused(&self) {
        self.0
            .borrow_mut()
            .retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
    }
}
