//! `envoy.filters.http.header_mutation`, in a chain and at a route.

use std::sync::Arc;

use http::HeaderName;
use remora_model::filter::{HeaderOperation, MutationFilter, Mutations, QueryOperation, RouteFilter};
use remora_model::route::AppendAction;

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::common::mutation_rules::v3::{self as rules, header_mutation::Action};
use crate::pb::envoy::config::core::v3::{KeyValueMutation, key_value_append::KeyValueAppendAction};
use crate::pb::envoy::extensions::filters::http::header_mutation::v3 as api;
use crate::pb::google::protobuf::value::Kind;
use crate::{header_mutation, matcher, value};

pub(super) const KIND: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute";

pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<MutationFilter>> {
    let said: api::HeaderMutation = extension.decode(work)?;
    Some(Arc::new(MutationFilter {
        own: mutations(work, said.mutations.as_ref()),
        most_specific_wins: said.most_specific_header_mutations_wins,
    }))
}

pub(super) fn per_route(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<RouteFilter> {
    let said: api::HeaderMutationPerRoute = extension.decode(work)?;
    let mutations = mutations(work, said.mutations.as_ref());
    Some(RouteFilter::HeaderMutation(mutations))
}

fn mutations(work: &mut Work<'_, '_>, said: Option<&api::Mutations>) -> Arc<Mutations> {
    let none = api::Mutations::default();
    let said = said.unwrap_or(&none);
    work.at("mutations", |work| {
        work.review(said);
        let query = &said.query_parameter_mutations;
        Arc::new(Mutations {
            request: work
                .each("request_mutations", &said.request_mutations, operation)
                .into(),
            query: work.each("query_parameter_mutations", query, parameter).into(),
            request_trailers: work
                .each(
                    "request_trailers_mutations",
                    &said.request_trailers_mutations,
                    operation,
                )
                .into(),
            response: work
                .each("response_mutations", &said.response_mutations, operation)
                .into(),
            response_trailers: work
                .each(
                    "response_trailers_mutations",
                    &said.response_trailers_mutations,
                    operation,
                )
                .into(),
        })
    })
}

/// A change of a query parameter.
fn parameter(work: &mut Work<'_, '_>, said: &KeyValueMutation) -> Option<QueryOperation> {
    let append = match (&said.append, said.remove.is_empty()) {
        (None, false) => return Some(QueryOperation::Remove(said.remove.as_str().into())),
        (Some(append), true) => append,
        _ => {
            work.wrong("expected one of append, remove; found both or none");
            return None;
        }
    };
    work.at("append", |work| {
        let Some(record) = &append.record else {
            work.wrong_at("record", "expected a record, found none");
            return None;
        };
        let key = value::required(work, "record.key", &record.key)?;
        let Some(Kind::StringValue(text)) = record.value.as_ref().and_then(|value| value.kind.as_ref())
        else {
            work.wrong_at("record.value", "expected a string value, found another");
            return None;
        };
        let template = header_mutation::text(work, "record.value", text)?;
        let action = match value::known(work, "action", append.action)? {
            KeyValueAppendAction::AppendIfExistsOrAdd => AppendAction::AppendIfExistsOrAdd,
            KeyValueAppendAction::AddIfAbsent => AppendAction::AddIfAbsent,
            KeyValueAppendAction::OverwriteIfExistsOrAdd => AppendAction::OverwriteIfExistsOrAdd,
            KeyValueAppendAction::OverwriteIfExists => AppendAction::OverwriteIfExists,
        };
        Some(QueryOperation::Set(key.into(), template, action))
    })
}

pub(crate) fn operation(work: &mut Work<'_, '_>, said: &rules::HeaderMutation) -> Option<HeaderOperation> {
    match &said.action {
        Some(Action::Remove(name)) => {
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
            if parsed.is_none() {
                work.wrong_at(
                    "remove",
                    format!("expected a header name, found '{}'", name.escape_default()),
                );
            }
            parsed.map(HeaderOperation::Remove)
        }
        Some(Action::Append(option)) => work
            .at("append", |work| header_mutation::template(work, option))
            .map(HeaderOperation::Set),
        Some(Action::RemoveOnMatch(said)) => {
            work.at("remove_on_match.key_matcher", |work| match &said.key_matcher {
                Some(said) => matcher::string(work, said).map(HeaderOperation::RemoveMatching),
                None => {
                    work.wrong("expected a matcher, found none");
                    None
                }
            })
        }
        None => {
            work.wrong("expected one of remove, append, remove_on_match; found none");
            None
        }
    }
}
