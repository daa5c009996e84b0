//! What the translation makes of resources: good ones, bad ones, other people's, and garbage.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says aloud what it skips"
)]

mod clusters;
mod corpus;
mod fields;
mod garbage;
mod listeners;
mod routes;
mod secrets;
mod world;
