//! `envoy.type.matcher.v3.MetadataMatcher` and `ValueMatcher`.

use super::{Metadata, StateMatcher};
use crate::Name;
use crate::endpoint::LabelValue;
use crate::matching::StringMatcher;

/// A value that must be noted.
#[derive(Debug, Clone)]
pub struct MetadataMatcher {
    /// `filter`: the name space.
    pub namespace: Name,
    /// `path`: keys from the outside in, at least one.
    pub path: Box<[Name]>,
    /// `value`.
    pub value: ValueMatcher,
    /// `invert`.
    pub invert: bool,
}

/// What a value must be.
#[derive(Debug, Clone)]
pub enum ValueMatcher {
    /// `null_match`.
    Null,
    /// `double_match`.
    Number(NumberMatcher),
    /// `string_match`.
    Text(StringMatcher),
    /// `bool_match`.
    Bool(bool),
    /// `present_match`: whether there is one.
    Present(bool),
    /// `list_match.one_of`: one of its values.
    OneOf(Box<ValueMatcher>),
    /// `or_match`: by one of these.
    Any(Box<[ValueMatcher]>),
}

/// `DoubleMatcher`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NumberMatcher {
    /// `exact`.
    Exact(f64),
    /// `range`: `[start, end)`.
    Range(f64, f64),
}

/// What a route wants to be noted: all of it.
#[derive(Debug, Clone)]
pub struct NotedMatch {
    /// `dynamic_metadata`.
    pub metadata: Box<[MetadataMatcher]>,
    /// `filter_state`.
    pub state: Box<[StateMatcher]>,
}

impl NotedMatch {
    /// Whether all of it is noted.
    pub fn matches(&self, noted: Option<&Metadata>) -> bool {
        self.metadata.iter().all(|matcher| matcher.matches(noted))
            && self.state.iter().all(|matcher| matcher.matches(noted))
    }
}

impl StateMatcher {
    /// Whether such an object was left.
    pub fn matches(&self, noted: Option<&Metadata>) -> bool {
        let object = noted.and_then(|noted| noted.object(&self.key));
        object.is_some_and(|object| self.text.matches(object.text().as_bytes()))
    }
}

impl MetadataMatcher {
    /// Whether what is noted is what is wanted; nothing may be noted at all.
    pub fn matches(&self, noted: Option<&Metadata>) -> bool {
        let value = noted.and_then(|noted| noted.at(&self.namespace, &self.path));
        self.value.matches(value) != self.invert
    }
}

impl ValueMatcher {
    /// Whether a value, or its absence, is what is wanted.
    pub fn matches(&self, value: Option<&LabelValue>) -> bool {
        match (self, value) {
            (Self::Present(wanted), value) => value.is_some() == *wanted,
            (Self::Any(matchers), value) => matchers.iter().any(|one| one.matches(value)),
            (Self::Null, Some(LabelValue::Null)) => true,
            (Self::Number(NumberMatcher::Exact(wanted)), Some(LabelValue::Number(number))) => {
                // To the bit but for the sign of zero, as protobuf compares.
                (wanted - number).abs() == 0.0
            }
            (Self::Number(NumberMatcher::Range(start, end)), Some(LabelValue::Number(number))) => {
                (*start..*end).contains(number)
            }
            (Self::Text(matcher), Some(LabelValue::Text(text))) => matcher.matches(text.as_bytes()),
            (Self::Bool(wanted), Some(LabelValue::Bool(found))) => wanted == found,
            (Self::OneOf(matcher), Some(LabelValue::List(values))) => {
                values.iter().any(|value| matcher.matches(Some(value)))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::Pattern;

    fn is(text: &str) -> ValueMatcher {
        ValueMatcher::Text(StringMatcher::Exact(Pattern::new(text, false)))
    }

    #[test]
    fn a_value_of_another_kind_is_not_what_is_wanted() {
        let one = LabelValue::Number(1.0);
        let text = LabelValue::Text("1".into());
        assert!(ValueMatcher::Number(NumberMatcher::Exact(1.0)).matches(Some(&one)));
        assert!(!ValueMatcher::Number(NumberMatcher::Exact(1.0)).matches(Some(&text)));
        assert!(!ValueMatcher::Number(NumberMatcher::Range(0.0, 1.0)).matches(Some(&one)));
        assert!(!is("1").matches(Some(&one)));
        assert!(is("1").matches(Some(&text)));
        assert!(!ValueMatcher::Null.matches(None));
        assert!(ValueMatcher::Null.matches(Some(&LabelValue::Null)));
    }

    #[test]
    fn absence_is_known_to_presence_alone() {
        assert!(ValueMatcher::Present(false).matches(None));
        assert!(!ValueMatcher::Present(true).matches(None));
        assert!(!ValueMatcher::Bool(false).matches(None));
        let any = ValueMatcher::Any([is("x"), ValueMatcher::Present(false)].into());
        assert!(any.matches(None));
    }

    #[test]
    fn one_of_a_list_is_enough_and_an_inverted_matcher_holds_where_nothing_is_noted() {
        let list = LabelValue::List([LabelValue::Text("a".into()), LabelValue::Text("b".into())].into());
        let one_of = ValueMatcher::OneOf(Box::new(is("b")));
        assert!(one_of.matches(Some(&list)));
        assert!(!one_of.matches(Some(&LabelValue::Text("b".into()))));
        let matcher = MetadataMatcher {
            namespace: "ns".into(),
            path: ["key".into()].into(),
            value: is("x"),
            invert: true,
        };
        assert!(matcher.matches(None));
    }
}
