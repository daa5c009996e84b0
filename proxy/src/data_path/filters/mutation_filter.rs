//! Changes headers, trailers and query parameters (`envoy.filters.http.header_mutation`).

use std::sync::Arc;

use http::uri::PathAndQuery;
use remora_model::filter::{
    HeaderOperation, MutationFilter, RouteFilter, apply_operations, apply_to_query, settled,
};
use remora_model::route::Decision;

use super::OnResponse;
use crate::data_path::body::Stages;
use crate::data_path::body::trailers::ChangeTrailers;
use crate::data_path::mutation::Printer;
use crate::data_path::request::Exchange;
use crate::exchange::{BodyLength, Downstream, RequestHead, ResponseHead};

impl<D: Downstream> Exchange<'_, D> {
    /// Mutations of the filter itself, then of the levels of the route.
    pub(super) fn mutate(
        &mut self,
        own: &MutationFilter,
        name: &str,
        decision: Option<&Decision<'_>>,
        head: &mut RequestHead,
    ) {
        let said = super::said(decision, name).filter_map(|said| match said {
            RouteFilter::HeaderMutation(mutations) => Some(mutations),
            _ => None,
        });
        let mut levels: Vec<_> = said.collect();
        if own.most_specific_wins {
            levels.reverse();
        }
        levels.insert(0, &own.own);
        let before = head.headers.clone();
        let printer = Printer {
            record: &self.record,
            request: Some(&before),
            response: None,
        };
        for level in &levels {
            apply_operations(&level.request, &mut head.headers, &printer);
            if !level.query.is_empty() {
                let changed = apply_to_query(&level.query, head.path.as_str(), &printer);
                if let Ok(changed) = PathAndQuery::try_from(changed) {
                    head.path = changed;
                }
            }
            if !level.request_trailers.is_empty() && head.body != BodyLength::None {
                let stage = ChangeTrailers::new(settled(&level.request_trailers, &printer));
                self.request_stages.get_or_insert_default().push(Box::new(stage));
            }
        }
        // They run in reverse, as all filters do on the way back.
        for level in levels.into_iter().rev() {
            if !level.response_trailers.is_empty() {
                let operations = Arc::clone(&level.response_trailers);
                self.on_response.push(OnResponse::MutateTrailers(operations));
            }
            if !level.response.is_empty() {
                let operations = Arc::clone(&level.response);
                self.on_response.push(OnResponse::Mutate(operations));
            }
        }
    }
}

/// What is done to the trailers of a response, if it has any.
pub(super) fn at_trailers(
    operations: Vec<HeaderOperation>,
    head: &ResponseHead,
    stages: &mut Option<Box<Stages>>,
) {
    if head.body != BodyLength::None {
        stages
            .get_or_insert_default()
            .push(Box::new(ChangeTrailers::new(operations)));
    }
}
