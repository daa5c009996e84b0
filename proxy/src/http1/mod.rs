//! HTTP/1: our own codec.
