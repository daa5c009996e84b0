//! Metadata of endpoints as far as it is compared.
//!
//! Holds: labels are sorted by key; two values are equal as protobuf's are, numbers by value.

use std::hash::{Hash, Hasher};

use crate::Name;

/// A metadata value.
#[derive(Debug, Clone)]
pub enum LabelValue {
    /// Null.
    Null,
    /// A string.
    Text(Name),
    /// A number.
    Number(f64),
    /// A boolean.
    Bool(bool),
    /// A list.
    List(Box<[LabelValue]>),
    /// A struct.
    Fields(Box<Labels>),
}

impl LabelValue {
    /// Numbers as bits, both zeros as one.
    fn bits(number: f64) -> u64 {
        if number == 0.0 { 0 } else { number.to_bits() }
    }

    /// Whether it is no list and no struct.
    pub fn is_scalar(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Number(_) | Self::Bool(_))
    }
}

impl PartialEq for LabelValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => Self::bits(*a) == Self::bits(*b),
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Fields(a), Self::Fields(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for LabelValue {}

impl Hash for LabelValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Null => 0u8.hash(state),
            Self::Text(text) => text.hash(state),
            Self::Number(number) => Self::bits(*number).hash(state),
            Self::Bool(truth) => truth.hash(state),
            Self::List(values) => values.hash(state),
            Self::Fields(labels) => labels.hash(state),
        }
    }
}

/// A small sorted set of labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Vec<(Name, LabelValue)>);

impl Labels {
    /// Labels, sorted by key.
    pub fn new(mut labels: Vec<(Name, LabelValue)>) -> Self {
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        Self(labels)
    }

    /// No labels.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The value of `key`.
    pub fn at(&self, key: &str) -> Option<&LabelValue> {
        let found = self
            .0
            .binary_search_by(|(candidate, _)| candidate.as_ref().cmp(key))
            .ok()?;
        Some(&self.0[found].1)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, &LabelValue)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those for whose key `kept` says yes.
    #[must_use]
    pub fn only(&self, kept: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(key, _)| kept(key)).cloned().collect())
    }

    /// These and those of `over`, whose value counts where both have a key.
    #[must_use]
    pub fn merged(&self, over: &Self) -> Self {
        let kept = self.0.iter().filter(|(key, _)| over.at(key).is_none());
        Self::new(kept.chain(&over.0).cloned().collect())
    }

    /// Whether these hold all of `wanted`; with `list_as_any` one value of a list is enough.
    pub fn satisfy(&self, wanted: &Self, list_as_any: bool) -> bool {
        wanted.iter().all(|(key, value)| match self.at(key) {
            Some(LabelValue::List(values)) if list_as_any => values.contains(value),
            found => found == Some(value),
        })
    }
}
