//! What a mesh of many services asks of a sidecar: to start when the control plane is away, and to keep only what is used.

#[path = "mesh_scale/fail_static.rs"]
mod fail_static;
#[path = "mesh_scale/on_demand.rs"]
mod on_demand;
