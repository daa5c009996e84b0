//! TLS configurations derived from `remora_model::identity`.
