//! Header mutations: additions with Envoy's formatters, removals.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Decision;
use crate::log::Format;

/// Header mutations of requests and responses at one level. Most levels have none, and then it takes no room.
#[derive(Debug, Clone, Default)]
pub struct HeaderMutationPair(Option<Box<[HeaderMutations; 2]>>);

static NO_MUTATIONS: HeaderMutations = HeaderMutations {
    add: Vec::new(),
    remove: Vec::new(),
};

impl HeaderMutationPair {
    /// Those of requests and those of responses.
    pub fn new(request: HeaderMutations, response: HeaderMutations) -> Self {
        if request.is_empty() && response.is_empty() {
            return Self(None);
        }
        Self(Some(Box::new([request, response])))
    }

    /// On the way up.
    pub fn request(&self) -> &HeaderMutations {
        self.0.as_deref().map_or(&NO_MUTATIONS, |[request, _]| request)
    }

    /// On the way back.
    pub fn response(&self) -> &HeaderMutations {
        self.0.as_deref().map_or(&NO_MUTATIONS, |[_, response]| response)
    }
}

/// Mutations of one direction at one level, in order: removals before additions, as Envoy does.
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
    Format(std::sync::Arc<Format>),
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

/// Prints a format for one exchange; `None` or an empty text where all of its operators are absent. The shell does it,
/// because the values are its own.
pub trait Render {
    /// The text; absent operators are left empty, or `-` where the format does not omit what is empty.
    fn render(&self, format: &Format) -> Option<HeaderValue>;
}

/// The levels at which a decision mutates headers.
#[derive(Debug, Clone, Copy)]
enum Direction {
    Request,
    Response,
}

impl Decision<'_> {
    /// Applies the request mutations of all levels.
    pub fn mutate_request(&self, headers: &mut HeaderMap, render: &impl Render) {
        self.mutate(Direction::Request, headers, render);
    }

    /// Applies the response mutations of all levels.
    pub fn mutate_response(&self, headers: &mut HeaderMap, render: &impl Render) {
        self.mutate(Direction::Response, headers, render);
    }

    /// The weighted entry first, then route, virtual host, table; with `most_specific_header_mutations_wins` the last
    /// three are turned round, so that the route's word is the last (Envoy leaves the weighted entry first).
    fn mutate(&self, direction: Direction, headers: &mut HeaderMap, render: &impl Render) {
        let mut levels = [
            &self.route.headers,
            &self.virtual_host.headers,
            &self.table.headers,
        ];
        if self.table.most_specific_wins {
            levels.reverse();
        }
        let weighted = self.weighted.map(|entry| &entry.headers);
        for level in weighted.into_iter().chain(levels) {
            match direction {
                Direction::Request => level.request().apply(headers, render),
                Direction::Response => level.response().apply(headers, render),
            }
        }
    }
}

impl HeaderMutations {
    /// Whether nothing would happen.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Removes, then adds in order.
    pub fn apply(&self, headers: &mut HeaderMap, render: &impl Render) {
        for name in &self.remove {
            headers.remove(name);
        }
        for template in &self.add {
            template.apply(headers, render);
        }
    }
}

impl HeaderTemplate {
    /// Carries it out.
    pub fn apply(&self, headers: &mut HeaderMap, render: &impl Render) {
        let there = headers.contains_key(&self.name);
        let replace = match self.action {
            AppendAction::AppendIfExistsOrAdd => false,
            AppendAction::AddIfAbsent if there => return,
            AppendAction::AddIfAbsent => false,
            AppendAction::OverwriteIfExistsOrAdd => true,
            AppendAction::OverwriteIfExists if !there => return,
            AppendAction::OverwriteIfExists => true,
        };
        let value = match &self.value {
            HeaderValueTemplate::Constant(value) => Some(value.clone()),
            HeaderValueTemplate::Format(format) => render.render(format),
        };
        let value = value.unwrap_or(HeaderValue::from_static(""));
        if value.is_empty() && !self.keep_empty {
            return;
        }
        // A map that is full keeps what it has: the limit of headers was enforced before.
        if replace {
            let _ = headers.try_insert(&self.name, value);
        } else {
            let _ = headers.try_append(&self.name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Option<&'static str>);

    impl Render for Fixed {
        fn render(&self, _: &Format) -> Option<HeaderValue> {
            self.0.map(HeaderValue::from_static)
        }
    }

    fn template(value: &'static str, action: AppendAction) -> HeaderTemplate {
        let value = HeaderValueTemplate::Constant(HeaderValue::from_static(value));
        HeaderTemplate {
            name: HeaderName::from_static("x-a"),
            value,
            action,
            keep_empty: false,
        }
    }

    fn after(before: &[&'static str], mutations: HeaderMutations) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in before {
            headers.append("x-a", HeaderValue::from_static(value));
        }
        mutations.apply(&mut headers, &Fixed(None));
        headers
            .get_all("x-a")
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn each_action_treats_an_existing_value_in_its_way() {
        let with = |action| HeaderMutations {
            add: vec![template("n", action)],
            remove: vec![],
        };
        assert_eq!(after(&["o"], with(AppendAction::AppendIfExistsOrAdd)), ["o", "n"]);
        assert_eq!(after(&["o"], with(AppendAction::AddIfAbsent)), ["o"]);
        assert_eq!(after(&[], with(AppendAction::AddIfAbsent)), ["n"]);
        assert_eq!(
            after(&["o", "p"], with(AppendAction::OverwriteIfExistsOrAdd)),
            ["n"]
        );
        assert_eq!(after(&["o"], with(AppendAction::OverwriteIfExists)), ["n"]);
        assert!(after(&[], with(AppendAction::OverwriteIfExists)).is_empty());
    }

    #[test]
    fn removals_come_before_additions() {
        let mutations = HeaderMutations {
            add: vec![template("n", AppendAction::AppendIfExistsOrAdd)],
            remove: vec![HeaderName::from_static("x-a")],
        };
        assert_eq!(after(&["o"], mutations), ["n"]);
    }

    #[test]
    fn an_empty_value_is_added_only_where_it_is_wanted() {
        let format = Format::Text {
            pieces: vec![],
            omit_empty: true,
        };
        let mut template = template("", AppendAction::AppendIfExistsOrAdd);
        template.value = HeaderValueTemplate::Format(std::sync::Arc::new(format));
        let mut headers = HeaderMap::new();
        template.apply(&mut headers, &Fixed(None));
        assert!(headers.is_empty());
        template.keep_empty = true;
        template.apply(&mut headers, &Fixed(None));
        assert_eq!(headers["x-a"], "");
    }
}
