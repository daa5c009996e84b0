//! `/listeners`: where they are bound.

use std::fmt::Write;

use http::StatusCode;
use remora_model::listener::ListenAddress;
use serde_json::{Map, Value, json};

use super::AdminContext;
use super::body::{Answer, json as json_answer, text};
use super::query::Query;

/// `name::address` lines, or `envoy.admin.v3.Listeners`: the first address of a listener, then the others.
pub(super) fn listeners(context: &AdminContext, query: &Query) -> Answer {
    let bound = context.operator.bound();
    if query.value("format") != Some("json") {
        let mut body = String::new();
        for entry in &bound {
            let _ = writeln!(body, "{}::{}", entry.listener, entry.address);
        }
        return text(StatusCode::OK, body);
    }
    let mut statuses: Vec<Map<String, Value>> = Vec::new();
    for entry in &bound {
        let address = address_json(&entry.address);
        let known = statuses
            .iter_mut()
            .find(|status| status.get("name") == Some(&json!(*entry.listener)));
        match known {
            None => {
                let status = [
                    ("name".to_owned(), json!(*entry.listener)),
                    ("local_address".to_owned(), address),
                ];
                statuses.push(status.into_iter().collect());
            }
            Some(status) => {
                let more = status
                    .entry("additional_local_addresses")
                    .or_insert_with(|| json!([]));
                if let Value::Array(more) = more {
                    more.push(address);
                }
            }
        }
    }
    json_answer(&json!({ "listener_statuses": statuses }))
}

/// `core.v3.Address`.
pub(super) fn address_json(address: &ListenAddress) -> Value {
    match address {
        ListenAddress::Socket(socket) => {
            json!({ "socket_address": { "address": socket.ip().to_string(), "port_value": socket.port() } })
        }
        ListenAddress::Pipe(path) => json!({ "pipe": { "path": **path } }),
    }
}
