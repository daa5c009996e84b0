//! Where a connection comes in.

pub mod original_destination;
