//! What stands around the proxy in a test: the certificates, the applications behind it, the clients in front of it,
//! the control plane above it, and the proxy's own process.
//!
//! Everything listens on ports that the system chose, lives in one test, and is gone when it is dropped.
//! A test that needs something this machine lacks says so through [`peers::skip`].

pub mod bootstrap;
pub mod certificates;
pub mod client;
pub mod control_plane;
pub mod http1;
pub mod namespaces;
pub mod peers;
pub mod process;
pub mod scripted;
pub mod services;
pub mod tls;
pub mod traffic;
pub mod upstream;
