//! Which fields of a bootstrap have no effect here, and which must not be left out?
//!
//! What always holds: a field that is set is translated, listed, or refused; a field that Envoy adds tomorrow is listed,
//! because the list is made from what is set and not from what we know.

use remora_proto::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use remora_proto::pb::envoy::config::bootstrap::v3 as pb;
use remora_proto::{Document, Pool, Problem, Redaction, WriteOptions, type_url};
use serde_json::Value;

use super::extensions;

/// The fields of a `ConfigSource` and of an `ApiConfigSource` that are translated or refused elsewhere.
const SOURCE: &[&str] = &[
    "ads",
    "api_config_source",
    "initial_fetch_timeout",
    "path",
    "path_config_source",
    "resource_api_version",
    "self",
];
const API_SOURCE: &[&str] = &[
    "api_type",
    "cluster_names",
    "config_validators",
    "grpc_services",
    "rate_limit_settings",
    "set_node_on_first_message_only",
    "transport_api_version",
];

/// Messages whose fields are looked at one by one, and which of those are translated or refused elsewhere.
const TRANSLATED: [(&str, &[&str]); 9] = [
    (
        "",
        &[
            "node",
            "static_resources",
            "dynamic_resources",
            "admin",
            "cluster_manager",
            "header_prefix",
        ],
    ),
    (
        "dynamic_resources",
        &[
            "ads_config",
            "lds_config",
            "cds_config",
            "lds_resources_locator",
            "cds_resources_locator",
        ],
    ),
    (
        "admin",
        &["address", "access_log", "access_log_path", "allow_paths"],
    ),
    ("cluster_manager", &["local_cluster_name", "upstream_bind_config"]),
    ("dynamic_resources.ads_config", API_SOURCE),
    ("dynamic_resources.lds_config", SOURCE),
    ("dynamic_resources.lds_config.api_config_source", API_SOURCE),
    ("dynamic_resources.cds_config", SOURCE),
    ("dynamic_resources.cds_config.api_config_source", API_SOURCE),
];

pub(super) fn fields(
    pool: &Pool,
    document: &Document,
    said: &pb::Bootstrap,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    refuse(said, problems);
    extensions::check(said, problems);
    let options = WriteOptions {
        redaction: Redaction::Secrets,
    };
    let shown = pool
        .write(&document.bytes, super::BOOTSTRAP, options)
        .unwrap_or_default();
    let mut ignored = Vec::new();
    for (path, translated) in TRANSLATED {
        let message = path
            .split('.')
            .filter(|step| !step.is_empty())
            .try_fold(&shown, |value, step| value.get(step));
        let names = message
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str());
        let separator = if path.is_empty() { "" } else { "." };
        ignored.extend(
            names
                .filter(|name| !translated.contains(name))
                .map(|name| format!("{path}{separator}{name}")),
        );
    }
    ignored.extend(admin_loggers(said));
    ignored.sort();
    ignored
}

/// Access loggers of the administration endpoint that do not write files.
fn admin_loggers(said: &pb::Bootstrap) -> impl Iterator<Item = String> {
    let loggers = said
        .admin
        .as_ref()
        .map(|admin| admin.access_log.as_slice())
        .unwrap_or_default();
    loggers.iter().enumerate().filter_map(|(index, logger)| {
        let name = match &logger.config_type {
            Some(ConfigType::TypedConfig(any)) => type_url::message_name(&any.type_url),
            None => "",
        };
        (name != "envoy.extensions.access_loggers.file.v3.FileAccessLog")
            .then(|| format!("admin.access_log[{index}]"))
    })
}

/// What would change who gets what if it were left out.
fn refuse(said: &pb::Bootstrap, problems: &mut Vec<Problem>) {
    if !matches!(said.header_prefix.as_str(), "" | "x-envoy") {
        let found = format!("{:?}, which is not supported", said.header_prefix);
        problems.push(Problem::new("header_prefix", "\"x-envoy\" or none", found));
    }
    if said
        .cluster_manager
        .as_ref()
        .is_some_and(|manager| manager.upstream_bind_config.is_some())
    {
        let found = "one, which is not supported: connections would leave from another address";
        problems.push(Problem::new(
            "cluster_manager.upstream_bind_config",
            "no source address",
            found,
        ));
    }
    let dynamic = said.dynamic_resources.clone().unwrap_or_default();
    for (field, locator) in [
        ("lds", &dynamic.lds_resources_locator),
        ("cds", &dynamic.cds_resources_locator),
    ] {
        if !locator.is_empty() {
            let path = format!("dynamic_resources.{field}_resources_locator");
            problems.push(Problem::new(
                path,
                format!("{field}_config"),
                "a locator, which is not supported",
            ));
        }
    }
}
