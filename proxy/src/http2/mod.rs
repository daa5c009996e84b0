//! HTTP/2 by the h2 crate, driven directly.
