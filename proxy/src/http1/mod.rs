//! HTTP/1: our own codec.
//!
//! Which bytes are a message, and how is one written? [`grammar`] answers with pure functions over bytes;
//! [`server`] and [`client`] drive it over a byte stream as the two sides of an exchange.
//!
//! Holds: what RFC 9112 leaves ambiguous is refused, never guessed; an idle connection holds no buffer; a head and the
//! first piece of its body leave in one write; header names leave in lower case.
//! Does not: strip hop-by-hop headers, add `date` or `server`, watch a clock.

pub mod client;
pub mod grammar;
mod sending;
pub mod server;
mod wire;

#[cfg(test)]
mod tests;

pub use client::ClientConnection;
pub use server::{HeadFailure, Next, ServerConnection};
