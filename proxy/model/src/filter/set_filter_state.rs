//! `envoy.filters.http.set_filter_state`: objects that a request brings into being.

use crate::metadata::StateValue;

/// `Config`, in a chain or at a level of a route.
#[derive(Debug, Clone)]
pub struct SetFilterState {
    /// `on_request_headers`, in order.
    pub values: Vec<StateValue>,
    /// `clear_route_cache`: the route is chosen again.
    pub clear_route_cache: bool,
}
