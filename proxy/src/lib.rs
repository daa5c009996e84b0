//! Remora: a sidecar proxy that follows a control plane over Envoy xDS v3.
//!
//! The map of the house, in the order in which a connection meets it:
//! `accept` (sockets, original destination) -> `sniff` (TLS, HTTP/1, HTTP/2 or opaque) -> `tls` -> `data_path`
//! (the life of a connection, a request, a tunnel) over `http1` and `http2` (two codecs, one `exchange` shape) ->
//! `upstream` (connect, pools). Decisions are pure functions in the `remora-model` crate.
//! `bootstrap` says what we will do, `control` follows the control plane and publishes snapshots, `worker` runs the
//! data path, `observe` counts and logs, `admin` answers operators, `redirect` lays interception rules, `preview` says
//! what a configuration would do.

pub mod accept;
pub mod admin;
#[doc = include_str!("../DECISIONS.md")]
pub mod decisions {}
pub mod bootstrap;
pub mod control;
pub mod data_path;
pub mod exchange;
pub mod failure;
pub mod http1;
pub mod http2;
pub mod io;
pub mod observe;
pub mod preview;
pub mod redirect;
mod response_cache;
pub mod services;
pub mod sniff;
pub mod tls;
pub mod upstream;
pub mod worker;
