//! Envoy xDS v3 types.
