//! Header mutations: additions with Envoy's formatters, removals.

use http::{HeaderName, HeaderValue};

/// Mutations of one direction at one level, in order: removals after additions, as Envoy does.
#[derive(Debug, Clone, Default)]
pub struct HeaderMutations {
    /// `*_headers_to_add`.
    pub add: Vec<HeaderTemplate>,
    /// `*_headers_to_remove`.
    pub remove: Vec<HeaderName>,
}

/// One `HeaderValueOption`.
#[derive(Debug, Clone)]
pub struct HeaderTemplate {
    /// Which header; `host`/`:authority`, `:path` and `:method` are refused at translation.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValueTemplate,
    /// What happens if it is there.
    pub action: AppendAction,
    /// An empty value is added too.
    pub keep_empty: bool,
}

/// A value, constant or with `%OPERATORS%`.
#[derive(Debug, Clone)]
pub enum HeaderValueTemplate {
    /// No operator inside.
    Constant(HeaderValue),
    /// Operators inside, in the access log's language.
    Format(std::sync::Arc<crate::log::Format>),
}

/// `HeaderAppendAction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppendAction {
    /// Another value (the default).
    #[default]
    AppendIfExistsOrAdd,
    /// Only where absent.
    AddIfAbsent,
    /// Replace or add.
    OverwriteIfExistsOrAdd,
    /// Replace only.
    OverwriteIfExists,
}
