//! What becomes of connections that carry no HTTP: who may speak first, where they go, how they end?

mod bulk;
mod chains;
mod choice;
mod connect;
mod endpoints;
mod ends;
mod greeting;
#[expect(dead_code, reason = "of the demo's places only the pods are wanted here")]
#[path = "../../demo/engine/pods.rs"]
mod pods;
mod proxy_header;
mod redirected;
mod servers;
mod stage;
