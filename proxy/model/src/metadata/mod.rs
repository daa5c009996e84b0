//! What did filters note of a request or a connection? Envoy's dynamic metadata, a struct for each name space, and its
//! filter state, objects by key.
//!
//! Holds: what is noted twice under one key is there once, as the later filter said it. A request of which nothing was
//! noted has no store at all. Does not say who reads it.

mod matcher;
mod state;

pub use matcher::{MetadataMatcher, NotedMatch, NumberMatcher, ValueMatcher};
pub use state::{StateKind, StateMatcher, StateObject, StateValue};

use crate::Name;
use crate::endpoint::{LabelValue, Labels};

/// Dynamic metadata, by name space, and the objects of the filter state, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    namespaces: Vec<(Name, Labels)>,
    objects: Vec<(Name, StateObject)>,
}

impl Metadata {
    /// Adds fields to those of a name space; a field that is there is replaced.
    pub fn note(&mut self, namespace: &str, fields: Labels) {
        match self.namespaces.iter_mut().find(|(name, _)| **name == *namespace) {
            Some((_, known)) => *known = known.merged(&fields),
            None => self.namespaces.push((namespace.into(), fields)),
        }
    }

    /// All that was noted under a name space.
    pub fn of(&self, namespace: &str) -> Option<&Labels> {
        let found = self.namespaces.iter().find(|(name, _)| **name == *namespace);
        found.map(|(_, fields)| fields)
    }

    /// Leaves an object under a key, in the place of what is there.
    pub fn set_object(&mut self, key: &Name, object: StateObject) {
        match self.objects.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = object,
            None => self.objects.push((key.clone(), object)),
        }
    }

    /// The object under a key.
    pub fn object(&self, key: &str) -> Option<&StateObject> {
        let (_, object) = self.objects.iter().find(|(known, _)| **known == *key)?;
        Some(object)
    }

    /// The value at a path of keys in a name space; a path must name at least one.
    pub fn at<K: AsRef<str>>(&self, namespace: &str, path: &[K]) -> Option<&LabelValue> {
        let (first, rest) = path.split_first()?;
        let found = self.of(namespace)?.at(first.as_ref())?;
        rest.iter().try_fold(found, |found, key| match found {
            LabelValue::Fields(fields) => fields.at(key.as_ref()),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> LabelValue {
        LabelValue::Text(value.into())
    }

    #[test]
    fn the_later_word_counts_and_the_others_stay() {
        let mut all = Metadata::default();
        all.note(
            "a",
            Labels::new(vec![("k".into(), text("1")), ("l".into(), text("2"))]),
        );
        all.note("b", Labels::new(vec![("k".into(), text("9"))]));
        all.note("a", Labels::new(vec![("k".into(), text("3"))]));
        assert_eq!(all.at("a", &["k"]), Some(&text("3")));
        assert_eq!(all.at("a", &["l"]), Some(&text("2")));
        assert_eq!(all.at("c", &["k"]), None);
    }

    #[test]
    fn a_path_leads_into_structs_only() {
        let inner = Labels::new(vec![("sub".into(), text("me"))]);
        let mut all = Metadata::default();
        all.note(
            "jwt",
            Labels::new(vec![("payload".into(), LabelValue::Fields(Box::new(inner)))]),
        );
        assert_eq!(all.at("jwt", &["payload", "sub"]), Some(&text("me")));
        assert_eq!(all.at("jwt", &["payload", "sub", "deeper"]), None);
        assert_eq!(all.at::<&str>("jwt", &[]), None);
    }
}
