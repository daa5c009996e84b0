//! `envoy.filters.http.header_mutation`, in a chain and at a route.

use std::sync::Arc;

use http::HeaderName;
use remora_model::filter::{HeaderOperation, MutationFilter, RouteFilter};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::common::mutation_rules::v3::{self as rules, header_mutation::Action};
use crate::pb::envoy::extensions::filters::http::header_mutation::v3 as api;
use crate::{header_mutation, matcher};

pub(super) const KIND: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute";

type Operations = Arc<[HeaderOperation]>;

pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<MutationFilter>> {
    let said: api::HeaderMutation = extension.decode(work)?;
    let (request, response) = mutations(work, said.mutations.as_ref());
    Some(Arc::new(MutationFilter {
        request,
        response,
        most_specific_wins: said.most_specific_header_mutations_wins,
    }))
}

pub(super) fn per_route(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<RouteFilter> {
    let said: api::HeaderMutationPerRoute = extension.decode(work)?;
    let (request, response) = mutations(work, said.mutations.as_ref());
    Some(RouteFilter::HeaderMutation { request, response })
}

fn mutations(work: &mut Work<'_, '_>, said: Option<&api::Mutations>) -> (Operations, Operations) {
    work.at("mutations", |work| {
        let Some(said) = said else {
            return (Arc::from([]), Arc::from([]));
        };
        work.review(said);
        let request = work.each("request_mutations", &said.request_mutations, operation);
        let response = work.each("response_mutations", &said.response_mutations, operation);
        (request.into(), response.into())
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
