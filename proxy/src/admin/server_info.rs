//! `/server_info`, `/memory`, `/init_dump`: the process itself.

use serde_json::{Map, Value, json};

use super::body::{Answer, json as json_answer};
use super::{AdminContext, ServerState, router};
use crate::observe::process::ProcessFacts;

/// `envoy.admin.v3.ServerInfo`.
pub(super) fn server_info(context: &AdminContext) -> Answer {
    let server = context.operator.server();
    let state = match context.operator.readiness().state {
        ServerState::Live if !context.operator.healthy() => ServerState::Draining,
        state => state,
    };
    let uptime = format!("{}s", router::uptime(context).as_secs());
    let mut info = json!({
        "version": concat!("remora/", env!("CARGO_PKG_VERSION"), "/Clean/RELEASE/aws-lc-rs"),
        "state": state.name(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": server.command_line_options,
    });
    if let (Value::Object(info), false) = (&mut info, server.node.is_null()) {
        info.insert("node".into(), server.node);
    }
    json_answer(&info)
}

/// `envoy.admin.v3.Memory`, as far as the system tells it.
pub(super) fn memory() -> Answer {
    let process = ProcessFacts::now();
    json_answer(&json!({
        "allocated": process.resident.to_string(),
        "heap_size": process.data.to_string(),
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": process.resident.to_string(),
    }))
}

/// `envoy.admin.v3.UnreadyTargetsDumps`.
pub(super) fn init_dump(context: &AdminContext) -> Answer {
    let waiting = context.operator.readiness().waiting_for;
    let mut dump = Map::new();
    if !waiting.is_empty() {
        let targets = json!([{ "name": "init manager Server", "target_names": waiting }]);
        dump.insert("unready_targets_dumps".into(), targets);
    }
    json_answer(&Value::Object(dump))
}
