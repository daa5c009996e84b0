//! What do gRPC's interop tests for proxyless meshes expect, and does Remora do it for an application that has a sidecar?
//!
//! One test for each test of `grpc/psm-interop` (all but federation, fallback and `csm_observability`), by its name and
//! with its numbers of calls and tolerances. Client and servers speak gRPC through Remora; the harness' control plane
//! says what Traffic Director says there. Seconds of waiting are shorter here, and where a test there looks one way only
//! (what matches goes there) the other way is looked at too. Where a proxy sees what a library cannot, that is asked as
//! well.

mod caller;
mod csds;
mod mesh;
mod security;
mod service;
mod session;
mod traffic;
mod url_map;
