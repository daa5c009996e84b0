//! Which page answers a request?

use std::time::Instant;

use http::{Method, Request, StatusCode};

use super::body::{Answer, html, json, text};
use super::query::Query;
use super::{AdminContext, certs, clusters, commands, dump, freshness, help, listeners, server_info, stats};

/// Answers one request; its body is not looked at.
pub(super) async fn answer<B>(context: &AdminContext, request: &Request<B>) -> Answer {
    let path = request.uri().path();
    let path = if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    };
    let Some(entry) = help::COMMANDS.iter().find(|entry| entry.path == path) else {
        let mut body = String::from("invalid path. ");
        help::text(&mut body);
        return text(StatusCode::NOT_FOUND, body);
    };
    if entry.changes && request.method() != Method::POST {
        let body = format!("Method {} not allowed, POST required.", request.method());
        return text(StatusCode::METHOD_NOT_ALLOWED, body);
    }
    tracing::debug!(method = %request.method(), path, "admin request");
    let query = Query::of(request.uri().query());
    if entry.changes {
        return commands::carry_out(context, path, &query);
    }
    show(context, path, &query).await
}

async fn show(context: &AdminContext, path: &str, query: &Query) -> Answer {
    match path {
        "/" => html(help::page()),
        "/help" => {
            let mut body = String::new();
            help::text(&mut body);
            text(StatusCode::OK, body)
        }
        "/ready" => ready(context),
        "/stats" => stats::stats(context, query),
        "/stats/prometheus" => stats::prometheus(context, query),
        "/clusters" => clusters::clusters(context, query),
        "/listeners" => listeners::listeners(context, query),
        "/config_dump" => dump::config_dump(context, query).await,
        "/server_info" => server_info::server_info(context),
        "/certs" => certs::certs(context),
        "/xds" => freshness::xds(context, query),
        "/memory" => server_info::memory(),
        "/init_dump" => server_info::init_dump(context),
        "/runtime" => json(&serde_json::json!({ "entries": {}, "layers": [] })),
        "/contention" => text(
            StatusCode::OK,
            "Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing.",
        ),
        "/hot_restart_version" => text(StatusCode::OK, "disabled"),
        _ => text(StatusCode::NOT_FOUND, "invalid path. "),
    }
}

/// Envoy's word, and below it why we are not live.
fn ready(context: &AdminContext) -> Answer {
    let readiness = context.operator.readiness();
    let healthy = context.operator.healthy();
    let (state, reason) = match (readiness.state, healthy) {
        (super::ServerState::Live, true) => return text(StatusCode::OK, live(&readiness.reason)),
        (super::ServerState::Live, false) => (
            super::ServerState::Draining,
            "health checks were told to fail".to_owned(),
        ),
        (state, _) => (state, readiness.reason),
    };
    let mut body = format!("{}\n", state.name());
    if !reason.is_empty() {
        body.push_str(&reason);
        body.push('\n');
    }
    text(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// Envoy's word, and below it what is to be known all the same.
fn live(note: &str) -> String {
    if note.is_empty() {
        "LIVE\n".to_owned()
    } else {
        format!("LIVE\n{note}\n")
    }
}

/// How long the process has run.
pub(super) fn uptime(context: &AdminContext) -> std::time::Duration {
    Instant::now().saturating_duration_since(context.operator.server().started)
}
