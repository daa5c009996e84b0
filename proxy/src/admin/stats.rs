//! `/stats` and `/stats/prometheus`.

use http::StatusCode;

use super::body::{Answer, json_pieces, text, text_pieces};
use super::query::Query;
use super::{AdminContext, freshness, router};
use crate::observe::Scrape;
use crate::observe::scrape::{Kind, ServerFacts, StatsQuery};
use crate::observe::xds_metrics;

fn scrape(context: &AdminContext) -> Scrape {
    let operator = &*context.operator;
    let facts = ServerFacts {
        state: operator.readiness().state.number(),
        uptime: router::uptime(context),
        concurrency: operator.server().concurrency,
        healthy: operator.healthy(),
    };
    let (types, servers) = freshness::facts(operator);
    Scrape::new(&context.observe, &operator.snapshot(), facts).with(xds_metrics::series(&types, &servers))
}

/// What the parameters ask for, or what is wrong with them.
fn stats_query(query: &Query) -> Result<StatsQuery, String> {
    let filter = match query.value("filter").filter(|filter| !filter.is_empty()) {
        None => None,
        Some(filter) => {
            Some(regex::Regex::new(filter).map_err(|error| format!("Invalid re2 regex: {error}"))?)
        }
    };
    let kind = match query.value("type") {
        None | Some("" | "All") => Kind::All,
        Some("Counters") => Kind::Counters,
        Some("Gauges") => Kind::Gauges,
        Some("Histograms") => Kind::Histograms,
        Some("TextReadouts") => Kind::TextReadouts,
        Some(_) => return Err("invalid &type= param".into()),
    };
    Ok(StatsQuery {
        used_only: query.has("usedonly"),
        filter,
        kind,
    })
}

/// `/stats` in the format that was asked for.
pub(super) fn stats(context: &AdminContext, query: &Query) -> Answer {
    let wanted = match stats_query(query) {
        Ok(wanted) => wanted,
        Err(words) => return text(StatusCode::BAD_REQUEST, words),
    };
    match query.value("format") {
        None | Some("" | "text") => text_pieces(scrape(context).text(wanted)),
        Some("json") => json_pieces(scrape(context).json(wanted)),
        Some("prometheus") => text_pieces(scrape(context).prometheus(wanted)),
        Some(_) => text(
            StatusCode::BAD_REQUEST,
            "usage: /stats?format=(json|prometheus|text)\n\n",
        ),
    }
}

/// `/stats/prometheus`.
pub(super) fn prometheus(context: &AdminContext, query: &Query) -> Answer {
    match stats_query(query) {
        Ok(wanted) => text_pieces(scrape(context).prometheus(wanted)),
        Err(words) => text(StatusCode::BAD_REQUEST, words),
    }
}
