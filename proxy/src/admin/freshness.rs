//! `/xds`: is this sidecar up to date, and if not, why? For people, and as JSON.
//!
//! Holds: "up to date" means that every stream stands, nothing was refused, and nothing is waited for; everything else
//! is a line that names the resource, what is wrong, and what serves meanwhile.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::body::{Answer, json as json_answer, text};
use super::query::Query;
use super::{
    AdminContext, ClientStatus, Operator, ResourceKind, ResourceState, ResourceView, SourceView, StreamView,
    TypeView,
};
use crate::observe::time_text::rfc3339;
use crate::observe::xds_metrics::{ServerFacts, TypeFacts};

/// Problems that are listed; the rest is counted.
const LISTED: usize = 100;

/// The page.
pub(super) fn xds(context: &AdminContext, query: &Query) -> Answer {
    let operator = &*context.operator;
    let sources = operator.sources();
    let mut problems: Vec<String> = sources.iter().filter_map(stream_problem).collect();
    let mut resources = Vec::new();
    for kind in ResourceKind::ALL {
        let warming = operator.warming(kind);
        let views = operator.resources(kind);
        problems.extend(views.iter().filter_map(|view| resource_problem(view, &warming)));
        if query.has("resources") {
            resources.extend(views);
        }
    }
    let page = Page {
        generation: operator.snapshot().generation,
        sources,
        left_out: problems.len().saturating_sub(LISTED),
        problems: problems.into_iter().take(LISTED).collect(),
        resources,
    };
    if query.value("format") == Some("json") {
        json_answer(&page.json())
    } else {
        text(http::StatusCode::OK, page.text())
    }
}

struct Page {
    generation: u64,
    sources: Vec<SourceView>,
    problems: Vec<String>,
    left_out: usize,
    resources: Vec<ResourceView>,
}

/// The short name of a type, as people say it.
fn service(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Cluster => "cds",
        ResourceKind::Endpoints => "eds",
        ResourceKind::Listener => "lds",
        ResourceKind::Routes => "rds",
        ResourceKind::Secret => "sds",
    }
}

fn stream_problem(source: &SourceView) -> Option<String> {
    let StreamView {
        connected_to,
        since,
        last_end,
        ..
    } = &source.stream;
    if connected_to.is_some() {
        return None;
    }
    let mut words = format!("{}: no stream", source.name);
    if let Some(since) = since {
        let _ = write!(words, " for {}", seconds(*since));
    }
    match last_end {
        Some(end) => {
            let _ = write!(
                words,
                ": '{}', {} ago: {}",
                end.server,
                seconds(end.age),
                end.reason
            );
        }
        None => words.push_str(" yet"),
    }
    Some(words)
}

fn resource_problem(view: &ResourceView, warming: &[(remora_model::Name, String)]) -> Option<String> {
    let mut wrong = match view.status {
        ClientStatus::Acked => Vec::new(),
        ClientStatus::Nacked | ClientStatus::ReceivedError => vec![refusal(view)],
        ClientStatus::Requested => vec!["asked for, nothing heard yet".to_owned()],
        ClientStatus::DoesNotExist => vec!["does not exist, says the server".to_owned()],
        ClientStatus::Timeout => vec!["asked for, nothing heard in time".to_owned()],
    };
    let waits = warming.binary_search_by(|(name, _)| name.cmp(&view.name));
    if let (Ok(waits), Some(accepted)) = (waits, &view.accepted) {
        let mut words = format!("version '{}' waits for {}", accepted.version, warming[waits].1);
        if let Some(serving) = &view.serving {
            let _ = write!(words, ", version '{}' serves", serving.version);
        }
        wrong.push(words);
    }
    (!wrong.is_empty()).then(|| format!("{} '{}': {}", service(view.kind), view.name, wrong.join("; ")))
}

fn refusal(view: &ResourceView) -> String {
    let Some(error) = &view.error else {
        return "refused".into();
    };
    let age = SystemTime::now()
        .duration_since(error.last_attempt)
        .unwrap_or_default();
    let mut words = format!(
        "version '{}' refused {} ago: {}",
        error.version,
        seconds(age),
        error.details
    );
    if let (Some(accepted), ResourceState::Active) = (&view.accepted, view.state) {
        let _ = write!(words, " (version '{}' serves)", accepted.version);
    }
    words
}

/// `3.2 s`
fn seconds(age: Duration) -> String {
    format!("{:.1} s", age.as_secs_f64())
}

impl Page {
    fn is_up_to_date(&self) -> bool {
        self.problems.is_empty()
    }

    fn text(&self) -> String {
        let word = if self.is_up_to_date() { "yes" } else { "no" };
        let mut out = format!("up to date: {word}\n");
        for problem in &self.problems {
            let _ = writeln!(out, "  {problem}");
        }
        if self.left_out > 0 {
            let _ = writeln!(out, "  and {} more", self.left_out);
        }
        let _ = writeln!(out, "config generation: {}", self.generation);
        for source in &self.sources {
            let StreamView {
                connected_to,
                since,
                last_message,
                opened,
                failures,
                ..
            } = &source.stream;
            let _ = write!(out, "\n{}: ", source.name);
            match (connected_to, since) {
                (Some(server), Some(since)) => {
                    let _ = write!(out, "stream to '{server}' open for {}", seconds(*since));
                }
                _ => out.push_str("no stream"),
            }
            if let Some(age) = last_message {
                let _ = write!(out, ", last message {} ago", seconds(*age));
            }
            let _ = writeln!(out, "; {opened} streams opened, {failures} failures");
            for of_type in &source.types {
                type_text(of_type, &mut out);
            }
        }
        if !self.resources.is_empty() {
            out.push('\n');
        }
        for view in &self.resources {
            resource_text(view, &mut out);
        }
        out
    }

    fn json(&self) -> Value {
        let mut page = json!({
            "up_to_date": self.is_up_to_date(),
            "problems": self.problems,
            "config_generation": self.generation,
            "sources": self.sources.iter().map(source_json).collect::<Vec<_>>(),
        });
        if self.left_out > 0 {
            page["problems_left_out"] = self.left_out.into();
        }
        if !self.resources.is_empty() {
            page["resources"] = self.resources.iter().map(resource_json).collect();
        }
        page
    }
}

fn type_text(of_type: &TypeView, out: &mut String) {
    let TypeView {
        kind,
        version,
        states,
        received,
        accepted,
        rejected,
        fetch_timeouts,
        last_update,
        last_rejection,
    } = of_type;
    let _ = write!(out, "  {}: version '{version}'", service(*kind));
    if let Some(age) = last_update {
        let _ = write!(out, ", updated {} ago", seconds(*age));
    }
    for (state, count) in states.iter().filter(|(_, count)| *count > 0) {
        let _ = write!(out, ", {count} {state}");
    }
    let _ = write!(
        out,
        "; {received} responses, {accepted} accepted, {rejected} refused, {fetch_timeouts} fetch timeouts"
    );
    if let Some((age, version)) = last_rejection {
        let _ = write!(out, "; version '{version}' refused {} ago", seconds(*age));
    }
    out.push('\n');
}

fn resource_text(view: &ResourceView, out: &mut String) {
    let _ = write!(
        out,
        "{} '{}': {}",
        service(view.kind),
        view.name,
        view.status.name()
    );
    if let Some(accepted) = &view.accepted {
        let _ = write!(
            out,
            " version '{}' of {}",
            accepted.version,
            rfc3339(accepted.updated)
        );
    }
    out.push_str(match view.state {
        ResourceState::Static => ", static\n",
        ResourceState::Warming => ", warming\n",
        ResourceState::Active => "\n",
    });
}

fn source_json(source: &SourceView) -> Value {
    let stream = &source.stream;
    let mut shown = json!({
        "name": source.name,
        "connected": stream.connected_to.is_some(),
        "streams": stream.opened,
        "failures": stream.failures,
        "types": source.types.iter().map(type_json).collect::<Vec<_>>(),
    });
    if let Some(server) = &stream.connected_to {
        shown["connected_to"] = Value::from(&**server);
    }
    for (name, age) in [
        ("since_seconds", stream.since),
        ("last_message_age_seconds", stream.last_message),
    ] {
        if let Some(age) = age {
            shown[name] = age.as_secs_f64().into();
        }
    }
    if let Some(end) = &stream.last_end {
        shown["last_end"] =
            json!({"server": &*end.server, "reason": end.reason, "age_seconds": end.age.as_secs_f64()});
    }
    shown
}

fn type_json(of_type: &TypeView) -> Value {
    let states: Map<String, Value> = of_type
        .states
        .iter()
        .map(|(state, count)| ((*state).to_owned(), Value::from(*count)))
        .collect();
    let mut shown = json!({
        "type_url": of_type.kind.type_url(),
        "version_info": &*of_type.version,
        "resources": states,
        "received": of_type.received,
        "accepted": of_type.accepted,
        "rejected": of_type.rejected,
        "fetch_timeouts": of_type.fetch_timeouts,
    });
    if let Some(age) = of_type.last_update {
        shown["last_update_age_seconds"] = age.as_secs_f64().into();
    }
    if let Some((age, version)) = &of_type.last_rejection {
        shown["last_rejection"] = json!({"age_seconds": age.as_secs_f64(), "version_info": &**version});
    }
    shown
}

fn resource_json(view: &ResourceView) -> Value {
    let mut shown = json!({
        "type_url": view.kind.type_url(),
        "name": &*view.name,
        "client_status": view.status.name(),
    });
    if let Some(accepted) = &view.accepted {
        shown["version_info"] = Value::from(&*accepted.version);
        shown["last_updated"] = rfc3339(accepted.updated).into();
    }
    if let Some(serving) = &view.serving {
        shown["serving_version_info"] = Value::from(&*serving.version);
    }
    match view.state {
        ResourceState::Static => shown["is_static_resource"] = true.into(),
        ResourceState::Warming => shown["warming"] = true.into(),
        ResourceState::Active => {}
    }
    if let Some(error) = &view.error {
        shown["error_state"] = json!({
            "version_info": &*error.version,
            "details": &*error.details,
            "last_update_attempt": rfc3339(error.last_attempt),
        });
    }
    shown
}

/// What of it becomes metrics.
pub(super) fn facts(operator: &dyn Operator) -> (Vec<TypeFacts>, Vec<ServerFacts>) {
    let sources = operator.sources();
    let of_kind = |kind| {
        let mut types = sources
            .iter()
            .flat_map(|source| &source.types)
            .filter(|of_type| of_type.kind == kind);
        let first = types.next()?;
        let mut facts = TypeFacts {
            name: service(kind),
            states: first.states.map(|(state, _)| (state, 0)),
            last_update: first.last_update,
            last_rejection: None,
        };
        for of_type in std::iter::once(first).chain(types) {
            for ((_, sum), (_, count)) in facts.states.iter_mut().zip(&of_type.states) {
                *sum += count;
            }
            let newest = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).min();
            facts.last_update = newest(facts.last_update, of_type.last_update);
            let rejection = of_type.last_rejection.as_ref().map(|(age, _)| *age);
            facts.last_rejection = newest(facts.last_rejection, rejection);
        }
        Some(facts)
    };
    let types = ResourceKind::ALL.into_iter().filter_map(of_kind).collect();
    let servers = sources.iter().map(|source| ServerFacts {
        name: source.name.clone(),
        is_connected: source.stream.connected_to.is_some(),
        last_message: source.stream.last_message,
        opened: source.stream.opened,
        failures: source.stream.failures,
    });
    (types, servers.collect())
}
