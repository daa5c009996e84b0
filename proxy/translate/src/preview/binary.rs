//! Which message is in an encoded file?
//!
//! Protobuf does not say; a message is taken for what it can be read as with known types inside.

use remora_proto::{Pool, Redaction, Tree, WriteOptions};
use serde_json::Value;

/// What a file may hold, and whether a reading of it makes sense.
type Sense = fn(&Pool, &Value) -> bool;
const CANDIDATES: [(&str, Sense); 5] = [
    ("envoy.service.discovery.v3.DiscoveryResponse", |pool, value| {
        list(value, "resources", |item| known(pool, item))
    }),
    (
        "envoy.service.discovery.v3.DeltaDiscoveryResponse",
        |pool, value| list(value, "resources", |item| known(pool, &item["resource"])),
    ),
    ("envoy.admin.v3.ConfigDump", |pool, value| {
        list(value, "configs", |item| known(pool, item))
    }),
    ("google.protobuf.Any", known),
    ("envoy.config.bootstrap.v3.Bootstrap", |_, value| {
        ["static_resources", "dynamic_resources", "node", "admin"]
            .iter()
            .any(|field| value[*field].is_object())
    }),
];

fn list(value: &Value, field: &str, holds: impl Fn(&Value) -> bool) -> bool {
    let items = value[field].as_array();
    items.is_some_and(|items| !items.is_empty() && items.iter().all(holds))
}

fn known(pool: &Pool, value: &Value) -> bool {
    value["@type"]
        .as_str()
        .is_some_and(|type_url| type_url.contains('/') && pool.knows(type_url))
}

/// The content of an encoded file.
pub(super) fn read(pool: &Pool, content: &[u8]) -> Result<Tree, String> {
    let options = WriteOptions {
        redaction: Redaction::Nothing,
    };
    let readings = CANDIDATES.iter().filter_map(|(name, sense)| {
        let value = pool.write(content, name, options).ok()?;
        sense(pool, &value).then_some(value)
    });
    readings.map(Tree::of).next().ok_or_else(|| {
        "expected an encoded DiscoveryResponse, Bootstrap, ConfigDump or Any with known types inside, found none"
            .to_owned()
    })
}
