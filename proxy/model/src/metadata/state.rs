//! Filter state: objects that filters leave under a key for others, and who asks for them.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use crate::Name;
use crate::log::Format;
use crate::matching::StringMatcher;

/// What an object is (`factory_key`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// A text.
    Text,
    /// A text that hash policies can hash (`envoy.hashable_string`).
    Hashable,
    /// A number (`envoy.ratelimit.hits_addend`).
    Number,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateObject {
    kind: StateKind,
    text: Box<str>,
}

/// A value that a filter sets (`FilterStateValue`).
#[derive(Debug, Clone)]
pub struct StateValue {
    /// `object_key`.
    pub key: Name,
    /// What it becomes.
    pub kind: StateKind,
    /// `format_string`.
    pub format: Arc<Format>,
    /// `skip_if_empty`: an empty text leaves what there is.
    pub skip_if_empty: bool,
}

/// `FilterStateMatcher` over the text of an object.
#[derive(Debug, Clone)]
pub struct StateMatcher {
    /// `key`.
    pub key: Name,
    /// `string_match`.
    pub text: StringMatcher,
}

impl StateObject {
    /// An object of this kind; `None` where the text is none.
    pub fn new(kind: StateKind, text: &str) -> Option<Self> {
        let valid = kind != StateKind::Number || text.trim().parse::<u32>().is_ok();
        valid.then(|| Self {
            kind,
            text: text.into(),
        })
    }

    /// What it is.
    pub fn kind(&self) -> StateKind {
        self.kind
    }

    /// As text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As a number, if it is one.
    pub fn number(&self) -> Option<u32> {
        let number = self.text.trim().parse().ok();
        number.filter(|_| self.kind == StateKind::Number)
    }

    /// Its hash, if it has one.
    pub fn hash(&self) -> Option<u64> {
        (self.kind == StateKind::Hashable).then(|| xxh64(self.text.as_bytes(), 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_what_its_kind_makes_of_the_text() {
        let number = StateObject::new(StateKind::Number, "7").unwrap();
        assert_eq!((number.number(), number.hash()), (Some(7), None));
        assert_eq!(StateObject::new(StateKind::Number, "many"), None);
        assert_eq!(StateObject::new(StateKind::Number, "-1"), None);
        let text = StateObject::new(StateKind::Text, "7").unwrap();
        assert_eq!((text.number(), text.hash(), text.text()), (None, None, "7"));
        let hashable = StateObject::new(StateKind::Hashable, "a").unwrap();
        assert_eq!(hashable.hash(), Some(xxh64(b"a", 0)));
    }
}
