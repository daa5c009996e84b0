//! Where do the bytes of a `DataSource` come from?
//!
//! Holds: a source is either in the resource, in a file (noted, so that its change is noticed) or in an environment
//! variable. Contents are never part of a problem.

use crate::context::Work;
use crate::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};

/// Files larger than this are refused; Envoy has no bound, a mistaken path would otherwise fill the memory.
const LARGEST: usize = 64 << 20;

/// The bytes of a data source; `None` and a problem where they cannot be had. `directory` is the `watched_directory` of
/// the message around it.
pub(crate) fn bytes(
    work: &mut Work<'_, '_>,
    source: &DataSource,
    directory: Option<&str>,
) -> Option<Vec<u8>> {
    let directory = source
        .watched_directory
        .as_ref()
        .map(|watched| watched.path.as_str())
        .or(directory);
    match &source.specifier {
        Some(Specifier::InlineBytes(bytes)) => Some(bytes.clone()),
        Some(Specifier::InlineString(text)) => Some(text.clone().into_bytes()),
        Some(Specifier::Filename(path)) => file(work, path, directory),
        Some(Specifier::EnvironmentVariable(name)) => {
            let value = work.context.files.variable(name);
            if value.is_none() {
                work.wrong_at("environment_variable", format!("'{name}' is not set"));
            }
            value.map(String::into_bytes)
        }
        None => {
            work.wrong(
                "expected one of filename, inline_bytes, inline_string, environment_variable; found none",
            );
            None
        }
    }
}

fn file(work: &mut Work<'_, '_>, path: &str, directory: Option<&str>) -> Option<Vec<u8>> {
    if path.is_empty() {
        work.wrong_at("filename", "expected a path, found an empty string");
        return None;
    }
    match work.read(path, directory) {
        Ok(bytes) if bytes.len() <= LARGEST => Some(bytes),
        Ok(bytes) => {
            work.wrong_at(
                "filename",
                format!("'{path}' has {} bytes, at most {LARGEST} are read", bytes.len()),
            );
            None
        }
        Err(error) => {
            work.wrong_at("filename", format!("'{path}' cannot be read: {error}"));
            None
        }
    }
}
