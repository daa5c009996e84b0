//! Interception rules of a network namespace.
