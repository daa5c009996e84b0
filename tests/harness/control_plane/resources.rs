//! How does a test write a resource? As YAML or JSON in protobuf's mapping, the way people write Envoy configuration.

use anyhow::{Result, anyhow};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use remora_proto::{Pool, ReadOptions};
use serde_json::Value;

use super::Resource;

/// Reads resources; holds the descriptors of Envoy's API.
#[derive(Debug)]
pub struct ResourceReader {
    pool: Pool,
}

/// The first field of every resource type: its name (`cluster_name` for endpoints).
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

impl ResourceReader {
    /// Loads the descriptors.
    pub fn new() -> Result<Self> {
        Ok(Self { pool: Pool::load()? })
    }

    /// One resource of the type `type_url`, as YAML or JSON text. Its name is the one it says.
    ///
    /// # Errors
    /// Everything that is wrong with the text.
    pub fn text(&self, type_url: &str, text: &str) -> Result<Resource> {
        let read = self.pool.read(text, type_url, ReadOptions::default());
        let document = read.map_err(|problems| anyhow!("{}", problems.in_file("resource")))?;
        resource(Any {
            type_url: type_url.to_owned(),
            value: document.bytes,
        })
    }

    /// One resource of the type `type_url`, as a JSON value.
    ///
    /// # Errors
    /// Everything that is wrong with the value.
    pub fn json(&self, type_url: &str, value: &Value) -> Result<Resource> {
        self.text(type_url, &value.to_string())
    }

    /// Any number of resources: a text with the one field `resources`, each of them with its `@type`, as in the files
    /// that Envoy's `path_config_source` reads.
    ///
    /// # Errors
    /// Everything that is wrong with the text.
    pub fn file(&self, text: &str) -> Result<Vec<Resource>> {
        let name = "envoy.service.discovery.v3.DiscoveryResponse";
        let read = self.pool.read(text, name, ReadOptions::default());
        let document = read.map_err(|problems| anyhow!("{}", problems.in_file("resources")))?;
        document
            .decode::<DiscoveryResponse>()?
            .resources
            .into_iter()
            .map(resource)
            .collect()
    }
}

fn resource(body: Any) -> Result<Resource> {
    let Named { name } = Named::decode(body.value.as_slice())?;
    Ok(Resource { name, body })
}

#[cfg(test)]
mod tests {
    use super::super::{CLUSTER, ENDPOINT};
    use super::*;

    #[test]
    fn resources_are_named_by_what_they_say() {
        let reader = ResourceReader::new().unwrap();
        let text =
            "resources:\n- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: one\n";
        let read = reader.file(text).unwrap();
        assert_eq!(
            (read[0].name.as_str(), read[0].body.type_url.as_str()),
            ("one", CLUSTER)
        );
        assert_eq!(reader.text(ENDPOINT, "cluster_name: two").unwrap().name, "two");
        let error = reader.text(CLUSTER, "nome: x").unwrap_err().to_string();
        assert!(error.contains("nome"), "{error}");
    }
}
