//! `/config_dump`: what the request asks, gathered here and written by `remora-translate` beside the main thread.

use http::StatusCode;
use remora_translate::config_dump::{DumpError, DumpInput, DumpOptions, config_dump as write};

use super::body::{Answer, json, text};
use super::query::Query;
use super::{AdminContext, ResourceKind};
use crate::observe::time_text::rfc3339;

/// `envoy.admin.v3.ConfigDump`.
pub(super) async fn config_dump(context: &AdminContext, query: &Query) -> Answer {
    let name_regex = query
        .value("name_regex")
        .filter(|regex| !regex.is_empty())
        .map(regex::Regex::new);
    let name_regex = match name_regex.transpose() {
        Ok(regex) => regex,
        Err(error) => {
            return text(
                StatusCode::BAD_REQUEST,
                format!("Error while parsing name_regex from {error}"),
            );
        }
    };
    let options = DumpOptions {
        include_eds: query.has("include_eds"),
        resource: query
            .value("resource")
            .filter(|field| !field.is_empty())
            .map(str::to_owned),
        mask: query
            .value("mask")
            .unwrap_or("")
            .split(',')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect(),
        name_regex,
    };
    let input = gathered(context, &options);
    // Loading the descriptors takes tens of milliseconds; the control side must not wait for that.
    let written = tokio::task::spawn_blocking(move || write(&input, &options, rfc3339)).await;
    match written {
        Ok(Ok(dump)) => json(&dump),
        Ok(Err(error @ DumpError::UnknownField(_))) => text(StatusCode::NOT_FOUND, error.to_string()),
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the dump was given up"),
    }
}

fn gathered(context: &AdminContext, options: &DumpOptions) -> DumpInput {
    use ResourceKind as K;
    let operator = &*context.operator;
    let mut kinds = vec![K::Cluster, K::Listener, K::Routes, K::Secret];
    if options.include_eds
        || options
            .resource
            .as_deref()
            .is_some_and(|field| field.ends_with("endpoint_configs"))
    {
        kinds.push(K::Endpoints);
    }
    DumpInput {
        bootstrap: operator.bootstrap(),
        resources: kinds
            .into_iter()
            .flat_map(|kind| operator.resources(kind))
            .collect(),
        clusters_version: operator.version(K::Cluster).unwrap_or_default(),
        listeners_version: operator.version(K::Listener).unwrap_or_default(),
    }
}
