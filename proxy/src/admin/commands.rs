//! What changes something.

use http::StatusCode;

use super::body::{Answer, text};
use super::query::Query;
use super::{AdminContext, Command};
use crate::observe::logging::{LoggingError, level_names};
use crate::observe::scrape;

/// Carries out an order.
pub(super) fn carry_out(context: &AdminContext, path: &str, query: &Query) -> Answer {
    let command = match path {
        "/drain_listeners" => Command::DrainListeners {
            graceful: query.has("graceful"),
            inbound_only: query.has("inboundonly"),
            skip_exit: query.has("skip_exit"),
        },
        "/quitquitquit" => Command::Quit,
        "/healthcheck/fail" => Command::HealthcheckFail,
        "/healthcheck/ok" => Command::HealthcheckOk,
        "/reopen_logs" => {
            context.observe.reopen_logs();
            return text(StatusCode::OK, "OK\n");
        }
        "/reset_counters" => {
            scrape::reset_counters(&context.observe);
            return text(StatusCode::OK, "OK\n");
        }
        "/logging" => return logging(context, query),
        _ => return text(StatusCode::NOT_FOUND, "invalid path. "),
    };
    tracing::info!(?command, "ordered by the admin port");
    context.operator.command(command);
    text(StatusCode::OK, "OK\n")
}

fn logging(context: &AdminContext, query: &Query) -> Answer {
    let logging = &context.logging;
    let mut parameters = query.iter();
    let changed = match (parameters.next(), parameters.next()) {
        (None, _) => Ok(()),
        (Some(("level", level)), None) => logging.set_level(level),
        (Some(("paths" | "group", list)), None) => logging.set_paths(list),
        (Some((name, level)), None) => logging.set_component(name, level),
        (Some(_), Some(_)) => Err(LoggingError::Malformed("more than one parameter".into())),
    };
    let mut body = String::new();
    let status = match &changed {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            body.push_str(&format!("{error}\n\n"));
            body.push_str("usage: /logging?<name>=<level> (change single level)\n");
            body.push_str("usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n");
            body.push_str("usage: /logging?level=<level> (change all levels)\n");
            let levels: Vec<&str> = level_names().collect();
            body.push_str(&format!("levels: {} \n", levels.join(" ")));
            StatusCode::BAD_REQUEST
        }
    };
    body.push_str("active loggers:\n");
    for (name, level) in logging.components() {
        body.push_str(&format!("  {name}: {level}\n"));
    }
    body.push('\n');
    text(status, body)
}
