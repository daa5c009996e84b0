//! Translation.

pub mod bootstrap;
pub mod config_source;
