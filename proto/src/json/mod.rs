//! How does configuration text become a message, and a message text?
//!
//! `tree` parses YAML or JSON with positions, `branch` looks around in it, `read` walks that tree along a descriptor and writes protobuf bytes,
//! [`write`] shows bytes as JSON with the field names of the proto files and without secrets.
//!
//! What always holds: every problem of a text is reported, not only the first, each with its field path and, where the
//! text has it, line and column; the same text gives the same bytes (fields in number order, map keys sorted).

mod branch;
mod problem;
mod read;
mod tree;
mod write;

pub use branch::{Branch, Tree};
pub use problem::{Position, Problem, Problems};
pub use read::{Document, ReadOptions, UnknownFields, UnknownTypes};
pub use write::{Redaction, WriteError, WriteOptions};

pub(crate) use read::is_wrapper;
pub(crate) use write::{REDACTED, SECRET_NAMES, duration_text, map_key_text, seconds_and_nanos};
