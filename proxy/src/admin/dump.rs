//! `/config_dump`: what the request asks, gathered here and written by `remora-translate` beside the main thread.

use std::ops::ControlFlow;

use http::StatusCode;
use remora_model::matching::whole_match;
use remora_translate::config_dump::{Dump, DumpError, DumpInput, DumpOptions};
use tokio::sync::{mpsc, oneshot};

use super::body::{Answer, json_from, text};
use super::query::Query;
use super::{AdminContext, ResourceKind};
use crate::observe::time_text::rfc3339;

/// Pieces that wait for a reader before the writing thread does.
const PIECES_AHEAD: usize = 2;

/// `envoy.admin.v3.ConfigDump`, with Envoy's parameters and words.
pub(super) async fn config_dump(context: &AdminContext, query: &Query) -> Answer {
    let said = |name: &str| query.value(name).filter(|value| !value.is_empty());
    let name_regex = match said("name_regex")
        .map(|regex| whole_match(regex).map_err(|error| (regex, error)))
        .transpose()
    {
        Ok(regex) => regex,
        Err((regex, error)) => {
            let words = format!("INVALID_ARGUMENT: Error while parsing name_regex from {regex}: {error}");
            return text(StatusCode::BAD_REQUEST, words);
        }
    };
    let options = DumpOptions {
        include_eds: query.has("include_eds"),
        resource: said("resource").map(str::to_owned),
        mask: said("mask").map(str::to_owned),
        name_regex,
    };
    let input = gathered(context, &options);
    let (verdict_to, verdict) = oneshot::channel();
    let (pieces_to, pieces) = mpsc::channel(PIECES_AHEAD);
    // Loading the descriptors and writing take tens of milliseconds and more; the control side must not wait for that.
    tokio::task::spawn_blocking(move || write(input, options, verdict_to, &pieces_to));
    match verdict.await {
        Ok(Ok(())) => json_from(pieces),
        Ok(Err(error)) => text(status_of(&error), error.to_string()),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the dump was given up"),
    }
}

/// Says whether there is a dump, then writes it as fast as it is read.
fn write(
    input: DumpInput,
    options: DumpOptions,
    verdict: oneshot::Sender<Result<(), DumpError>>,
    pieces: &mpsc::Sender<String>,
) {
    match Dump::new(input, options, rfc3339) {
        Err(error) => drop(verdict.send(Err(error))),
        Ok(dump) => {
            if verdict.send(Ok(())).is_ok() {
                // A break means that the reader went away.
                let _ = dump.write(&mut |piece| match pieces.blocking_send(piece) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                });
            }
        }
    }
}

fn status_of(error: &DumpError) -> StatusCode {
    match error {
        DumpError::Pool(_) => StatusCode::INTERNAL_SERVER_ERROR,
        DumpError::UnknownField(_) => StatusCode::NOT_FOUND,
        DumpError::NotRepeated(_) | DumpError::MaskOfElements(_) | DumpError::MaskOfAll(_) => {
            StatusCode::BAD_REQUEST
        }
    }
}

fn gathered(context: &AdminContext, options: &DumpOptions) -> DumpInput {
    use ResourceKind as K;
    let operator = &*context.operator;
    let mut kinds = vec![K::Cluster, K::Listener, K::Routes, K::Secret];
    let mut clusters = Vec::new();
    if options.include_eds {
        kinds.push(K::Endpoints);
        let of_bootstrap = operator.static_clusters();
        let world = operator.snapshot();
        let listed = world.clusters.iter().map(|(_, cluster)| {
            let is_static = of_bootstrap.contains(&cluster.config.name);
            (std::sync::Arc::clone(cluster), is_static)
        });
        clusters.extend(listed);
    }
    DumpInput {
        bootstrap: operator.bootstrap(),
        resources: kinds
            .into_iter()
            .flat_map(|kind| operator.resources(kind))
            .collect(),
        clusters,
        clusters_version: operator.version(K::Cluster).unwrap_or_default(),
        listeners_version: operator.version(K::Listener).unwrap_or_default(),
    }
}
