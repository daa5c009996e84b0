//! The tests of `RegularXdsKubernetesTestCase`: who gets the calls while services, endpoints and limits change.

mod change_backend_service;
mod circuit_breaking;
mod custom_lb;
mod failover;
mod outlier_detection;
mod remove_neg;
mod round_robin;
mod subsetting;
