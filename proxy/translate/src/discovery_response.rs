//! Files of resources (`path_config_source`): a `DiscoveryResponse` in YAML, JSON or protobuf form.
//!
//! Holds: the descriptors that reading needs (12 MB) live only while a file is read; every problem is named with line
//! and path.

use remora_proto::{Pool, ReadOptions};

const DISCOVERY_RESPONSE: &str = "envoy.service.discovery.v3.DiscoveryResponse";

/// The encoded `DiscoveryResponse` in the file `name` with this content.
///
/// # Errors
/// Every problem of the file, a line each.
pub fn read_discovery_response(name: &str, content: &[u8]) -> Result<Vec<u8>, String> {
    let pool = Pool::load().map_err(|error| error.to_string())?;
    let document = pool
        .read_file(name, content, DISCOVERY_RESPONSE, ReadOptions::default())
        .map_err(|problems| {
            problems
                .0
                .iter()
                .map(|problem| problem.in_file(name))
                .collect::<Vec<_>>()
                .join("\n")
        })?;
    Ok(document.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_resources_is_read_in_yaml() -> Result<(), String> {
        let text = b"version_info: '1'\nresources:\n- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: a\n";
        assert!(!read_discovery_response("cds.yaml", text)?.is_empty());
        let Err(problem) = read_discovery_response("cds.yaml", b"version_inf: '1'\n") else {
            return Err("a misspelled field was accepted".into());
        };
        assert!(problem.contains("version_info"), "{problem}");
        Ok(())
    }
}
