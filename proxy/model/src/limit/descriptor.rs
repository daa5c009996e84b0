//! A descriptor: what a request is counted as.

use crate::Name;

/// One part of a descriptor (`RateLimitDescriptor.Entry`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// What is said.
    pub key: Name,
    /// In a configured descriptor an empty value stands for any.
    pub value: Name,
}

impl Entry {
    /// An entry.
    pub fn new(key: &str, value: &str) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// What one rule made of one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// In the order of the rule's actions; never empty.
    pub entries: Vec<Entry>,
    /// `hits_addend`: how many requests it counts as; `None`: one.
    pub hits: Option<u64>,
    /// `is_negative_hits`: the hits are given back.
    pub gives_back: bool,
    /// `limit`: in the place of the service's own.
    pub limit: Option<LimitOverride>,
    /// `x_ratelimit_option`.
    pub tell: TellClients,
}

/// `RateLimitDescriptor.RateLimitOverride`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitOverride {
    /// `requests_per_unit`.
    pub requests: u32,
    /// `unit`.
    pub unit: Unit,
}

/// `envoy.type.v3.RateLimitUnit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Not said.
    Unknown,
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Whether clients are told of the limit that a descriptor met (`XRateLimitOption`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TellClients {
    /// By the filter's own word.
    #[default]
    AsFilter,
    /// Never.
    Never,
    /// By the headers of draft 03.
    Draft03,
}
