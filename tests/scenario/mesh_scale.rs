//! What a mesh of many services asks of a sidecar: to start when the control plane is away.

#[path = "mesh_scale/fail_static.rs"]
mod fail_static;
