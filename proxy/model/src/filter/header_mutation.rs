//! `envoy.filters.http.header_mutation`: changes of headers as a filter, in order.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::matching::StringMatcher;
use crate::route::{HeaderTemplate, Render};

/// One `envoy.config.common.mutation_rules.v3.HeaderMutation`.
#[derive(Debug, Clone)]
pub enum HeaderOperation {
    /// `remove`.
    Remove(HeaderName),
    /// `remove_on_match`.
    RemoveMatching(StringMatcher),
    /// `append`.
    Set(HeaderTemplate),
}

/// The filter in a chain.
#[derive(Debug, Clone)]
pub struct MutationFilter {
    /// `request_mutations`.
    pub request: Arc<[HeaderOperation]>,
    /// `response_mutations`.
    pub response: Arc<[HeaderOperation]>,
    /// `most_specific_header_mutations_wins`: of the levels of a route the most specific speaks last.
    pub most_specific_wins: bool,
}

/// Carries operations out, in order.
pub fn apply_operations(operations: &[HeaderOperation], headers: &mut HeaderMap, render: &impl Render) {
    for operation in operations {
        match operation {
            HeaderOperation::Remove(name) => {
                headers.remove(name);
            }
            HeaderOperation::RemoveMatching(matcher) => {
                let matching: Vec<HeaderName> = headers
                    .keys()
                    .filter(|name| matcher.matches(name.as_str().as_bytes()))
                    .cloned()
                    .collect();
                for name in matching {
                    headers.remove(name);
                }
            }
            HeaderOperation::Set(template) => template.apply(headers, render),
        }
    }
}
