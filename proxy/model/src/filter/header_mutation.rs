//! `envoy.filters.http.header_mutation`: changes of headers, trailers and query parameters as a filter, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::matching::StringMatcher;
use crate::route::{AppendAction, HeaderTemplate, HeaderValueTemplate, Render};

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

/// One `envoy.config.core.v3.KeyValueMutation` of a query parameter.
#[derive(Debug, Clone)]
pub enum QueryOperation {
    /// `remove`.
    Remove(Box<str>),
    /// `append`.
    Set(Box<str>, HeaderValueTemplate, AppendAction),
}

/// `Mutations` of the filter or of one level of a route.
#[derive(Debug, Clone)]
pub struct Mutations {
    /// `request_mutations`.
    pub request: Arc<[HeaderOperation]>,
    /// `query_parameter_mutations`.
    pub query: Arc<[QueryOperation]>,
    /// `request_trailers_mutations`.
    pub request_trailers: Arc<[HeaderOperation]>,
    /// `response_mutations`.
    pub response: Arc<[HeaderOperation]>,
    /// `response_trailers_mutations`.
    pub response_trailers: Arc<[HeaderOperation]>,
}

/// The filter in a chain.
#[derive(Debug, Clone)]
pub struct MutationFilter {
    /// What it changes itself.
    pub own: Arc<Mutations>,
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

/// Operations whose values are printed already, for trailers: what the formats speak of is not there any more when
/// they come.
pub fn settled(operations: &[HeaderOperation], render: &impl Render) -> Vec<HeaderOperation> {
    let settle = |operation: &HeaderOperation| match operation {
        HeaderOperation::Set(template) => {
            let value = printed(&template.value, render).unwrap_or(HeaderValue::from_static(""));
            HeaderOperation::Set(HeaderTemplate {
                value: HeaderValueTemplate::Constant(value),
                ..template.clone()
            })
        }
        other => other.clone(),
    };
    operations.iter().map(settle).collect()
}

/// Path and query after operations on the parameters. As in Envoy the parameters are in order of their names then, each
/// with an equals sign, and nothing is decoded.
pub fn apply_to_query(operations: &[QueryOperation], path_and_query: &str, render: &impl Render) -> String {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let mut parameters: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for parameter in query.split('&').filter(|_| !query.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        parameters.entry(key).or_default().push(value.to_owned());
    }
    for operation in operations {
        let (key, template, action) = match operation {
            QueryOperation::Remove(key) => {
                parameters.remove(&**key);
                continue;
            }
            QueryOperation::Set(key, template, action) => (key, template, action),
        };
        let value = printed(template, render);
        let value = value
            .as_ref()
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let exists = parameters.contains_key(&**key);
        match action {
            AppendAction::AddIfAbsent if exists => {}
            AppendAction::OverwriteIfExists if !exists => {}
            AppendAction::AppendIfExistsOrAdd | AppendAction::AddIfAbsent => {
                parameters.entry(key).or_default().push(value.to_owned());
            }
            AppendAction::OverwriteIfExistsOrAdd | AppendAction::OverwriteIfExists => {
                parameters.insert(key, vec![value.to_owned()]);
            }
        }
    }
    let all = parameters
        .iter()
        .flat_map(|(key, values)| values.iter().map(move |value| format!("{key}={value}")));
    let all: Vec<String> = all.collect();
    if all.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", all.join("&"))
    }
}

fn printed(template: &HeaderValueTemplate, render: &impl Render) -> Option<HeaderValue> {
    match template {
        HeaderValueTemplate::Constant(value) => Some(value.clone()),
        HeaderValueTemplate::Format(format) => render.render(format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Format;

    struct Nothing;

    impl Render for Nothing {
        fn render(&self, _: &Format) -> Option<HeaderValue> {
            None
        }
    }

    #[test]
    fn parameters_are_changed_in_order_and_sorted() {
        let set = |key: &str, value: &'static str, action| {
            QueryOperation::Set(
                key.into(),
                HeaderValueTemplate::Constant(HeaderValue::from_static(value)),
                action,
            )
        };
        let after = |operations: &[QueryOperation], path| apply_to_query(operations, path, &Nothing);
        let add = set("a", "2", AppendAction::AppendIfExistsOrAdd);
        assert_eq!(after(std::slice::from_ref(&add), "/x"), "/x?a=2");
        assert_eq!(after(&[add], "/x?z&a=1"), "/x?a=1&a=2&z=");
        let absent = set("a", "2", AppendAction::AddIfAbsent);
        assert_eq!(after(std::slice::from_ref(&absent), "/x?a=1"), "/x?a=1");
        assert_eq!(after(&[absent], "/x?b=1"), "/x?a=2&b=1");
        let replace = set("a", "2", AppendAction::OverwriteIfExists);
        assert_eq!(after(std::slice::from_ref(&replace), "/x?a=1&a=3"), "/x?a=2");
        assert_eq!(after(&[replace], "/x"), "/x");
        let over = set("a", "2", AppendAction::OverwriteIfExistsOrAdd);
        assert_eq!(
            after(&[over, QueryOperation::Remove("b".into())], "/x?b=1"),
            "/x?a=2"
        );
        assert_eq!(after(&[QueryOperation::Remove("b".into())], "/x?b=1"), "/x");
    }
}
