//! The life of a connection, of a request and of a tunnel, as lists of steps without feature logic.
//!
//! `connection` takes an accepted socket to its filter chain; `http` runs an HTTP connection; `request` lists the steps
//! of one request; `forward` moves its bytes; `first_word` says what a
//! connection is from who speaks first; `tunnel` is the life of an L4 connection. Every decision is asked of
//! `remora-model`; everything that can go wrong is a [`Failure`](crate::failure::Failure).

mod admission;
mod aggregate;
mod announce;
mod ask;
mod attempts;
mod body;
mod client_certificate;
mod connect_end;
mod connection;
mod deadlines;
mod fallback;
mod filters;
mod first_word;
mod forward;
mod forwarded_for;
mod hedge;
mod http;
mod journey;
mod local_reply;
mod mirror;
mod mutation;
mod own_reply;
mod permission;
mod proxy_header;
mod rate_limit;
mod redirects;
mod replay;
mod request;
mod request_head;
mod response_head;
mod target;
mod tunnel;
mod verdict;

pub use connection::{Accepted, serve_connection};
